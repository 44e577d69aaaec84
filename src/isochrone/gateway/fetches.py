"""Model files over channels: nodes and gateways fetch ranges; what is missing is fetched first.

A node gets a file that one of its leases names; a gateway gets one of a service whose mask admits
it. What this gateway does not hold it fetches whole from a gateway of its own or of the
service's home cell, when the mask admits both, verifies it, and then serves it: once, however many
ask. Reading and writing happen in threads, in blocks, so that no callback of the loop takes long.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Final

import msgspec

from isochrone.gateway.fleet import Fleet
from isochrone.gateway.known import KnownPeer
from isochrone.gateway.relay import refuse_stream
from isochrone.gateway.routes import Blocs, legal_in, why_not_in
from isochrone.gateway.store import BlobStore, check_sha256
from isochrone.schema.digests import UNREADABLE
from isochrone.schema.errors import (
    Forbidden,
    IsochroneError,
    NotFound,
    OurFault,
    Overloaded,
    TheirFault,
    Unavailable,
)
from isochrone.schema.frames import AnswerHeader, Fetch, pack, unpack_answer
from isochrone.schema.place import Whereabouts
from isochrone.schema.service import Residency
from isochrone.wire.channel import Stream, StreamSink

BLOCK_BYTES: Final = 256 * 1024
"""One read: under a millisecond from the page cache, and a few frames."""

RANGE_BYTES_MAX: Final = 64 * 1024 * 1024
"""The most that one fetch may ask of us."""

PULL_WINDOW_BYTES: Final = 4 * 1024 * 1024
"""What another gateway may send ahead: 40 MB/s at 100 ms."""

PULL_STALL_S: Final = 15.0
"""Nothing for so long: try another source."""

SERVED_MAX: Final = 256
"""Fetches served at once; each holds one block."""


class FileRule(msgspec.Struct, frozen=True):
    """Which mask a file is under: its service's residency and home cell, and its size."""

    residency: Residency
    home_cell: str
    size_bytes: int


class FetchDesk:
    """Serves fetches. ``rule(sha256, service, node)`` finds the mask of a file: for a node (its
    address) by its leases, for a gateway ("") by anything known of the service; None: unknown.
    ``referenced()``: files that stay, whatever room a pulled one needs.
    ``counters``: ``served``, ``pulled`` and refusals by code."""

    def __init__(
        self,
        store: BlobStore,
        fleet: Fleet,
        cell: str,
        blocs: Blocs,
        rule: Callable[[str, str, str], FileRule | None],
        referenced: Callable[[], frozenset[str]],
    ) -> None:
        self.counters: Counter[str] = Counter()
        self._store = store
        self._fleet = fleet
        self._cell = cell
        self._blocs = blocs
        self._rule = rule
        self._referenced = referenced
        self._pulls: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def serve_node(self, stream: Stream, fetch: Fetch, node: str) -> StreamSink:
        """A node fetches a file of one of its leases."""
        return self._serve(stream, fetch, node, self._fleet.where_node(node))

    def serve_gateway(self, stream: Stream, fetch: Fetch, where: Whereabouts) -> StreamSink:
        """A gateway fetches a file of a service. ``where``: it is."""
        return self._serve(stream, fetch, "", where)

    async def close(self) -> None:
        """Stop everything that is under way."""
        tasks = [*self._tasks, *self._pulls.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- serving -------------------------------------------------------------------------------

    def _serve(self, stream: Stream, fetch: Fetch, node: str, where: Whereabouts) -> StreamSink:
        try:
            rule = self._admit(fetch, node, where)
        except IsochroneError as error:
            self.counters[error.code] += 1
            return refuse_stream(stream, error)
        outlet = _Outlet(stream)
        task = asyncio.get_running_loop().create_task(self._answer(outlet, fetch, rule, node))
        outlet.task = task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return outlet

    def _admit(self, fetch: Fetch, node: str, where: Whereabouts) -> FileRule:
        check_sha256(fetch.sha256)
        if len(self._tasks) >= SERVED_MAX:
            raise Overloaded("This gateway serves too many fetches.")
        if fetch.offset_bytes < 0 or fetch.length_bytes < 0:
            raise Forbidden("The range is negative.")
        rule = self._rule(fetch.sha256, fetch.service, node)
        if rule is None:
            raise Forbidden("No lease or service of the asker names this file.")
        for one in (self._fleet.places.here, where):
            reason = why_not_in(rule.residency, one, self._blocs)
            if reason:
                raise Forbidden(
                    f"The service's residency does not admit {one.country}: {reason}.",
                    code="residency",
                )
        return rule

    async def _answer(self, outlet: _Outlet, fetch: Fetch, rule: FileRule, node: str) -> None:
        try:
            size = self._store.size(fetch.sha256)
            if size is None:
                if not node:  # one hop: a gateway asks those that hold it
                    raise NotFound("This gateway does not hold the file.", retry="elsewhere")
                await self._pull(fetch, rule)
                size = self._store.size(fetch.sha256) or 0
            await self._send(outlet, fetch, size)
            self.counters["served"] += 1
        except IsochroneError as error:
            self.counters[error.code] += 1
            if outlet.begun:
                outlet.stream.reset(error.code, error.message)
            else:
                refuse_stream(outlet.stream, error)

    async def _send(self, outlet: _Outlet, fetch: Fetch, size: int) -> None:
        loop = asyncio.get_running_loop()
        left = min(fetch.length_bytes, size - fetch.offset_bytes, RANGE_BYTES_MAX)
        header = AnswerHeader(status=206 if left < size else 200, size_bytes=size)
        if left <= 0:
            outlet.stream.answer(pack(header), end=True)
            return
        outlet.begun = True
        outlet.stream.answer(pack(header))
        offset = fetch.offset_bytes
        while left > 0:
            length = min(BLOCK_BYTES, left)
            block = await loop.run_in_executor(None, self._store.read, fetch.sha256, offset, length)
            if len(block) != length:
                raise OurFault("The store's file is shorter than it was.")
            offset, left = offset + length, left - length
            if not outlet.stream.write(block):
                await outlet.room()
        outlet.stream.finish()

    # -- fetching what is missing ----------------------------------------------------------------

    async def _pull(self, fetch: Fetch, rule: FileRule) -> None:
        """Get a missing file from another gateway, once for all who wait for it."""
        task = self._pulls.get(fetch.sha256)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._pull_from_any(fetch, rule))
            self._pulls[fetch.sha256] = task
            task.add_done_callback(lambda _task: self._pulls.pop(fetch.sha256, None))
        await asyncio.shield(task)

    async def _pull_from_any(self, fetch: Fetch, rule: FileRule) -> None:
        trouble: IsochroneError = NotFound(
            f"No gateway in reach holds the file {fetch.sha256[:12]}….",
            fix="Apply the service again; its files are uploaded then.",
            code="blob_missing",
            retry="elsewhere",
        )
        with self._store.claim(fetch.sha256):
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(
                None, self._store.check_room, rule.size_bytes, fetch.sha256, self._referenced()
            )
            for peer in self._sources(rule):
                try:
                    await self._pull_from(peer, fetch, rule)
                    self.counters["pulled"] += 1
                    return
                except IsochroneError as error:
                    if error.code != "not_found":
                        trouble = error
        raise trouble

    def _sources(self, rule: FileRule) -> Iterator[KnownPeer]:
        """Gateways that may hold it, nearest first: of this cell, then of the home cell."""
        peers = sorted(self._fleet.peers.values(), key=lambda peer: peer.line.rtt_ms)
        for cell in dict.fromkeys((self._cell, rule.home_cell)):
            for peer in peers:
                admitted = legal_in(rule.residency, self._fleet.where(peer), self._blocs)
                if peer.cell == cell and admitted and not peer.line.channel.closed:
                    yield peer

    async def _pull_from(self, peer: KnownPeer, fetch: Fetch, rule: FileRule) -> None:
        loop = asyncio.get_running_loop()
        held, _ = self._store.held(fetch.sha256)
        while held < rule.size_bytes:
            ask = msgspec.structs.replace(
                fetch,
                offset_bytes=held,
                length_bytes=min(RANGE_BYTES_MAX, rule.size_bytes - held),
            )
            inlet = _Inlet()
            inlet.stream = peer.line.channel.open(pack(ask), sink=inlet, window=PULL_WINDOW_BYTES)
            inlet.stream.auto_credit = False
            before = held
            try:
                async for data in inlet.blocks():
                    await loop.run_in_executor(None, self._store.append, fetch.sha256, held, data)
                    held += len(data)
                    inlet.stream.consumed(len(data))
            finally:
                inlet.stream.reset("done")
            if held == before:
                raise Unavailable("The other gateway sent nothing.")
        await loop.run_in_executor(None, self._store.complete, fetch.sha256)


