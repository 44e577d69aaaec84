"""The nodes and gateways that this one can reach, and what it believes of them.

A node is reached by its own channel to us, else through a gateway that has one (a relay, one hop).
Beats over a channel, and digests on the fabric for nodes elsewhere, feed the failure detector; the
requests themselves feed each replica's ``Load``. ``options`` is the only way to a replica: it gives
the admitted ones in the order of ``rules.routing``, and nothing else is ever asked.

Rules: the mask is applied to where the node is *and* to where a relay is, for the service and for
the key. A node whose grant names another country or provider than the routing table is not asked:
what is proven of it was judged by those. When most
nodes fall silent together it is our own view that is in doubt, and nobody is taken for dead.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from isochrone.gateway.flight import Flight, may_try
from isochrone.gateway.known import Asked, KnownNode, KnownPeer, Sighting
from isochrone.gateway.lines import Line
from isochrone.gateway.loads import Load
from isochrone.gateway.options import Option, as_routed, option_of
from isochrone.gateway.places import Places
from isochrone.gateway.routes import RouteBook
from isochrone.rules import health
from isochrone.rules.health import SILENCE_MAX_S
from isochrone.rules.routing import rank
from isochrone.schema.frames import AnswerTrailer, Beat
from isochrone.schema.node import NodeGrant
from isochrone.schema.place import NOWHERE, Whereabouts
from isochrone.schema.routing import GatewayPresence, ReplicaRoute
from isochrone.wire.channel import Channel

DIGEST_FRESH_S: Final = 1.0
"""A digest older than this (four are missed) says nothing about now: the fabric is away."""

OWN_STALL_S: Final = 0.3
"""Sweeps come every 10-50 ms while requests are in flight; a longer gap is an idle gateway or a
stall of ours."""

LOAD_IDLE_S: Final = 600.0
"""A replica's load is forgotten that long after its last use."""

REVIEW_SLOW_S: Final = 1.0
"""How often replicas are compared with their peers."""


