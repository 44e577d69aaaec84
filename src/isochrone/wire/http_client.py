"""A small pooled HTTP/1.1 client, callback style: for upstream engines, and tests.

No redirects, no cookies, no decompression, no task or future per request. No retries, except once:
a request sent on a kept-alive connection that the server had closed before any byte of an answer
came goes again, on a fresh connection (bodies given as bytes only): servers may close an idle
connection at any moment, and such a race says nothing about the request.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import deque
from typing import Final

from isochrone.schema.errors import InvalidInput, Overloaded, Unavailable
from isochrone.wire.http_client_connection import ClientConnection
from isochrone.wire.http_exchange import Headers
from isochrone.wire.http_request import Request, ResponseSink

# How late a timeout may be noticed: short beside any timeout that makes sense for a server.
_WATCH_S: Final = 0.02

__all__ = ["HttpPool", "Request", "ResponseSink"]


class HttpPool:
    """Connections to one server, kept alive and reused, at most ``connections_max``.

    Requests beyond that wait in order, at most ``waiting_max``; then Overloaded. ``name`` is the
    server's address for messages.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        tls: ssl.SSLContext | None = None,
        connections_max: int = 64,
        waiting_max: int = 1024,
        connect_timeout_s: float = 5.0,
        idle_timeout_s: float = 30.0,
        head_bytes_max: int = 64 * 1024,
    ) -> None:
        self.host = host
        self.port = port
        self.name = f"{host}:{port}"
        self.head_bytes_max = head_bytes_max
        self._tls = tls
        self._connections_max = connections_max
        self._waiting_max = waiting_max
        self._connect_timeout_s = connect_timeout_s
        self._idle_timeout_s = idle_timeout_s
        self._idle: list[ClientConnection] = []
        self._open: set[ClientConnection] = set()
        self._connecting: set[asyncio.Task[None]] = set()
        self._waiting: deque[Request] = deque()
        self._closed = False
        self._sweeper: asyncio.TimerHandle | None = None
        self._due_s: dict[Request, float] = {}
        self._watcher: asyncio.TimerHandle | None = None

    @property
    def connections(self) -> int:
        """Connections open or being made."""
        return len(self._open) + len(self._connecting)

    def request(
        self,
        method: str,
        path: str,
        headers: Headers,
        body: bytes | None,
        sink: ResponseSink,
        *,
        timeout_s: float = 0.0,
    ) -> Request:
        """Send a request. ``body`` None: streamed by ``Request.write``/``finish`` (chunked).

        ``host`` and the body's framing are added. ``timeout_s``: to the answer's head; 0 = none.
        Errors come through ``sink.on_error``, never as an exception, and never inside this call.
        """
        if body is None:
            framing = "transfer-encoding: chunked\r\n"
        elif body or method not in ("GET", "HEAD", "DELETE"):
            framing = f"content-length: {len(body)}\r\n"
        else:
            framing = ""
        lines = "".join([f"{name}: {value}\r\n" for name, value in headers])
        host = f"[{self.host}]" if ":" in self.host else self.host
        text = f"{method} {path} HTTP/1.1\r\nhost: {host}:{self.port}\r\n{lines}{framing}\r\n"
        request = Request(self, method, text.encode("latin-1", "replace"), body, sink)
        breaks = len(headers) + (4 if framing else 3)
        if text.count("\n") != breaks or text.count("\r") != breaks or " " in path:
            request.fail_soon(InvalidInput("A header or path holds a line break or a space."))
        elif self._closed:
            request.fail_soon(self._closed_error())
        else:
            if timeout_s:
                request.expect_within(timeout_s)
            self._dispatch(request)
        return request

    def _dispatch(self, request: Request) -> None:
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                request.send_on(connection)
                return
        if len(self._waiting) >= self._waiting_max:
            request.fail_soon(Overloaded(f"Too many requests wait for {self.name}."))
            return
        self._waiting.append(request)
        self._connect_for_waiting()

    def _connect_for_waiting(self) -> None:
        """Make a connection for each request that waits, as far as the limit goes."""
        while (
            not self._closed
            and len(self._connecting) < len(self._waiting)
            and self.connections < self._connections_max
        ):
            self._connect(None)

    def _connect(self, request: Request | None) -> None:
        task = asyncio.get_running_loop().create_task(self._connect_one(request))
        self._connecting.add(task)
        task.add_done_callback(lambda task: self._connect_ended(task, request))

    def _connect_ended(self, task: asyncio.Task[None], request: Request | None) -> None:
        self._connecting.discard(task)
        if task.cancelled() and request is not None:
            request.fail(self._closed_error())
        self._connect_for_waiting()

    async def _connect_one(self, request: Request | None) -> None:
        """Make one connection, for ``request`` or whichever waits first when it stands."""
        loop = asyncio.get_running_loop()
        why = "it closed the connection at once"
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                _, connection = await loop.create_connection(
                    lambda: ClientConnection(self), self.host, self.port, ssl=self._tls
                )
        except TimeoutError:
            why = f"no connection within {self._connect_timeout_s:g} s"
        except OSError as error:
            why = str(error)
        else:
            if connection.usable:
                self._open.add(connection)
                if request is None or request.over:
                    self.free(connection)
                else:
                    request.send_on(connection)
                return
        waits = request or self._next_waiting()
        if waits is not None:
            waits.fail(
                Unavailable(
                    f"Cannot connect to {self.name}: {why}.",
                    fix="Check that the server runs and that the address is right.",
                    code="cannot_connect",
                )
            )

    def _next_waiting(self) -> Request | None:
        while self._waiting:
            request = self._waiting.popleft()
            if not request.over:
                return request
        return None

    # -- for the request -----------------------------------------------------------------------

    def watch(self, request: Request, due_s: float) -> None:
        """End a request whose answer's head is not there at ``due_s`` (``time.monotonic()``)."""
        self._due_s[request] = due_s
        if self._watcher is None:
            self._watcher = asyncio.get_running_loop().call_later(_WATCH_S, self._end_late)

    def unwatch(self, request: Request) -> None:
        """Its head came, or it is over."""
        self._due_s.pop(request, None)

    def _end_late(self) -> None:
        """One timer for all requests: a timer each would cost more than the rest of a request."""
        self._watcher = None
        now_s = time.monotonic()
        for request in [late for late, due_s in self._due_s.items() if due_s <= now_s]:
            request.too_slow()
        if self._due_s:
            self._watcher = asyncio.get_running_loop().call_later(_WATCH_S, self._end_late)

    # -- for the connection ----------------------------------------------------------------------

    def free(self, connection: ClientConnection) -> None:
        """A connection can take a request."""
        if not connection.usable:
            return
        request = self._next_waiting()
        if request is not None:
            request.send_on(connection)
            return
        if self._closed:
            connection.drop()
            return
        connection.idle_since = time.monotonic()
        self._idle.append(connection)
        if self._sweeper is None:
            loop = asyncio.get_running_loop()
            self._sweeper = loop.call_later(self._idle_timeout_s, self._sweep)

    def gone(self, connection: ClientConnection) -> None:
        """A connection closed; somebody who waits may need a new one."""
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        self._connect_for_waiting()

    def again(self, request: Request) -> None:
        """Send a request once more, on a fresh connection of its own."""
        request.retried = True
        self._connect(request)

    def _sweep(self) -> None:
        """Close what idled too long; the newest are at the end of the list."""
        self._sweeper = None
        oldest = time.monotonic() - self._idle_timeout_s
        expired = [connection for connection in self._idle if connection.idle_since <= oldest]
        for connection in expired:
            self._idle.remove(connection)
            connection.drop()
        if self._idle:
            loop = asyncio.get_running_loop()
            self._sweeper = loop.call_later(self._idle_timeout_s / 2, self._sweep)

    def close(self) -> None:
        """Close all connections; requests in flight or waiting get Unavailable."""
        self._closed = True
        for timer in (self._sweeper, self._watcher):
            if timer is not None:
                timer.cancel()
        for task in tuple(self._connecting):
            task.cancel()
        for connection in tuple(self._open):
            connection.close(self._closed_error())
        while (request := self._next_waiting()) is not None:
            request.fail(self._closed_error())

    def _closed_error(self) -> Unavailable:
        return Unavailable(f"The connection pool of {self.name} is closed.", code="pool_closed")
