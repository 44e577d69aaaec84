"""Round trips of one channel, measured by our own pings: a pure book of tokens and instants.

A token is random and known to nobody else before the peer has received it, so a peer cannot seem
nearer than it is by answering early; it can only seem farther, by answering late.
"""

from __future__ import annotations

from typing import Final

# Pings whose answer we still wait for; more than that are not late but lost.
_PINGS_MAX: Final = 64
# Weight of a new round trip in the moving average, as in TCP (RFC 6298).
_WEIGHT: Final = 0.125


class RoundTrips:
    """``min_ms``, ``ewma_ms`` and ``last_ms`` are 0.0 before the first answer."""

    __slots__ = ("_sent_s", "ewma_ms", "last_ms", "min_ms")

    def __init__(self) -> None:
        self.min_ms = 0.0
        self.ewma_ms = 0.0
        self.last_ms = 0.0
        self._sent_s: dict[bytes, float] = {}

    def sent(self, token: bytes, now_s: float) -> None:
        """A ping leaves now."""
        if len(self._sent_s) >= _PINGS_MAX:
            del self._sent_s[next(iter(self._sent_s))]
        self._sent_s[token] = now_s

    def answered(self, token: bytes, now_s: float) -> bool:
        """Its answer came now; False for a token that nobody waits for."""
        sent_s = self._sent_s.pop(token, None)
        if sent_s is None:
            return False
        rtt_ms = (now_s - sent_s) * 1000.0
        first = self.last_ms == 0.0
        self.last_ms = rtt_ms
        self.min_ms = rtt_ms if first else min(self.min_ms, rtt_ms)
        self.ewma_ms = rtt_ms if first else self.ewma_ms + _WEIGHT * (rtt_ms - self.ewma_ms)
        return True
