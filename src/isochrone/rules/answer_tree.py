"""A Merkle tree over answers: what a node signs before anybody says which answer is checked.

Intuition: gateway and node both saw a request and its answer. Each digests both into one leaf of 32
bytes, so that they can agree on thousands of answers by one root, and a stranger can later be shown
a single one of them with log2(count) hashes and the node's signature.

Rules of this file: a leaf is SHA-256(request digest ‖ answer digest), 64 bytes, which no node of
``rules.hash_tree`` (65 bytes) can be taken for. That tree's functions are here under their names:
who works with answers needs no second module.

Cheapest lie caught: an answer shown that was not signed, or in another's position. Cheapest lie
missed: the digests say nothing about whether an answer is right (``rules.answers``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final

from isochrone.rules.hash_tree import LEAF_BYTES as LEAF_BYTES
from isochrone.rules.hash_tree import Levels as Levels
from isochrone.rules.hash_tree import leads as leads
from isochrone.rules.hash_tree import levels_of as levels_of
from isochrone.rules.hash_tree import path_of as path_of
from isochrone.schema.digests import canonical

CHECKED_BYTES_MAX: Final = 1 << 20
"""A request or answer beyond 1 MiB has no leaf, on both sides: digesting it would hold up others
for milliseconds. So a node may lie about larger ones; most tensors and all texts are smaller."""

EMPTY_ROOT: Final = hashlib.sha256(b"").digest()
"""Over no leaves; nothing can be shown under it."""


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


def split(leaves: bytes) -> list[bytes]:
    """Leaves that came in one piece; an incomplete last one is dropped."""
    whole = len(leaves) - len(leaves) % LEAF_BYTES
    return [leaves[at : at + LEAF_BYTES] for at in range(0, whole, LEAF_BYTES)]


def root_of(levels: Levels) -> bytes:
    """The root, 32 bytes."""
    return levels[-1][0] if levels else EMPTY_ROOT
