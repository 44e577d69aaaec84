"""One HTTP request and its answer, as the application sees it (see http_server for the rules).

Only callbacks, only on the event loop's thread. An exchange ends exactly once: finished (the
answer is complete) or aborted (the client hung up, broke the protocol, or the app cut it). After
that every call is ignored, so that a late engine cannot write into the next request's answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Final, Protocol

from isochrone.schema.errors import OurFault
from isochrone.wire.http_head import RequestHead

Headers = Sequence[tuple[str, str]]

_STATUS_LINES: Final = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus
}
# Answers that have no body by definition (RFC 9110, 6.4.1).
_BODYLESS: Final = frozenset({204, 304})


class Line(Protocol):
    """What an exchange needs of its connection."""

    writable: bool
    closing: bool

    @property
    def peer(self) -> str:
        """The client's IP address."""

    def send(self, data: bytes) -> None:
        """Write bytes to the socket."""

    def hold(self, on: bool) -> None:
        """Stop (or go on) reading the body."""

    def date(self) -> str:
        """The ``date`` header's line, CRLF included."""

    def body_is_long(self) -> bool:
        """Whether too much of the request is still to come to be read and thrown away."""

    def answered(self) -> None:
        """The answer is complete."""

    def cut(self) -> None:
        """Close at once."""


def _drop_data(_data: bytes) -> None:
    """Default ``on_data``: the app does not want the body."""


def _do_nothing() -> None:
    """Default of the other callbacks."""


