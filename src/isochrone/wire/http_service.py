"""What all connections of one HTTP server share: limits, the app, the sweep's buckets, counters."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import msgspec

from isochrone.schema.errors import IsochroneError
from isochrone.wire.http_exchange import Exchange, Headers, answer_head

if TYPE_CHECKING:
    from isochrone.wire.http_connection import HttpConnection

App = Callable[[Exchange], None]
"""Called when the head is complete; sets the exchange's callbacks or answers at once."""

OnBadRequest = Callable[[str, IsochroneError], tuple[int, Headers, bytes]]
"""Formats a refusal: the request's path ("" when unknown) and the error → status, headers, body."""

# The sweep's resolution: a timeout is kept up to one round of buckets late.
BUCKETS: Final = 16


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What one server grants. Sizes in bytes, times in seconds.

    ``head_bytes_max``: h11 and Tomcat grant 8 to 16 KiB; bearer tokens and tracing fit.
    ``body_bytes_max``: a batch of images as tensors fits. ``head_timeout_s``: from the head's first
    byte to its last. ``body_idle_timeout_s``: between two reads of the body.
    ``idle_timeout_s``: between requests (above common clients' 60 s, so that the client closes
    first). ``write_idle_timeout_s``: a client that reads nothing for that long is cut off.
    ``write_high_water``: buffered answer bytes at which ``write`` returns False.
    Timeouts are kept by a sweep and are up to a quarter of the shortest of them late.
    """

    head_bytes_max: int = 16 * 1024
    headers_max: int = 100
    body_bytes_max: int = 64 * 1024 * 1024
    head_timeout_s: float = 10.0
    body_idle_timeout_s: float = 20.0
    idle_timeout_s: float = 75.0
    write_idle_timeout_s: float = 60.0
    connections_max: int = 20_000
    write_high_water: int = 256 * 1024


class Service:
    """What all connections of one server share. ``buckets``: the sweep visits one a tick."""

    __slots__ = (
        "app",
        "buckets",
        "date",
        "empty",
        "limits",
        "loop",
        "on_bad_request",
        "open",
        "refusals",
    )

    def __init__(
        self,
        app: App,
        on_bad_request: OnBadRequest,
        limits: Limits,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.app = app
        self.on_bad_request = on_bad_request
        self.limits = limits
        self.loop = loop
        self.refusals: Counter[str] = Counter()
        self.buckets: tuple[set[HttpConnection], ...] = tuple(set() for _ in range(BUCKETS))
        self.open = 0
        self.empty = asyncio.Event()
        self.empty.set()
        self.date = ""

    def enter(self, connection: HttpConnection) -> None:
        """A connection was made."""
        self.buckets[id(connection) // 64 % BUCKETS].add(connection)
        self.open += 1
        self.empty.clear()

    def leave(self, connection: HttpConnection) -> None:
        """A connection is gone."""
        self.buckets[id(connection) // 64 % BUCKETS].discard(connection)
        self.open -= 1
        if self.open == 0:
            self.empty.set()

    def refusal(self, path: str, error: IsochroneError, framing: str) -> bytes:
        """Count a refusal and format it in the API's own way."""
        self.refusals[error.code] += 1
        status, headers, body = self.on_bad_request(path, error)
        head = answer_head(status, headers, f"content-length: {len(body)}\r\n{framing}{self.date}")
        return head + body