class _Outlet:
    """The sink of a stream that fetches from us: waits for room, cancels when it is reset."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.begun = False
        self.task: asyncio.Task[None] | None = None
        self._room = asyncio.Event()

    async def room(self) -> None:
        """Until the stream takes more."""
        self._room.clear()
        await self._room.wait()

    def on_head(self, header: bytes) -> None:
        """A request has none."""

    def on_data(self, data: bytes) -> None:
        """A fetch has no body."""

    def on_end(self, trailer: bytes) -> None:
        """Nothing follows."""

    def on_reset(self, code: str, message: str) -> None:
        """The asker wants no more."""
        if self.task is not None:
            self.task.cancel()

    def on_writable(self) -> None:
        """Go on."""
        self._room.set()


class _Inlet:
    """The sink of a stream by which we fetch: a queue of blocks, bounded by the window."""

    def __init__(self) -> None:
        self.stream: Stream | None = None
        self._queue: asyncio.Queue[bytes | IsochroneError | None] = asyncio.Queue()

    async def blocks(self) -> AsyncIterator[bytes]:
        """The pieces; raises what the other side said, or Unavailable when it stalls."""
        while True:
            try:
                async with asyncio.timeout(PULL_STALL_S):  # wait_for can swallow a cancellation
                    item = await self._queue.get()
            except TimeoutError as error:
                raise Unavailable(
                    f"The other gateway sent nothing for {PULL_STALL_S:.0f} s."
                ) from error
            if item is None:
                return
            if isinstance(item, IsochroneError):
                raise item
            yield item

    def on_head(self, header: bytes) -> None:
        """Its answer."""
        try:
            answer = unpack_answer(header)
        except UNREADABLE:
            self._queue.put_nowait(Unavailable("The other gateway's answer cannot be read."))
            return
        if answer.status >= 400:
            kind = OurFault if answer.status >= 500 else TheirFault
            self._queue.put_nowait(
                kind(answer.message, code=answer.code or "unavailable", status=answer.status)
            )

    def on_data(self, data: bytes) -> None:
        """A piece."""
        self._queue.put_nowait(data)

    def on_end(self, trailer: bytes) -> None:
        """All of it."""
        self._queue.put_nowait(None)

    def on_reset(self, code: str, message: str) -> None:
        """It broke off."""
        self._queue.put_nowait(Unavailable(message or "The channel was lost.", code=code))

    def on_writable(self) -> None:
        """Nothing is written."""
