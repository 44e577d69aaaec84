"""Nodes that show works, honestly and otherwise: what a verifier has to tell apart.

``Shower`` does a work in this process. Each cheat changes one thing about it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from isochrone.node.work_arrays import ArrayProduct
from isochrone.rules.hardware import drawn_rows, recall_nonce, work_seed
from isochrone.rules.row_tree import Levels, group_of, levels_of, path_of
from isochrone.rules.seeded_work import low_halves
from isochrone.rules.work_sizes import WorkSize
from isochrone.schema.work import OpenedRow
from isochrone.validator.hardware_check import Shown


class Shower(ArrayProduct):
    """An honest one."""

    def __init__(self, work: bytes, size: WorkSize) -> None:
        super().__init__(np, "numpy", work, size, 1)
        self._block = 4096  # few calls: BLAS threads of a test wait for each other
        self.trees: list[tuple[bytes, Levels]] = []

    def committing(self) -> bytes:
        """The root that it commits to."""
        return self._grown(self.commit())

    def recalling(self, nonce: bytes) -> bytes:
        """The root that it gives for the nonce."""
        return self._grown(self.recall(nonce))

    def opening(self, indices: Sequence[int]) -> tuple[OpenedRow, ...]:
        """The rows as it shows them."""
        (committed, c_levels), (recalled, r_levels) = self.trees
        return tuple(
            OpenedRow(
                index=index,
                values=values,
                committed_group=group_of(committed, index),
                committed_path=path_of(c_levels, index),
                recalled_group=group_of(recalled, index),
                recalled_path=path_of(r_levels, index),
            )
            for index, values in zip(indices, self.rows(indices), strict=True)
        )

    def _grown(self, digests: bytes) -> bytes:
        levels = levels_of(digests)
        self.trees.append((digests, levels))
        return levels[-1][0]


class HalfMemory(Shower):
    """Keeps the first half of the rows and makes the other half again when they are recalled."""

    def recall(self, nonce: bytes) -> bytes:
        """See ``Product``."""
        for first in range(self._size.rows // 2, self._size.rows, self._block):
            rows = min(self._block, self._size.rows - first)
            product = self._floats(self._a, range(first, first + rows)) @ self._b
            self._kept[first : first + rows] = low_halves(np, product)
        return super().recall(nonce)


class WrongRows(Shower):
    """Leaves out a share of the rows: zeros are kept; the right ones are shown when asked."""

    share = 0.1

    def _make(self, first: int, rows: int, keys: Any) -> bytes:
        digests = super()._make(first, rows, keys)
        left_out = range(first, first + int(rows * self.share))
        self._kept[left_out.start : left_out.stop] = 0
        again: bytes = self._digest(first, rows, keys)
        return again if left_out else digests


class ShownWrong(WrongRows):
    """... and shows the zeros that it kept."""

    def rows(self, indices: Sequence[int]) -> list[bytes]:
        """See ``Product``."""
        kept = self._kept[list(indices)]
        right = super().rows(indices)
        zeros = bytes(4 * self._size.width)
        return [right[i] if row.any() else zeros for i, row in enumerate(kept)]


class LowRank(Shower):
    """Multiplies by a B of three quarters of the rank."""

    def __init__(self, work: bytes, size: WorkSize) -> None:
        super().__init__(work, size)
        self._b[size.width * 3 // 4 :] = 0


class Swapped(Shower):
    """Keeps neighbouring rows in each other's place."""

    def _make(self, first: int, rows: int, keys: Any) -> bytes:
        super()._make(first, rows, keys)
        pairs = self._kept[first : first + rows].reshape(rows // 2, 2, self._size.width)
        pairs[:] = pairs[:, ::-1].copy()
        return self._digest(first, rows, keys)


class Replayed(Shower):
    """Shows the work of another seed."""

    def __init__(self, work: bytes, size: WorkSize) -> None:
        super().__init__(bytes(16), size)


class Forgetful(Shower):
    """Keeps nothing: for the recall it gives the digests of the commitment again."""

    def recall(self, nonce: bytes) -> bytes:
        """See ``Product``."""
        return self.trees[0][0]


class Empty(Shower):
    """Multiplies nothing: for tests of what is said around a work."""

    def commit(self) -> bytes:
        """See ``Product``."""
        return bytes(8 * self._size.rows)

    def recall(self, nonce: bytes) -> bytes:
        """See ``Product``."""
        return bytes(8 * self._size.rows)

    def rows(self, indices: Sequence[int]) -> list[bytes]:
        """See ``Product``."""
        return [bytes(4 * self._size.width)] * len(indices)


class SoldTwice(Shower):
    """One device behind two nodes that are asked at the same moment: it does both works."""

    def commit(self) -> bytes:
        """See ``Product``."""
        super().commit()
        return super().commit()


class Slow(Shower):
    """A device of half the speed: everything takes twice as long."""

    busy_s = 0.0

    def commit(self) -> bytes:
        """See ``Product``."""
        began_s = time.monotonic()
        found = super().commit()
        self.busy_s = time.monotonic() - began_s
        time.sleep(self.busy_s)
        return found


def shown_by(kind: type[Shower], chance: bytes, size: WorkSize, number: int = 64) -> Shown:
    """A whole work by a node of that kind, as a validator with this chance sees it."""
    work, nonce, asked = work_seed(chance), recall_nonce(chance), drawn_rows(chance, size.rows)
    shower = kind(work, size)
    committed, recalled = shower.committing(), shower.recalling(nonce)
    asked = asked[:number]
    return Shown(
        work=work, size=size, committed=committed, nonce=nonce, recalled=recalled,
        asked=asked, rows=shower.opening(asked),
    )  # fmt: skip
