"""A Merkle tree over a product's rows: one root before the question, a few rows after it.

Intuition: the node sends 32 bytes that fix all rows; later it shows any of them with its way up.
Rows have digests of 8 bytes (``rules.seeded_work``), 64 of which share a leaf: a tree over single
rows would cost more hashing than the digests themselves.

Rules of this file: a leaf is SHA-256(00 ‖ 64 digests), which no node of ``rules.hash_tree`` (it
begins with 01) can be taken for; the number of rows fixes the number of leaves.

Cheapest lie caught: a row shown in another's position. It does not know whether a digest is right.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from isochrone.rules import hash_tree
from isochrone.rules.hash_tree import Levels as Levels
from isochrone.rules.seeded_work import DIGEST_BYTES, GROUP

GROUP_BYTES = GROUP * DIGEST_BYTES


def leaf(group: bytes) -> bytes:
    """The leaf over one group's digests."""
    return hashlib.sha256(b"\0" + group).digest()


def levels_of(digests: bytes) -> Levels:
    """The tree over all rows' digests, one after the other (a whole number of groups, at least 1).

    >>> [len(level) for level in levels_of(bytes(5 * GROUP_BYTES))]
    [5, 3, 2, 1]
    """
    starts = range(0, len(digests), GROUP_BYTES)
    return hash_tree.levels_of([leaf(digests[at : at + GROUP_BYTES]) for at in starts])


def path_of(levels: Levels, row: int) -> tuple[bytes, ...]:
    """The siblings from the row's leaf upwards."""
    return hash_tree.path_of(levels, row // GROUP)


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
    return hash_tree.leads(root, -(-rows // GROUP), row // GROUP, leaf(group), path)
