"""Records as Parquet: one table a kind, the same content in the same order whoever wrote it.

Intuition: the records of an epoch are what its books are computed from, so anybody must be able to
open them with common tools, and two people must never read different things in one file. Each kind
has a fixed schema, made from the noun it holds, and a fixed order of rows; a file is only accepted
if writing what was read from it gives the same table again: no column beside a signed document can
tell another story than the document, no row stands twice, none out of order.

``heads``, ``leases``, ``standby``, ``watches`` and ``vouchers`` have a row a record; ``chain`` and
``books`` one row with nested lists. Links, a million rows, have a module of their own (``links``).

What it does not do: check a signature or a sum (``validator.checking``), or promise the same bytes
from every version of the Parquet writer: a manifest names the bytes that its proposer wrote.

A few kilobytes of Parquet can repeat one long text a million times, and say nothing of it. So rows
are unpacked a few at a time, and no further when they have taken ``VALUE_BYTES_MAX``.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from types import UnionType
from typing import Any, Generic, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from isochrone.schema.chain_snapshot import ChainSnapshot
from isochrone.schema.digests import decode
from isochrone.schema.documents import LEASE_RECORD, STANDBY_RECORD, unpack
from isochrone.schema.errors import InvalidInput
from isochrone.schema.proof import (
    APPEAL,
    WATCH_COMMITMENT,
    WATCH_OPENING,
    Appeal,
    WatchCommitment,
    WatchOpening,
)
from isochrone.schema.record_batch import LeaseRecord, SignedHead, StandbyRecord
from isochrone.schema.settlement import Books, Voucher
from isochrone.schema.tally import TallyChain

ROWS_MAX = 1_000_000
"""Of every kind but links: a hundred times the chains of a large network."""

UNPACKED_BYTES_MAX = 4 * 1024**3
"""What a file says of its unpacked size; more is not unpacked. 10,000 chains of an hour: 2 GB."""

VALUE_BYTES_MAX = 1024**3
"""What the rows of a file (links apart) may take in memory: a thousand bytes for each at most."""

BATCH_ROWS = 64
"""Rows that are unpacked before their size is looked at."""

COMPRESSION = "zstd"

STRANGE = (
    pa.ArrowException,
    msgspec.MsgspecError,
    OSError,
    ValueError,
    OverflowError,
    TypeError,
    LookupError,
)
"""What the Parquet reader and the conversion raise for strange bytes."""

T = TypeVar("T")
Row = dict[str, Any]


class Table(Generic[T]):
    """One kind of file: its schema, and how its value becomes rows and back."""

    def __init__(
        self,
        kind: str,
        schema: pa.Schema,
        rows_of: Callable[[T], list[Row]],
        value_of: Callable[[list[Row]], T],
    ) -> None:
        self.kind = kind
        self.schema = schema
        self._rows_of = rows_of
        self._value_of = value_of

    def write(self, value: T) -> tuple[bytes, int]:
        """The file's bytes and its number of rows; raises InvalidInput for what no file holds."""
        try:
            table = self._table(value)
        except STRANGE as error:
            raise unreadable(self.kind, error) from error
        sink = io.BytesIO()
        pq.write_table(table, sink, compression=COMPRESSION)
        return sink.getvalue(), table.num_rows

    def read(self, data: bytes, rows: int) -> T:
        """The value in a file of that many rows; raises InvalidInput for any other content."""
        file = opened(data, self.kind, self.schema, rows, ROWS_MAX)
        try:
            table = pa.Table.from_batches(_batches(file, self.kind), self.schema)
            table.validate(full=True)
            value = self._value_of(table.to_pylist(maps_as_pydicts="strict"))
            same = self._table(value).equals(table)
        except STRANGE as error:
            raise unreadable(self.kind, error) from error
        if not same:
            raise InvalidInput(
                f"The {self.kind} are not as they would be written: a row out of order, or a "
                "column that is not what its document says.",
                code="not_canonical",
            )
        return value

    def _table(self, value: T) -> pa.Table:
        return pa.Table.from_pylist(self._rows_of(value), schema=self.schema)


