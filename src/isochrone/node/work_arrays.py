"""A work's product in memory: numpy on the processor, cupy or torch on a GPU where there is one.

Intuition: the product is made in blocks of rows, each kept as 16-bit halves and digested while it
is still in the cache. A recall digests every kept block again. On the processor blocks are shared
out to threads (numpy lets go of the interpreter in its loops and in BLAS, which runs one thread).

Rules of this file: it runs in the worker process only, since it imports numpy; every backend gives
the same bytes (``rules.seeded_work`` says why). The machine must be little-endian. GPU arithmetic
is plain float32, which is exact here; the faster integer units of tensor cores are left unused, so
a GPU shows less than it could (``rules.work_sizes`` says what that hides).

The GPU classes have been written against the libraries' documentation and have not been run.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from isochrone.rules.seeded_work import (
    Words,
    column_keys,
    digests,
    low_halves,
    matrix,
    quad,
    shift_of,
    words_of,
)
from isochrone.rules.work_sizes import WorkSize

BLOCK_ROWS = 256
"""On the processor: some hundred KiB to a few MiB, so that a block stays in the cache."""

BLOCK_ROWS_GPU = 16_384
"""Large enough to fill a GPU, small enough (256 MiB at width 4096) to be no matter of memory."""


class Product(Protocol):
    """A product that is made, kept and shown. Digests are 8 little-endian bytes a row."""

    device: str

    def commit(self) -> bytes:
        """Make every row; digests under the seed's own key."""

    def recall(self, nonce: bytes) -> bytes:
        """Digests of the kept rows under the nonce."""

    def rows(self, indices: Sequence[int]) -> list[bytes]:
        """These rows in full, 32-bit little-endian integers (made again: kept are halves)."""


def make_product(work: bytes, size: WorkSize, threads: int) -> Product:
    """The product on the best device there is; nothing is computed yet but its matrix B."""
    if importlib.util.find_spec("cupy") is not None and (xp := _cupy()) is not None:
        return ArrayProduct(xp, "cupy", work, size, 1)
    if importlib.util.find_spec("torch") is not None and (torch := _torch()) is not None:
        return TorchProduct(torch, "cuda", work, size)
    import numpy

    return ArrayProduct(numpy, "numpy", work, size, threads)


def _cupy() -> Any:
    import cupy  # type: ignore[import-not-found, unused-ignore]

    try:
        return cupy if cupy.cuda.runtime.getDeviceCount() > 0 else None
    except cupy.cuda.runtime.CUDARuntimeError:
        return None  # the library is there, a driver is not


def _torch() -> Any:
    import torch  # type: ignore[import-not-found, unused-ignore]

    return torch if torch.cuda.is_available() else None


def _blocks(rows: int, block: int) -> Iterator[tuple[int, int]]:
    """First row and number of rows of each block."""
    for first in range(0, rows, block):
        yield first, min(block, rows - first)


