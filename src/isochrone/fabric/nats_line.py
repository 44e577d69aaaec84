"""A line over NATS. Only the modules named ``nats_*`` know ``nats-py``.

A lost connection is never repaired by the client: it is reported, and the fabric dials a new one,
so nothing stale is sent after an outage and every subscription is made in one place. Messages go
out through one bounded queue and one task, so publishing never blocks and keeps its order.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import nats.aio.client
import nats.errors
import nats.js.errors

from isochrone.fabric.line import Receive, Reply, no_answer, nobody_answers
from isochrone.fabric.nats_bucket import NatsBucket
from isochrone.fabric.nats_errors import FOREIGN, mapped, unless
from isochrone.fabric.server import GUEST, GUEST_INBOX
from isochrone.schema.errors import Unavailable

PING_S = 1
"""How often the server is pinged; two unanswered pings end the line (a frozen server)."""

DIAL_TIMEOUT_S = 2.0
CANCEL_AGAIN_S = 0.1
"""Between two cancellations of the sending task: it ends in microseconds when it hears one."""

CLOSE_TIMEOUT_S = 1.0

STORE_TIMEOUT_S = 2.0
"""For one answer of the store: fsynced writes take milliseconds, leader changes seconds."""

OUTGOING_BYTES_MAX = 8 * 1024 * 1024
"""Waiting to be sent; beyond it the server has stalled and messages are dropped."""


class NatsLine:
    """One connection to a nats-server. Made by ``dial``."""

    def __init__(self, client: Any, domain: str) -> None:
        self.lost = asyncio.Event()
        self._client = client
        self._jetstream = client.jetstream(domain=domain, timeout=STORE_TIMEOUT_S)
        self._waiting: collections.deque[tuple[str, bytes]] = collections.deque()
        self._waiting_bytes = 0
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._sender = asyncio.create_task(self._send(), name="fabric sender")

    def publish(self, subject: str, data: bytes) -> bool:
        """See ``Line.publish``."""
        if self.lost.is_set() or self._waiting_bytes + len(data) > OUTGOING_BYTES_MAX:
            return False
        self._waiting.append((subject, data))
        self._waiting_bytes += len(data)
        self._idle.clear()
        self._wake.set()
        return True

    async def subscribe(self, subject: str, receive: Receive) -> None:
        """See ``Line.subscribe``; returns when the server has taken the subscription."""

        async def take(message: Any) -> None:
            reply: Reply | None = message.respond if message.reply else None
            receive(message.subject, message.data, reply)

        async with mapped(f"subscribing to {subject}"):
            await self._client.subscribe(subject, cb=take)
            await self._round_trip()

    async def request(self, subject: str, data: bytes, timeout_s: float) -> bytes:
        """See ``Line.request``."""
        try:
            async with mapped(f"asking {subject}"):
                message = await unless(
                    self.lost, self._client.request(subject, data, timeout=timeout_s)
                )
        except Unavailable as error:
            cause = error.__cause__
            if isinstance(cause, nats.errors.NoRespondersError):
                raise nobody_answers(subject) from error
            if isinstance(cause, nats.errors.TimeoutError | asyncio.TimeoutError):
                raise no_answer(subject, timeout_s) from error
            raise
        return bytes(message.data)

    def bucket(self, name: str) -> NatsBucket:
        """See ``Line.bucket``."""
        return NatsBucket(self._client, self._jetstream, self.lost, name)

    async def keep_latest(self, name: str, subject: str, count: int) -> None:
        """See ``Line.keep_latest``."""
        async with mapped(f"making the stream {name}"):
            await unless(
                self.lost,
                self._jetstream.add_stream(
                    name=name, subjects=[subject], max_msgs_per_subject=count, allow_direct=True
                ),
            )

    async def latest(self, name: str, subject: str) -> bytes | None:
        """See ``Line.latest``."""
        async with mapped(f"reading the stream {name}"):
            try:
                message = await unless(self.lost, self._jetstream.get_last_msg(name, subject))
            except nats.js.errors.NotFoundError:
                return None
        return bytes(message.data) if message.data else None

    async def close(self) -> None:
        """See ``Line.close``; what waits to be sent is sent first."""
        if not self.lost.is_set():
            with contextlib.suppress(*FOREIGN):
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    await self._idle.wait()
                    await self._round_trip()
        self.lost.set()
        while not self._sender.done():  # nats-py may swallow a cancellation: again
            self._sender.cancel()
            await asyncio.wait((self._sender,), timeout=CANCEL_AGAIN_S)
        await _end(self._client)

    async def _round_trip(self) -> None:
        """Until the server has taken all that was sent.

        Twice: nats-py's flush writes its PING ahead of what its own buffer still holds, so the
        first one only sees the buffer off.
        """
        for _ in range(2):
            await self._client.flush(timeout=STORE_TIMEOUT_S)

    async def _send(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                subject, data = self._waiting.popleft()
                self._waiting_bytes -= len(data)
                with contextlib.suppress(*FOREIGN):
                    await self._client.publish(subject, data)
            self._idle.set()


async def dial(servers: list[str], name: str, domain: str) -> NatsLine:
    """Connect to the first server that answers; raises Unavailable."""
    client = nats.aio.client.Client()
    over: list[Callable[[], None]] = []

    async def on_lost() -> None:
        for tell in over:
            tell()

    async def on_error(_error: Exception) -> None:
        """Errors arrive again as exceptions where they matter."""

    try:
        async with asyncio.timeout(DIAL_TIMEOUT_S):
            await client.connect(
                servers=servers,
                name=name,
                allow_reconnect=False,
                max_reconnect_attempts=1,
                reconnect_time_wait=0.02,  # type: ignore[arg-type]
                connect_timeout=1,
                ping_interval=PING_S,
                max_outstanding_pings=2,
                disconnected_cb=on_lost,
                closed_cb=on_lost,
                error_cb=on_error,
                pending_size=OUTGOING_BYTES_MAX,
                inbox_prefix=_inbox(servers[0]),
            )
    except FOREIGN as error:
        await _end(client)
        raise Unavailable(
            f"No fabric server answers at {', '.join(_without_password(s) for s in servers)}.",
            fix="It is tried again by itself; is the fabric server running?",
        ) from error
    except asyncio.CancelledError:
        await _end(client)
        raise
    line = NatsLine(client, domain)
    over.append(line.lost.set)
    if client.is_closed:
        line.lost.set()
    return line


def _inbox(url: str) -> str:
    """Where answers come: a guest hears no others than those to guests."""
    return GUEST_INBOX if urlsplit(url).username == GUEST else "_INBOX"


def _without_password(url: str) -> str:
    return url.rpartition("@")[2]


async def _end(client: Any) -> None:
    """Close whatever of a client is open; nats-py asserts on one that never connected, and closes
    no socket when a server that has stopped does not take what is still to be sent."""
    with contextlib.suppress(*FOREIGN, AssertionError, AttributeError):
        async with asyncio.timeout(CLOSE_TIMEOUT_S):
            await client.close()
    writer = getattr(getattr(client, "_transport", None), "_io_writer", None)
    if writer is not None:
        writer.transport.abort()