class Fleet:
    """All known nodes, peers and replica loads. ``doubtful``: we doubt our own view."""

    def __init__(self, book: RouteBook) -> None:
        self.nodes: dict[str, KnownNode] = {}
        self.peers: dict[str, KnownPeer] = {}
        self.doubtful = False
        self.ejections = 0
        self._book = book
        self._loads: dict[str, Load] = {}
        self._busy: dict[str, KnownNode] = {}
        self._reviewed_slow_s = 0.0
        self._judged_s = 0.0

    # -- who is there ------------------------------------------------------------------------------

    def node(self, address: str, now_s: float) -> KnownNode:
        """The node, made known if it was not."""
        known = self.nodes.get(address)
        if known is None:
            known = self.nodes[address] = KnownNode(address, now_s)
        return known

    def node_joined(
        self,
        address: str,
        provider: str,
        grant: NodeGrant,
        packed: bytes,
        channel: Channel,
        now_s: float,
    ) -> KnownNode:
        """A node opened a channel; an older one of the same node is closed."""
        known = self.node(address, now_s)
        old = known.line
        known.provider, known.place = provider, grant.place
        known.country = grant.place.country
        known.grant, known.packed = grant, packed
        known.line = Line(channel, now_s)
        known.live(health.ChannelOpened(), now_s)
        known.introduced, known.beat, known.statuses = None, None, {}
        if old is not None:
            old.channel.close("replaced", "The node opened a newer channel.")
        return known

    def node_left(self, address: str, channel: Channel, now_s: float) -> None:
        """A node's channel is gone."""
        known = self.nodes.get(address)
        if known is None or known.line is None or known.line.channel is not channel:
            return
        known.line = None
        known.introduced, known.beat, known.statuses = None, None, {}
        known.live(health.ChannelLost(), now_s)
        if not known.via:
            del self.nodes[address]

    def beat(self, address: str, beat: Beat, now_s: float) -> None:
        """A beat came over a node's channel."""
        known = self.nodes.get(address)
        if known is None or known.line is None:
            return
        known.beat = beat
        known.statuses = {status.lease: status for status in beat.leases}
        known.foreign = max(0, beat.in_flight - len(known.tries))
        known.live(health.Beat(), now_s)

    def digest(self, presence: GatewayPresence, now_s: float) -> None:
        """Another gateway told which nodes it sees."""
        seen = set()
        for entry in presence.nodes:
            seen.add(entry.node)
            known = self.node(entry.node, now_s)
            known.via[presence.gateway] = Sighting(entry, now_s)
            if known.line is None:
                known.foreign = entry.in_flight
        for address, known in list(self.nodes.items()):
            if address not in seen and known.via.pop(presence.gateway, None) is not None:
                self._forget_unseen(known)

    def gateway_forgotten(self, gateway: str) -> None:
        """A gateway has not been heard for long: nothing goes through it."""
        for known in list(self.nodes.values()):
            if known.via.pop(gateway, None) is not None:
                self._forget_unseen(known)

    def peer_joined(self, peer: KnownPeer) -> None:
        """A channel to another gateway is open."""
        self.peers[peer.address] = peer

    def peer_left(self, address: str, channel: Channel) -> None:
        """It is gone."""
        peer = self.peers.get(address)
        if peer is not None and peer.line.channel is channel:
            del self.peers[address]

    @property
    def places(self) -> Places:
        """Where nodes and gateways are, as this gateway believes it."""
        return self._book.places

    def where(self, peer: KnownPeer) -> Whereabouts:
        """Where a gateway is that we hold a channel to."""
        return self.places.gateway(peer.address, peer.place.country)

    def where_node(self, address: str) -> Whereabouts:
        """Where a node is that has a channel to us, by its grant and what was proven of it."""
        known = self.nodes.get(address)
        if known is None or known.place is None:
            return NOWHERE
        return self.places.node(address, known.place.country, known.provider)

    def load(self, lease: str, now_s: float) -> Load:
        """What is known of a replica by having used it."""
        load = self._loads.get(lease)
        if load is None:
            load = self._loads[lease] = Load(now_s)
        return load

    @property
    def loads(self) -> Mapping[str, Load]:
        """By lease."""
        return self._loads

    # -- ways to replicas --------------------------------------------------------------------------

    def options(self, flight: Flight, now_s: float) -> list[Option]:
        """The replicas that may be asked now, best first; of the newest table, since a request
        may wait for a replica that is placed meanwhile."""
        service = self._book.services.get(flight.service.id)
        if service is None:  # deleted or dropped meanwhile: what the request knew holds no more
            return []
        flight.service = service
        if not service.here_legal:
            return []
        caller = flight.caller
        found = []
        for replica in service.legal:
            if caller.admits(service.where[replica.lease]):
                option = self._option(flight, replica, now_s)
                if option is not None:
                    found.append(option)
        if flight.only:
            found = [option for option in found if option.node == flight.only]
        if not flight.tried:
            return found if len(found) < 2 else [found[i] for i in rank(found, flight.number)]
        busy = {attempt.option.node for attempt in flight.live}
        others = any(option.node not in flight.tried for option in found)
        ranked = [found[index] for index in rank(found, flight.number)]
        return [
            option
            for option in ranked
            if option.node not in busy and may_try(flight, option.node, now_s, others=others)
        ]

    def choices(self, flight: Flight, now_s: float) -> list[str]:
        """The nodes of replicas that are well and would be asked over their own channels, in
        order."""
        options = self.options(flight, now_s)
        return [option.node for option in options if not (option.relay or option.suspect)]

    def _option(self, flight: Flight, replica: ReplicaRoute, now_s: float) -> Option | None:
        known = self.nodes.get(replica.node)
        if known is None:
            return None
        load = self.load(replica.lease, now_s)
        if load.barred:
            return None
        suspect = load.suspect(now_s) or (not self.doubtful and self.silent(known, now_s))
        line = known.line
        if line is not None:
            if not as_routed(known, replica):
                return None
            status = known.statuses.get(replica.lease)
            if status is None:
                suspect = suspect or known.beat is not None
            elif status.state != "serving":
                suspect = True
            return option_of(replica, known, line, False, line.rtt_ms, load, suspect)
        way = self._relay(flight, known, now_s)
        if way is None:
            return None
        peer, sighting = way
        rtt_ms = peer.line.rtt_ms + sighting.presence.rtt_ms
        return option_of(replica, known, peer.line, True, rtt_ms, load, suspect)

    def _relay(
        self, flight: Flight, known: KnownNode, now_s: float
    ) -> tuple[KnownPeer, Sighting] | None:
        """The nearest admitted gateway that sees the node now."""
        best: tuple[KnownPeer, Sighting] | None = None
        best_ms = 0.0
        for gateway, sighting in known.via.items():
            peer = self.peers.get(gateway)
            if peer is None or not peer.there(now_s):
                continue
            where = self.where(peer)
            if not (flight.service.admits(where) and flight.caller.admits(where)):
                continue
            way_ms = peer.line.rtt_ms + sighting.presence.rtt_ms
            if best is None or way_ms < best_ms:
                best, best_ms = (peer, sighting), way_ms
        return best

    # -- what became of them -----------------------------------------------------------------------

    def asked(self, option: Option, attempt: Asked, now_s: float) -> None:
        """A stream was opened."""
        option.load.asked(now_s)
        known = option.known
        if not known.tries:
            self._busy[known.address] = known
        known.tries[attempt] = None

    def done(self, option: Option, attempt: Asked) -> None:
        """A try is over, however it ended."""
        tries = option.known.tries
        if attempt in tries:
            del tries[attempt]
            option.load.in_flight -= 1
            if not tries:
                self._busy.pop(option.known.address, None)

    def direct(self, replica: ReplicaRoute, now_s: float) -> Option | None:
        """The way to a replica over its node's own channel, whatever its load; for relays."""
        known = self.nodes.get(replica.node)
        if known is None or known.line is None or not as_routed(known, replica):
            return None
        load, line = self.load(replica.lease, now_s), known.line
        return option_of(replica, known, line, False, line.rtt_ms, load, False)

    def answered(
        self,
        option: Option,
        latency_ms: float,
        trailer: AnswerTrailer,
        now_s: float,
        *,
        streamed: bool = False,
    ) -> None:
        """It answered; a streamed answer's length says nothing about speed."""
        if streamed:
            option.load.health = health.step(
                option.load.health, health.Answered(trailer.engine_us / 1000), now_s
            )
        else:
            option.load.answered(latency_ms, option.rtt_ms, trailer, now_s)

    def failed(self, option: Option, code: str, now_s: float) -> None:
        """It failed by its own fault."""
        option.load.failed(code, now_s)

    def refused(self, option: Option, code: str, now_s: float) -> None:
        """It declined."""
        option.load.refused(code, now_s)

    # -- judgement ---------------------------------------------------------------------------------

    def judge(self, now_s: float) -> None:
        """Every sweep: what waits at a node that fell silent goes elsewhere.

        After a stall of our own nobody is judged until the input that waited has been read
        (timers run before input).
        """
        stalled = now_s - self._judged_s > OWN_STALL_S
        self._judged_s = now_s
        if stalled:
            return
        silent = [known for known in self._busy.values() if self.silent(known, now_s)]
        if silent and not self._doubt(now_s):
            for known in silent:
                for attempt in list(known.tries):
                    attempt.fell_silent()

    def review(self, now_s: float) -> None:
        """Four times a second: round trips, doubt, and once a second who is slow."""
        self._doubt(now_s)
        for known in self.nodes.values():
            if known.line is not None:
                known.line.sample(now_s)
        for peer in self.peers.values():
            peer.line.sample(now_s)
        if now_s - self._reviewed_slow_s >= REVIEW_SLOW_S:
            self._reviewed_slow_s = now_s
            self._rest_slow(now_s)

    def _doubt(self, now_s: float) -> bool:
        """Whether so many nodes are silent that we doubt our own view."""
        silent = sum(1 for known in self.nodes.values() if self.silent(known, now_s))
        self.doubtful = health.view_is_doubtful(silent, len(self.nodes))
        return self.doubtful

    def silent(self, known: KnownNode, now_s: float) -> bool:
        """Whether a node says nothing: by its own channel, else by whoever sees it.

        A gateway that lives but whose digests do not come tells that *our* fabric is away: then
        its last word holds.
        """
        if known.line is not None:
            return now_s > known.silent_at_s
        for gateway, sighting in known.via.items():
            peer = self.peers.get(gateway)
            if peer is None or not peer.there(now_s):
                continue
            if now_s - sighting.at_s > DIGEST_FRESH_S:
                return sighting.presence.ejected
            if not sighting.presence.ejected and sighting.beat_age_s(now_s) < SILENCE_MAX_S:
                return False
        return True

    def _rest_slow(self, now_s: float) -> None:
        for lease, load in list(self._loads.items()):
            if not load.in_flight and now_s - load.last_used_s > LOAD_IDLE_S:
                del self._loads[lease]
        for service in self._book.services.values():
            loads = [self._loads[r.lease] for r in service.legal if r.lease in self._loads]
            if len(loads) < 2:
                continue
            for load in loads:
                peers = [other.health for other in loads if other is not load]
                if load.suspect(now_s) or not health.is_slow(load.health, peers):
                    continue
                resting = sum(1 for x in self._loads.values() if now_s < x.health.ejected_until_s)
                if health.may_eject(resting, len(self._loads)):
                    load.rest(now_s)
                    self.ejections += 1

    def _forget_unseen(self, known: KnownNode) -> None:
        if known.line is None and not known.via and not known.tries:
            self.nodes.pop(known.address, None)
