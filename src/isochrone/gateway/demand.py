"""What is asked of each service at this gateway, counted for the controllers that scale it.

Intuition: arrivals, and the time that requests keep replicas busy, say how many are needed;
requests that wait for one say that there are too few. Sums since the process began are told, so
that no lost message loses a request (``schema.demand``).

Rules: no I/O, no clock of its own; a handful of additions a request. Every request that was
``arrived`` is ``ended`` once. Requests that are refused for want of a replica count as arrivals:
they are what brings one. What it does not count: requests of keys that may not ask, and tries.
"""

from __future__ import annotations

from typing import Final

from isochrone.gateway.answers import Timing
from isochrone.gateway.flight import Flight
from isochrone.schema.demand import LATE_S, SERVICES_MAX, ServiceDemand

TOLD_S: Final = 60.0
"""A service is told of until so long after its last request: by then every controller has heard."""

KEPT_MAX: Final = 4 * SERVICES_MAX
"""Services that are counted; beyond, those that nobody asks for are forgotten."""


class _Counts:
    """One service's sums; ``began_sum_s``: of the instants at which what is in flight began."""

    __slots__ = (
        "answered",
        "arrivals",
        "began_sum_s",
        "busy_s",
        "completed",
        "in_flight",
        "last_s",
        "late",
        "platform_ms",
        "queue_ms",
        "service_ms",
        "waiting",
        "wanting_since_s",
    )

    def __init__(self) -> None:
        self.arrivals = self.completed = self.late = self.in_flight = self.waiting = 0
        self.busy_s = self.began_sum_s = self.last_s = self.wanting_since_s = 0.0
        self.answered = 0
        self.platform_ms = self.queue_ms = self.service_ms = 0.0


class Demand:
    """The sums of every service that was asked for. Instants are monotonic seconds."""

    def __init__(self) -> None:
        self._counts: dict[str, _Counts] = {}

    def arrived(self, flight: Flight, now_s: float) -> None:
        """A request came."""
        counts = self._counts.get(flight.service.id)
        if counts is None:
            self._make_room()
            counts = self._counts[flight.service.id] = _Counts()
        counts.arrivals += 1
        counts.last_s = now_s
        flight.counted = True

    def began(self, flight: Flight, now_s: float) -> None:
        """It was sent to a replica, for the first time."""
        if not flight.counted:
            return
        counts = self._counts[flight.service.id]
        flight.began_s = now_s
        counts.in_flight += 1
        counts.began_sum_s += now_s
        counts.wanting_since_s = 0.0
        if now_s - flight.started_s - flight.waited_s > LATE_S:
            counts.late += 1

    def answered(self, flight: Flight, timing: Timing) -> None:
        """Its answer began, and these are its times."""
        if flight.counted:
            counts = self._counts[flight.service.id]
            counts.answered += 1
            counts.platform_ms += timing.overhead_ms
            counts.queue_ms += timing.queue_ms
            counts.service_ms += timing.engine_ms

    def ended(self, flight: Flight, now_s: float) -> None:
        """It is over, however."""
        if not flight.counted:
            return
        counts = self._counts[flight.service.id]
        counts.last_s = now_s
        if not flight.began_s:
            counts.late += 1
            return
        counts.in_flight -= 1
        counts.completed += 1
        counts.busy_s += now_s - flight.began_s
        counts.began_sum_s -= flight.began_s
        if not counts.in_flight:
            counts.began_sum_s = 0.0  # no rounding stays

    def waits(self, flight: Flight, by: int) -> None:
        """One more (``by`` 1) or one less (-1) waits for a replica."""
        if flight.counted:
            self._counts[flight.service.id].waiting += by

    def wanting_s(self, service: str, now_s: float) -> float:
        """For how long requests have come in vain; from the first call on, until one is sent."""
        counts = self._counts.get(service)
        if counts is None:
            return 0.0
        if not counts.wanting_since_s:
            counts.wanting_since_s = now_s
        return now_s - counts.wanting_since_s

    def rows(self, now_s: float) -> tuple[ServiceDemand, ...]:
        """The services of which something may have changed, those of the latest requests."""
        lively = [
            (counts.last_s, service)
            for service, counts in self._counts.items()
            if counts.in_flight or counts.waiting or now_s - counts.last_s < TOLD_S
        ]
        return tuple(
            self._row(service, now_s) for _, service in sorted(lively, reverse=True)[:SERVICES_MAX]
        )

    def _row(self, service: str, now_s: float) -> ServiceDemand:
        counts = self._counts[service]
        busy_s = counts.busy_s + counts.in_flight * now_s - counts.began_sum_s
        return ServiceDemand(
            service,
            counts.arrivals,
            counts.completed,
            round(busy_s * 1000),
            counts.late,
            counts.in_flight,
            counts.waiting,
            counts.answered,
            round(counts.platform_ms * 1000),
            round(counts.queue_ms * 1000),
            round(counts.service_ms * 1000),
        )

    def _make_room(self) -> None:
        if len(self._counts) < KEPT_MAX:
            return
        for service, counts in sorted(self._counts.items(), key=lambda row: row[1].last_s):
            if not counts.in_flight and not counts.waiting:
                del self._counts[service]
                return