class ArrayProduct:
    """On numpy, or on cupy, which is numpy on a GPU."""

    def __init__(self, xp: Any, device: str, work: bytes, size: WorkSize, threads: int) -> None:
        self.device = device
        self._xp = xp
        self._work = work
        self._size = size
        self._threads = threads
        self._block = BLOCK_ROWS if device == "numpy" else BLOCK_ROWS_GPU
        self._a = words_of("a", work)
        self._b = self._floats(words_of("b", work), range(size.width))
        self._kept = xp.empty((size.rows, size.width), dtype=xp.int16)

    def commit(self) -> bytes:
        """See ``Product``."""
        keys = column_keys(self._xp, words_of("commit", self._work), self._size.width)
        return self._each_block(lambda first, rows: self._make(first, rows, keys))

    def recall(self, nonce: bytes) -> bytes:
        """See ``Product``."""
        keys = column_keys(self._xp, words_of("recall", self._work, nonce), self._size.width)
        return self._each_block(lambda first, rows: self._digest(first, rows, keys))

    def rows(self, indices: Sequence[int]) -> list[bytes]:
        """See ``Product``."""
        xp = self._xp
        a = self._floats(self._a, indices)
        return [self._bytes(row) for row in (a @ self._b).astype(xp.int32)]

    def _floats(self, words: Words, rows: Sequence[int]) -> Any:
        return matrix(self._xp, words, rows, self._size.width).astype(self._xp.float32)

    def _make(self, first: int, rows: int, keys: Any) -> bytes:
        product = self._floats(self._a, range(first, first + rows)) @ self._b
        self._kept[first : first + rows] = low_halves(self._xp, product)
        return self._digest(first, rows, keys)

    def _digest(self, first: int, rows: int, keys: Any) -> bytes:
        words = self._kept[first : first + rows].view(self._xp.uint64)
        return self._bytes(digests(words, keys))

    def _bytes(self, array: Any) -> bytes:
        found: bytes = (array if self.device == "numpy" else array.get()).tobytes()
        return found

    def _each_block(self, work: Callable[[int, int], bytes]) -> bytes:
        blocks = list(_blocks(self._size.rows, self._block))
        if self._threads < 2:
            return b"".join(work(first, rows) for first, rows in blocks)
        with ThreadPoolExecutor(self._threads) as pool:
            return b"".join(pool.map(work, *zip(*blocks, strict=True)))


class TorchProduct:
    """On torch, whose tensors are signed: 32-bit words live in its int64."""

    def __init__(self, torch: Any, device: str, work: bytes, size: WorkSize) -> None:
        self.device = f"torch {device}"
        self._torch = torch
        self._on = torch.device(device)
        self._work = work
        self._size = size
        self._a = words_of("a", work)
        self._b = self._floats(words_of("b", work), range(size.width))
        self._kept = torch.empty((size.rows, size.width), dtype=torch.int16, device=self._on)

    def commit(self) -> bytes:
        """See ``Product``."""
        keys = self._keys(words_of("commit", self._work))
        found = []
        for first, rows in _blocks(self._size.rows, BLOCK_ROWS_GPU):
            product = self._floats(self._a, range(first, first + rows)) @ self._b
            halves = product.to(self._torch.int32).to(self._torch.int16)
            self._kept[first : first + rows] = halves
            found.append(self._digest(first, rows, keys))
        return b"".join(found)

    def recall(self, nonce: bytes) -> bytes:
        """See ``Product``."""
        keys = self._keys(words_of("recall", self._work, nonce))
        blocks = _blocks(self._size.rows, BLOCK_ROWS_GPU)
        return b"".join(self._digest(first, rows, keys) for first, rows in blocks)

    def rows(self, indices: Sequence[int]) -> list[bytes]:
        """See ``Product``."""
        whole = (self._floats(self._a, indices) @ self._b).to(self._torch.int32).cpu().numpy()
        return [row.tobytes() for row in whole]

    def _numbers(self, numbers: Sequence[int]) -> Any:
        return self._torch.tensor(list(numbers), dtype=self._torch.int64, device=self._on)

    def _floats(self, words: Words, rows: Sequence[int]) -> Any:
        torch = self._torch
        column = self._numbers(range(self._size.width // 4))[None, :]
        found = quad(words, self._numbers(rows)[:, None], column)
        entries = found.to(torch.int32).view(torch.int8) >> shift_of(self._size.width)
        return entries.to(torch.float32)

    def _keys(self, words: Words) -> Any:
        column = self._numbers(range(self._size.width // 4))[None, :]
        row = self._numbers((0,))[:, None]
        return quad(words, row, column * 2) | (quad(words, row, column * 2 + 1) << 32)

    def _digest(self, first: int, rows: int, keys: Any) -> bytes:
        words = self._kept[first : first + rows].view(self._torch.int64)
        found: bytes = digests(words, keys).cpu().numpy().tobytes()
        return found
