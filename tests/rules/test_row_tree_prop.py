"""Every row leads to the root; no other one does."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from isochrone.rules.row_tree import digest_in, group_of, leads, levels_of, path_of
from isochrone.rules.seeded_work import DIGEST_BYTES, GROUP


def some_digests(groups: int) -> bytes:
    return b"".join(n.to_bytes(DIGEST_BYTES, "little") for n in range(groups * GROUP))


@given(st.integers(1, 40), st.data())
def test_every_row_leads_to_the_root(groups: int, data: st.DataObject) -> None:
    digests, rows = some_digests(groups), groups * GROUP
    levels = levels_of(digests)
    row = data.draw(st.integers(0, rows - 1))
    group, path, root = group_of(digests, row), path_of(levels, row), levels[-1][0]
    assert leads(root, rows, row, group, path)
    assert int.from_bytes(digest_in(group, row), "little") == row


@given(st.integers(2, 40), st.data())
def test_nothing_else_leads_there(groups: int, data: st.DataObject) -> None:
    digests, rows = some_digests(groups), groups * GROUP
    levels = levels_of(digests)
    row, other = (data.draw(st.integers(0, rows - 1)) for _ in range(2))
    group, path, root = group_of(digests, row), list(path_of(levels, row)), levels[-1][0]
    if other // GROUP != row // GROUP:
        assert not leads(root, rows, other, group, path)
    assert not leads(root, rows, row, group, [*path, path[-1]])
    assert not leads(root, rows, row, group, path[:-1])
    assert not leads(root, rows, row, group, [path[0][:31], *path[1:]])
    assert not leads(root, rows, row, group[:-1], path)
    assert not leads(root, rows, row, bytes(len(group)), path)
    assert not leads(bytes(32), rows, row, group, path)
    assert not leads(root, rows, -1, group, path)
    assert not leads(root, rows, rows + row, group, path)


def test_a_node_is_no_leaf() -> None:
    """The two hashes of a node cannot be shown as a group: sizes and domains differ."""
    digests = some_digests(2)
    levels = levels_of(digests)
    assert not leads(levels[1][0], GROUP, 0, levels[0][0] + levels[0][1], ())
