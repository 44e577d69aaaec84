"""What is counted about requests: one place, called once an event."""

from __future__ import annotations

from isochrone.gateway.answers import Timing
from isochrone.gateway.flight import Flight
from isochrone.gateway.metrics import Registry
from isochrone.gateway.try_log import TryLog
from isochrone.schema.errors import IsochroneError


class Traffic:
    """Request metrics. ``answered_total`` and ``failed_total`` since the start."""

    def __init__(self, registry: Registry, tries: TryLog | None = None) -> None:
        self._tries = tries
        self._requests = registry.counter(
            "isochrone_requests_total", "Requests by service and HTTP status.", ("service", "code")
        )
        self._latency = registry.histogram(
            "isochrone_request_ms", "First byte of request to first of answer, ms.", ("service",)
        )
        self._overhead = registry.histogram(
            "isochrone_overhead_ms", "Platform time without network, queue and engine, ms."
        )
        self._refused = registry.counter(
            "isochrone_refused_total", "Requests refused before a service was found.", ("code",)
        )
        self._failures = registry.counter(
            "isochrone_failures_total", "Requests of a service that failed, by reason.", ("code",)
        )
        self._retries = registry.counter(
            "isochrone_retries_total", "Requests sent to another replica, by reason.", ("code",)
        )
        self._hedges = registry.counter("isochrone_hedges_total", "Second copies sent.")
        self._held = registry.counter("isochrone_held_total", "Requests that waited for a replica.")
        self._released = registry.counter(
            "isochrone_held_released_total", "Requests that waited for a replica and were sent."
        )
        self._expired = registry.counter(
            "isochrone_held_expired_total", "Requests that waited for a replica in vain."
        )
        self._cut = registry.counter("isochrone_cut_total", "Started answers that broke off.")
        self._cancelled = registry.counter(
            "isochrone_cancelled_total", "Requests whose client hung up."
        )
        self.answered_total = 0
        self.failed_total = 0

    def answered(self, flight: Flight, status: int, total_ms: float, timing: Timing | None) -> None:
        """An answer began."""
        service = flight.service.id
        self.answered_total += 1
        self._requests.add((service, str(status)))
        self._latency.observe(total_ms, (service,))
        if timing is not None:
            self._overhead.observe(timing.overhead_ms)

    def failed(self, flight: Flight, error: IsochroneError, total_ms: float) -> None:
        """A request of a service failed."""
        service = flight.service.id
        self.failed_total += 1
        self._requests.add((service, str(error.status)))
        self._latency.observe(total_ms, (service,))
        self._failures.add((error.code,))

    def refused(self, code: str) -> None:
        """A request was refused before it became one of a service."""
        self._refused.add((code,))

    def retried(self, code: str) -> None:
        """A request went to another replica because of ``code``."""
        self._retries.add((code,))

    def lost_try(self, flight: Flight, node: str, code: str, age_s: float) -> None:
        """A copy of a request did not become its answer; it was sent ``age_s`` ago."""
        if self._tries is not None:
            self._tries.add(flight.request_id, node, code, age_s)

    def hedged(self) -> None:
        """A second copy was sent."""
        self._hedges.add()

    def held(self) -> None:
        """A request waits for a replica."""
        self._held.add()

    def released(self, *, sent: bool) -> None:
        """A request waits no more: it was sent, or its time or its client is gone."""
        (self._released if sent else self._expired).add()

    def cut(self) -> None:
        """A started answer broke off."""
        self._cut.add()

    def cancelled(self) -> None:
        """A client hung up."""
        self._cancelled.add()
