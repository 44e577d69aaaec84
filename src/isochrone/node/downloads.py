"""Fetching model files over the channels of the home cell's gateways, into the cache.

Intuition: a file is asked for in ranges, several on their way at once, so that a long round trip
costs one round trip and not one per range; ranges are appended in order, so that what is on disk
is always a prefix. A gateway that fails costs its ranges only: the next gateway goes on from the
same byte. A file whose digest is wrong is fetched again from the beginning, from another gateway
if the wrong bytes were all one gateway's.

Rules: at most ``RANGES_MAX`` × ``RANGE_BYTES`` in memory per file; a source that is silent, or
delivers nothing for ``STALL_S``, is left. Each content is fetched once, however many
leases want it. It decides nothing about leases: its errors say whether trying later may help
(``may_help``).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from isochrone.node.cache import Cache, Part
from isochrone.schema.digests import UNREADABLE
from isochrone.schema.errors import InvalidInput, IsochroneError, Timeout, Unavailable
from isochrone.schema.frames import Fetch, pack, unpack_answer
from isochrone.schema.lease import Lease
from isochrone.schema.service import Model, ModelFile
from isochrone.wire.channel import Channel, Stream

RANGE_BYTES = 1024 * 1024
RANGES_MAX = 4
"""4 MiB on their way: 40 MB/s over a round trip of 100 ms, 400 MB/s over 10 ms, and a request that
comes behind them waits for 4 MiB at most."""

STALL_S = 30.0
"""A gateway that pings may be fetching the file itself from another cell: 1 GB at 40 MB/s."""

SILENT_S = 3.0
"""One that does not even ping (four times a second) is stopped or cut off: no use waiting."""

LOOK_S = 0.5
"""How often that is looked at."""

FINAL_CODES = frozenset({"wrong_digest", "cache_full", "disk_full", "cache_broken"})
"""Faults of this machine or of the file: the cell should look elsewhere instead of waiting."""

T = TypeVar("T")
Sources = Callable[[Lease], list[Channel]]


def may_help(error: IsochroneError) -> bool:
    """Whether the same fetch may succeed later."""
    return error.code not in FINAL_CODES


class Downloads:
    """``sources``: open channels that may give a lease its model, best first. ``keep``: digests
    which the cache must not evict for a lease's files."""

    def __init__(self, cache: Cache, sources: Sources, keep: Callable[[Lease], set[str]]) -> None:
        self._cache = cache
        self._sources = sources
        self._keep = keep
        self._locks: dict[str, asyncio.Lock] = {}
        self._room = asyncio.Lock()

    async def fetch_model(self, lease: Lease, progress: Callable[[int], None]) -> dict[str, Path]:
        """All files of the lease's model, by name. ``progress`` is told the bytes present.

        Raises what the last source or the disk said.
        """
        paths: dict[str, Path] = {}
        done = 0
        for file in lease.model.files:
            paths[file.name] = await self._fetch_file(file, lease, _beyond(done, progress))
            done += file.size_bytes
            progress(done)
        return paths

    def missing_bytes(self, model: Model) -> int:
        """How much of the model is not here as whole files."""
        missing = (file for file in model.files if self._cache.find(file.sha256) is None)
        return sum(file.size_bytes for file in missing)

    async def _fetch_file(
        self, file: ModelFile, lease: Lease, progress: Callable[[int], None]
    ) -> Path:
        lock = self._locks.setdefault(file.sha256, asyncio.Lock())
        async with lock:
            found = self._cache.find(file.sha256)
            if found is None:
                found = await self._fetch_missing(file, lease, progress)
        if not lock.locked():
            self._locks.pop(file.sha256, None)
        return found

    async def _fetch_missing(
        self, file: ModelFile, lease: Lease, progress: Callable[[int], None]
    ) -> Path:
        left: set[str] = set()  # gateways that failed, by address
        trouble: IsochroneError = Unavailable(
            "No gateway of the lease's cell and residency is connected.",
            fix="Wait for the channel to come back.",
        )
        while True:
            source = next((c for c in self._sources(lease) if c.peer.address not in left), None)
            if source is None:
                raise trouble
            part = await self._begin(file, lease)
            resumed = part.written
            try:
                await _pull(source, part, lease, progress)
                return await _in_thread(part.commit)
            except IsochroneError as error:
                if error.code in FINAL_CODES and error.code != "wrong_digest":
                    raise
                trouble = error
                if error.code != "wrong_digest" or resumed == 0:
                    left.add(source.peer.address)
            finally:
                part.abandon()

    async def _begin(self, file: ModelFile, lease: Lease) -> Part:
        async with self._room:  # room is made for one file at a time, so that quotas add up
            keep = self._keep(lease)
            return await _in_thread(self._cache.begin, file.sha256, file.size_bytes, keep)


