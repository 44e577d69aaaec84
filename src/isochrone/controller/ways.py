"""Round trips between gateways, as they measured them, in what a placement expects of clients.

Gateways hold channels to each other and ping them. A measured pair replaces the atlas's
expectation between the two metros, and a gateway in a city that the atlas has no measurements of
has the expectation of its *whole* row corrected by its few pairs (``atlas.measurements``): how far
it is from clients everywhere, which nobody else ever measures before clients come.

What is told is checked as far as it goes: of two ends' words the slower counts, so that no cell
talks itself nearer to another against that cell's word; a round trip that light could not make
between the two places is dropped. The cheapest lie that this misses: a gateway that declares
a place it is not at. Proof of place is ``rules.location``'s matter.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

from isochrone.atlas.measurements import Measurement, Overlay, overlay
from isochrone.controller.view import World
from isochrone.schema.decision import GatewaySite
from isochrone.schema.place import LIGHT_KM_PER_MS, Place, great_circle_km
from isochrone.schema.plans import GatewayWay

STEP_MS = 0.5
"""Measured round trips are compared in steps: between machines of a metro they wander by tenths of
a millisecond, which nobody feels, and which would decide every tie in favour of the same one."""


def whole_steps(rtt_ms: float) -> float:
    """A measured round trip to the next half of a millisecond."""
    return round(rtt_ms / STEP_MS) * STEP_MS


def ways_of(world: World) -> tuple[GatewayWay, ...]:
    """What this cell's gateways measured to other gateways."""
    return tuple(
        GatewayWay(gateway=presence.gateway, peer=peer, rtt_ms=whole_steps(rtt_ms))
        for presence in world.sight.known
        for peer, rtt_ms in sorted(presence.peers_rtt_ms.items())
        if rtt_ms > 0
    )


def client_rows(
    audience: Sequence[Place], gateways: Sequence[GatewaySite], ways: Iterable[GatewayWay]
) -> tuple[tuple[float, ...], ...]:
    """Expected round trips in milliseconds: a row for each point, a column for each gateway."""
    rows = _overlay(measured_between(gateways, ways)).matrix(
        audience, [gateway.place for gateway in gateways]
    )
    return tuple(tuple(float(ms) for ms in row) for row in rows)


def measured_between(
    gateways: Sequence[GatewaySite], ways: Iterable[GatewayWay]
) -> tuple[Measurement, ...]:
    """The ways between known gateways that can be true, one a pair, in one order."""
    places = {site.gateway: site.place for site in gateways if site.gateway}
    slowest: dict[tuple[str, str], float] = {}
    for way in ways:
        if way.gateway in places and way.peer in places:
            pair = (min(way.gateway, way.peer), max(way.gateway, way.peer))
            slowest[pair] = max(way.rtt_ms, slowest.get(pair, 0.0))
    return tuple(
        Measurement(places[one], places[other], rtt_ms)
        for (one, other), rtt_ms in sorted(slowest.items())
        if rtt_ms > 0 and rtt_ms >= great_circle_km(places[one], places[other]) / LIGHT_KM_PER_MS
    )


@lru_cache(maxsize=8)
def _overlay(measurements: tuple[Measurement, ...]) -> Overlay:
    return overlay(measurements)
