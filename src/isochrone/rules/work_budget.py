"""A node's budget for works: less than a hundredth of its time, whoever asks.

Intuition: a bucket of seconds fills by a hundredth of the time that passes and every work empties
it by what it took. It holds three minutes, so that all twelve validators may measure a suspect
again in one watch. A single validator gets one work in a while, so that none can empty the bucket
alone: 5 an hour of at most 5.7 s (the longest work is 8 s at the claim, and a node claims less than
1/√2 of itself) are less than the 36 s that come in.

Cheapest abuse stopped: one validator that orders without end. Cheapest missed: two that order at
the rate allowed keep the bucket low, and the others read ``too_soon``, which proves nothing against
the node and lets its eligibility lapse.

Rules of this file: monotonic seconds come in; a new state is returned, none is changed.
"""

from __future__ import annotations

import msgspec

SHARE = 0.01
"""Of a node's time."""

BUCKET_S = 180.0
"""What it holds, and what a node starts with."""

GAP_S = 720.0
"""Between two works of one validator, by default. Three in a watch of an hour lie 15 min apart."""

ASKERS_MAX = 64
"""Validators remembered; a node keeps channels to sixteen."""


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds left as of ``at_s``, and when each validator's last work began."""

    left_s: float = BUCKET_S
    at_s: float = 0.0
    asked: tuple[tuple[str, float], ...] = ()


def allows(budget: Budget, validator: str, now_s: float, gap_s: float = GAP_S) -> bool:
    """Whether the validator may have a work now."""
    last_s = dict(budget.asked).get(validator)
    waited = last_s is None or now_s - last_s >= gap_s
    return waited and _filled(budget, now_s) > 0


def begun(budget: Budget, validator: str, now_s: float) -> Budget:
    """A work of the validator began."""
    others = [entry for entry in budget.asked if entry[0] != validator]
    asked = (*others[-(ASKERS_MAX - 1) :], (validator, now_s))
    return Budget(left_s=_filled(budget, now_s), at_s=now_s, asked=asked)


def spent(budget: Budget, took_s: float, now_s: float) -> Budget:
    """A work took so long."""
    return Budget(left_s=_filled(budget, now_s) - took_s, at_s=now_s, asked=budget.asked)


def _filled(budget: Budget, now_s: float) -> float:
    return min(BUCKET_S, budget.left_s + SHARE * max(0.0, now_s - budget.at_s))
