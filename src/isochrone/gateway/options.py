"""One way to one replica, as ranking and sending need it, at this moment.

Made anew for every request, since load, distance and suspicion change with each; whether the
masks admit it has been asked before (``Fleet.options``). What it does not do: decide or send.
"""

from __future__ import annotations

from typing import Final

from isochrone.gateway.known import KnownNode
from isochrone.gateway.lines import Line
from isochrone.gateway.loads import Load
from isochrone.rules.routing import RouteCandidate
from isochrone.schema.routing import ReplicaRoute
from isochrone.wire.channel import Channel

CONCURRENCY: Final = 1
"""Requests that a replica works on at once, as far as a gateway knows (one worker)."""


class Option(RouteCandidate, frozen=True, kw_only=True, eq=False):
    """One way to one replica: what ranking looks at, and what sending needs.

    ``rtt_ms``: smoothed round trip, through a relay both hops. ``via``: the channel's line.
    """

    replica: ReplicaRoute
    known: KnownNode
    via: Line
    relay: bool
    load: Load

    @property
    def channel(self) -> Channel:
        """Where to open the stream."""
        return self.via.channel

    @property
    def floor_ms(self) -> float:
        """The least round trip of that channel lately."""
        return self.via.floor_ms

    @property
    def beyond_ms(self) -> float:
        """The round trip beyond that channel, as the relaying gateway told it."""
        return max(0.0, self.rtt_ms - self.via.rtt_ms) if self.relay else 0.0


def as_routed(known: KnownNode, replica: ReplicaRoute) -> bool:
    """Whether a node's grant says what the routing table does."""
    return known.country == replica.place.country and known.provider == replica.provider


def option_of(
    replica: ReplicaRoute,
    known: KnownNode,
    via: Line,
    relay: bool,
    rtt_ms: float,
    load: Load,
    suspect: bool,
) -> Option:
    """The way to ``replica`` on ``known`` over ``via``; ``rtt_ms``: all of it."""
    return Option(
        lease=replica.lease,
        node=replica.node,
        provider=replica.provider,
        legal=True,  # only legal replicas come here: see Fleet.options
        rtt_ms=rtt_ms,
        in_flight=load.in_flight + known.foreign,
        concurrency=CONCURRENCY,
        service_ms=load.service_ms,
        deviation_ms=load.deviation_ms,
        suspect=suspect,
        replica=replica,
        known=known,
        via=via,
        relay=relay,
        load=load,
    )
