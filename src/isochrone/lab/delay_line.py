"""One direction of an emulated connection: bytes go in, and are due a fixed delay later, in order.

Think of a pipe with a given length. What enters leaves at the other end after ``delay_s``; nothing
overtakes; when the length changes, what is inside keeps its order (a shorter pipe cannot make a
later byte arrive before an earlier one). The end of the stream and a reset travel through the same
pipe as bytes do. A *held* pipe (a partition) lets nothing out; when it is released, everything in
it sets out anew, as TCP's retransmissions would.

Pure: no sockets, no clock; ``now_s`` is any monotonic clock in seconds. The limit on bytes inside
is the caller's to obey: it stops reading from its socket while the line is ``full``.
"""

from __future__ import annotations

import math
from collections import deque
from enum import Enum
from typing import NamedTuple


class Signal(Enum):
    """What travels besides bytes: the sender's end of stream, or its reset."""

    END = "end"
    RESET = "reset"


class Parcel(NamedTuple):
    """Something under way and when it is due at the far end."""

    due_s: float
    content: bytes | Signal


class DelayLine:
    """A FIFO of parcels, each due ``delay_s`` after it entered and never before its predecessor.

    ``window_bytes``: above this many bytes inside, ``full`` is true (at least 1).
    ``bytes_per_s``: the speed at which bytes enter the line, or None for no limit.
    """

    __slots__ = (
        "_busy_until_s",
        "_last_due_s",
        "_parcels",
        "bytes_per_s",
        "delay_s",
        "held",
        "in_flight_bytes",
        "open_s",
        "window_bytes",
    )

    def __init__(self, delay_s: float, window_bytes: int, bytes_per_s: float | None = None) -> None:
        self.delay_s = delay_s
        self.window_bytes = window_bytes
        self.bytes_per_s = bytes_per_s
        self.held = False
        self.in_flight_bytes = 0
        self.open_s = -math.inf
        """Nothing sets out before this moment: the end of the connection's handshake."""
        self._parcels: deque[Parcel] = deque()
        self._last_due_s = -math.inf
        self._busy_until_s = -math.inf

    def push(self, content: bytes | Signal, arrived_s: float) -> None:
        """Let ``content``, which came at ``arrived_s``, set out."""
        start_s = max(arrived_s, self.open_s)
        if isinstance(content, bytes):
            self.in_flight_bytes += len(content)
            if self.bytes_per_s is not None:
                start_s = max(start_s, self._busy_until_s) + len(content) / self.bytes_per_s
                self._busy_until_s = start_s
        due_s = max(start_s + self.delay_s, self._last_due_s)
        self._last_due_s = due_s
        self._parcels.append(Parcel(due_s, content))

    def pop_due(self, now_s: float) -> Parcel | None:
        """The next parcel that is due, or None."""
        if self.held or not self._parcels or self._parcels[0].due_s > now_s:
            return None
        parcel = self._parcels.popleft()
        if isinstance(parcel.content, bytes):
            self.in_flight_bytes -= len(parcel.content)
        return parcel

    @property
    def next_due_s(self) -> float | None:
        """When to come back for more; None while nothing can become due."""
        return None if self.held or not self._parcels else self._parcels[0].due_s

    @property
    def full(self) -> bool:
        """Whether the sender must wait."""
        return self.in_flight_bytes >= self.window_bytes

    @property
    def half_empty(self) -> bool:
        """Whether a sender that waited may go on (not at once at the limit: that would flutter)."""
        return self.in_flight_bytes * 2 <= self.window_bytes

    def hold(self) -> None:
        """Let nothing out until ``release``."""
        self.held = True

    def release(self, now_s: float) -> None:
        """End a hold: everything inside sets out again at ``now_s``, in its order."""
        self.held = False
        earliest_s = max(now_s, self.open_s) + self.delay_s
        self._parcels = deque(
            Parcel(max(parcel.due_s, earliest_s), parcel.content) for parcel in self._parcels
        )
        self._last_due_s = self._parcels[-1].due_s if self._parcels else earliest_s

    def clear(self) -> None:
        """Forget everything inside: the connection is gone."""
        self._parcels.clear()
        self.in_flight_bytes = 0
