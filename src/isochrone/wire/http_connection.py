"""One client's connection: bytes in, one exchange at a time, answers out.

Phases of a connection: waiting for a head → body → working (request complete, answer to come) →
waiting again. When an answer is given early, the rest of the request is thrown away: *draining* if
it is short and the connection goes on, *lingering* before a close (bounded in time), so that the
client reads its answer instead of a reset.

Rules: where a message ends is decided here, from the head's framing alone. Pipelined bytes wait in
``_held``; beyond ``head_bytes_max`` the socket is not read. One sweep (http_server) visits every
connection from time to time and calls ``check``: no timer per request.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from typing import Final

from isochrone.schema.errors import IsochroneError, OurFault, Overloaded, TheirFault, TooLarge
from isochrone.wire.http_chunks import ChunkDecoder
from isochrone.wire.http_exchange import Exchange
from isochrone.wire.http_head import (
    CHUNKED,
    RequestHead,
    check_beginning,
    head_too_large,
    parse_request_head,
)
from isochrone.wire.http_service import Service
from isochrone.wire.http_socket import (
    BODY,
    CLOSED,
    DRAINING,
    HEAD,
    LINGER_S,
    LINGERING,
    WORKING,
    HttpSocket,
)

# After an early answer we read and drop this much of the request to keep the connection; beyond
# it we close. Two socket buffers: cheaper than a new TCP (and TLS) connection, no more.
_DRAIN_BYTES_MAX: Final = 512 * 1024
# A head worth remembering: real clients repeat theirs byte by byte on a kept-alive connection.
_MEMO_BYTES_MAX: Final = 1024
# Empty lines before a request are forgiven (RFC 9112, 2.2), all of them, however they are cut.
_EMPTY_LINES: Final = re.compile(rb"\A(?:\r\n)+")


class HttpConnection(HttpSocket):
    """The protocol of one socket. ``Line`` of its exchange."""

    __slots__ = (
        "_body_left",
        "_chunks",
        "_dropped_bytes",
        "_exchange",
        "_held",
        "_looping",
        "_memo",
        "_memo_head",
    )

    def __init__(self, service: Service) -> None:
        super().__init__(service)
        self._exchange: Exchange | None = None
        self._held = b""
        self._body_left = 0
        self._chunks: ChunkDecoder | None = None
        self._dropped_bytes = 0
        self._looping = False
        self._memo_head = b""
        self._memo: RequestHead | None = None

    # -- asyncio's side ------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the socket, or answer 503 when there are too many."""
        super().connection_made(transport)
        service = self._service
        service.enter(self)
        if service.open > service.limits.connections_max:
            self._refuse(
                Overloaded("This gateway has too many connections.", code="too_many_connections")
            )

    def connection_lost(self, _error: Exception | None) -> None:
        """The socket is gone; an unfinished exchange is told."""
        self._service.leave(self)
        self._phase = CLOSED
        self._held = b""
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            self._guard(exchange, exchange.lost)

    def resume_writing(self) -> None:
        """The client caught up."""
        self.writable = True
        exchange = self._exchange
        if exchange is not None and not exchange.finished:
            self._guard(exchange, exchange.on_writable)

    def data_received(self, data: bytes) -> None:
        """Bytes of a head, a body, or too early."""
        phase = self._phase
        if phase <= DRAINING:
            if self._held:
                data = self._held + data
                self._held = b""
            elif phase == HEAD:
                self._since = time.monotonic()
            self._consume(data)
        elif phase == WORKING:
            self._held += data
            if len(self._held) > self._service.limits.head_bytes_max:
                self._hold_reading()

    # -- the exchange's side (Line) --------------------------------------------------------

    def hold(self, on: bool) -> None:
        """Stop (or go on) reading the body."""
        if self._phase != BODY or on == self._reading_held:
            return
        if on:
            self._hold_reading()
        else:
            self._since = time.monotonic()
            self._release_reading()

    def body_is_long(self) -> bool:
        """Whether an answer now should be the connection's last."""
        if self._phase != BODY:
            return False
        exchange = self._exchange
        waits = exchange is not None and exchange.head.expects_continue
        return waits or self._chunks is not None or self._body_left > _DRAIN_BYTES_MAX

    def answered(self) -> None:
        """The answer is complete: next request, drain, or close."""
        self._forget_exchange()
        if self._phase == BODY:
            self._drain()
        elif self._phase == WORKING:
            if self.closing:
                self._close()
            else:
                self._next()

    def cut(self) -> None:
        """Close at once, whatever is unsent."""
        self._forget_exchange()
        super().cut()

    def _forget_exchange(self) -> None:
        exchange = self._exchange
        if exchange is not None:
            self._exchange = None
            exchange.release()

    # -- requests ----------------------------------------------------------------------------

    def _next(self) -> None:
        """The connection is free for another request; pipelined bytes may hold it already."""
        self._phase = HEAD
        self._since = time.monotonic()
        self._release_reading()
        if self._held and not self._looping:
            data, self._held = self._held, b""
            self._consume(data)

    def _consume(self, data: bytes) -> None:
        """Work through bytes: a loop, never recursion, however many requests are pipelined."""
        self._looping = True
        try:
            while data:
                phase = self._phase
                if phase == HEAD:
                    data = self._take_head(data)
                elif phase <= DRAINING:
                    data = self._take_body(data)
                elif phase == WORKING:
                    self._looping = False
                    self.data_received(data)
                    return
                else:
                    return
        except IsochroneError as error:
            self._refuse(error)
        finally:
            self._looping = False

    def _take_head(self, data: bytes) -> bytes:
        memo = self._memo
        if memo is not None and data.startswith(self._memo_head):
            self._begin(memo)
            return data[len(self._memo_head) :]
        if data[:2] == b"\r\n":
            data = _EMPTY_LINES.sub(b"", data, count=1)
        limits = self._service.limits
        end = data.find(b"\r\n\r\n") + 4
        if end == 3:
            if data and data != b"\r":
                check_beginning(data, limits.head_bytes_max)
            self._held = data
            return b""
        if end > limits.head_bytes_max:
            raise head_too_large(limits.head_bytes_max)
        raw = data[:end]
        head = parse_request_head(raw, limits.headers_max)
        if end <= _MEMO_BYTES_MAX:
            self._memo_head = raw
            self._memo = head
        self._begin(head)
        return data[end:]

    def _begin(self, head: RequestHead) -> None:
        """A head is complete: make the exchange, call the app, expect the body."""
        limits = self._service.limits
        exchange = Exchange(self, head, self._since)
        self._exchange = exchange
        self.closing = not head.keep_alive
        length = head.body_bytes
        if length > limits.body_bytes_max:
            raise TooLarge(
                f"The body has {length} bytes; this server takes {limits.body_bytes_max}.",
                code="body_too_large",
            )
        self._body_left = length
        self._chunks = ChunkDecoder(limits.body_bytes_max) if length == CHUNKED else None
        self._phase = BODY if length else WORKING
        try:
            self._service.app(exchange)
            if length == 0 and not exchange.finished:
                exchange.on_end()
        except Exception as error:
            self._app_failed(exchange, error)
        if head.expects_continue and self._exchange is exchange and not exchange.responding:
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _take_body(self, data: bytes) -> bytes:
        """Deliver body bytes; returns what follows the request."""
        chunks = self._chunks
        if chunks is None:
            left = self._body_left
            size = len(data)
            if size <= left:
                self._body_left = left - size
                self._deliver(data)
                rest = b""
            else:
                self._body_left = 0
                self._deliver(data[:left])
                rest = data[left:]
            ended = self._body_left == 0
        else:
            pieces: list[bytes] = []
            rest = chunks.feed(data, pieces)
            for piece in pieces:
                self._deliver(piece)
            ended = chunks.ended
        if not ended:
            self._since = time.monotonic()
        elif self._phase != CLOSED:
            self._body_complete()
        return rest

    def _deliver(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is not None:
            try:
                exchange.on_data(data)
            except Exception as error:
                self._app_failed(exchange, error)
        elif self._phase == DRAINING:
            self._dropped_bytes += len(data)
            if self._dropped_bytes > _DRAIN_BYTES_MAX:
                self.cut()

    def _body_complete(self) -> None:
        self._chunks = None
        if self._phase == DRAINING:
            self._next()
        if self._phase != BODY:
            return
        self._phase = WORKING
        self._release_reading()
        exchange = self._exchange
        if exchange is not None:
            try:
                exchange.on_end()
            except Exception as error:
                self._app_failed(exchange, error)

    # -- ends --------------------------------------------------------------------------------

    def _guard(self, exchange: Exchange, call: Callable[..., None], *arguments: object) -> None:
        """Call the app; what it raises becomes this exchange's refusal, nobody else's trouble."""
        try:
            call(*arguments)
        except Exception as error:
            self._app_failed(exchange, error)

    def _app_failed(self, exchange: Exchange, error: Exception) -> None:
        """Our errors are answered as they are; a bug is reported, and answered as one."""
        if isinstance(error, IsochroneError):
            self._fail(exchange, error)
            return
        context = {"message": f"An HTTP callback failed: {exchange!r}", "exception": error}
        self._service.loop.call_exception_handler(context)
        self._fail(exchange, OurFault("The gateway failed on this request."))

    def _fail(self, exchange: Exchange, error: IsochroneError) -> None:
        if exchange.finished or self._exchange is not exchange:
            return
        if exchange.responding:
            exchange.abort()
            return
        self._service.refusals[error.code] += 1
        status, headers, body = self._service.on_bad_request(exchange.path, error)
        exchange.respond(status, headers, body)

    def _refuse(self, error: IsochroneError) -> None:
        """Answer what broke the protocol and close; a started answer can only be cut."""
        exchange, self._exchange = self._exchange, None
        path = exchange.path if exchange is not None else ""
        if exchange is not None:
            cut_off = exchange.responding
            self._guard(exchange, exchange.lost)
            if cut_off:
                self._service.refusals[error.code] += 1
                self.cut()
                return
        if self._phase != CLOSED:
            self.send(self._service.refusal(path, error, "connection: close\r\n"))
            self._chunks = None
            self._held = b""
            self._linger()

    def _drain(self) -> None:
        """The answer came before the request was complete: drop the rest of it."""
        if self.closing:
            self._linger()
            return
        self._phase = DRAINING
        self._dropped_bytes = 0
        self._since = time.monotonic()
        self._release_reading()

    def close_when_idle(self) -> None:
        """The server is stopping: close now, or after the exchange that is running."""
        if self._phase == HEAD:
            self._close()
        else:
            self.closing = True

    def abandon(self) -> None:
        """The server's grace is over: cut, and tell the exchange."""
        exchange, self._exchange = self._exchange, None
        self.cut()
        if exchange is not None:
            self._guard(exchange, exchange.lost)

    def check(self, now: float) -> None:
        """The sweep's visit: enforce the timeouts. ``now`` is ``time.monotonic()``."""
        limits = self._service.limits
        waited_s = now - self._since
        phase = self._phase
        if (not self.writable or phase >= LINGERING) and self._stuck(now):
            self._service.refusals["write_timeout"] += 1
            self.abandon()
        elif phase == HEAD and self._held:
            if waited_s > limits.head_timeout_s:
                self._refuse(_too_slow("head", limits.head_timeout_s))
        elif phase == HEAD:
            self._memo_head = b""
            self._memo = None
            if waited_s > limits.idle_timeout_s:
                self._close()
        elif phase == BODY:
            if waited_s > limits.body_idle_timeout_s and not self._reading_held:
                self._refuse(_too_slow("body", limits.body_idle_timeout_s))
        elif phase in (LINGERING, DRAINING) and waited_s > LINGER_S and not self._unsent():
            self.cut()


def _too_slow(part: str, timeout_s: float) -> IsochroneError:
    return TheirFault(
        f"The request's {part} did not arrive within {timeout_s:g} s.",
        fix="Send it without long pauses.",
        code="request_timeout",
        status=408,
    )
