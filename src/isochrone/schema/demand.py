"""What gateways tell of the demand for services, for the controllers that scale them.

Figures are *totals since the gateway process began* (``boot``), not differences: a report that is
lost, repeated or late does no harm, whoever reads takes the newest and subtracts what it had.
"""

from __future__ import annotations

import msgspec

SERVICES_MAX = 256
"""Services in one report, those of the latest requests; about 30 KB."""


class ServiceDemand(msgspec.Struct, frozen=True, array_like=True):
    """One service at one gateway, since the gateway began.

    ``arrivals``: requests that came, also those refused for want of a replica. ``completed``: those
    that were sent to a replica and are over; ``busy_ms``: request-milliseconds on replicas, until
    now. ``late``: began later than ``LATE_S`` after they came, or never did. Now: ``in_flight`` on
    replicas, ``waiting`` for one. ``answered``: requests that got an answer that is no error and of
    which it was measured how long the platform, the queue at the replica and the service itself
    took until the first byte (round trips aside); the sums of these.
    """

    service: str
    arrivals: int
    completed: int
    busy_ms: int
    late: int
    in_flight: int
    waiting: int
    answered: int = 0
    platform_us: int = 0
    queue_us: int = 0
    service_us: int = 0


LATE_S = 1.0
"""A request should begin within it."""


class DemandReport(msgspec.Struct, frozen=True, kw_only=True):
    """What one gateway process saw. The greater ``sequence`` of a ``boot`` is the newer.

    ``services``: those asked for lately; of the others nothing has changed.
    """

    gateway: str
    cell: str
    boot: str
    sequence: int
    services: tuple[ServiceDemand, ...]


def demand_subject(cell: str, gateway: str) -> str:
    """Where a gateway's reports are published."""
    return f"iso.{cell}.demand.{gateway}"
