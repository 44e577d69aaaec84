"""A small pooled HTTP/1.1 client, callback style: for upstream engines, the CLI-free paths, tests.

No redirects, no cookies, no decompression. No retries, except once: a request sent on a kept-alive
connection that the server had closed before any byte of an answer came goes again, on a fresh
connection (bodies given as bytes only).
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Protocol

from isochrone.schema.errors import IsochroneError
from isochrone.wire.http_exchange import Headers


class ResponseSink(Protocol):
    """Receives one answer. Exactly one of ``on_end`` and ``on_error`` comes, last."""

    def on_head(self, status: int, headers: Mapping[str, str]) -> None:
        """Status and headers (names in lower case)."""

    def on_data(self, data: bytes) -> None:
        """A piece of the body, chunk framing removed."""

    def on_end(self) -> None:
        """The body is complete."""

    def on_error(self, error: IsochroneError) -> None:
        """Unavailable (cannot connect, cut off), Timeout, or TheirFault (not HTTP)."""


class Request:
    """One request in flight."""

    def write(self, data: bytes) -> bool:
        """Send a piece of a streamed body; False: wait for ``sink.on_writable`` when it has one."""
        raise NotImplementedError

    def finish(self) -> None:
        """End a streamed body."""
        raise NotImplementedError

    def cancel(self) -> None:
        """Drop it: the connection is closed, no callback comes any more."""
        raise NotImplementedError

    def pause(self) -> None:
        """Stop reading the answer (backpressure)."""
        raise NotImplementedError

    def resume(self) -> None:
        """Read the answer again."""
        raise NotImplementedError


class HttpPool:
    """Connections to one server, kept alive and reused, at most ``connections_max``.

    Requests beyond that wait in order, at most ``waiting_max``; then Overloaded.
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
        raise NotImplementedError

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

        ``host`` and ``content-length`` are added. ``timeout_s``: to the answer's head; 0 = none.
        Errors come through ``sink.on_error``, never as an exception, and never inside this call.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Close all connections; requests in flight get Unavailable."""
        raise NotImplementedError
