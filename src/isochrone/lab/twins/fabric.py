"""The fabric's twin: the cells' servers in memory, behind the same lines as the real ones.

Everything above a line (retrying, tables, doubt, snapshots on disk) is the real code; only servers
and sockets are replaced. Servers can be stopped, started and wiped. With a ``seed``, whatever
arrives (messages, changes, answers) is held back for a drawn number of turns of the event loop:
order per connection is kept, order between connections is not, no real time passes, and the same
seed gives the same interleaving.

What it does not do: lose messages of a live connection, expire delete markers, or fill up.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import itertools
import random
import time
from collections.abc import Callable
from pathlib import Path

from isochrone.fabric.connection import Fabric
from isochrone.fabric.line import (
    Line,
    Receive,
    Reply,
    Stored,
    Whole,
    line_lost,
    no_answer,
    nobody_answers,
)
from isochrone.schema.errors import Conflict, Unavailable

TURNS_MAX = 20
"""Most turns of the event loop that something is held back for: enough for any overtaking."""


class MemoryCells:
    """The servers of all cells that see each other. ``seed`` None: everything arrives at once."""

    def __init__(self, seed: int | None = None) -> None:
        self.seed = seed
        self.stores: dict[str, MemoryCellStore] = {}

    def store(self, cell: str) -> MemoryCellStore:
        """The server of a cell; made when first asked for."""
        if cell not in self.stores:
            self.stores[cell] = MemoryCellStore(self, cell)
        return self.stores[cell]

    def listeners(self, subject: str) -> list[tuple[MemoryLine, Receive]]:
        """Everybody, in all cells, who listens to a subject."""
        return [
            (line, receive)
            for store in self.stores.values()
            for line in store.lines
            for pattern, receive in line.subscriptions
            if matches(pattern, subject)
        ]


class MemoryCellStore:
    """One cell's server: its buckets, kept messages and live lines."""

    def __init__(self, cells: MemoryCells, cell: str) -> None:
        self.cells = cells
        self.cell = cell
        self.running = True
        self.lines: list[MemoryLine] = []
        self.streams: dict[str, tuple[str, collections.deque[bytes]]] = {}
        self.buckets: dict[str, MemoryBucketData] = {}
        self._births = itertools.count(1)
        self._dials = itertools.count(1)

    def bucket(self, name: str) -> MemoryBucketData:
        """The content of a bucket; made when first asked for."""
        if name not in self.buckets:
            self.buckets[name] = MemoryBucketData(f"{self.cell}-{next(self._births)}")
        return self.buckets[name]

    def stop(self) -> None:
        """The server dies: every line is lost, dialling fails, data stays."""
        self.running = False
        for line in list(self.lines):
            line.drop()

    def start(self) -> None:
        """The server is back."""
        self.running = True

    def wipe(self) -> None:
        """Its data is deleted (stop it first)."""
        self.buckets.clear()
        self.streams.clear()

    async def dial(self) -> Line:
        """A new line; raises Unavailable while the server is stopped."""
        if not self.running:
            raise Unavailable(f"No fabric server answers for {self.cell}.")
        line = MemoryLine(self, next(self._dials))
        self.lines.append(line)
        return line


class MemoryFabric(Fabric):
    """A fabric over a ``MemoryCellStore``; build it with ``join``."""

    @classmethod
    async def join(
        cls,
        store: MemoryCellStore,
        name: str,
        state_dir: Path,
        *,
        clock: Callable[[], float] = time.monotonic,
        wait_s: float = 1.0,
    ) -> Fabric:
        """As ``Fabric.connect``. With a ``clock`` that stands still, runs are repeatable."""
        return await cls.over(store.dial, store.cell, name, state_dir, clock=clock, wait_s=wait_s)

    async def aside(self, work: Callable[..., None], *arguments: object) -> None:
        """On the loop: a thread ends when it likes, and runs would differ."""
        work(*arguments)


