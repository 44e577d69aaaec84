"""A connection to the cell's fabric that never gives up and never blocks its caller.

Intuition: the fabric may be away for minutes; whoever uses it must go on from what it knows.
So connecting happens in the background for ever, publishing while disconnected is dropped and
counted, requests fail at once with a sentence, and tables answer from memory.

Rules: a lost line is never used again; on every new one the subscriptions are made first, then it
counts as connected. Callbacks are called on the event loop; an exception in one is logged and
disturbs nobody else.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, Final, TypeVar

from isochrone.fabric.line import Dial, Line, Receive, Reply
from isochrone.fabric.table import COMPARE_EVERY_S, Table
from isochrone.schema.errors import IsochroneError, Unavailable

T = TypeVar("T")
MessageCallback = Callable[[str, bytes], None]
Handler = Callable[[bytes], Awaitable[bytes | None]]

log = logging.getLogger(__name__)

RETRY_S: Final = 0.2
"""Between attempts to connect: a server restarts in 12 ms, and nothing else waits for it."""

FIRST_VIEW_S: Final = 2.0
"""How long opening a table waits for its first whole view while the fabric is connected."""

ANSWERING_MAX: Final = 256
"""Requests answered at the same time; further ones are dropped, the asker's timeout tells it."""


class Fabric:
    """One process's connection. Build it with ``connect``.

    ``generation`` grows with every connection made; ``dropped`` counts messages not sent and
    requests not answered. ``on_reconnect`` callbacks are called after each connection is made.
    """

    def __init__(
        self, dial: Dial, cell: str, name: str, state_dir: Path, clock: Callable[[], float]
    ) -> None:
        self.cell = cell
        self.name = name
        self.state_dir = state_dir
        self.clock = clock
        self.generation = 0
        self.dropped = 0
        self.on_reconnect: list[Callable[[], None]] = []
        self._dial = dial
        self._line: Line | None = None
        self._up = asyncio.Event()
        self._lost_s = clock()
        self._closed = False
        self._tables: dict[str, Table[Any]] = {}
        self._subscriptions: list[tuple[str, Receive]] = []
        self._answering = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @classmethod
    async def connect(
        cls,
        servers: list[str],
        cell: str,
        name: str,
        state_dir: Path,
        *,
        domain: str | None = None,
        clock: Callable[[], float] = time.monotonic,
        wait_s: float = 1.0,
    ) -> Fabric:
        """Open (in the background) and return; waits up to ``wait_s`` for the first connection.

        ``servers``: NATS URLs with credentials; ``domain``: the JetStream domain of the tables
        (default: the cell). Works without any server, from the snapshots in ``state_dir``.
        """
        from isochrone.fabric.nats_line import dial

        async def dial_nats() -> Line:
            return await dial(servers, name, domain or cell)

        return await cls.over(dial_nats, cell, name, state_dir, clock=clock, wait_s=wait_s)

    @classmethod
    async def over(
        cls,
        dial: Dial,
        cell: str,
        name: str,
        state_dir: Path,
        *,
        clock: Callable[[], float] = time.monotonic,
        wait_s: float = 1.0,
    ) -> Fabric:
        """As ``connect``, over whatever lines ``dial`` opens."""
        fabric = cls(dial, cell, name, state_dir, clock)
        fabric.spawn(fabric._keep_connected())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await fabric.wait_connected()
        return fabric

    @property
    def connected(self) -> bool:
        """Whether a server answers now."""
        return self._line is not None and not self._line.lost.is_set()

    def silent_for_s(self) -> float:
        """Seconds since the connection was lost (or since the start); 0 while connected."""
        return 0.0 if self.connected else self.clock() - self._lost_s

    async def wait_connected(self) -> None:
        """Until a server answers."""
        while not self.connected:
            await self._up.wait()
            if not self.connected:  # lost, and the keeper has not noticed yet
                await asyncio.sleep(0)

    def line(self) -> Line:
        """The live line; raises Unavailable when there is none."""
        if self._line is None or self._line.lost.is_set():
            raise Unavailable(
                f"The fabric of {self.cell} is away.", fix="It is dialled again by itself."
            )
        return self._line

    async def table(
        self,
        name: str,
        kind: type[T],
        *,
        raw: bool = False,
        compare_every_s: float = COMPARE_EVERY_S,
    ) -> Table[T]:
        """Open a table: from disk at once, from the fabric as soon as it answers.

        ``raw``: values are bytes, kept as they are. Waits shortly for the first whole view when
        the fabric is connected. Opened twice, it is the same table.
        """
        table: Table[T] | None = self._tables.get(name)
        if table is None:
            table = Table(self, name, kind, raw=raw, compare_every_s=compare_every_s)
            self._tables[name] = table
            self.spawn(table.follow())
        if self.connected:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FIRST_VIEW_S):
                    await table.seen.wait()
        return table

    def publish(self, subject: str, data: bytes) -> bool:
        """Send to whoever listens; False (and counted) when there is no connection."""
        sent = self._line is not None and self._line.publish(subject, data)
        self.dropped += not sent
        return sent

    async def subscribe(self, subject: str, callback: MessageCallback) -> None:
        """Call ``callback(subject, data)`` for each message, now and after every reconnect."""

        def receive(name: str, data: bytes, _reply: Reply | None) -> None:
            try:
                callback(name, data)
            except Exception:
                log.exception("a message on %s could not be handled", name)

        await self._keep_subscribed(subject, receive)

    async def respond(self, subject: str, handler: Handler) -> None:
        """Answer requests on a subject; handlers run concurrently.

        A handler that returns None leaves the answer to another process (a standby does).
        """

        def receive(_name: str, data: bytes, reply: Reply | None) -> None:
            if reply is None or self._answering >= ANSWERING_MAX:
                self.dropped += 1
                return
            self._answering += 1
            self.spawn(self._answer(subject, data, handler, reply))

        await self._keep_subscribed(subject, receive)

    async def request(self, subject: str, data: bytes, timeout_s: float) -> bytes:
        """Ask and wait; raises Unavailable (nobody listens, no fabric) or Timeout."""
        return await self.line().request(subject, data, timeout_s)

    async def close(self) -> None:
        """Stop following, write snapshots, close the connection."""
        self._closed = True
        if self._line is not None:
            await self._line.close()
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            # nats-py swallows a cancellation here and there: asked again until it is heard.
            await asyncio.wait(list(self._tasks), timeout=0.1)
        for table in self._tables.values():
            table.save()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run ``work`` until it ends or the fabric is closed."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def aside(self, work: Callable[..., None], *arguments: object) -> None:
        """Run what blocks for milliseconds (encoding, fsync) off the event loop."""
        await asyncio.to_thread(work, *arguments)

    async def _answer(self, subject: str, data: bytes, handler: Handler, reply: Reply) -> None:
        try:
            answer = await handler(data)
            if answer is not None:
                await reply(answer)
        except Exception:
            log.exception("a request on %s could not be answered", subject)
        finally:
            self._answering -= 1

    async def _keep_subscribed(self, subject: str, receive: Receive) -> None:
        self._subscriptions.append((subject, receive))
        line = self._line
        if line is None or line.lost.is_set():
            return
        try:
            await line.subscribe(subject, receive)
        except IsochroneError as error:
            log.debug("%s", error.sentence())
            await line.close()  # the next line makes all subscriptions, or is none

    async def _keep_connected(self) -> None:
        while not self._closed:
            try:
                line = await self._open_line()
            except IsochroneError as error:
                log.debug("%s", error.sentence())
                await asyncio.sleep(RETRY_S)
                continue
            try:
                self._told_up(line)
                await line.lost.wait()
            finally:
                self._told_lost()
                await line.close()

    async def _open_line(self) -> Line:
        line = await self._dial()
        try:
            done = 0
            while done < len(self._subscriptions):  # more may be added while these are made
                await line.subscribe(*self._subscriptions[done])
                done += 1
        except BaseException:
            await line.close()
            raise
        return line

    def _told_up(self, line: Line) -> None:
        self._line = line
        self.generation += 1
        self._up.set()
        for callback in list(self.on_reconnect):
            try:
                callback()
            except Exception:
                log.exception("a reconnect to %s could not be handled", self.cell)

    def _told_lost(self) -> None:
        self._line = None
        self._up.clear()
        self._lost_s = self.clock()
        if not self._closed:
            log.warning("the fabric of %s is away; going on from the last snapshot", self.cell)
