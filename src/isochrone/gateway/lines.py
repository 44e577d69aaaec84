"""A channel as routing sees it: how far it is now, and how near it has been lately.

Two figures of the same pings: the smoothed round trip (``rtt_ms``) tells where to send; the least
one of the last seconds (``floor_ms``) is the network's share of an answer's time. The floor
forgets, so that a path that became longer is not taken for slow software.
"""

from __future__ import annotations

from typing import Final

from isochrone.wire.channel import Channel

FLOOR_SPAN_S: Final = 1.5
"""Half of what the floor remembers: 6 pings at 4 a second, and a change of path shows in 3 s."""

WINDOW_MIN_BYTES: Final = 256 * 1024
WINDOW_MAX_BYTES: Final = 4 * 1024 * 1024
WINDOW_BYTES_PER_MS: Final = 40_000
"""What a peer may send ahead: 40 MB/s times the round trip, so that large answers over long ways
are not held up by credit; the cap bounds what a slow client can make us hold."""


class Line:
    """A channel with the least round trip of the last 1.5-3 s."""

    __slots__ = ("_floor_ms", "_old_floor_ms", "_turned_s", "channel")

    def __init__(self, channel: Channel, now_s: float) -> None:
        self.channel = channel
        self._floor_ms = 0.0
        self._old_floor_ms = 0.0
        self._turned_s = now_s

    @property
    def rtt_ms(self) -> float:
        """The smoothed round trip, 0 before the first measurement."""
        return self.channel.rtt_ms_ewma

    @property
    def floor_ms(self) -> float:
        """The least round trip lately."""
        if self._floor_ms and self._old_floor_ms:
            return min(self._floor_ms, self._old_floor_ms)
        return self._floor_ms or self._old_floor_ms or self.channel.rtt_ms_min

    @property
    def window_bytes(self) -> int:
        """What the other side may send ahead on a stream."""
        wanted = int(self.channel.rtt_ms_ewma * WINDOW_BYTES_PER_MS)
        return min(WINDOW_MAX_BYTES, max(WINDOW_MIN_BYTES, wanted))

    def sample(self, now_s: float) -> None:
        """Look at the newest round trip (called about as often as pings are sent)."""
        rtt_ms = self.channel.rtt_ms_last
        if now_s - self._turned_s > FLOOR_SPAN_S:
            self._turned_s = now_s
            self._old_floor_ms, self._floor_ms = self._floor_ms, rtt_ms
        elif rtt_ms and (not self._floor_ms or rtt_ms < self._floor_ms):
            self._floor_ms = rtt_ms
