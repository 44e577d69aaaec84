"""A connection to the cell's fabric that never gives up and never blocks its caller.

Intuition: the fabric may be away for minutes; whoever uses it must go on from what it knows.
So connecting happens in the background for ever, publishing while disconnected is dropped and
counted, requests fail at once with a sentence, and tables answer from memory. Foreign exceptions
(``nats``) are mapped here and in ``table`` only.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import nats.aio.client
import nats.errors
import nats.js.errors

from isochrone.fabric.table import Table
from isochrone.schema.errors import Timeout, Unavailable

T = TypeVar("T")
MessageCallback = Callable[[str, bytes], None]
Handler = Callable[[bytes], Awaitable[bytes | None]]

log = logging.getLogger(__name__)

RETRY_S = 0.2
"""Between attempts to connect: a server restarts in 12 ms, and nothing else waits for it."""

PING_S = 1
"""How often the server is pinged; two unanswered pings end the connection (a frozen server)."""

CONNECT_TIMEOUT_S = 2


class Fabric:
    """One process's connection. Build it with ``connect``."""

    def __init__(
        self,
        servers: list[str],
        cell: str,
        name: str,
        state_dir: Path,
        domain: str | None,
        clock: Callable[[], float],
    ) -> None:
        self.cell = cell
        self.name = name
        self.domain = domain
        self.state_dir = state_dir
        self.clock = clock
        self.generation = 0
        self.dropped = 0
        self.on_reconnect: list[Callable[[], None]] = []
        self._servers = servers
        self._client = nats.aio.client.Client()
        self._up = asyncio.Event()
        self._lost_s = clock()
        self._closed = False
        self._tables: list[Table[Any]] = []
        self._subscriptions: list[tuple[str, Callable[[Any], Awaitable[None]]]] = []
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
        fabric = cls(servers, cell, name, state_dir, domain or cell, clock)
        fabric._spawn(fabric._connect_forever())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(fabric._up.wait(), wait_s)
        return fabric

    @property
    def connected(self) -> bool:
        """Whether a server answers now."""
        return self._up.is_set()

    def silent_for_s(self) -> float:
        """Seconds since the connection was lost (or since the start); 0 while connected."""
        return 0.0 if self.connected else self.clock() - self._lost_s

    async def wait_connected(self) -> None:
        """Until a server answers."""
        await self._up.wait()

    def jetstream(self) -> Any:
        """The JetStream context of the cell's domain."""
        return self._client.jetstream(domain=self.domain, timeout=2.0)

    async def table(self, name: str, kind: type[T], *, raw: bool = False) -> Table[T]:
        """Open a table: from disk at once, from the fabric as soon as it answers.

        ``raw``: values are bytes, kept as they are. Waits shortly for the first whole view when
        the fabric is connected.
        """
        table: Table[T] = Table(self, name, kind, raw=raw)
        self._tables.append(table)
        self._spawn(table.follow())
        if self.connected:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(table.seen.wait(), 2.0)
        return table

    def publish(self, subject: str, data: bytes) -> bool:
        """Send to whoever listens; False (and counted) when there is no connection."""
        if not self.connected:
            self.dropped += 1
            return False
        self._spawn(self._publish(subject, data))
        return True

    async def _publish(self, subject: str, data: bytes) -> None:
        try:
            await self._client.publish(subject, data)
        except (nats.errors.Error, OSError) as error:
            self.dropped += 1
            log.debug("publish on %s dropped: %s", subject, error)

    async def subscribe(self, subject: str, callback: MessageCallback) -> None:
        """Call ``callback(subject, data)`` for each message, now and after every reconnect."""

        async def receive(message: Any) -> None:
            try:
                callback(message.subject, message.data)
            except Exception:
                log.exception("a message on %s could not be handled", message.subject)

        await self._keep(subject, receive)

    async def respond(self, subject: str, handler: Handler) -> None:
        """Answer requests on a subject; handlers run concurrently.

        A handler that returns None leaves the answer to another process (a standby does).
        """

        async def answer(message: Any) -> None:
            async def run() -> None:
                try:
                    reply = await handler(message.data)
                    if reply is not None:
                        await message.respond(reply)
                except (nats.errors.Error, OSError) as error:
                    log.warning("an answer on %s was lost: %s", subject, error)
                except Exception:
                    log.exception("a request on %s could not be answered", subject)

            self._spawn(run())

        await self._keep(subject, answer)

    async def request(self, subject: str, data: bytes, timeout_s: float) -> bytes:
        """Ask and wait; raises Unavailable (nobody listens, no fabric) or Timeout."""
        if not self.connected:
            raise Unavailable(
                f"The fabric of {self.cell} is away.", fix="It is retried by itself; try later."
            )
        try:
            message = await self._client.request(subject, data, timeout=timeout_s)
        except nats.errors.NoRespondersError as error:
            raise Unavailable(
                f"Nobody answers on {subject}.", fix="Is that cell's controller running?"
            ) from error
        except (TimeoutError, nats.errors.TimeoutError) as error:
            raise Timeout(f"No answer on {subject} within {timeout_s:g} s.") from error
        except (nats.errors.Error, OSError) as error:
            raise Unavailable(f"The fabric failed: {error}.") from error
        return bytes(message.data)

    async def close(self) -> None:
        """Stop following, write snapshots, close the connection."""
        self._closed = True
        while self._tasks:
            # A cancellation that meets a completed wait_for is swallowed (Python 3.11): again.
            for task in list(self._tasks):
                task.cancel()
            await asyncio.wait(list(self._tasks), timeout=0.1)
        for table in self._tables:
            table.save()
        with contextlib.suppress(nats.errors.Error, OSError, asyncio.TimeoutError):
            await asyncio.wait_for(self._client.close(), 2.0)

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _keep(self, subject: str, callback: Callable[[Any], Awaitable[None]]) -> None:
        self._subscriptions.append((subject, callback))
        if self.connected:
            await self._subscribe(subject, callback)

    async def _subscribe(self, subject: str, callback: Callable[[Any], Awaitable[None]]) -> None:
        with contextlib.suppress(nats.errors.Error, OSError):
            await self._client.subscribe(subject, cb=callback)

    async def _connect_forever(self) -> None:
        while not self._closed:
            try:
                await self._client.connect(
                    servers=self._servers,
                    name=self.name,
                    connect_timeout=CONNECT_TIMEOUT_S,
                    allow_reconnect=True,
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=RETRY_S,  # type: ignore[arg-type]
                    ping_interval=PING_S,
                    max_outstanding_pings=2,
                    disconnected_cb=self._on_lost,
                    reconnected_cb=self._on_back,
                    error_cb=self._on_error,
                    closed_cb=self._on_lost,
                    pending_size=8 * 1024 * 1024,
                )
                break
            except (TimeoutError, nats.errors.Error, OSError):
                self._client = nats.aio.client.Client()
                await asyncio.sleep(RETRY_S)
        for subject, callback in list(self._subscriptions):
            await self._subscribe(subject, callback)
        self._on_up()

    async def _on_back(self) -> None:
        self._on_up()

    def _on_up(self) -> None:
        self.generation += 1
        self._up.set()
        for callback in self.on_reconnect:
            callback()

    async def _on_lost(self) -> None:
        if self._up.is_set():
            self._up.clear()
            self._lost_s = self.clock()
            if not self._closed:
                log.warning("the fabric of %s is away; going on from the last snapshot", self.cell)

    async def _on_error(self, error: Exception) -> None:
        log.debug("fabric: %s", error)