class Exchange:
    """One request and its answer. Callbacks only; everything runs on the event loop's thread.

    Read-only facts: ``method`` (upper case), ``raw_path`` (as sent, without the query), ``path``
    (percent-decoded), ``query`` (without ``?``), ``headers`` (names in lower case; repeated
    headers joined by ``", "``; do not change the mapping, it may be shared), ``peer`` (address of
    the client), ``started`` (``time.monotonic()`` when the head's first byte came).

    Set inside the app's call: ``on_data(data)`` for each piece of the body, ``on_end()`` once when
    it is complete, ``on_abort()`` when the client hung up or failed before the answer was
    finished (nothing may be written afterwards; writes are ignored), ``on_writable()`` when a
    ``write`` that returned False may continue. Unset callbacks drop the data.

    ``responding``: the answer has begun, its status can no longer be chosen. ``finished``: the
    answer is complete, or can never be (aborted). Both are for reading.
    """

    __slots__ = (
        "_bodyless",
        "_chunked",
        "_left",
        "_line",
        "finished",
        "head",
        "headers",
        "method",
        "on_abort",
        "on_data",
        "on_end",
        "on_writable",
        "path",
        "query",
        "responding",
        "started",
    )

    def __init__(self, line: Line, head: RequestHead, started: float) -> None:
        self._line = line
        self.head = head
        self.method = head.method
        self.path = head.path
        self.query = head.query
        self.headers: Mapping[str, str] = head.headers
        self.started = started
        self.on_data: Callable[[bytes], None] = _drop_data
        self.on_end: Callable[[], None] = _do_nothing
        self.on_abort: Callable[[], None] = _do_nothing
        self.on_writable: Callable[[], None] = _do_nothing
        self.responding = False
        self.finished = False
        self._chunked = False
        self._bodyless = False
        self._left = -1

    def __repr__(self) -> str:
        state = "over" if self.finished else "streaming" if self.responding else "open"
        return f"<Exchange {self.method} {self.head.raw_path} {state}>"

    @property
    def raw_path(self) -> str:
        """The path as sent, still percent-encoded."""
        return self.head.raw_path

    @property
    def peer(self) -> str:
        """The client's IP address ("" when unknown)."""
        return self._line.peer

    def read_body(self, done: Callable[[bytes], None]) -> None:
        """Collect the whole body (bounded by ``Limits.body_bytes_max``), then call ``done``."""
        pieces: list[bytes] = []
        self.on_data = pieces.append

        def end() -> None:
            done(pieces[0] if len(pieces) == 1 else b"".join(pieces))

        self.on_end = end

    def pause_reading(self) -> None:
        """Stop taking body bytes from the socket (backpressure); the body's timeout stands still.

        What one read brought may still be delivered. A client that hangs up meanwhile is noticed
        at the next write or after ``resume_reading``.
        """
        if not self.finished:
            self._line.hold(True)

    def resume_reading(self) -> None:
        """Take body bytes again."""
        if not self.finished:
            self._line.hold(False)

    def respond(self, status: int, headers: Headers, body: bytes) -> None:
        """The whole answer in one write; adds ``content-length`` and ``date``.

        Raises OurFault when a header holds a line break, or the answer has begun already.
        """
        if self.finished:
            return
        head = self._head(status, headers, len(body))
        self.responding = self.finished = True
        self._line.send(head if self._bodyless else head + body)
        self._line.answered()

    def start(self, status: int, headers: Headers, *, content_length: int | None = None) -> None:
        """Begin a streamed answer; chunked when the length is unknown (HTTP/1.0: until close).

        Raises OurFault when a header holds a line break, or the answer has begun already.
        """
        if self.finished:
            return
        head = self._head(status, headers, -1 if content_length is None else content_length)
        self._left = -1 if content_length is None else content_length
        self.responding = True
        self._line.send(head)

    def write(self, data: bytes) -> bool:
        """Send a piece. False above the high-water mark: wait for ``on_writable`` (it is kept).

        Raises OurFault before ``start``, and for more bytes than ``content_length`` promised.
        """
        if self.finished:
            return True
        if not self.responding:
            raise OurFault("An answer was written before it was started.")
        if not data:
            return self._line.writable
        if self._left >= 0:
            if len(data) > self._left:
                raise OurFault("An answer is longer than its content-length.")
            self._left -= len(data)
        if not self._bodyless:
            self._line.send(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)
        return self._line.writable

    def finish(self) -> None:
        """End a streamed answer. One shorter than its ``content_length`` is cut, not ended."""
        if self.finished:
            return
        if not self.responding:
            raise OurFault("An answer was finished before it was started.")
        if self._left > 0 and not self._bodyless:
            self.abort()
            return
        self.responding = self.finished = True
        if self._chunked and not self._bodyless:
            self._line.send(b"0\r\n\r\n")
        self._line.answered()

    def abort(self) -> None:
        """Cut the connection: the only honest end when a started answer cannot be completed.

        ``on_abort`` is not called.
        """
        if not self.finished:
            self.responding = self.finished = True
            self._line.cut()

    def lost(self) -> None:
        """For the connection only: the client is gone or refused. Calls ``on_abort`` once."""
        if not self.finished:
            self.responding = self.finished = True
            on_abort = self.on_abort
            self.release()
            on_abort()

    def release(self) -> None:
        """For the connection only: forget the callbacks, which mostly hold the exchange itself.

        Otherwise each request would live on until the garbage collector comes.
        """
        self.on_data = _drop_data
        self.on_end = self.on_abort = self.on_writable = _do_nothing

    def _head(self, status: int, headers: Headers, length: int) -> bytes:
        """The answer's head; ``length`` -1 = unknown."""
        if self.responding:
            raise OurFault("An answer was started twice.")
        line = self._line
        self._bodyless = status in _BODYLESS or self.method == "HEAD"
        if status in _BODYLESS:
            framing = ""
        elif length >= 0:
            framing = f"content-length: {length}\r\n"
        elif self.head.minor == 0:
            framing = ""
            line.closing = True
        else:
            framing = "transfer-encoding: chunked\r\n"
            self._chunked = True
        if not line.closing and line.body_is_long():
            line.closing = True
        if line.closing:
            framing += "connection: close\r\n"
        elif self.head.minor == 0:
            framing += "connection: keep-alive\r\n"
        return answer_head(status, headers, framing + line.date())


def answer_head(status: int, headers: Headers, framing: str) -> bytes:
    """Bytes of an answer's head; ``framing`` holds ready header lines.

    Raises OurFault for a header that holds a line break (nobody may inject one).
    """
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers])
    if lines.count("\n") != len(headers) or lines.count("\r") != len(headers):
        raise OurFault("A header of the answer holds a line break.")
    first = _STATUS_LINES.get(status) or f"HTTP/1.1 {status} Status\r\n"
    return f"{first}{lines}{framing}\r\n".encode("latin-1", "replace")
