"""When a crashed engine may start again: quickly once, then ever more slowly.

Intuition: one crash is an accident and costs 50 ms; an engine that crashes whenever it starts must
not eat its neighbours' processor. Pure: times are arguments.
"""

from __future__ import annotations

import msgspec

#: Delay before each restart in a row, seconds; the last one repeats.
DELAYS_S = (0.05, 0.5, 2.0, 8.0, 30.0)

#: An engine that stood this long, seconds, has recovered: its next crash is a first one.
STOOD_S = 60.0


class Restarts(msgspec.Struct, frozen=True):
    """``total`` restarts since ``start``, ``in_a_row`` of them without standing ``STOOD_S``."""

    total: int = 0
    in_a_row: int = 0

    def after(self, stood_s: float) -> tuple[Restarts, float]:
        """The count after a crash of an engine that stood ``stood_s``, and the delay, seconds."""
        in_a_row = 0 if stood_s >= STOOD_S else self.in_a_row
        delay_s = DELAYS_S[min(in_a_row, len(DELAYS_S) - 1)]
        return Restarts(self.total + 1, in_a_row + 1), delay_s