def opened(data: bytes, kind: str, schema: pa.Schema, rows: int, rows_max: int) -> Any:
    """A Parquet file whose schema and size are as they must be; raises InvalidInput."""
    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        found = file.metadata.num_rows
        groups = [file.metadata.row_group(i) for i in range(file.num_row_groups)]
        unpacked = sum(group.total_byte_size for group in groups)
        same = file.schema_arrow.equals(schema)
    except STRANGE as error:
        raise unreadable(kind, error) from error
    if not found == rows <= rows_max:
        raise InvalidInput(f"The {kind} have {found} rows, not {rows} (at most {rows_max}).")
    if unpacked > UNPACKED_BYTES_MAX:
        raise InvalidInput(f"The {kind} would unpack to {unpacked} bytes.", code="too_large")
    if not same:
        raise InvalidInput(f"The {kind} have other columns than they must have.")
    return file


def _batches(file: Any, kind: str) -> Iterator[pa.RecordBatch]:
    """The rows a few at a time; raises InvalidInput when they take too much memory."""
    size_bytes = 0
    for batch in file.iter_batches(batch_size=BATCH_ROWS):
        size_bytes += batch.nbytes
        if size_bytes > VALUE_BYTES_MAX:
            raise InvalidInput(f"The {kind} take over {VALUE_BYTES_MAX} bytes.", code="too_large")
        yield batch


def unreadable(kind: str, error: BaseException) -> InvalidInput:
    """What is said of bytes that are no such table."""
    return InvalidInput(f"The {kind} cannot be read: {str(error).strip()[:200]}.")


# --- schemas from nouns --------------------------------------------------------------------------


def arrow_type(hint: Any) -> pa.DataType:
    """The column type of a field: integers have 64 bits, tuples are lists, structs are structs."""
    simple = {int: pa.int64(), str: pa.string(), bytes: pa.binary(), bool: pa.bool_()}
    if hint in simple:
        return simple[hint]
    if get_origin(hint) is Literal:
        return pa.string()
    if get_origin(hint) is tuple:
        return pa.list_(arrow_type(get_args(hint)[0]))
    if get_origin(hint) is dict:
        return pa.map_(pa.string(), arrow_type(get_args(hint)[1]))
    if get_origin(hint) in (Union, UnionType):
        (some,) = (part for part in get_args(hint) if part is not type(None))
        return arrow_type(some)
    return pa.struct([(name, arrow_type(of)) for name, of in get_type_hints(hint).items()])


def columns_of(noun: Any) -> list[tuple[str, pa.DataType]]:
    """A noun's fields as columns."""
    return [(name, arrow_type(hint)) for name, hint in get_type_hints(noun).items()]


def _schema(*columns: tuple[str, pa.DataType]) -> pa.Schema:
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in columns])


def _row(value: object) -> Row:
    """A struct as a row, mappings in order of their keys."""
    row: Row = msgspec.to_builtins(value, builtin_types=(bytes,), order="deterministic")
    return row


def _whole(kind: str, noun: type[T]) -> Table[T]:
    """A kind whose file is one struct in one row."""

    def value_of(rows: list[Row]) -> T:
        (row,) = rows
        return msgspec.convert(row, noun, builtin_types=(bytes,))

    return Table(kind, _schema(*columns_of(noun)), lambda value: [_row(value)], value_of)


def _sorted_once(kind: str, rows: Iterable[Row], key: tuple[str, ...]) -> list[Row]:
    """Rows in order of their key, which may be there once; raises InvalidInput (``twice``)."""
    keyed = sorted(((tuple(row[name] for name in key), row) for row in rows), key=lambda kr: kr[0])
    for (before, _), (after, _) in pairwise(keyed):
        if before == after:
            named = " ".join(part.hex() if isinstance(part, bytes) else str(part) for part in after)
            raise InvalidInput(f"The {kind} name {named} twice.", code="twice")
    return [row for _, row in keyed]


# --- the kinds -----------------------------------------------------------------------------------

_CHAIN_COLUMNS = columns_of(TallyChain)


def _head_rows(heads: Sequence[SignedHead]) -> list[Row]:
    rows = (
        {
            **msgspec.structs.asdict(head),
            **msgspec.structs.asdict(head.chain),
            "chain": head.chain.id,
        }
        for head in heads
    )
    return _sorted_once("heads", rows, ("chain",))


def _heads(rows: list[Row]) -> tuple[SignedHead, ...]:
    names = [name for name, _ in _CHAIN_COLUMNS]
    whole = [{**row, "chain": {name: row[name] for name in names}} for row in rows]
    return msgspec.convert(whole, tuple[SignedHead, ...], builtin_types=(bytes,))


