"""Checking a work at a hundredth of its cost: a random vector instead of the product.

Intuition (Freivalds 1977): if c = a·B then c·x = a·(B·x) for every x, and if not, a random x
modulo a prime shows it all but once in p. B·x costs width² once, every row then only its width. The
vector is drawn here, after both roots were given, and never told, so nobody can fit a row to it.

A row must be right three times: its value, its digest in the committed tree, its digest in the
recalled one. Then the numbers that the node multiplied are the numbers that it kept.

Rules of this file: whole numbers modulo p = 2^31 - 1 in 64 bits, no floats. The largest product is
2^24 · 2^31 (an entry of c), each reduced before they are summed; a·x terms stay below
2^7 · 2^31 · 4096 = 2^50. What is opened came from a stranger: sizes are checked before use. It
runs in a thread; numpy is imported when it is first used.

Cheapest lie caught: one wrong entry in an opened row, a rank cut, two rows swapped, roots of
another work. Cheapest missed: wrong rows that were not opened; a wrong row with chance 2^-31.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from isochrone.rules.row_tree import digest_in, leads
from isochrone.rules.seeded_work import (
    EXACT,
    WIDTHS,
    column_keys,
    digests,
    low_halves,
    matrix,
    words_of,
)
from isochrone.rules.work_sizes import WorkSize
from isochrone.schema.documents import unpack, unseal
from isochrone.schema.proof import WORK_RESULT, OpenedRow, WorkAttestation, WorkResult

if TYPE_CHECKING:
    import numpy as np

PRIME = (1 << 31) - 1

B_ROWS = 256
"""B is made and used in blocks that stay in the cache."""


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """A work as it was shown: seed and nonce, both roots, rows asked for and come."""

    work: bytes
    size: WorkSize
    committed: bytes
    nonce: bytes
    recalled: bytes
    asked: tuple[int, ...]
    rows: tuple[OpenedRow, ...]


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """``proven``: whether every row asked for came with ways to both roots; if not, the node has
    shown nothing. ``wrong``: the first row that is wrong, or None."""

    proven: bool
    wrong: OpenedRow | None = None


def check(shown: Shown, vector: bytes | None = None) -> Checked:
    """Judge the opened rows. ``vector``: 4 × width bytes of chance (none: the system's)."""
    in_place = tuple(row.index for row in shown.rows) == shown.asked
    if not in_place or not all(_under_roots(row, shown) for row in shown.rows):
        return Checked(proven=False)
    wrong = _first_wrong(shown, vector or os.urandom(4 * shown.size.width))
    return Checked(proven=True, wrong=None if wrong is None else shown.rows[wrong])


def exhibit_stands(attestation: WorkAttestation) -> bool:
    """Whether an attestation of wrong rows shows one, under the roots that the node signed: what an
    auditor asks before it believes ``right = False``. Costs as much as a check.

    Raises InvalidInput or Unauthorized where the node's result cannot be read.
    """
    result, _ = unseal(unpack(attestation.result), WORK_RESULT, WorkResult)
    if len(attestation.exhibit) != 1 or result.width not in WIDTHS:
        return False
    try:
        shown = Shown(
            work=bytes.fromhex(result.work),
            size=WorkSize(result.rows, result.width),
            committed=bytes.fromhex(result.committed),
            nonce=bytes.fromhex(result.nonce),
            recalled=bytes.fromhex(result.recalled),
            asked=(attestation.exhibit[0].index,),
            rows=attestation.exhibit,
        )
    except ValueError:
        return False
    return check(shown).wrong is not None


def _under_roots(row: OpenedRow, shown: Shown) -> bool:
    rows = shown.size.rows
    return (
        len(row.values) == 4 * shown.size.width
        and leads(shown.committed, rows, row.index, row.committed_group, row.committed_path)
        and leads(shown.recalled, rows, row.index, row.recalled_group, row.recalled_path)
    )


def _first_wrong(shown: Shown, vector: bytes) -> int | None:
    """The position of the first wrong row among those opened, by value and both digests."""
    import numpy as np

    width = shown.size.width
    x = np.frombuffer(vector, dtype="<u4").astype(np.int64) % PRIME
    c = np.frombuffer(b"".join(row.values for row in shown.rows), dtype="<i4")
    c = c.reshape(len(shown.rows), width)
    a = matrix(np, words_of("a", shown.work), [row.index for row in shown.rows], width)
    left = (c.astype(np.int64) * x % PRIME).sum(axis=1) % PRIME
    right = a.astype(np.int64) @ _product(shown.work, width, x) % PRIME
    in_range = np.abs(c.astype(np.int64)).max(axis=1) <= EXACT
    kept = low_halves(np, c).view(np.uint64)
    good = (left == right) & in_range
    good &= _agree(
        kept, words_of("commit", shown.work), shown.rows, [r.committed_group for r in shown.rows]
    )
    good &= _agree(
        kept,
        words_of("recall", shown.work, shown.nonce),
        shown.rows,
        [r.recalled_group for r in shown.rows],
    )
    bad = np.flatnonzero(~good)
    return int(bad[0]) if len(bad) else None


def _product(work: bytes, width: int, x: Any) -> Any:
    """B·x modulo p."""
    import numpy as np

    words = words_of("b", work)
    blocks = [
        matrix(np, words, range(first, first + B_ROWS), width).astype(np.int64) @ x % PRIME
        for first in range(0, width, B_ROWS)
    ]
    return np.concatenate(blocks)


def _agree(
    kept: np.ndarray, words: tuple[int, int], rows: Sequence[OpenedRow], groups: Sequence[bytes]
) -> Any:
    """Which rows' digests are those that a tree holds."""
    import numpy as np

    ours = digests(kept, column_keys(np, words, 4 * kept.shape[1]))
    told = b"".join(digest_in(group, row.index) for row, group in zip(rows, groups, strict=True))
    return ours == np.frombuffer(told, dtype="<u8")
