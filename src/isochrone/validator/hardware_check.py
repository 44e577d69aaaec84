"""Checking a work at a hundredth of its cost: a random vector instead of the product.

Intuition (Freivalds 1977): if c = a·B then c·x = a·(B·x) for every x, and if not, a random x
modulo a prime shows it all but once in p. B·x costs width² once, every row then only its width. The
vector is drawn here, after both roots were given, and never told, so nobody can fit a row to it.

A row must be right three times: its value, its digest in the committed tree, its digest in the
recalled one. Then the numbers that the node multiplied are the numbers that it kept. Where one is
not, the true row is computed and held against both trees: what the node *signed* is wrong if the
trees hold another digest than the true row's. Anybody can repeat that, and nobody can accuse a node
by values of his own invention. Values that are wrong over trees that are right show nothing.

Rules of this file: whole numbers modulo p = 2^31 - 1 in 64 bits, no floats (but for true rows,
whose sums are exact in them). The largest product is 2^24 · 2^31 (an entry of c), each reduced
before they are summed; sums of a·x stay below 2^7 · 2^31 · 4096 = 2^50. What is opened came from a
stranger: sizes are checked before use. It runs in a thread; numpy is imported when first used.

Cheapest lie caught: one wrong entry in an opened row, a rank cut, two rows swapped, roots of
another work; of validators: a wrong row that the node never kept. Cheapest missed: wrong rows that
were not opened; a wrong row with chance 2^-31.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

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
from isochrone.rules.work_sizes import ROWS_MAX, WorkSize
from isochrone.schema.documents import unpack, unseal
from isochrone.schema.work import WORK_RESULT, OpenedRow, WorkAttestation, WorkResult

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
    """``proven``: whether every row asked for came as it should, with ways to both roots; if not,
    the node has shown nothing. ``wrong``: the first row that is wrong in a tree, or None."""

    proven: bool
    wrong: OpenedRow | None = None


def check(shown: Shown, vector: bytes | None = None) -> Checked:
    """Judge the opened rows. ``vector``: 4 × width bytes of chance (none: the system's)."""
    in_place = tuple(row.index for row in shown.rows) == shown.asked
    if not in_place or not all(_shown_in_full(row, shown) for row in shown.rows):
        return Checked(proven=False)
    suspects = _suspects(shown, vector or os.urandom(4 * shown.size.width))
    if not suspects:
        return Checked(proven=True)
    wrong = _wrong_in_trees(shown, suspects)
    return Checked(proven=wrong is not None, wrong=wrong)


def exhibit_stands(attestation: WorkAttestation) -> bool:
    """Whether an attestation of wrong rows shows one, under the roots that the node signed: what an
    auditor asks before it believes ``right = False``. Costs about as much as a check.

    Raises InvalidInput or Unauthorized where the node's result cannot be read.
    """
    result, _ = unseal(unpack(attestation.result), WORK_RESULT, WorkResult)
    sized = result.width in WIDTHS and 0 < result.rows <= ROWS_MAX
    if len(attestation.exhibit) != 1 or not sized:
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
    if not _under_roots(attestation.exhibit[0], shown):
        return False
    return _wrong_in_trees(shown, attestation.exhibit) is not None


def _shown_in_full(row: OpenedRow, shown: Shown) -> bool:
    return len(row.values) == 4 * shown.size.width and _under_roots(row, shown)


def _under_roots(row: OpenedRow, shown: Shown) -> bool:
    rows = shown.size.rows
    return leads(
        shown.committed, rows, row.index, row.committed_group, row.committed_path
    ) and leads(shown.recalled, rows, row.index, row.recalled_group, row.recalled_path)


def _suspects(shown: Shown, vector: bytes) -> list[OpenedRow]:
    """Opened rows that are wrong by value or by a digest."""
    import numpy as np

    width = shown.size.width
    x = np.frombuffer(vector, dtype="<u4").astype(np.int64) % PRIME
    c = np.frombuffer(b"".join(row.values for row in shown.rows), dtype="<i4")
    c = c.reshape(len(shown.rows), width)
    a = matrix(np, words_of("a", shown.work), [row.index for row in shown.rows], width)
    left = (c.astype(np.int64) * x % PRIME).sum(axis=1) % PRIME
    right = a.astype(np.int64) @ _product(shown.work, width, x) % PRIME
    in_range = np.abs(c.astype(np.int64)).max(axis=1) <= EXACT
    good = (left == right) & in_range & _in_trees(shown, shown.rows, c)
    return [row for row, right in zip(shown.rows, good, strict=True) if not right]


def _wrong_in_trees(shown: Shown, rows: Sequence[OpenedRow]) -> OpenedRow | None:
    """The first row whose true value is not what both trees hold; its shown value is not asked."""
    import numpy as np

    width = shown.size.width
    a = matrix(np, words_of("a", shown.work), [row.index for row in rows], width)
    true = sum(
        a[:, first : first + B_ROWS].astype(np.float64) @ block.astype(np.float64)
        for first, block in _b_blocks(shown.work, width)
    )
    good = _in_trees(shown, rows, np.asarray(true))
    return next((row for row, right in zip(rows, good, strict=True) if not right), None)


def _b_blocks(work: bytes, width: int) -> Iterator[tuple[int, Any]]:
    """B in blocks of rows, with the first row's number."""
    import numpy as np

    words = words_of("b", work)
    for first in range(0, width, B_ROWS):
        yield first, matrix(np, words, range(first, first + B_ROWS), width)


def _product(work: bytes, width: int, x: Any) -> Any:
    """B·x modulo p."""
    import numpy as np

    parts = [block.astype(np.int64) @ x % PRIME for _, block in _b_blocks(work, width)]
    return np.concatenate(parts)


def _in_trees(shown: Shown, rows: Sequence[OpenedRow], values: Any) -> Any:
    """Which rows' values digest to what both trees hold."""
    import numpy as np

    kept = low_halves(np, values).view(np.uint64)
    width = shown.size.width
    good = np.ones(len(rows), dtype=bool)
    for words, groups in (
        (words_of("commit", shown.work), [row.committed_group for row in rows]),
        (words_of("recall", shown.work, shown.nonce), [row.recalled_group for row in rows]),
    ):
        told = b"".join(
            digest_in(group, row.index) for row, group in zip(rows, groups, strict=True)
        )
        good &= digests(kept, column_keys(np, words, width)) == np.frombuffer(told, dtype="<u8")
    return good