def _beyond(done: int, progress: Callable[[int], None]) -> Callable[[int], None]:
    """The progress of a file that comes after ``done`` bytes of others."""
    return lambda count: progress(done + count)


async def _in_thread(work: Callable[..., T], *arguments: object) -> T:
    """Like ``asyncio.to_thread``; a cancellation waits until the thread has let go of the file."""
    future = asyncio.get_running_loop().run_in_executor(None, work, *arguments)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        while not future.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([future])
        if not future.cancelled():
            future.exception()  # seen: nothing is reported as forgotten
        raise


async def _pull(source: Channel, part: Part, lease: Lease, progress: Callable[[int], None]) -> None:
    """Append what is missing of ``part`` from one gateway."""
    ranges: deque[_Range] = deque()
    asked = part.written
    try:
        while part.written < part.size_bytes:
            while asked < part.size_bytes and len(ranges) < RANGES_MAX:
                length = min(RANGE_BYTES, part.size_bytes - asked)
                ranges.append(_Range(source, part.sha256, asked, length, lease))
                asked += length
            data = await _next(source, ranges)
            await _in_thread(part.append, data)
            progress(part.written)
    finally:
        for waiting in ranges:
            waiting.cancel()


async def _next(source: Channel, ranges: deque[_Range]) -> bytes:
    """The first range's bytes; Timeout when the source is silent, or gives nothing for long."""
    received, since_s = -1, time.monotonic()
    while True:
        done, _ = await asyncio.wait([ranges[0].whole], timeout=LOOK_S)
        if done:
            return ranges.popleft().whole.result()
        now_s = time.monotonic()
        if now_s - source.last_heard > SILENT_S:
            raise Timeout(f"The gateway has been silent for {SILENT_S:g} s.")
        before, received = received, sum(waiting.received for waiting in ranges)
        if received != before:
            since_s = now_s
        elif now_s - since_s > STALL_S:
            raise Timeout(f"The gateway sent nothing of the model for {STALL_S:g} s.")


class _Range:
    """One range on its way (a StreamSink). ``whole`` resolves to its bytes or to the error."""

    def __init__(
        self, source: Channel, sha256: str, offset: int, length: int, lease: Lease
    ) -> None:
        self.whole: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.received = 0
        self._length = length
        self._pieces: list[bytes] = []
        self._stream: Stream | None = None
        header = Fetch(
            sha256=sha256,
            offset_bytes=offset,
            length_bytes=length,
            service=lease.service,
            home_cell=lease.home_cell,
        )
        try:
            self._stream = source.open(pack(header), sink=self, window=length)
        except IsochroneError as error:
            self._fail(error)

    def cancel(self) -> None:
        """Nobody wants it any more."""
        if not self.whole.done():
            self.whole.cancel()
            self._reset()
        elif not self.whole.cancelled():
            self.whole.exception()  # seen: nothing is reported as forgotten

    def on_head(self, header: bytes) -> None:
        try:
            answer = unpack_answer(header)
        except UNREADABLE:
            self._fail(InvalidInput("The gateway's answer cannot be read."))
            return
        if answer.status >= 400:
            self._fail(
                Unavailable(
                    f"The gateway does not give the model: {answer.message or answer.status}",
                    code=answer.code or "unavailable",
                )
            )

    def on_data(self, data: bytes) -> None:
        self.received += len(data)
        if self.received > self._length:
            self._reset()
            self._fail(InvalidInput("The gateway sent more than the range that was asked for."))
            return
        self._pieces.append(data)

    def on_end(self, trailer: bytes) -> None:
        self._stream = None  # breaks the ring range → stream → range, which holds a MiB
        if self.whole.done():
            return
        if self.received != self._length:
            self._fail(Unavailable("The gateway sent less than the range that was asked for."))
            return
        self.whole.set_result(b"".join(self._pieces))
        self._pieces.clear()

    def on_reset(self, code: str, message: str) -> None:
        self._fail(Unavailable(message or "The channel to the gateway was lost.", code=code))

    def on_writable(self) -> None:
        pass  # nothing is sent after the header

    def _reset(self) -> None:
        if self._stream is not None:
            self._stream.reset("cancelled")

    def _fail(self, error: IsochroneError) -> None:
        self._pieces.clear()
        self._stream = None
        if not self.whole.done():
            self.whole.set_exception(error)
