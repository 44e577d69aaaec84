"""One stream of a channel: a request and its answer, with flow control for each direction.

Sending: bytes go out at once while the peer's window and the transport have room, otherwise they
wait in a queue that the channel pumps, 64 KiB a turn, stream after stream: a big transfer cannot
starve small ones. Receiving: what was delivered and not yet consumed never exceeds our window;
credit goes back when half of it is consumed, so that a WINDOW frame is rare.

A stream is over when both directions have ended, or at once when either side resets it.
"""

from __future__ import annotations

from collections import deque
from typing import Final, Protocol

from isochrone.schema.errors import OurFault
from isochrone.wire import frames
from isochrone.wire.outbox import Outbox

# The most that one stream sends before another gets its turn: four TLS records.
CHUNK_BYTES: Final = 64 * 1024


class StreamSink(Protocol):
    """Receives one stream's other direction.

    Exactly one of ``on_end`` and ``on_reset`` comes, last. ``on_head`` never comes at the
    accepting side (its header came with ``on_open``). After ``Stream.reset`` nothing comes.
    """

    def on_head(self, header: bytes) -> None:
        """The answer's header (packed AnswerHeader)."""

    def on_data(self, data: bytes) -> None:
        """A piece of the body, never empty."""

    def on_end(self, trailer: bytes) -> None:
        """The other side's direction is complete; ``trailer`` may be empty."""

    def on_reset(self, code: str, message: str) -> None:
        """The stream is dead (peer's reset, ``channel_lost``, …). Nothing more may be sent."""

    def on_writable(self) -> None:
        """A ``write`` that returned False may continue."""


class _NoSink:
    """The sink of a stream that nobody listens to (any more)."""

    def on_head(self, header: bytes) -> None:
        """Nothing."""

    def on_data(self, data: bytes) -> None:
        """Nothing."""

    def on_end(self, trailer: bytes) -> None:
        """Nothing."""

    def on_reset(self, code: str, message: str) -> None:
        """Nothing."""

    def on_writable(self) -> None:
        """Nothing."""


NO_SINK: Final = _NoSink()


class StreamOwner(Protocol):
    """What a stream needs of its channel, besides the outbox."""

    def over(self, stream: Stream) -> None:
        """Both directions have ended, or it was reset."""

    def fail_soon(self, sink: StreamSink, code: str, message: str) -> None:
        """Tell the sink, in the next loop iteration, that the stream was reset by us."""


