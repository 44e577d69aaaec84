"""The multiplexed channel: many streams and control messages over one TLS connection.

A stream is one request and its answer: OPEN (header, body) → HEAD (header, body) → END (trailer).
Small ones are one frame each way. Frames of one loop iteration leave in one write. Flow control
is per stream (``WINDOW`` frames grant credit as data is consumed).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Protocol

import msgspec

from isochrone.schema.errors import IsochroneError
from isochrone.schema.frames import Control


class ChannelLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What one channel grants. Sizes in bytes, times in seconds."""

    streams_max: int = 4096
    window: int = 256 * 1024
    stream_backlog_max: int = 1024 * 1024
    channel_backlog_max: int = 64 * 1024 * 1024
    write_high_water: int = 256 * 1024
    ping_interval_s: float = 0.25
    silence_max_s: float = 20.0
    greeting_timeout_s: float = 5.0
    channels_max: int = 2_000


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """Who is at the other end. ``info``: what ``authorise`` returned (acceptor's side), or the
    Welcome (dialler's side). ``host`` is the remote IP address, for logs only."""

    role: str
    address: str
    info: object = None
    host: str = ""


class StreamSink(Protocol):
    """Receives one stream's other direction.

    Exactly one of ``on_end`` and ``on_reset`` comes, last. ``on_head`` never comes at the
    accepting side (its header came with ``on_open``).
    """

    def on_head(self, header: bytes) -> None:
        """The answer's header (packed AnswerHeader)."""

    def on_data(self, data: bytes) -> None:
        """A piece of the body."""

    def on_end(self, trailer: bytes) -> None:
        """The other side's direction is complete; ``trailer`` may be empty."""

    def on_reset(self, code: str, message: str) -> None:
        """The stream is dead (peer's reset, ``channel_lost``, …). Nothing more may be sent."""

    def on_writable(self) -> None:
        """A ``write`` that returned False may continue."""


class Stream:
    """One request and its answer, from either side. ``id`` is unique on the channel while open."""

    id: int
    header: bytes
    sink: StreamSink
    auto_credit: bool

    def answer(
        self, header: bytes, body: bytes = b"", *, end: bool = False, trailer: bytes = b""
    ) -> None:
        """Acceptor only, once: the HEAD; with ``end`` the whole answer (one frame if small)."""
        raise NotImplementedError

    def write(self, data: bytes) -> bool:
        """Send a piece of the body. False: window or transport full; wait for ``on_writable``.

        The data is kept (up to ``stream_backlog_max`` beyond a False); a writer that goes on
        regardless has its stream reset with ``overloaded``. Ignored after finish or reset.
        """
        raise NotImplementedError

    def finish(self, trailer: bytes = b"") -> None:
        """End our direction."""
        raise NotImplementedError

    def reset(self, code: str, message: str = "") -> None:
        """Kill the stream at both ends (cancellation); no callback comes any more here."""
        raise NotImplementedError

    def consumed(self, size: int) -> None:
        """Grant credit for ``size`` received bytes; only needed when ``auto_credit`` is False."""
        raise NotImplementedError

    def pause(self) -> None:
        """Hold back credit for what is delivered from now on (what is in flight still comes)."""
        raise NotImplementedError

    def resume(self) -> None:
        """Grant the credit held back by ``pause``."""
        raise NotImplementedError

    def widen(self, window: int) -> None:
        """Raise our receive window to ``window`` bytes (big transfers on long links)."""
        raise NotImplementedError


class ChannelHandler(Protocol):
    """The owner of a channel."""

    def on_open(self, stream: Stream, header: bytes, body: bytes, ended: bool) -> StreamSink:
        """A stream was opened by the peer with the first (or, if ``ended``, whole) body.

        Returns its sink. May answer at once. When ``ended``, ``on_end`` does not come.
        """

    def on_control(self, message: Control) -> None:
        """A control message."""

    def on_lost(self, error: IsochroneError) -> None:
        """The channel is gone, for whichever reason; all its streams had ``on_reset`` before."""


class Channel:
    """One connection to a peer; made by ``greeting.listen`` and ``greeting.dial`` only.

    ``rtt_ms_*`` are measured by our own PINGs (0.0 before the first answer); ``last_heard`` is
    ``loop.time()`` of the last bytes received; ``counters`` counts frames, bytes and refusals.
    """

    peer: Peer
    rtt_ms_min: float
    rtt_ms_ewma: float
    rtt_ms_last: float
    last_heard: float
    counters: Counter[str]

    @property
    def streams_open(self) -> int:
        """Streams open now, both sides' together."""
        raise NotImplementedError

    @property
    def closed(self) -> bool:
        """Whether nothing can be sent any more."""
        raise NotImplementedError

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

        ``window``: bytes the peer may send ahead of consumption; 0 = the limit's default.
        Raises Unavailable (channel closed) or Overloaded (``streams_max``).
        """
        raise NotImplementedError

    def send_control(self, message: Control) -> bool:
        """Send a control message; False when the transport is full (sent nevertheless)."""
        raise NotImplementedError

    def close(self, code: str, message: str = "") -> None:
        """Say why, flush, close. ``on_lost`` comes with that code."""
        raise NotImplementedError

    def snapshot(self) -> Mapping[str, float]:
        """Facts for status pages: streams, backlog bytes, round trips, counters."""
        raise NotImplementedError
