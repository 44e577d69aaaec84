"""What a channel does with each kind of frame that the peer sends.

Frames for a stream that is over are dropped in silence: the peer could not know yet. A frame that
breaks a stream's rules resets that stream; one that breaks the channel's raises InvalidInput, and
the channel closes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from isochrone.schema.digests import UNREADABLE
from isochrone.schema.errors import InvalidInput, IsochroneError, TheirFault, Unavailable
from isochrone.schema.frames import Control, unpack_control
from isochrone.wire import frames
from isochrone.wire.stream import Stream, StreamSink

if TYPE_CHECKING:
    from isochrone.wire.channel import Channel


def _open(channel: Channel, flags: int, number: int, payload: bytes) -> None:
    window, header, body = frames.read_open(payload)
    stream = channel.accept(number, header, window)
    if stream is None:
        return
    ended = flags == frames.FLAG_END
    stream.received_end = ended
    stream.received(len(body))
    try:
        sink = channel.handler.on_open(stream, header, body, ended)
    except Exception as error:
        channel.sink_failed(stream, error)
        return
    if not stream.dead:  # answered at once, as a rule: then nothing more comes for anybody
        stream.sink = sink
        stream.delivered(len(body))


def _head(channel: Channel, flags: int, number: int, payload: bytes) -> None:
    stream = channel.streams.get(number)
    if stream is None:
        return
    header, body, trailer = frames.read_head(payload)
    if not stream.head_came() or not stream.received(len(body)):
        channel.reject(stream, "bad_frame", "A head came where none may.")
        return
    try:
        stream.sink.on_head(header)
        if body and not stream.dead:
            stream.sink.on_data(body)
            stream.delivered(len(body))
        if flags and not stream.dead:
            stream.ended().on_end(trailer)
    except Exception as error:
        channel.sink_failed(stream, error)


def _data(channel: Channel, flags: int, number: int, payload: bytes) -> None:
    stream = channel.streams.get(number)
    if stream is None:
        return
    body, trailer = frames.read_last_data(payload) if flags else (payload, b"")
    if not stream.received(len(body)):
        channel.reject(stream, "flow_control", "More data came than the window allows.")
        return
    try:
        if body:
            stream.sink.on_data(body)
            stream.delivered(len(body))
        if flags and not stream.dead:
            stream.ended().on_end(trailer)
    except Exception as error:
        channel.sink_failed(stream, error)


def _end(channel: Channel, _flags: int, number: int, payload: bytes) -> None:
    stream = channel.streams.get(number)
    if stream is None:
        return
    if not stream.received(0):
        channel.reject(stream, "bad_frame", "An end came where none may.")
        return
    channel.guard(stream, stream.ended().on_end, payload)


def _reset(channel: Channel, _flags: int, number: int, payload: bytes) -> None:
    code, message = frames.read_reset(payload)
    if number == 0:
        channel.counters["goodbye"] += 1
        channel.end(Unavailable(message or f"The other side closed ({code}).", code=code))
        return
    stream = channel.streams.get(number)
    if stream is not None:
        channel.guard(stream, stream.bury().on_reset, code, message)


def _window(channel: Channel, _flags: int, number: int, payload: bytes) -> None:
    credit = frames.read_window(payload)
    stream = channel.streams.get(number)
    if stream is not None and not stream.credited(credit):
        channel.reject(stream, "flow_control", "The window grew beyond all measure.")


def _control(channel: Channel, _flags: int, _number: int, payload: bytes) -> None:
    try:
        message = unpack_control(payload)
    except UNREADABLE as error:
        raise InvalidInput(f"A control message: {error}.", code="bad_frame") from None
    try:
        channel.handler.on_control(message)
    except TheirFault:
        raise
    except Exception as error:
        channel.handler_failed(error)


def _greeting(channel: Channel, _flags: int, _number: int, _payload: bytes) -> None:
    raise InvalidInput("A greeting came after the greeting.", code="bad_frame")


def _ping(channel: Channel, _flags: int, _number: int, payload: bytes) -> None:
    channel.outbox.emit(frames.frame(frames.PONG, payload))


def _pong(channel: Channel, _flags: int, _number: int, payload: bytes) -> None:
    if not channel.round_trips.answered(payload, channel.last_heard):
        channel.counters["unasked_pong"] += 1


class _Nobody:
    """Handler of a channel whose owner is not known yet."""

    def on_open(self, stream: Stream, header: bytes, body: bytes, ended: bool) -> StreamSink:
        """Nobody is at home."""
        raise Unavailable("The channel has no owner yet.")

    def on_control(self, message: Control) -> None:
        """Nothing."""

    def on_lost(self, error: IsochroneError) -> None:
        """Nothing."""


NOBODY: Final = _Nobody()

_Action = Callable[["Channel", int, int, bytes], None]
DISPATCH: Final[tuple[_Action, ...]] = (
    _greeting,
    _greeting,
    _greeting,
    _greeting,
    _greeting,
    _ping,
    _pong,
    _control,
    _open,
    _head,
    _data,
    _end,
    _reset,
    _window,
)
"""Indexed by kind; the reader lets no other kind through."""
