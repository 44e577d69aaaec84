"""Tables: what is written is read back, and nothing else is accepted in its place."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from isochrone.lab.invented import Invented
from isochrone.records.manifest import EpochRecords
from isochrone.records.tables import (
    BOOKS,
    CHAIN,
    HEADS,
    LEASES,
    STANDBY,
    UNPACKED_BYTES_MAX,
    VOUCHERS,
    Table,
)
from isochrone.schema.errors import InvalidInput
from isochrone.schema.settlement import Books, Held, Usage, Voucher, Window
from isochrone.schema.tally import BUCKETS, COUNTS

VOUCHER = Voucher(
    tenant="0x" + "1" * 40, purpose="a" * 64, cumulative_microusd=5, key="0x2", signature=b"s" * 65
)

USAGE = Usage(
    chain="ab" * 32,
    lease="l",
    gateway="0x3",
    audience="fra",
    session="s",
    position=3,
    head="cd" * 32,
    latency=tuple(range(BUCKETS)),
    **dict.fromkeys(COUNTS, 2),
)

BOOK = Books(
    epoch=4,
    previous="ef" * 32,
    accounts={"0xb": 2, "0xa": 1},
    held=(Held(account="0xa", lease="l", service="s", until_epoch=9, amounts_microusd=(1, 2)),),
    pools={"paris": 3, "lyon": 0},
    windows=(
        Window(
            lease="l",
            audience="fra",
            since_epoch=1,
            requests=2,
            faults=1,
            latency=(1,) * BUCKETS,
            use_microusd=3,
        ),
    ),
    counted=(USAGE,),
)


@pytest.fixture(scope="module")
def records() -> EpochRecords:
    return Invented().records(5)


def values(records: EpochRecords) -> list[tuple[Table[Any], Any]]:
    return [
        (HEADS, records.heads),
        (LEASES, records.leases),
        (STANDBY, records.standby),
        (VOUCHERS, (VOUCHER, msgspec.structs.replace(VOUCHER, purpose="b" * 64))),
        (CHAIN, records.chain),
        (BOOKS, BOOK),
    ]


def rewritten(data: bytes, change: Callable[[pa.Table], pa.Table]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(change(pq.read_table(io.BytesIO(data))), sink)
    return sink.getvalue()


def test_every_kind_is_read_as_it_was_written(records: EpochRecords) -> None:
    for table, value in values(records):
        data, rows = table.write(value)
        found = table.read(data, rows)
        if isinstance(value, tuple):
            assert len(found) == rows == len(value)
            assert set(found) == set(value)
        else:
            assert found == value


def test_the_order_in_which_records_came_does_not_matter(records: EpochRecords) -> None:
    for table, value in values(records):
        if isinstance(value, tuple):
            assert table.write(value) == table.write(tuple(reversed(value)))
    shuffled = msgspec.structs.replace(BOOK, accounts=dict(sorted(BOOK.accounts.items())))
    assert BOOKS.write(shuffled) == BOOKS.write(BOOK)


def test_no_records_are_a_file_too() -> None:
    for table in (HEADS, LEASES, STANDBY, VOUCHERS):
        data, rows = table.write(())
        assert (rows, table.read(data, 0)) == (0, ())


def test_a_record_twice_cannot_be_written(records: EpochRecords) -> None:
    for table, value in values(records):
        if isinstance(value, tuple):
            with pytest.raises(InvalidInput) as refusal:
                table.write((*value, value[0]))
            assert refusal.value.code == "twice"


def test_a_row_out_of_order_or_twice_is_refused(records: EpochRecords) -> None:
    for table, value in values(records):
        if not isinstance(value, tuple):
            continue
        data, rows = table.write(value)
        backwards = rewritten(data, lambda t: t.take(list(reversed(range(t.num_rows)))))
        with pytest.raises(InvalidInput):
            table.read(backwards, rows)
        twice = rewritten(data, lambda t: pa.concat_tables([t, t.slice(0, 1)]))
        with pytest.raises(InvalidInput):
            table.read(twice, rows + 1)


@pytest.mark.parametrize("column", ["price_microusd_per_hour", "node", "released_unix_ms"])
def test_a_column_that_is_not_what_its_document_says_is_refused(
    records: EpochRecords, column: str
) -> None:
    data, rows = LEASES.write(records.leases)

    def lie(table: pa.Table) -> pa.Table:
        place = table.column_names.index(column)
        kind = table.schema.field(column)
        told = table.column(column).to_pylist()
        told[1] = told[1] + 1 if isinstance(told[1], int) else "0x" + "9" * 40
        return table.set_column(place, kind, pa.array(told, kind.type))

    with pytest.raises(InvalidInput) as refusal:
        LEASES.read(rewritten(data, lie), rows)
    assert refusal.value.code == "not_canonical"


def test_other_columns_sizes_and_bytes_are_refused(records: EpochRecords) -> None:
    data, rows = HEADS.write(records.heads)
    for bad, count in [
        (b"", rows),
        (b"PAR1" + data[4:60] + b"PAR1", rows),
        (data[:-20], rows),
        (data, rows + 1),
        (VOUCHERS.write((VOUCHER,))[0], 1),
        (rewritten(data, lambda t: t.drop_columns(["audience"])), rows),
    ]:
        with pytest.raises(InvalidInput):
            HEADS.read(bad, count)


def test_a_file_that_says_it_unpacks_to_too_much_is_not_unpacked(
    records: EpochRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, rows = HEADS.write(records.heads)
    monkeypatch.setattr("isochrone.records.tables.UNPACKED_BYTES_MAX", 100)
    with pytest.raises(InvalidInput) as refusal:
        HEADS.read(data, rows)
    assert refusal.value.code == "too_large"
    assert UNPACKED_BYTES_MAX > 100


def test_a_small_file_that_repeats_a_long_text_is_not_unpacked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """3 kB that say they unpack to 100 kB, and would take 2 GB."""
    rows = 20_000
    repeated = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), ["x" * 100_000])
    columns, fields = [], []
    for field in VOUCHERS.schema:
        column: Any = pa.array([1 if field.type == pa.int64() else b"s"] * rows)
        column = repeated if field.name == "tenant" else column.cast(field.type)
        columns.append(column)
        fields.append(pa.field(field.name, column.type, nullable=False))
    sink = io.BytesIO()
    schema = pa.schema(fields)
    pq.write_table(pa.table(columns, schema=schema), sink, compression="zstd", store_schema=False)
    assert len(sink.getvalue()) < 10_000
    monkeypatch.setattr("isochrone.records.tables.VALUE_BYTES_MAX", 2**24)
    with pytest.raises(InvalidInput) as refusal:
        VOUCHERS.read(sink.getvalue(), rows)
    assert refusal.value.code == "too_large"


def test_an_amount_that_no_column_holds_is_refused() -> None:
    huge = msgspec.structs.replace(VOUCHER, cumulative_microusd=2**63)
    with pytest.raises(InvalidInput):
        VOUCHERS.write((huge,))


def test_any_flipped_byte_is_another_value_or_none() -> None:
    """Digests catch every flip; this says that no flip makes the reader fall over."""
    data, rows = VOUCHERS.write((VOUCHER,))
    for at in range(len(data)):
        changed = bytearray(data)
        changed[at] ^= 0x55
        try:
            VOUCHERS.read(bytes(changed), rows)
        except InvalidInput:
            continue
