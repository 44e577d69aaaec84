"""HTTP/1.1 server on asyncio Protocol: callbacks, no task or future per request, all bounded.

One request at a time per connection; pipelined bytes wait (bounded by ``head_bytes_max``, then the
socket is no longer read). Requests that break the protocol are answered by ``on_bad_request`` in
the API's own format, counted by code in ``HttpServer.refusals``, and the connection is closed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import msgspec

from isochrone.schema.errors import IsochroneError
from isochrone.wire.http_exchange import Exchange, Headers

__all__ = ["App", "Exchange", "Headers", "HttpServer", "Limits", "OnBadRequest", "serve"]

App = Callable[[Exchange], None]
"""Called when the head is complete; sets the exchange's callbacks or answers at once."""

OnBadRequest = Callable[[str, IsochroneError], tuple[int, Headers, bytes]]
"""Formats a refusal: the request's path ("" when unknown) and the error → status, headers, body."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What one server grants. Sizes in bytes, times in seconds."""

    head_bytes_max: int = 16 * 1024
    headers_max: int = 100
    body_bytes_max: int = 64 * 1024 * 1024
    head_timeout_s: float = 10.0
    body_idle_timeout_s: float = 20.0
    idle_timeout_s: float = 75.0
    write_idle_timeout_s: float = 60.0
    connections_max: int = 20_000
    write_high_water: int = 256 * 1024


class HttpServer:
    """A running server. ``port`` as bound, ``connections`` open now, ``refusals`` by code."""

    port: int
    refusals: Counter[str]

    @property
    def connections(self) -> int:
        """How many connections are open."""
        raise NotImplementedError

    async def close(self, grace_s: float = 0.0) -> None:
        """Stop listening, close idle connections, give running exchanges ``grace_s``, cut the rest."""
        raise NotImplementedError


async def serve(
    app: App, host: str, port: int, limits: Limits, *, on_bad_request: OnBadRequest
) -> HttpServer:
    """Listen on ``host:port`` (0 = any free port).

    Raises Unavailable (code ``port_in_use`` or ``cannot_listen``) with a fix.
    """
    raise NotImplementedError
