"""An upstream's HTTP response on its way to a caller, and the shape of the client that brings it.

Rules: an answer of 2xx or of the caller's fault (400, 413, 422 …) is passed on as it is. 429
becomes ``Overloaded``; 5xx, 401, 403 and 404 become ``Unavailable``: they are this provider's
trouble (an engine down, a wrong key, a wrong model name), and another replica may do better.
Hop-by-hop headers, cookies and server names stay behind.

The wire room's HTTP client is passed in, since this room must not import it: ``HttpPoolLike`` says
what is needed; ``isochrone.wire.http_client.HttpPool`` has this shape.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from isochrone.engines.engine import EngineStats
from isochrone.engines.error_bodies import LENGTH_HEADER
from isochrone.engines.jobs import Job, Pausable
from isochrone.engines.usage import UsageCounter
from isochrone.schema.errors import IsochroneError, Overloaded, Unavailable

#: Answer headers that are passed on.
_PASSED = ("content-type", "content-length", "cache-control", LENGTH_HEADER, "retry-after")

#: Bytes of an upstream's error that a message quotes.
_QUOTE_BYTES = 300

#: Largest document read at a probe, bytes.
_PROBE_BYTES_MAX = 4 * 1024 * 1024


class ResponseSink(Protocol):
    """Receives one HTTP response."""

    def on_head(self, status: int, headers: Mapping[str, str]) -> None:
        """Status and headers (names in lower case)."""

    def on_data(self, data: bytes) -> None:
        """The next piece of the body, de-chunked."""

    def on_end(self) -> None:
        """The response is complete."""

    def on_error(self, error: IsochroneError) -> None:
        """The exchange failed; nothing more will come."""


class HttpPoolLike(Protocol):
    """What an engine needs of an HTTP client: a pool of connections to one host."""

    def request(
        self,
        method: str,
        path: str,
        headers: Sequence[tuple[str, str]],
        body: bytes | None,
        sink: ResponseSink,
        *,
        timeout_s: float = 0.0,
    ) -> Pausable:
        """Send one request; ``timeout_s`` to the response's head. Never raises, never calls
        ``sink`` inside."""

    def close(self) -> None:
        """Close every connection."""


#: ``pool_factory(host, port, tls)``: ``tls`` is a client context, or None for plain HTTP.
PoolFactory = Callable[[str, int, ssl.SSLContext | None], HttpPoolLike]


class CallOwner(Protocol):
    """The engine that a response belongs to."""

    def finished(self, job: Job) -> None:
        """A call has ended: the next one goes."""

    def unreachable(self, error: IsochroneError) -> None:
        """A call could not reach the endpoint, or was cut off."""


class PassingResponse:
    """One response on its way to one job's sink."""

    def __init__(self, engine: CallOwner, job: Job, operation: str) -> None:
        self._engine, self._job = engine, job
        self._now = job.queue_time
        self._started_at = self._now()
        self._counter = UsageCounter(operation)
        self._error: IsochroneError | None = None
        self._quote = b""

    def on_head(self, status: int, headers: Mapping[str, str]) -> None:
        """See ``ResponseSink``."""
        self._error = _refusal(status)
        if self._error is None and self._job.sink is not None:
            self._counter.begin(headers.get("content-type", ""))
            passed = [(name, headers[name]) for name in _PASSED if name in headers]
            self._job.sink.on_head(status, passed)

    def on_data(self, data: bytes) -> None:
        """See ``ResponseSink``."""
        if self._error is not None:
            self._quote = (self._quote + data)[:_QUOTE_BYTES]
        elif self._job.sink is not None:
            self._counter.feed(data)
            self._job.sink.on_data(data)

    def on_end(self) -> None:
        """See ``ResponseSink``."""
        if self._error is not None:
            said = " ".join(self._quote.decode(errors="replace").split())
            self._error.message += f" It said: {said}" if said else ""
            self._end(self._error)
            return
        sink, self._job.sink = self._job.sink, None
        self._engine.finished(self._job)
        if sink is not None:
            job, tokens = self._job, self._counter.tokens()
            engine_us = round((self._now() - self._started_at) * 1e6)
            queue_us = round((job.sent_at - job.submitted_at) * 1e6)
            sink.on_end(EngineStats(engine_us, queue_us, *tokens))

    def on_error(self, error: IsochroneError) -> None:
        """See ``ResponseSink``."""
        self._engine.unreachable(error)
        self._end(error)

    def _end(self, error: IsochroneError) -> None:
        self._engine.finished(self._job)
        self._job.fail(error)


class WholeResponse:
    """A small response, collected."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.done: asyncio.Future[tuple[int, bytes]] = loop.create_future()
        self._status = 0
        self._body = bytearray()

    def on_head(self, status: int, headers: Mapping[str, str]) -> None:
        """See ``ResponseSink``."""
        self._status = status

    def on_data(self, data: bytes) -> None:
        """See ``ResponseSink``."""
        if len(self._body) + len(data) <= _PROBE_BYTES_MAX:
            self._body += data

    def on_end(self) -> None:
        """See ``ResponseSink``."""
        if not self.done.done():
            self.done.set_result((self._status, bytes(self._body)))

    def on_error(self, error: IsochroneError) -> None:
        """See ``ResponseSink``."""
        if not self.done.done():
            self.done.set_exception(error)


def _refusal(status: int) -> IsochroneError | None:
    """What an upstream's status means for us; None: pass the answer on."""
    if status == 429:
        return Overloaded("The upstream is overloaded.")
    if status >= 500 or status in (401, 403, 404):
        return Unavailable(f"The upstream answered {status}.")
    return None