class Stream:
    """One request and its answer, from either side. ``id`` is unique on the channel while open.

    ``header``: the opener's header. ``sink`` may be exchanged at any time. ``auto_credit`` (default
    True): delivered bytes count as consumed. ``dead`` (for reading): over or reset, nothing
    more can be sent or will come.
    """

    __slots__ = (
        "_answered",
        "_beyond",
        "_finished",
        "_head_due",
        "_outbox",
        "_owed",
        "_owner",
        "_paused",
        "_queue",
        "_queued",
        "_send_window",
        "_trailer",
        "_unconsumed",
        "_wants_room",
        "_window",
        "auto_credit",
        "dead",
        "header",
        "id",
        "received_end",
        "sink",
    )

    def __init__(
        self,
        owner: StreamOwner,
        outbox: Outbox,
        number: int,
        header: bytes,
        sink: StreamSink,
        *,
        window: int,
        send_window: int,
        accepted: bool,
    ) -> None:
        self._owner = owner
        self._outbox = outbox
        self.id = number
        self.header = header
        self.sink = sink
        self.auto_credit = True
        self.received_end = False
        self._answered = not accepted
        self.dead = False
        self._finished = False
        self._head_due = not accepted
        self._trailer: bytes | None = None
        self._queue: deque[bytes] | None = None
        self._queued = 0
        self._send_window = send_window
        self._wants_room = False
        self._beyond = 0
        self._window = window
        self._unconsumed = 0
        self._owed = 0
        self._paused = False

    def __repr__(self) -> str:
        state = "dead" if self.dead else "open"
        return f"<Stream {self.id} {state} queued={self._queued} window={self._send_window}>"

    # -- sending -------------------------------------------------------------------------------

    def begin(self, body: bytes, window: int, *, end: bool) -> None:
        """For the channel: send the OPEN, and what it cannot hold after it."""
        size = len(body)
        whole = size <= CHUNK_BYTES and (size == 0 or self._outbox.has_room())
        first = body if whole else b""
        self._send_window -= len(first)
        ended = end and whole
        self._outbox.emit(frames.open_frame(self.id, window, self.header, first, end=ended))
        if ended:
            self._finished = True
        elif not whole:
            self.write(body)
            if end:
                self.finish()

    def answer(
        self, header: bytes, body: bytes = b"", *, end: bool = False, trailer: bytes = b""
    ) -> None:
        """Acceptor only, once: the HEAD; with ``end`` the whole answer (one frame if small).

        Raises OurFault for a second answer or a header beyond 64 KiB. Ignored on a dead stream.
        """
        if self.dead:
            return
        if self._answered:
            raise OurFault("A stream was answered twice, or by the side that opened it.")
        if len(header) > frames.HEADER_BYTES_MAX or len(trailer) > frames.HEADER_BYTES_MAX:
            raise OurFault(f"An answer's header has {len(header)} bytes.")
        self._answered = True
        size = len(body)
        fits = size <= CHUNK_BYTES and size <= self._send_window
        if fits and (size == 0 or self._outbox.has_room()):
            self._send_window -= size
            last = trailer if end else b""
            self._outbox.emit(frames.head_frame(self.id, header, body, last, end=end))
            if end:
                self._ended()
            return
        self._outbox.emit(frames.head_frame(self.id, header, b"", b"", end=False))
        self.write(body)
        if end:
            self.finish(trailer)

    def write(self, data: bytes) -> bool:
        """Send a piece of the body. False: window or transport full; wait for ``on_writable``.

        The data is kept; a writer that goes on for more than ``stream_backlog_max`` bytes after a
        False, or whose channel holds too many, has its stream reset with ``overloaded``.
        Ignored (True) after finish or reset; raises OurFault before ``answer``.
        """
        if self.dead or self._finished or self._trailer is not None:
            return True
        if not self._answered:
            raise OurFault("A stream's body was written before its answer's header.")
        size = len(data)
        outbox = self._outbox
        fits = self._queued == 0 and size <= CHUNK_BYTES and size <= self._send_window
        if fits and outbox.has_room():
            if size:
                self._send_window -= size
                outbox.emit(frames.data_frame(self.id, data))
            self._wants_room = self._send_window == 0
            return not self._wants_room
        if self._wants_room:
            self._beyond += size
        if self._beyond > outbox.stream_backlog_max or not outbox.backlog(size):
            self._overflow()
            return False
        if self._queue is None:
            self._queue = deque()
        for at in range(0, size, CHUNK_BYTES):
            self._queue.append(data[at : at + CHUNK_BYTES])
        self._queued += size
        self._wants_room = True
        outbox.wait(self)
        return False

    def finish(self, trailer: bytes = b"") -> None:
        """End our direction; ``trailer`` at most 64 KiB. Ignored when ended or reset already."""
        if self.dead or self._finished or self._trailer is not None:
            return
        if not self._answered:
            raise OurFault("A stream was finished before its answer's header.")
        if self._queued:
            self._trailer = trailer
            return
        self._outbox.emit(frames.frame(frames.END, trailer, stream=self.id))
        self._ended()

    def reset(self, code: str, message: str = "") -> None:
        """Kill the stream at both ends (cancellation); no callback comes any more here."""
        if self.dead:
            return
        self._outbox.emit(frames.reset_frame(self.id, code, message))
        self.bury()

    def pump(self) -> bool:
        """For the channel: send one turn's worth; True when more could go now."""
        queue = self._queue
        if self.dead or not queue:
            self._tell_room()
            return False
        room = min(CHUNK_BYTES, self._send_window)
        if room == 0:
            return False  # a WINDOW frame brings the stream back
        data = queue[0]
        if len(data) <= room:
            queue.popleft()
        else:
            queue[0] = data[room:]
            data = data[:room]
        self._queued -= len(data)
        self._send_window -= len(data)
        self._outbox.backlog(-len(data))
        if queue:
            self._outbox.emit(frames.data_frame(self.id, data))
            return self._send_window > 0
        if self._trailer is None:
            self._outbox.emit(frames.data_frame(self.id, data))
            self._tell_room()
        else:
            self._outbox.emit(frames.last_data_frame(self.id, data, self._trailer))
            self._ended()
        return False

    def _tell_room(self) -> None:
        if self._wants_room and self._send_window > 0 and not self.dead:
            self._wants_room = False
            self._beyond = 0
            self.sink.on_writable()

    def _overflow(self) -> None:
        message = "More was written than the stream's receiver takes."
        self._outbox.emit(frames.reset_frame(self.id, "overloaded", message))
        self._owner.fail_soon(self.bury(), "overloaded", message)

    def _ended(self) -> None:
        self._finished = True
        self._trailer = None
        if self.received_end:
            self.bury()

    # -- receiving -----------------------------------------------------------------------------

    def received(self, size: int) -> bool:
        """For the channel: account for ``size`` bytes; False when the peer may not send them."""
        self._unconsumed += size
        return self._unconsumed <= self._window and not self._head_due and not self.received_end

    def delivered(self, size: int) -> None:
        """For the channel: the sink has had ``size`` bytes."""
        if self.auto_credit:
            self.consumed(size)

    def ended(self) -> StreamSink:
        """For the channel: the peer's direction is complete; returns whom to tell."""
        self.received_end = True
        return self.bury() if self._finished else self.sink

    def credited(self, credit: int) -> bool:
        """For the channel: a WINDOW came; False when the sum is absurd."""
        self._send_window += credit
        if self._queued or self._wants_room:
            self._outbox.wait(self)
        return self._send_window <= frames.WINDOW_MAX

    def head_came(self) -> bool:
        """For the channel: a HEAD came; False when it may not."""
        due, self._head_due = self._head_due, False
        return due

    def consumed(self, size: int) -> None:
        """Grant credit for ``size`` received bytes; only needed when ``auto_credit`` is False."""
        self._owed += size
        if not self._paused:
            self._grant()

    def pause(self) -> None:
        """Hold back credit for what is delivered from now on (what is in flight still comes)."""
        self._paused = True

    def resume(self) -> None:
        """Grant the credit held back by ``pause``."""
        self._paused = False
        self._grant()

    def widen(self, window: int) -> None:
        """Raise our receive window to ``window`` bytes (big transfers on long links)."""
        if window > self._window and not self.dead and not self.received_end:
            self._outbox.emit(frames.window_frame(self.id, window - self._window))
            self._window = window

    def _grant(self) -> None:
        owed = self._owed
        if owed * 2 < self._window or self.dead or self.received_end:
            return
        self._owed = 0
        self._unconsumed -= owed
        self._outbox.emit(frames.window_frame(self.id, owed))

    def bury(self) -> StreamSink:
        """For the channel: nothing more is sent, nothing more comes.

        Returns the sink, for its last word, and forgets it: an owner that holds its stream would
        otherwise be kept alive by it until the garbage collector comes.
        """
        sink = self.sink
        if self.dead:
            return sink
        self.dead = True
        self.sink = NO_SINK
        if self._queued:
            self._outbox.backlog(-self._queued)
            self._queued = 0
        self._queue = None
        self._owner.over(self)
        return sink
