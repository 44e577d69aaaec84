"""The process that does works: the node's hands, at the lowest priority, gone when it is gone.

Intuition: multiplying for seconds on the node's own loop would keep beats from gateways, so a child
does it. It speaks frames (``u32 length | MessagePack``) on its standard input and output: one
``Begin``, answered by ``Committed``; one ``Recall`` by ``Recalled``; one ``Open`` by ``Opened``.

Rules: a thread reads the input, and when it ends the process ends at once, in the middle of a
product too, so that it never outlives its node. Address space is bounded before anything is
allocated. Whatever goes wrong is told as ``Broken`` and ends the process.
"""

from __future__ import annotations

import contextlib
import os
import queue
import resource
import struct
import sys
import threading
from typing import IO

import msgspec

from isochrone.node.work_arrays import Product, make_product
from isochrone.rules.row_tree import Levels, group_of, levels_of, path_of
from isochrone.rules.seeded_work import ENTRY_BYTES
from isochrone.rules.work_sizes import WorkSize
from isochrone.schema.work import OpenedRow

LENGTH = struct.Struct(">I")

FRAME_BYTES_MAX = 8 << 20
"""128 opened rows of the widest kind are 2.2 MiB."""

ROOM_BYTES = 2 << 30
"""Of address space beside the product: libraries, BLAS buffers, B, blocks of a few threads. It is
space, not memory: measured, 0.2 GiB beside the product are resident at width 4096."""

ROOM_BYTES_A_THREAD = 256 << 20
"""Stacks, arenas and a block's copies."""

NICENESS = 19
"""The lowest: whatever else runs on the machine goes first."""


class Begin(msgspec.Struct, frozen=True, tag="begin"):
    """Make the product of ``work``."""

    work: bytes
    rows: int
    width: int
    threads: int


class Recall(msgspec.Struct, frozen=True, tag="recall"):
    """Digest the kept rows under ``nonce``."""

    nonce: bytes


class Open(msgspec.Struct, frozen=True, tag="open"):
    """Show rows, after a recall."""

    rows: tuple[int, ...]


class Committed(msgspec.Struct, frozen=True, tag="committed"):
    """The root over the product's rows, and what made it."""

    root: bytes
    device: str


class Recalled(msgspec.Struct, frozen=True, tag="recalled"):
    """The root under the nonce."""

    root: bytes


class Opened(msgspec.Struct, frozen=True, tag="opened"):
    """The rows asked for."""

    rows: tuple[OpenedRow, ...]


class Broken(msgspec.Struct, frozen=True, tag="broken"):
    """It cannot go on."""

    text: str


Order = Begin | Recall | Open
Reply = Committed | Recalled | Opened | Broken


def framed(message: Order | Reply) -> bytes:
    """A message as it crosses the pipe."""
    packed = msgspec.msgpack.encode(message)
    return LENGTH.pack(len(packed)) + packed


class _Tree:
    """One round of digests and the tree over them."""

    def __init__(self, digests: bytes) -> None:
        self.digests = digests
        self.levels: Levels = levels_of(digests)

    @property
    def root(self) -> bytes:
        return self.levels[-1][0]


class Bench:
    """One work from its beginning to its opening."""

    def __init__(self, begin: Begin) -> None:
        size = WorkSize(begin.rows, begin.width)
        self.product: Product = make_product(begin.work, size, begin.threads)
        self.committed = _Tree(self.product.commit())
        self.recalled = self.committed

    def recall(self, nonce: bytes) -> bytes:
        """The root of the recall."""
        self.recalled = _Tree(self.product.recall(nonce))
        return self.recalled.root

    def open(self, rows: tuple[int, ...]) -> tuple[OpenedRow, ...]:
        """Rows with their ways to both roots."""
        committed, recalled = self.committed, self.recalled
        return tuple(
            OpenedRow(
                index=row,
                values=values,
                committed_group=group_of(committed.digests, row),
                committed_path=path_of(committed.levels, row),
                recalled_group=group_of(recalled.digests, row),
                recalled_path=path_of(recalled.levels, row),
            )
            for row, values in zip(rows, self.product.rows(rows), strict=True)
        )


def _bound(begin: Begin) -> None:
    """Limit the address space to what the work needs."""
    need = begin.rows * begin.width * ENTRY_BYTES + ROOM_BYTES
    need += begin.threads * ROOM_BYTES_A_THREAD
    if not os.path.exists("/dev/nvidiactl"):  # drivers map far more than they use
        resource.setrlimit(resource.RLIMIT_AS, (need, need))


def _read(source: IO[bytes], orders: queue.SimpleQueue[Order]) -> None:
    """Pass orders on; end the process with the input."""
    with contextlib.suppress(OSError, msgspec.DecodeError):
        while len(head := source.read(LENGTH.size)) == LENGTH.size:
            packed = source.read(min(FRAME_BYTES_MAX, LENGTH.unpack(head)[0]))
            orders.put(msgspec.msgpack.decode(packed, type=Order))
    os._exit(0)


def main() -> None:
    """Serve one work."""
    os.nice(NICENESS)
    target = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what a library prints must not get between frames
    orders: queue.SimpleQueue[Order] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(sys.stdin.buffer, orders), daemon=True).start()
    bench: Bench | None = None
    while True:
        try:
            order = orders.get()
            bench, reply = _serve(bench, order)
        except Exception as error:
            target.write(framed(Broken(text=f"{type(error).__name__}: {error}"[:400])))
            return
        rest = memoryview(framed(reply))
        while rest:
            rest = rest[target.write(rest) or 0 :]


def _serve(bench: Bench | None, order: Order) -> tuple[Bench | None, Reply]:
    if isinstance(order, Begin):
        _bound(order)
        bench = Bench(order)
        return bench, Committed(root=bench.committed.root, device=bench.product.device)
    if bench is None:
        return None, Broken(text="no work was begun")
    if isinstance(order, Recall):
        return bench, Recalled(root=bench.recall(order.nonce))
    return bench, Opened(rows=bench.open(order.rows))


if __name__ == "__main__":
    main()
