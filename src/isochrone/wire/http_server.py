"""HTTP/1.1 server on asyncio Protocol: callbacks, no task or future per request, all bounded.

One request at a time per connection; pipelined bytes wait (bounded by ``head_bytes_max``, then the
socket is no longer read). Requests that break the protocol are answered by ``on_bad_request`` in
the API's own format, counted by code in ``HttpServer.refusals``, and the connection is closed. An
app that raises an IsochroneError inside a callback gets it answered the same way.

No TLS here: whoever needs it on the public side puts a terminator in front.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from email.utils import formatdate
from typing import Final

from isochrone.wire.http_connection import HttpConnection
from isochrone.wire.http_exchange import Exchange, Headers
from isochrone.wire.http_service import BUCKETS, App, Limits, OnBadRequest, Service
from isochrone.wire.listening import cannot_listen, stop_listening

__all__ = ["App", "Exchange", "Headers", "HttpServer", "Limits", "OnBadRequest", "serve"]

# Connections that the kernel may hold before we accept them: a burst of clients after a restart.
_BACKLOG: Final = 1024


class HttpServer:
    """A running server; made by ``serve``. ``refusals`` counts by error code."""

    def __init__(self, service: Service, server: asyncio.Server) -> None:
        self._service = service
        self._server = server
        self.port: int = server.sockets[0].getsockname()[1]
        self.refusals: Counter[str] = service.refusals
        limits = service.limits
        shortest_s = min(
            limits.head_timeout_s,
            limits.body_idle_timeout_s,
            limits.idle_timeout_s,
            limits.write_idle_timeout_s,
        )
        # A quarter of the shortest timeout for a whole round; at most a second for one tick,
        # because the ``date`` header is renewed here as well.
        self._tick_s = min(shortest_s / 4 / BUCKETS, 1.0)
        self._bucket = 0
        self._sweep()

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return self._service.open

    def _sweep(self) -> None:
        """Visit one bucket of connections: one timer for all of them."""
        service = self._service
        now = time.monotonic()
        service.date = f"date: {formatdate(usegmt=True)}\r\n"
        for connection in tuple(service.buckets[self._bucket]):
            connection.check(now)
        self._bucket = (self._bucket + 1) % BUCKETS
        self._timer = service.loop.call_later(self._tick_s, self._sweep)

    def _all(self) -> list[HttpConnection]:
        return [connection for bucket in self._service.buckets for connection in bucket]

    async def close(self, grace_s: float = 0.0) -> None:
        """Stop listening, close idle connections, give running exchanges ``grace_s``, cut the rest.

        Returns when every connection is gone.
        """
        await stop_listening(self._server)
        for connection in self._all():
            connection.close_when_idle()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await self._service.empty.wait()
        for connection in self._all():
            connection.abandon()
        await self._service.empty.wait()
        self._timer.cancel()
        await self._server.wait_closed()


async def serve(
    app: App, host: str, port: int, limits: Limits, *, on_bad_request: OnBadRequest
) -> HttpServer:
    """Listen on ``host:port`` (0 = any free port).

    Raises Unavailable (code ``port_in_use`` or ``cannot_listen``) with a fix.
    """
    loop = asyncio.get_running_loop()
    service = Service(app, on_bad_request, limits, loop)
    try:
        server = await loop.create_server(
            lambda: HttpConnection(service), host, port, backlog=_BACKLOG
        )
    except OSError as error:
        raise cannot_listen(host, port, error) from None
    return HttpServer(service, server)