def lease_record(packed: bytes) -> LeaseRecord:
    """The content of a packed lease record, its signature unchecked; raises InvalidInput."""
    return decode(unpack(packed).body, LeaseRecord, LEASE_RECORD)


def standby_record(packed: bytes) -> StandbyRecord:
    """The content of a packed standby record, its signature unchecked; raises InvalidInput."""
    return decode(unpack(packed).body, StandbyRecord, STANDBY_RECORD)


def _lease_row(packed: bytes) -> Row:
    record = lease_record(packed)
    told = {**_row(record), **_row(record.terms), "document": packed}
    return {name: told[name] for name, _ in _LEASE_COLUMNS}


def _standby_row(packed: bytes) -> Row:
    return {**msgspec.structs.asdict(standby_record(packed)), "document": packed}


def _watch_row(packed: bytes) -> Row:
    document = unpack(packed)
    row: Row = {"kind": document.kind, "epoch": 0, "page": 0, "pages": 0, "reports": 0}
    if document.kind == WATCH_OPENING:
        page = decode(document.body, WatchOpening, WATCH_OPENING)
        told = {"page": page.page, "pages": len(page.pages), "reports": len(page.reports)}
        row |= {"epoch": page.watch, **told}
    elif document.kind == WATCH_COMMITMENT:
        row["epoch"] = decode(document.body, WatchCommitment, WATCH_COMMITMENT).watch
    else:
        row["epoch"] = decode(document.body, Appeal, APPEAL).epoch
    return {**row, "document": packed}


def _documents(rows: list[Row]) -> tuple[bytes, ...]:
    return tuple(row["document"] for row in rows)


_LEASE_COLUMNS: list[tuple[str, pa.DataType]] = [
    ("lease", pa.string()),
    ("epoch", pa.int64()),
    *((name, pa.string()) for name in ("service", "tenant", "cell", "node", "provider")),
    ("price_microusd_per_hour", pa.int64()),
    ("served_from_unix_ms", pa.int64()),
    ("released_unix_ms", pa.int64()),
    ("document", pa.binary()),
]

HEADS: Table[tuple[SignedHead, ...]] = Table(
    "heads",
    _schema(
        ("chain", pa.binary(32)),
        *_CHAIN_COLUMNS,
        *(column for column in columns_of(SignedHead) if column[0] != "chain"),
    ),
    _head_rows,
    _heads,
)
"""The newest signed head of each chain, by chain id."""

LEASES: Table[tuple[bytes, ...]] = Table(
    "leases",
    _schema(*_LEASE_COLUMNS),
    lambda documents: _sorted_once(
        "leases", map(_lease_row, documents), ("lease", "epoch", "document")
    ),
    _documents,
)
"""Packed ``lease-record`` documents, by lease and epoch; of one operator only one each
(``validator.checking``)."""

STANDBY: Table[tuple[bytes, ...]] = Table(
    "standby",
    _schema(*columns_of(StandbyRecord), ("document", pa.binary())),
    lambda documents: _sorted_once(
        "standby", map(_standby_row, documents), ("node", "gateway", "epoch")
    ),
    _documents,
)
"""Packed ``standby-record`` documents, one a node, gateway and epoch."""

WATCHES: Table[tuple[bytes, ...]] = Table(
    "watches",
    _schema(
        ("kind", pa.string()),
        *((name, pa.int64()) for name in ("epoch", "page", "pages", "reports")),
        ("document", pa.binary()),
    ),
    lambda documents: _sorted_once(
        "watches", map(_watch_row, documents), ("kind", "epoch", "page", "document")
    ),
    _documents,
)
"""Packed ``watch-commitment``, ``watch-opening`` and ``appeal`` documents."""

VOUCHERS: Table[tuple[Voucher, ...]] = Table(
    "vouchers",
    _schema(*columns_of(Voucher)),
    lambda vouchers: _sorted_once("vouchers", map(_row, vouchers), ("tenant", "purpose")),
    lambda rows: msgspec.convert(rows, tuple[Voucher, ...], builtin_types=(bytes,)),
)
"""The vouchers that were redeemed for the epoch, one a tenant and purpose."""

CHAIN: Table[ChainSnapshot] = _whole("chain", ChainSnapshot)
"""What the chain said at the block that the epoch was settled by."""

BOOKS: Table[Books] = _whole("books", Books)
"""The books after an epoch."""
