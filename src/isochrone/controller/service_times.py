"""How long answers take besides round trips, as gateways measured it: what placement counts with.

Intuition: an objective is round trip + platform + queue + service. The round trips depend on the
place; the rest is a guess from the model's size (``rules.expected``) until requests were answered,
and then the mean of what gateways saw of each answer up to its first byte.

A queue that is longer than the service itself says that there are too few replicas, not that they
stand at a wrong place: of it, no more than one service time counts. What placement is told changes
only when the measured time has left a quarter around it, so that noise decides nothing.

Rules: pure but for the clock that is given; means fade within ``FORGET_S``, and what a gateway had
summed before we heard of it says no more than the fewest answers do; too few answers say nothing.
What this does not do: tell nodes of different speed apart, or know the tail (a prior).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping

import msgspec

from isochrone.rules.expected import NEVER_US
from isochrone.schema.demand import ServiceDemand

FORGET_S = 600.0
"""Demand of ten minutes: longer than any burst, shorter than a day's change of callers."""

ANSWERS_LEAST = 30
"""Fewer say little: the mean of 30 errs by a fifth of the spread."""

CHANGE = 0.25
LEAST_CHANGE_MS = 0.5
"""What placement is told stays while the measured time is within a quarter and half a millisecond
of it."""

HIGHEST_US = NEVER_US
"""A longer mean is nonsense."""

SERVICES_MAX = 4096
"""Services of which something is remembered; those that were heard of longest ago make room."""


Sums = tuple[float, float, float, float]
"""Answers, and the microseconds of platform, queue and service that they took in all."""


class _Seen(msgspec.Struct):
    """One service: sums that fade, as they were at ``at_s``, and what placement is told."""

    at_s: float
    sums: Sums = (0.0, 0.0, 0.0, 0.0)
    told_ms: float = 0.0

    def add(self, sums: Sums, now_s: float) -> None:
        """Forget a part of what was seen until now, and add what is new."""
        keep = math.exp((self.at_s - now_s) / FORGET_S)
        self.at_s = now_s
        answers, platform_us, queue_us, service_us = self.sums
        self.sums = (
            answers * keep + sums[0],
            platform_us * keep + sums[1],
            queue_us * keep + sums[2],
            service_us * keep + sums[3],
        )

    def mean_ms(self) -> float:
        """Platform, service, and of the queue no more than the service."""
        answers, platform_us, queue_us, service_us = self.sums
        return (platform_us + min(queue_us, service_us) + service_us) / answers / 1000


class ServiceTimes:
    """Learns from every row of every gateway's report; ``expected_ms``: by service, if known."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: dict[str, _Seen] = {}

    def learn(self, row: ServiceDemand, before: ServiceDemand | None) -> None:
        """A gateway's sums, and those that it told before (None: this is the first time)."""
        new = _news(row, before)
        if new is None:
            return
        now_s = self._clock()
        seen = self._seen.get(row.service)
        if seen is None:
            if len(self._seen) >= SERVICES_MAX:
                del self._seen[min(self._seen, key=lambda service: self._seen[service].at_s)]
            seen = self._seen[row.service] = _Seen(now_s)
        seen.add(new, now_s)
        if seen.sums[0] < ANSWERS_LEAST:
            return
        mean_ms = seen.mean_ms()
        if abs(mean_ms - seen.told_ms) > max(LEAST_CHANGE_MS, CHANGE * seen.told_ms):
            seen.told_ms = round(mean_ms, 1)

    @property
    def expected_ms(self) -> Mapping[str, float]:
        """Platform, queue and service, by service; of those of which enough was seen."""
        return {service: seen.told_ms for service, seen in self._seen.items() if seen.told_ms > 0}


def _news(row: ServiceDemand, before: ServiceDemand | None) -> Sums | None:
    """What a gateway's sums grew by; None: nothing, or nothing that can be.

    What was summed before it was first heard of may be of a whole day: it counts as so few answers
    that the next minutes outweigh it.
    """
    old = _sums(before) if before is not None and before.answered <= row.answered else (0, 0, 0, 0)
    answers, *parts_us = (now - then for now, then in zip(_sums(row), old, strict=True))
    if answers <= 0 or not all(0 <= part <= answers * HIGHEST_US for part in parts_us):
        return None
    counted = min(answers, ANSWERS_LEAST) if before is None else answers
    weight = counted / answers
    return float(counted), parts_us[0] * weight, parts_us[1] * weight, parts_us[2] * weight


def _sums(row: ServiceDemand) -> tuple[int, int, int, int]:
    return row.answered, row.platform_us, row.queue_us, row.service_us
