"""The multiplexed channel: many streams and control messages over one TLS connection.

A stream is one request and its answer: OPEN (header, body) → HEAD (header, body) → END (trailer).
Small ones are one frame each way. What comes in is acted on in ``receiving``, what goes out is
gathered in ``outbox``, flow control is ``stream``'s: here they are held together, from the first
frame after the greeting to the one place where a channel ends.

Who judges silence: whoever owns the channel reads ``last_heard``. The channel itself only gives
up after ``silence_max_s`` in which *its own pings* went out in vain, so that a process that was
stopped and goes on does not blame its peers for its own absence.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping

from isochrone.schema.errors import (
    InvalidInput,
    IsochroneError,
    Overloaded,
    TheirFault,
    Unavailable,
)
from isochrone.schema.frames import Control, pack
from isochrone.wire import frames
from isochrone.wire.channel_terms import ChannelHandler, ChannelLimits, Peer
from isochrone.wire.frames import FrameReader
from isochrone.wire.outbox import Outbox
from isochrone.wire.receiving import DISPATCH, NOBODY
from isochrone.wire.round_trips import RoundTrips
from isochrone.wire.stream import NO_SINK, Stream, StreamSink

__all__ = ["Channel", "ChannelHandler", "ChannelLimits", "Peer", "Stream", "StreamSink"]


class Channel(asyncio.Protocol):
    """One connection to a peer; made by ``greeting.listen`` and ``greeting.dial`` only.

    ``rtt_ms_*`` are measured by our own PINGs (0.0 before the first answer); ``last_heard`` is
    ``time.monotonic()`` of the last bytes received; ``counters`` counts what was refused or odd.
    ``ping_interval_s`` may be changed at any time.
    """

    __slots__ = (
        "_by_peer",
        "_limits",
        "_loop",
        "_lost",
        "_next_id",
        "_pings_in_vain",
        "_reader",
        "_timer",
        "_transport",
        "bytes_in",
        "counters",
        "frames_in",
        "handler",
        "last_heard",
        "on_closed",
        "outbox",
        "peer",
        "ping_interval_s",
        "round_trips",
        "streams",
    )

    def __init__(
        self,
        transport: asyncio.Transport,
        reader: FrameReader,
        peer: Peer,
        limits: ChannelLimits,
        *,
        dialled: bool,
    ) -> None:
        self.peer = peer
        self.counters: Counter[str] = Counter()
        self.round_trips = RoundTrips()
        self.last_heard = time.monotonic()
        self.bytes_in = self.frames_in = 0
        self.ping_interval_s = limits.ping_interval_s
        self.on_closed: Callable[[Channel], None] = _ignore
        self._transport = transport
        self._reader = reader
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self.handler: ChannelHandler = NOBODY
        self.streams: dict[int, Stream] = {}
        self._by_peer = 0
        self._next_id = 1 if dialled else 2
        self._lost = False
        self._pings_in_vain = 0
        self._timer: asyncio.TimerHandle | None = None
        self.outbox = Outbox(
            self,
            transport,
            high_water=limits.write_high_water,
            backlog_max=limits.channel_backlog_max,
            stream_backlog_max=limits.stream_backlog_max,
        )

    def __repr__(self) -> str:
        state = "closed" if self._lost else "open"
        return f"<Channel {self.peer.role} {self.peer.address} {state} {len(self.streams)}>"

    # -- public --------------------------------------------------------------------------------

    @property
    def rtt_ms_min(self) -> float:
        """The shortest round trip so far, in ms; 0.0 before the first."""
        return self.round_trips.min_ms

    @property
    def rtt_ms_ewma(self) -> float:
        """The moving average, in ms; 0.0 before the first."""
        return self.round_trips.ewma_ms

    @property
    def rtt_ms_last(self) -> float:
        """The last round trip, in ms; 0.0 before the first."""
        return self.round_trips.last_ms

    @property
    def streams_open(self) -> int:
        """Streams open now, both sides' together."""
        return len(self.streams)

    @property
    def closed(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._lost

    def open(
        self,
        header: bytes,
        body: bytes = b"",
        *,
        end: bool = True,
        sink: StreamSink,
        window: int = 0,
    ) -> Stream:
        """Open a stream. ``end``: the body is whole (one frame if small).

        ``window``: bytes the peer may send ahead of consumption; 0 = the limit's default. Raises
        Unavailable (channel closed), Overloaded (``streams_max``), InvalidInput (header too long).
        """
        if self._lost:
            raise Unavailable("The channel is closed.", code="channel_lost")
        if len(self.streams) - self._by_peer >= self._limits.streams_max:
            raise Overloaded("The channel has too many streams.", code="too_many_streams")
        if len(header) > frames.HEADER_BYTES_MAX:
            raise InvalidInput(f"A stream header of {len(header)} bytes is too long.")
        window = window or self._limits.window
        stream = Stream(
            self,
            self.outbox,
            self._fresh_id(),
            header,
            sink,
            window=window,
            send_window=frames.INITIAL_WINDOW,
            accepted=False,
        )
        self.streams[stream.id] = stream
        stream.begin(body, window, end=end)
        return stream

    def send_control(self, message: Control) -> bool:
        """Send a control message; False when the transport is full (sent nevertheless).

        Raises OurFault for one beyond 256 KiB. Ignored (False) on a closed channel.
        """
        if self._lost:
            return False
        self.outbox.emit(frames.frame(frames.CONTROL, pack(message)))
        return not self.outbox.full

    def close(self, code: str, message: str = "") -> None:
        """Say why, flush, close. ``on_lost`` comes with that code, before this returns."""
        if self._lost:
            return
        self.outbox.emit(frames.reset_frame(0, code, message))
        self.end(Unavailable(message or f"The channel was closed ({code}).", code=code))

    def cut(self) -> None:
        """Close at once, whatever is unsent: for a peer that did not take the goodbye."""
        self._transport.abort()

    def snapshot(self) -> Mapping[str, float]:
        """Facts for status pages: streams, bytes, round trips, counters."""
        return {
            "streams": len(self.streams),
            "backlog_bytes": self.outbox.backlog_bytes,
            "bytes_in": self.bytes_in,
            "bytes_out": self.outbox.bytes_out,
            "frames_in": self.frames_in,
            "rtt_ms_min": self.rtt_ms_min,
            "rtt_ms_ewma": self.rtt_ms_ewma,
            "heard_s_ago": time.monotonic() - self.last_heard,
            **self.counters,
        }

    # -- for greeting --------------------------------------------------------------------------

    def begin(self, handler: ChannelHandler, early: list[frames.Frame]) -> None:
        """The greeting is over: work on ``early`` frames, start pinging."""
        self.handler = handler
        self._tick()
        self._work(early)

    # -- asyncio's side --------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Bytes of frames."""
        self.last_heard = time.monotonic()
        self._pings_in_vain = 0
        self.bytes_in += len(data)
        found: list[frames.Frame] = []
        try:
            self._reader.feed(data, found)
        except TheirFault as fault:
            self._work(found)
            self._blame(fault)
            return
        self._work(found)

    def eof_received(self) -> bool:
        """The peer closed: so do we."""
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """The socket is gone."""
        reason = f"The channel broke: {error}." if error else "The other side closed the channel."
        self.end(Unavailable(reason, code="channel_lost"))
        self.on_closed(self)

    def pause_writing(self) -> None:
        """The transport holds enough: streams wait."""
        self.outbox.transport_full()

    def resume_writing(self) -> None:
        """The transport drained."""
        self.outbox.transport_drained()

    # -- the streams' side (StreamOwner) ---------------------------------------------------------

    def accept(self, number: int, header: bytes, window: int) -> Stream | None:
        """Register a stream that the peer opens; None when it has too many (it is told).

        Raises InvalidInput for a number that is not the peer's to use.
        """
        if not self._is_peers(number) or number in self.streams:
            raise InvalidInput(f"Stream {number} cannot be opened.", code="bad_frame")
        if self._by_peer >= self._limits.streams_max:
            self.counters["too_many_streams"] += 1
            text = "The channel has too many streams."
            self.outbox.emit(frames.reset_frame(number, "too_many_streams", text))
            return None
        stream = Stream(
            self,
            self.outbox,
            number,
            header,
            NO_SINK,
            window=frames.INITIAL_WINDOW,
            send_window=window,
            accepted=True,
        )
        self.streams[number] = stream
        self._by_peer += 1
        return stream

    def over(self, stream: Stream) -> None:
        """Forget a stream."""
        if self.streams.pop(stream.id, None) is not None and self._is_peers(stream.id):
            self._by_peer -= 1
        self.outbox.forget(stream)

    def fail_soon(self, sink: StreamSink, code: str, message: str) -> None:
        """Tell a sink later that we reset its stream."""
        self.counters[code] += 1
        self._loop.call_soon(sink.on_reset, code, message)

    def unread(self) -> None:
        """The peer asks but does not read what it is told."""
        self.counters["does_not_read"] += 1
        self._transport.abort()
        self.end(Unavailable("The other side does not read.", code="channel_lost"))

    def _fresh_id(self) -> int:
        number = self._next_id
        while number in self.streams:
            number = _id_after(number)
        self._next_id = _id_after(number)
        return number

    def _is_peers(self, number: int) -> bool:
        return (number ^ self._next_id) & 1 == 1

    # -- receiving -------------------------------------------------------------------------------

    def _work(self, found: list[frames.Frame]) -> None:
        """Dispatch frames; what they cause leaves in one write at the end."""
        self.frames_in += len(found)
        self.outbox.hold()
        try:
            for kind, flags, number, payload in found:
                if self._lost:
                    return
                DISPATCH[kind](self, flags, number, payload)
        except TheirFault as fault:
            self._blame(fault)
        finally:
            self.outbox.release()

    def _blame(self, fault: IsochroneError) -> None:
        """The peer broke the protocol: count, say so, close."""
        if self._lost:
            return
        self.counters[fault.code] += 1
        self.outbox.emit(frames.reset_frame(0, fault.code, fault.message))
        self.end(fault)

    def end(self, error: IsochroneError) -> None:
        """The one place where a channel ends."""
        if self._lost:
            return
        self._lost = True
        if self._timer is not None:
            self._timer.cancel()
        self.outbox.write()
        self._transport.close()
        for stream in tuple(self.streams.values()):
            self.guard(stream, stream.bury().on_reset, "channel_lost", error.message)
        try:
            self.handler.on_lost(error)
        except Exception as failure:
            self.handler_failed(failure)

    def guard(self, stream: Stream, call: Callable[..., None], *arguments: object) -> None:
        """Call a sink; what it raises ends its stream, nobody else's."""
        try:
            call(*arguments)
        except Exception as error:
            self.sink_failed(stream, error)

    def sink_failed(self, stream: Stream, error: Exception) -> None:
        """A sink or ``on_open`` raised: reset its stream, with the error's code if it is ours."""
        if isinstance(error, IsochroneError):
            stream.reset(error.code, error.message)
            return
        self.counters["sink_failed"] += 1
        context = {"message": f"A sink failed: {stream!r} of {self!r}", "exception": error}
        self._loop.call_exception_handler(context)
        stream.reset("internal", "The other side failed on this stream.")

    def handler_failed(self, error: Exception) -> None:
        """A bug of the channel's owner: reported, and the channel goes on."""
        self.counters["handler_failed"] += 1
        context = {"message": f"The handler failed: {self!r}", "exception": error}
        self._loop.call_exception_handler(context)

    def reject(self, stream: Stream, code: str, message: str) -> None:
        """The peer broke a stream's rules: reset it, at both ends."""
        self.counters[code] += 1
        sink = stream.sink
        stream.reset(code, message)
        self.guard(stream, sink.on_reset, code, message)

    # -- round trips -----------------------------------------------------------------------------

    def _tick(self) -> None:
        """Send a ping. Its token is random: a peer cannot answer one that it has not received."""
        interval_s = self.ping_interval_s
        if self._pings_in_vain * interval_s > self._limits.silence_max_s:
            self._transport.abort()
            self.end(Unavailable("The other side fell silent.", code="channel_lost"))
            return
        self._pings_in_vain += 1
        token = os.urandom(frames.PING_BYTES)
        self.round_trips.sent(token, time.monotonic())
        self.outbox.emit(frames.frame(frames.PING, token))
        self.outbox.write()
        self._timer = self._loop.call_later(interval_s, self._tick)


def _id_after(number: int) -> int:
    """The next number of the same parity; they wrap after two thousand million streams."""
    return number + 2 if number <= 0xFFFFFFFD else 2 - number % 2


def _ignore(_channel: Channel) -> None:
    """Default of ``on_closed``."""
