"""A Merkle tree over a product's rows: one root before the question, a few rows after it.

Intuition: the node sends 32 bytes that fix all rows; later it shows any of them with its way up.
Rows have digests of 8 bytes (``rules.seeded_work``), 64 of which share a leaf: a tree over single
rows would cost more hashing than the digests themselves.

Rules of this file: a leaf is SHA-256(00 ‖ 64 digests), a node SHA-256(01 ‖ left ‖ right), left and
right by the index; a node without a partner moves up as it is; the number of rows fixes the length
of every path, so a short or long one is refused. The accounts' tree (``rules.merkle``) is another
one: it must be what contracts can check.

Cheapest lie caught: a row shown in another's position. It does not know whether a digest is right.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from isochrone.rules.seeded_work import DIGEST_BYTES, GROUP

GROUP_BYTES = GROUP * DIGEST_BYTES

Levels = tuple[tuple[bytes, ...], ...]
"""Every level of a tree: leaves first, the root alone last."""


def leaf(group: bytes) -> bytes:
    """The leaf over one group's digests."""
    return hashlib.sha256(b"\0" + group).digest()


def pair(left: bytes, right: bytes) -> bytes:
    """The node over two."""
    return hashlib.sha256(b"\1" + left + right).digest()


def levels_of(digests: bytes) -> Levels:
    """The tree over all rows' digests, one after the other (a whole number of groups, at least 1).

    >>> [len(level) for level in levels_of(bytes(5 * GROUP_BYTES))]
    [5, 3, 2, 1]
    """
    level = tuple(
        leaf(digests[start : start + GROUP_BYTES]) for start in range(0, len(digests), GROUP_BYTES)
    )
    found = [level]
    while len(level) > 1:
        above = [pair(*level[at : at + 2]) for at in range(0, len(level) - 1, 2)]
        level = (*above, level[-1]) if len(level) % 2 else tuple(above)
        found.append(level)
    return tuple(found)


def path_of(levels: Levels, row: int) -> tuple[bytes, ...]:
    """The siblings from the row's leaf upwards."""
    at = row // GROUP
    siblings = []
    for level in levels[:-1]:
        if at ^ 1 < len(level):
            siblings.append(level[at ^ 1])
        at //= 2
    return tuple(siblings)


def group_of(digests: bytes, row: int) -> bytes:
    """The digests of the rows that share the row's leaf."""
    start = row // GROUP * GROUP_BYTES
    return digests[start : start + GROUP_BYTES]


def digest_in(group: bytes, row: int) -> bytes:
    """The row's own digest in its group."""
    start = row % GROUP * DIGEST_BYTES
    return group[start : start + DIGEST_BYTES]


def leads(root: bytes, rows: int, row: int, group: bytes, path: Sequence[bytes]) -> bool:
    """Whether a group and a path show what the root over ``rows`` rows holds at ``row``."""
    if not 0 <= row < rows or len(group) != GROUP_BYTES:
        return False
    at, size, found, left = row // GROUP, -(-rows // GROUP), leaf(group), list(path)
    while size > 1:
        if at ^ 1 < size:
            if not left or len(left[0]) != len(root):
                return False
            sibling = left.pop(0)
            found = pair(sibling, found) if at & 1 else pair(found, sibling)
        at, size = at // 2, -(-size // 2)
    return not left and found == root
