"""A Merkle tree over answers: what a node signs before anybody says which answer is checked.

Intuition: gateway and node both saw a request and its answer. Each digests both into one leaf of 32
bytes, so that they can agree on thousands of answers by one root, and a stranger can later be shown
a single one of them with log2(count) hashes and the node's signature.

Rules of this file: a leaf is SHA-256(request digest ‖ answer digest), a node SHA-256(01 ‖ left ‖
right): 64 bytes under one hash and 65 under the other are never the same. Left and right follow
from the index, a node without a partner moves up as it is, and the count fixes the length of every
path. (``rules.merkle`` is what contracts check, ``rules.row_tree`` is over rows of a product.)

Cheapest lie caught: an answer shown that was not signed, or in another's position. Cheapest lie
missed: the digests say nothing about whether an answer is right (``rules.answers``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Final

from isochrone.schema.digests import canonical

LEAF_BYTES: Final = 32

CHECKED_BYTES_MAX: Final = 1 << 20
"""A request or answer beyond 1 MiB has no leaf, on both sides: digesting it would hold up others
for milliseconds. So a node may lie about larger ones; most tensors and all texts are smaller."""

EMPTY_ROOT: Final = hashlib.sha256(b"").digest()
"""Over no leaves; nothing can be shown under it."""

Levels = tuple[tuple[bytes, ...], ...]
"""Leaves first, the root alone last."""


def request_digest(operation: str, headers: Mapping[str, str], body: bytes) -> bytes:
    """What stands for a request, 32 bytes: all that an engine sees of it.

    >>> one = request_digest("infer", {"a": "1", "b": "2"}, b"{}")
    >>> one == request_digest("infer", {"b": "2", "a": "1"}, b"{}"), len(one)
    (True, 32)
    """
    found = hashlib.sha256(canonical([operation, headers]))
    found.update(b"\n")
    found.update(body)
    return found.digest()


def leaf(request: bytes, answer: bytes) -> bytes:
    """The leaf of two digests of 32 bytes each."""
    return hashlib.sha256(request + answer).digest()


def pair(left: bytes, right: bytes) -> bytes:
    """The node over two."""
    return hashlib.sha256(b"\1" + left + right).digest()


def split(leaves: bytes) -> list[bytes]:
    """Leaves that came in one piece; an incomplete last one is dropped."""
    whole = len(leaves) - len(leaves) % LEAF_BYTES
    return [leaves[at : at + LEAF_BYTES] for at in range(0, whole, LEAF_BYTES)]


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


def root_of(levels: Levels) -> bytes:
    """The root, 32 bytes."""
    return levels[-1][0] if levels else EMPTY_ROOT


def path_of(levels: Levels, index: int) -> tuple[bytes, ...]:
    """The siblings from leaf ``index`` upwards."""
    siblings = []
    for level in levels[:-1]:
        if index ^ 1 < len(level):
            siblings.append(level[index ^ 1])
        index //= 2
    return tuple(siblings)


def leads(root: bytes, count: int, index: int, found: bytes, path: Sequence[bytes]) -> bool:
    """Whether a leaf stands at ``index`` of the ``count`` leaves under a root."""
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
