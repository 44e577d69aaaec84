"""Which requests may wait here for a replica, how long, and what those are told that may not.

Two kinds of waiting. A service whose replicas are all unreachable just now gets another one within
seconds: ``hold_ms`` of the limits. A service that follows demand and has no replica at all needs a
start: as long as its tenant declared (``scaling.hold``). Both are bounded, in all and for one
service, in number and in kept bytes; a client that hangs up frees its place, or, where its body is
too large to be kept and reading stands still, its place is freed when its time is over.

Rules: residency comes first: replicas where the mask does not admit them are no reason to wait.
When the controller says that no replica can start, nobody is held in vain. ``Retry-After`` follows
from what starts have taken (``rules.scaling.retry``), less the time since requests came in vain.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from isochrone.gateway.config import GatewayLimits
from isochrone.gateway.demand import Demand
from isochrone.gateway.flight import Flight, no_replica
from isochrone.gateway.routes import RoutedService
from isochrone.gateway.traffic import Traffic
from isochrone.rules.scaling.retry import retry_after_s
from isochrone.schema.errors import IsochroneError, Overloaded
from isochrone.schema.routing import Starting


def is_startable(service: RoutedService) -> bool:
    """Whether a request for a service without replicas may come in and bring one."""
    return service.route.starting is not None and not service.replicas


class Holding:
    """The requests that wait. ``hurry()`` is called when one begins to wait for a start."""

    def __init__(self, limits: GatewayLimits, demand: Demand, traffic: Traffic) -> None:
        self.hurry: Callable[[], None] = _nobody
        self._limits = limits
        self._demand = demand
        self._traffic = traffic
        self._held: dict[Flight, int] = {}
        self._by_service: Counter[str] = Counter()
        self._bytes = 0

    def __contains__(self, flight: Flight) -> bool:
        return flight in self._held

    def __len__(self) -> int:
        return len(self._held)

    @property
    def kept_bytes(self) -> int:
        """Bodies of what waits."""
        return self._bytes

    def keep(self, flight: Flight, now_s: float) -> bool:
        """Keep a request for which no replica can be asked now; False when it may not wait."""
        service = flight.service
        if not service.legal:
            self._demand.wanting_s(service.id, now_s)
        wait_s = self._wait_s(service)
        if wait_s <= 0:
            if is_startable(service):
                self.hurry()  # whoever is refused counts, too
            return False
        if not flight.held_from_s:
            if not self._has_room(flight):
                return False
            flight.held_from_s = now_s
            self._traffic.held()
        if now_s >= min(flight.deadline_s, flight.held_from_s + wait_s):
            return False
        if flight not in self._held:
            size_bytes = _size_bytes(flight)
            self._held[flight] = size_bytes
            self._bytes += size_bytes
            self._by_service[service.id] += 1
            self._demand.waits(flight, 1)
            if not service.legal:
                self.hurry()
        return True

    def release(self, flight: Flight, *, sent: bool) -> None:
        """It waits no more: it was ``sent``, or it is over."""
        size_bytes = self._held.pop(flight, None)
        if size_bytes is None:
            return
        self._bytes -= size_bytes
        self._demand.waits(flight, -1)
        self._by_service[flight.service.id] -= 1
        if not self._by_service[flight.service.id]:
            del self._by_service[flight.service.id]
        self._traffic.released(sent=sent)

    def why_not(self, flight: Flight, now_s: float) -> IsochroneError:
        """What a request is told that found no replica at all."""
        service, starting = flight.service, flight.service.route.starting
        if starting is None or not is_startable(service):
            return no_replica(service)
        name = service.route.name
        if starting.why_not:
            return Overloaded(
                f"{name} has no replica and none can start: {starting.why_not}.",
                fix="See `isochrone explain` for what would help.",
                code="no_replica",
            )
        error = Overloaded(
            f"{name} had no request for a while and a replica is starting.",
            fix="Try again after the seconds that Retry-After names.",
            code="starting",
        )
        error.retry_after_s = self._retry_after_s(service.id, starting, now_s)
        return error

    def _retry_after_s(self, service: str, starting: Starting, now_s: float) -> int:
        wanting_s = self._demand.wanting_s(service, now_s)
        return retry_after_s(starting.starts_s, starting.start_s, wanting_s)

    def _wait_s(self, service: RoutedService) -> float:
        """How long a request for the service may wait, from its first moment of waiting."""
        if service.legal:
            return self._limits.hold_ms / 1000
        starting = service.route.starting
        if starting is None or starting.why_not or service.replicas:
            return 0.0
        return starting.hold_s

    def _has_room(self, flight: Flight) -> bool:
        limits = self._limits
        return (
            len(self._held) < limits.held_max
            and self._by_service[flight.service.id] < limits.held_per_service_max
            and self._bytes + _size_bytes(flight) <= limits.held_bytes_max
        )


def _size_bytes(flight: Flight) -> int:
    """What is kept of its body, also of one that is too large to be kept whole."""
    return len(flight.body or b"") + flight.head_bytes


def _nobody() -> None:
    """Before there is somebody to tell."""
