"""Links: a million rows keep every byte, and only gapless chains in order are accepted."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isochrone.records import links as links_module
from isochrone.records.links import SCHEMA, read_links, write_links
from isochrone.schema.errors import InvalidInput
from isochrone.schema.record_batch import Links
from isochrone.schema.tally import LINK, LINK_BYTES


def piece(name: int, first: int, count: int, salt: int = 0) -> Links:
    drawn = np.random.default_rng((name, salt)).integers(0, 2**63, (20, LINK_BYTES // 8))
    links = drawn[first - 1 : first - 1 + count].astype(">u8").view(LINK).reshape(-1).copy()
    links["position"] = np.arange(first, first + count)
    return Links(chain=name.to_bytes(32, "big"), first=first, bodies=links.tobytes())


def read(data: bytes, rows: int) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    for run in read_links(data, rows):
        found[run.chain] = found.get(run.chain, b"") + run.links.tobytes()
    return found


@given(st.data(), st.integers(1, 7))
def test_every_byte_comes_back_however_it_was_cut(data: st.DataObject, group: int) -> None:
    chains = data.draw(st.dictionaries(st.integers(0, 50), st.integers(1, 9), max_size=6))
    pieces = []
    for name, count in chains.items():
        start = data.draw(st.integers(1, 5))
        cut = data.draw(st.integers(0, count))
        pieces += [piece(name, start, cut), piece(name, start + cut, count - cut)]
    shuffled = data.draw(st.permutations([p for p in pieces if p.bodies]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(links_module, "GROUP_ROWS", group)
        written, rows = write_links(shuffled)
        assert rows == sum(chains.values())
        whole: dict[bytes, bytes] = {}
        for p in pieces:
            if p.bodies:
                whole[p.chain] = whole.get(p.chain, b"") + p.bodies
        assert read(written, rows) == whole
        assert pq.ParquetFile(io.BytesIO(written)).num_row_groups == -(-rows // group)


@pytest.mark.parametrize(
    "pieces",
    [
        [piece(1, 1, 3), piece(1, 5, 2)],
        [piece(1, 1, 3), piece(1, 3, 2)],
        [piece(1, 1, 3), piece(1, 1, 3)],
        [Links(chain=bytes(32), first=1, bodies=b"x" * (LINK_BYTES - 1))],
        [Links(chain=bytes(31), first=1, bodies=piece(1, 1, 1).bodies)],
        [Links(chain=bytes(32), first=2, bodies=piece(0, 1, 1).bodies)],
    ],
    ids=["gap", "overlap", "twice", "not a link", "not a chain", "another position"],
)
def test_what_is_no_gapless_chain_is_not_written(pieces: list[Links]) -> None:
    with pytest.raises(InvalidInput):
        write_links(pieces)


def rewritten(data: bytes, change: Callable[[pa.Table], pa.Table]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(change(pq.read_table(io.BytesIO(data))), sink)
    return sink.getvalue()


@pytest.mark.parametrize(
    "order",
    [[1, 0, 2, 3, 4], [0, 2, 3, 4], [0, 1, 1, 2, 3, 4], [3, 4, 0, 1, 2], [0, 1, 3, 4, 2]],
    ids=["swapped", "gap", "twice", "chains swapped", "chain comes again"],
)
def test_rows_out_of_order_are_refused(order: list[int]) -> None:
    data, _ = write_links([piece(1, 1, 3), piece(2, 4, 2)])
    changed = rewritten(data, lambda table: table.take(order))
    with pytest.raises(InvalidInput):
        list(read_links(changed, len(order)))


def test_a_hole_other_columns_and_too_large_groups_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data, rows = write_links([piece(1, 1, 3)])

    def hole(table: pa.Table) -> pa.Table:
        place = table.column_names.index("requests")
        column = pa.array([1, None, 3], pa.uint64())
        return table.set_column(place, pa.field("requests", pa.uint64()), column)

    for bad, count in [
        (rewritten(data, hole), rows),
        (rewritten(data, lambda table: table.drop_columns(["requests"])), rows),
        (data, rows + 1),
        (data[:-9], rows),
    ]:
        with pytest.raises(InvalidInput):
            list(read_links(bad, count))
    monkeypatch.setattr(links_module, "GROUP_ROWS", 2)
    with pytest.raises(InvalidInput):
        list(read_links(data, rows))


def test_columns_follow_the_layout() -> None:
    data, _ = write_links([piece(3, 1, 4)])
    table = pq.read_table(io.BytesIO(data))
    links = np.frombuffer(piece(3, 1, 4).bodies, LINK)
    assert table.schema.equals(SCHEMA)
    for name in ("at_unix_ms", "requests", "live_ms"):
        assert table.column(name).to_pylist() == links[name].tolist()
    assert table.column("latency_le_1_ms").to_pylist() == links["latency"][:, 0].tolist()
    assert table.column("latency_more").to_pylist() == links["latency"][:, -1].tolist()