class MemoryLine:
    """See ``fabric.line.Line``."""

    def __init__(self, store: MemoryCellStore, number: int) -> None:
        self.lost = asyncio.Event()
        self.store = store
        self.subscriptions: list[tuple[str, Receive]] = []
        self._draw = random.Random(f"{store.cells.seed}/{store.cell}/{number}")
        self._arriving: asyncio.Queue[Callable[[], None]] = asyncio.Queue()
        self._task = asyncio.create_task(self._arrive())

    def publish(self, subject: str, data: bytes) -> bool:
        """See ``Line.publish``."""
        if self.lost.is_set():
            return False
        self._send(subject, data, None)
        return True

    async def subscribe(self, subject: str, receive: Receive) -> None:
        """See ``Line.subscribe``."""
        await self.pause()
        self.subscriptions.append((subject, receive))

    async def request(self, subject: str, data: bytes, timeout_s: float) -> bytes:
        """See ``Line.request``."""
        await self.pause()
        answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        def take(answer: bytes) -> None:
            if not answered.done():
                answered.set_result(answer)

        async def reply(answer: bytes) -> None:
            self.later(lambda: take(answer))

        if not self._send(subject, data, reply):
            raise nobody_answers(subject)
        over = asyncio.create_task(self.lost.wait())
        try:
            await asyncio.wait(
                (answered, over), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            over.cancel()
        if answered.done():
            return answered.result()
        raise line_lost() if self.lost.is_set() else no_answer(subject, timeout_s)

    def bucket(self, name: str) -> MemoryBucket:
        """See ``Line.bucket``."""
        return MemoryBucket(self, name)

    async def keep_latest(self, name: str, subject: str, count: int) -> None:
        """See ``Line.keep_latest``."""
        await self.pause()
        self.store.streams.setdefault(name, (subject, collections.deque(maxlen=count)))

    async def latest(self, name: str, subject: str) -> bytes | None:
        """See ``Line.latest``."""
        await self.pause()
        kept = self.store.streams.get(name)
        return kept[1][-1] if kept and kept[1] and matches(kept[0], subject) else None

    async def close(self) -> None:
        """See ``Line.close``."""
        self.drop()
        await asyncio.gather(self._task, return_exceptions=True)

    def drop(self) -> None:
        """The connection breaks: nothing arrives any more."""
        self.lost.set()
        self._task.cancel()
        with contextlib.suppress(ValueError):
            self.store.lines.remove(self)

    def later(self, arrive: Callable[[], None]) -> None:
        """Let something arrive here, after whatever is on its way already."""
        self._arriving.put_nowait(arrive)

    async def pause(self) -> None:
        """The way to the server; raises Unavailable when the line is lost."""
        await self._hold_back()
        if self.lost.is_set():
            raise line_lost()

    def _send(self, subject: str, data: bytes, reply: Reply | None) -> bool:
        """To whoever keeps it and to every listener; whether there was one of these."""
        cells = self.store.cells
        for store in cells.stores.values():
            for pattern, kept in store.streams.values():
                if matches(pattern, subject):
                    kept.append(data)
        listeners = cells.listeners(subject)
        for line, receive in listeners:
            line.later(lambda take=receive: take(subject, data, reply))  # type: ignore[misc]
        return bool(listeners)

    async def _arrive(self) -> None:
        while True:
            arrive = await self._arriving.get()
            await self._hold_back()
            arrive()

    async def _hold_back(self) -> None:
        if self.store.cells.seed is None:
            return
        for _ in range(self._draw.randint(0, TURNS_MAX)):
            await asyncio.sleep(0)


class MemoryBucketData:
    """What a server keeps of a bucket. ``created`` differs for every bucket ever made."""

    def __init__(self, created: str) -> None:
        self.created = created
        self.last = 0
        self.stored: dict[str, Stored] = {}
        self.watches: list[MemoryWatch] = []

    def write(self, key: str, payload: bytes, revision: int, *, deleted: bool = False) -> int:
        """Compare-and-set; raises Conflict."""
        held = self.stored.get(key)
        there = 0 if held is None else held.revision
        absent = held is None or held.deleted
        if there != revision and not (revision == 0 and absent):
            raise Conflict(f"Somebody else wrote {key} first.")
        self.last += 1
        self.stored[key] = Stored(key, payload, self.last, deleted)
        for watch in self.watches:
            watch.tell(self.stored[key])
        return self.last

    def whole(self) -> Whole:
        """A look at it, in the order of its revisions."""
        ordered = sorted(self.stored.values(), key=lambda stored: stored.revision)
        return Whole(self.created, self.last, tuple(ordered))


class MemoryBucket:
    """See ``fabric.line.Bucket``."""

    def __init__(self, line: MemoryLine, name: str) -> None:
        self._line = line
        self._name = name

    async def watch(self) -> MemoryWatch:
        """See ``Bucket.watch``."""
        await self._line.pause()
        watch = MemoryWatch(self._line, self._data)
        await self._line.pause()
        return watch

    async def look(self) -> Whole:
        """See ``Bucket.look``."""
        await self._line.pause()
        whole = self._data.whole()
        await self._line.pause()
        bare = tuple(Stored(one.key, b"", one.revision, one.deleted) for one in whole.stored)
        return Whole(whole.created, whole.last, bare)

    async def read(self, key: str) -> Stored | None:
        """See ``Bucket.read``."""
        await self._line.pause()
        return self._data.stored.get(key)

    async def write(self, key: str, payload: bytes, revision: int) -> int:
        """See ``Bucket.write``."""
        await self._line.pause()
        new = self._data.write(key, payload, revision)
        await self._line.pause()
        return new

    async def delete(self, key: str, revision: int) -> int:
        """See ``Bucket.delete``."""
        await self._line.pause()
        marker = self._data.write(key, b"", revision, deleted=True)
        await self._line.pause()
        return marker

    @property
    def _data(self) -> MemoryBucketData:
        return self._line.store.bucket(self._name)


class MemoryWatch:
    """See ``fabric.line.Watch``."""

    def __init__(self, line: MemoryLine, data: MemoryBucketData) -> None:
        self._line = line
        self._data = data
        self._whole = data.whole()
        self._told: list[Stored] = []
        self._wake = asyncio.Event()
        data.watches.append(self)

    @property
    def whole(self) -> Whole:
        """See ``Watch.whole``."""
        return self._whole

    async def changes(self, timeout_s: float) -> list[Stored]:
        """See ``Watch.changes``."""
        if not self._told:
            self._wake.clear()
            waits = [asyncio.create_task(e.wait()) for e in (self._wake, self._line.lost)]
            try:
                await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()
        if self._line.lost.is_set():
            raise line_lost()
        told, self._told = self._told, []
        return told

    async def close(self) -> None:
        """See ``Watch.close``."""
        with contextlib.suppress(ValueError):
            self._data.watches.remove(self)

    def tell(self, stored: Stored) -> None:
        """A change, on its way through the line."""

        def arrive() -> None:
            self._told.append(stored)
            self._wake.set()

        self._line.later(arrive)


def matches(pattern: str, subject: str) -> bool:
    """Whether a NATS subject matches a pattern: ``*`` is one token, a last ``>`` one or more."""
    wanted, given = pattern.split("."), subject.split(".")
    if wanted[-1] == ">":
        wanted = wanted[:-1]
        if len(given) <= len(wanted):
            return False
        given = given[: len(wanted)]
    return len(wanted) == len(given) and all(
        want in ("*", have) for want, have in zip(wanted, given, strict=True)
    )
