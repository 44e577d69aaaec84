"""One connection of the HTTP client: one request at a time, its answer cut into callbacks.

As in the server, our own framing decides where an answer ends; llhttp sees heads only. Bytes that
come when no answer is due make a connection useless: it is dropped, not understood.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, cast

from isochrone.schema.errors import InvalidInput, IsochroneError, TheirFault, Unavailable
from isochrone.wire.http_answer import UNTIL_CLOSE, AnswerHead, parse_answer_head
from isochrone.wire.http_chunks import ChunkDecoder
from isochrone.wire.http_head import CHUNKED

if TYPE_CHECKING:
    from isochrone.wire.http_client import HttpPool
    from isochrone.wire.http_request import Request

_IDLE, _HEAD, _BODY, _DEAD = range(4)
# The client streams: no answer is too long for it, only for its sink.
_UNBOUNDED: Final = 1 << 62
# Servers repeat the head of an answer within one second (``date``) byte by byte.
_MEMO_BYTES_MAX: Final = 1024


class ClientConnection(asyncio.Protocol):
    """The protocol of one socket to a server."""

    __slots__ = (
        "_chunks",
        "_head",
        "_held",
        "_holding",
        "_left",
        "_memo_head",
        "_phase",
        "_pool",
        "_request",
        "_reused",
        "_silent",
        "_transport",
        "_writable",
        "idle_since",
    )

    def __init__(self, pool: HttpPool) -> None:
        self.idle_since = 0.0
        self._pool = pool
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._request: Request | None = None
        self._phase = _IDLE
        self._held = b""
        self._head: AnswerHead | None = None
        self._memo_head = b""
        self._left = 0
        self._chunks: ChunkDecoder | None = None
        self._reused = False
        self._silent = True
        self._holding = False
        self._writable = True

    @property
    def usable(self) -> bool:
        """Whether a request may be sent on it."""
        return self._phase == _IDLE and not self._transport.is_closing()

    # -- the request's side ----------------------------------------------------------------------

    def begin(self, request: Request, data: bytes) -> None:
        """Send a request's first bytes (all of them, unless it streams)."""
        self._request = request
        self._phase = _HEAD
        self._silent = True
        self._transport.write(data)

    def send(self, data: bytes) -> bool:
        """Send more of it; False above the high-water mark."""
        self._transport.write(data)
        return self._writable

    def hold(self, on: bool) -> None:
        """Stop (or go on) reading."""
        if on == self._holding or self._phase == _DEAD:
            return
        self._holding = on
        if on:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def drop(self) -> None:
        """Close without telling anybody."""
        self._request = None
        self._phase = _DEAD
        self._transport.abort()

    def close(self, error: IsochroneError) -> None:
        """Close and tell the request why."""
        request = self._request
        self.drop()
        if request is not None:
            request.fail(error)

    # -- asyncio's side ----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket stands."""
        self._transport = cast(asyncio.Transport, transport)

    def pause_writing(self) -> None:
        """The server reads more slowly than we write."""
        self._writable = False

    def resume_writing(self) -> None:
        """The server caught up."""
        self._writable = True
        if self._request is not None:
            self._request.tell_writable()

    def eof_received(self) -> bool:
        """The server is done: so are we."""
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """The socket is gone: the end of an answer without length, or of a broken one."""
        request, self._request = self._request, None
        phase, self._phase = self._phase, _DEAD
        self._pool.gone(self)
        if request is None:
            return
        if phase == _BODY and self._left == UNTIL_CLOSE and error is None:
            request.end()
        elif self._reused and self._silent and request.repeatable:
            self._pool.again(request)
        else:
            why = f": {error}" if error else ""
            request.fail(
                Unavailable(
                    f"{self._pool.name} closed the connection before its answer was complete{why}.",
                    fix="Look at that server's log.",
                    code="cut_off",
                )
            )

    def data_received(self, data: bytes) -> None:
        """Bytes of an answer."""
        self._silent = False
        if self._held:
            data = self._held + data
            self._held = b""
        try:
            while data:
                if self._phase == _HEAD:
                    data = self._take_head(data)
                elif self._phase == _BODY:
                    data = self._take_body(data)
                else:
                    self.drop()
                    return
        except IsochroneError as error:
            self.close(error)

    # -- answers -----------------------------------------------------------------------------------

    def _take_head(self, data: bytes) -> bytes:
        end = data.find(b"\r\n\r\n") + 4
        request = cast("Request", self._request)
        if end == 3 or end > self._pool.head_bytes_max:
            if len(data) > self._pool.head_bytes_max:
                raise InvalidInput(
                    f"{self._pool.name} sent a head beyond {self._pool.head_bytes_max} bytes.",
                    code="bad_answer",
                )
            self._held = data
            return b""
        raw = data[:end]
        head = self._head
        if head is None or raw != self._memo_head or request.method == "HEAD":
            head = parse_answer_head(raw, request.method)
            # An answer to HEAD frames its body differently: never remember it for the next one.
            keep = end <= _MEMO_BYTES_MAX and request.method != "HEAD"
            self._memo_head = raw if keep else b""
            self._head = head
        rest = data[end:]
        if head.status < 200:
            if head.status == 101:
                raise InvalidInput(f"{self._pool.name} changed protocols.", code="bad_answer")
            return rest
        self._left = head.body_bytes
        self._chunks = ChunkDecoder(_UNBOUNDED) if head.body_bytes == CHUNKED else None
        self._phase = _BODY
        request.answered(head.status, head.headers)
        if head.body_bytes == 0 and self._request is request:
            self._complete(request, clean=not rest)
        return rest

    def _take_body(self, data: bytes) -> bytes:
        request = cast("Request", self._request)
        if self._chunks is not None:
            pieces: list[bytes] = []
            try:
                rest = self._chunks.feed(data, pieces)
            except TheirFault as fault:
                raise InvalidInput(
                    f"{self._pool.name} sent a broken body: {fault.message}", code="bad_answer"
                ) from None
            for piece in pieces:
                if self._request is request:
                    request.guard(request.sink.on_data, piece)
            ended = self._chunks is not None and self._chunks.ended
        elif self._left == UNTIL_CLOSE:
            rest = b""
            ended = False
            request.guard(request.sink.on_data, data)
        else:
            piece, rest = (data, b"") if len(data) <= self._left else _cut(data, self._left)
            self._left -= len(piece)
            ended = self._left == 0
            try:
                request.sink.on_data(piece)
            except Exception as error:
                request.sink_failed(error)
        if ended and self._request is request:
            self._complete(request, clean=not rest)
        return rest

    def _complete(self, request: Request, *, clean: bool) -> None:
        """The answer is whole. The connection is free before the sink hears of it, so that a
        request that the sink sends next can use it."""
        head = cast(AnswerHead, self._head)
        self._request = None
        self._chunks = None
        self.hold(False)
        if clean and head.keep_alive and request.sent_whole:
            self._phase = _IDLE
            self._reused = True
            self._pool.free(self)
        else:
            self._phase = _DEAD
            self._transport.close()
        request.end()


def _cut(data: bytes, at: int) -> tuple[bytes, bytes]:
    return data[:at], data[at:]
