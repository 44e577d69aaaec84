"""A Merkle tree over any leaves of 32 bytes: one root before the question, a few hashes after it.

Intuition: who sends a root has fixed every leaf and its position; later a single one is shown with
log2(count) siblings. Answers (``rules.answer_tree``) and rows of a product (``rules.row_tree``)
both stand under such trees; what their leaves are is theirs.

Rules of this file: a node is SHA-256(01 ‖ left ‖ right), 65 bytes, so leaves must be hashes over
something of another length, or that begins otherwise. Left and right follow from the index, a node
without a partner moves up as it is, and the count fixes the length of every path, so a short or
long one is refused. The accounts' tree (``rules.merkle``) is another one: it must be what contracts
can check.

Cheapest lie caught: a leaf shown in another's position. It does not know what a leaf is worth.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

LEAF_BYTES: Final = 32

Levels = tuple[tuple[bytes, ...], ...]
"""Every level of a tree: leaves first, the root alone last."""


def pair(left: bytes, right: bytes) -> bytes:
    """The node over two."""
    return hashlib.sha256(b"\1" + left + right).digest()


def levels_of(leaves: Sequence[bytes]) -> Levels:
    """The tree; none for no leaves.

    >>> [len(level) for level in levels_of([bytes(32)] * 5)]
    [5, 3, 2, 1]
    """
    found: list[tuple[bytes, ...]] = [tuple(leaves)] if leaves else []
    while found and len(found[-1]) > 1:
        below = found[-1]
        above = [pair(*below[at : at + 2]) for at in range(0, len(below) - 1, 2)]
        found.append((*above, below[-1]) if len(below) % 2 else tuple(above))
    return tuple(found)


def path_of(levels: Levels, index: int) -> tuple[bytes, ...]:
    """The siblings from leaf ``index`` upwards."""
    siblings = []
    for level in levels[:-1]:
        if index ^ 1 < len(level):
            siblings.append(level[index ^ 1])
        index //= 2
    return tuple(siblings)


def leads(root: bytes, count: int, index: int, found: bytes, path: Sequence[bytes]) -> bool:
    """Whether the leaf ``found`` stands at ``index`` of the ``count`` leaves under a root."""
    if not 0 <= index < count:
        return False
    left = list(path)
    while count > 1:
        if index ^ 1 < count:
            if not left or len(left[0]) != LEAF_BYTES:
                return False
            sibling = left.pop(0)
            found = pair(sibling, found) if index & 1 else pair(found, sibling)
        index, count = index // 2, -(-count // 2)
    return not left and found == root
