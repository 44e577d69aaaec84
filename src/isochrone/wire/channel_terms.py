"""The terms of a channel: what it grants, who is at its other end, who owns it."""

from __future__ import annotations

from typing import Protocol

import msgspec

from isochrone.schema.errors import IsochroneError
from isochrone.schema.frames import Control
from isochrone.wire import frames
from isochrone.wire.stream import Stream, StreamSink


class ChannelLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What one channel grants. Sizes in bytes, times in seconds.

    ``streams_max``: opened by either side and not over. ``window``: what an acceptor may send
    ahead, unless ``open`` says otherwise. ``stream_backlog_max``: bytes that may wait in one
    stream before another ``write`` resets it; ``channel_backlog_max``: in all of them.
    ``silence_max_s``: pings in vain for that long end the channel. ``greetings_max``: sockets
    of a door that have not been welcomed yet (a whole cell may come back at once after a restart);
    ``channels_max``: those that have.
    """

    streams_max: int = 4096
    window: int = frames.INITIAL_WINDOW
    stream_backlog_max: int = 1024 * 1024
    channel_backlog_max: int = 128 * 1024 * 1024
    write_high_water: int = 256 * 1024
    ping_interval_s: float = 0.25
    silence_max_s: float = 20.0
    greeting_timeout_s: float = 5.0
    greetings_max: int = 1_000
    channels_max: int = 2_000


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """Who is at the other end.

    ``info``: what ``authorise`` returned (acceptor's side), or the Welcome (dialler's side).
    ``host`` is the remote IP address, for logs only.
    """

    role: str
    address: str
    info: object = None
    host: str = ""


class ChannelHandler(Protocol):
    """The owner of a channel."""

    def on_open(self, stream: Stream, header: bytes, body: bytes, ended: bool) -> StreamSink:
        """A stream was opened by the peer with the first (or, if ``ended``, whole) body.

        Returns its sink. May answer at once. When ``ended``, ``on_end`` does not come. Bytes of
        ``body`` count as consumed unless it clears ``stream.auto_credit``.
        """

    def on_control(self, message: Control) -> None:
        """A control message."""

    def on_lost(self, error: IsochroneError) -> None:
        """The channel is gone, for whichever reason; all its streams had ``on_reset`` before."""
