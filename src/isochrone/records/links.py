"""Links as Parquet: a million rows, read into NumPy without a Python object for each.

Intuition: 10,000 chains of an hour are seven million links. As columns of slowly growing counts
they pack to a few bytes each and open in any tool; hashed they must be the exact bytes that both
sides signed. So the columns are put back together into those bytes (``LINK``, big-endian) a row
group at a time, and the reader walks whole chains as slices of one array.

Order: by chain id, then position; every chain's rows stand together, positions without a gap. A
reader checks this shape; what the hashes say is ``validator.chains``' business.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from isochrone.records.tables import COMPRESSION, STRANGE, opened, unreadable
from isochrone.schema.errors import InvalidInput
from isochrone.schema.record_batch import Links
from isochrone.schema.tally import COUNTS, LATENCY_BOUNDS_MS, LINK, LINK_BYTES

KIND = "links"

ROWS_MAX = 50_000_000
"""70,000 chains of an hour; more belong into several epochs or networks."""

GROUP_ROWS = 65_536
"""Links in memory at once when reading: 19 MB packed, as much again unpacked."""

_HEADER = ("position", "at_unix_ms")
_LATENCY = (*(f"latency_le_{bound}_ms" for bound in LATENCY_BOUNDS_MS), "latency_more")
_WORDS = (*_HEADER, *COUNTS, *_LATENCY)

SCHEMA = pa.schema(
    [pa.field("chain", pa.binary(32), nullable=False)]
    + [pa.field(name, pa.uint64(), nullable=False) for name in _WORDS]
)
"""``chain``, then the words of a link in the layout's order, cumulative since the chain began."""


@dataclass(frozen=True, slots=True)
class Run:
    """Consecutive links of one chain, as many as lie together in a row group.

    ``row``: of its first link in the file. ``links``: an array of ``LINK``, positions rising by 1.
    """

    chain: bytes
    row: int
    links: npt.NDArray[Any]


def write_links(links: Iterable[Links]) -> tuple[bytes, int]:
    """The file's bytes and its rows; pieces may come in any order.

    Raises InvalidInput for bodies that are no links, and for a chain with a gap or an overlap.
    """
    sink = io.BytesIO()
    rows = 0
    compact = dict.fromkeys(_WORDS, "DELTA_BINARY_PACKED")
    with pq.ParquetWriter(
        sink,
        SCHEMA,
        compression=COMPRESSION,
        use_dictionary=["chain"],
        column_encoding=compact,
        write_statistics=["chain", "position"],
    ) as writer:
        for chains, words in _grouped(sorted(links, key=lambda piece: (piece.chain, piece.first))):
            rows += len(words)
            writer.write_table(_columns(chains, words), row_group_size=GROUP_ROWS)
    return sink.getvalue(), rows


def read_links(data: bytes, rows: int) -> Iterator[Run]:
    """The runs of a file of that many rows, in order; raises InvalidInput for any other content."""
    file = opened(data, KIND, SCHEMA, rows, ROWS_MAX)
    row = 0
    chain, position = b"", 0
    for number in range(file.num_row_groups):
        if file.metadata.row_group(number).num_rows > GROUP_ROWS:
            raise InvalidInput(f"The links have a group of more than {GROUP_ROWS} rows.")
        try:
            chains, links = _packed(file.read_row_group(number))
        except STRANGE as error:
            raise unreadable(KIND, error) from error
        for start, end in _runs(chains):
            name = chains[start].tobytes()
            run = Run(name, row + start, links[start:end])
            first = int(run.links["position"][0])
            if name < chain or (name == chain and first != position + 1):
                raise _disorder(name, row + start)
            steps = np.diff(run.links["position"].astype(np.uint64))
            if (steps != 1).any():
                raise _disorder(name, row + start + int(np.argmax(steps != 1)) + 1)
            chain, position = name, int(run.links["position"][-1])
            yield run
        row += len(links)


def _disorder(chain: bytes, row: int) -> InvalidInput:
    return InvalidInput(
        f"The links are out of order at row {row}: chain {chain.hex()} has a gap or comes again.",
        code="not_canonical",
    )


def _grouped(pieces: list[Links]) -> Iterator[tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
    """Sorted pieces as (chain ids, ``LINK`` rows) of at most ``GROUP_ROWS`` rows each."""
    names: list[bytes] = []
    bodies: list[bytes] = []
    waiting = 0
    chain, position = b"", 0
    for piece in pieces:
        count, rest = divmod(len(piece.bodies), LINK_BYTES)
        positions = np.frombuffer(piece.bodies, LINK, count)["position"] if not rest else ()
        follows = piece.chain != chain or piece.first == position + 1
        if rest or len(piece.chain) != 32 or not follows or not _rising(positions, piece.first):
            raise InvalidInput(f"These are no links of chain {piece.chain.hex()} in a row.")
        chain, position = piece.chain, piece.first + count - 1
        names.append(piece.chain * count)
        bodies.append(piece.bodies)
        waiting += count
        if waiting >= GROUP_ROWS:
            yield from _cut(names, bodies, whole_only=True)
            waiting = sum(map(len, bodies)) // LINK_BYTES
    yield from _cut(names, bodies, whole_only=False)


def _cut(
    names: list[bytes], bodies: list[bytes], *, whole_only: bool
) -> Iterator[tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
    """Full groups of what waits, unless ``whole_only`` the rest too; leaves what is left."""
    chains = np.frombuffer(b"".join(names), "V32")
    links = np.frombuffer(b"".join(bodies), LINK)
    full = len(links) - len(links) % GROUP_ROWS if whole_only else len(links)
    for start in range(0, full, GROUP_ROWS):
        end = min(start + GROUP_ROWS, full)
        yield chains[start:end], links[start:end]
    names[:] = [chains[full:].tobytes()]
    bodies[:] = [links[full:].tobytes()]


def _rising(positions: Any, first: int) -> bool:
    return bool(np.array_equal(positions, np.arange(first, first + len(positions))))


def _columns(chains: npt.NDArray[Any], links: npt.NDArray[Any]) -> pa.Table:
    """One row group as an Arrow table."""
    words = links.view(">u8").reshape(len(links), len(_WORDS)).astype("=u8").T
    names = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(32), len(chains), [None, pa.py_buffer(chains.tobytes())]
    )
    columns = [np.ascontiguousarray(words[i]) for i in range(len(_WORDS))]
    return pa.Table.from_arrays([names, *map(pa.array, columns)], schema=SCHEMA)


def _packed(table: pa.Table) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Chain ids (n × 32 bytes) and ``LINK`` rows of a row group."""
    names = table.column("chain").combine_chunks()
    if isinstance(names, pa.ChunkedArray):
        names = names.chunk(0)
    chains = np.frombuffer(names.buffers()[1], np.uint8, table.num_rows * 32, names.offset * 32)
    words = np.empty((table.num_rows, len(_WORDS)), ">u8")
    for i, name in enumerate(_WORDS):
        column = table.column(name)
        if column.null_count:
            raise ValueError(f"{name} is missing in places")
        words[:, i] = column.to_numpy()
    return chains.reshape(-1, 32), words.view(LINK).reshape(-1)


def _runs(chains: npt.NDArray[Any]) -> Iterator[tuple[int, int]]:
    """(start, end) of the stretches of equal chain ids."""
    changes = np.flatnonzero((chains[1:] != chains[:-1]).any(axis=1)) + 1
    starts = [0, *changes.tolist()]
    return zip(starts, [*starts[1:], len(chains)], strict=True) if len(chains) else iter(())
