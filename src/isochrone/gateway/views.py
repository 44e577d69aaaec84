"""What the administration API shows: the gateway's knowledge as the structs of schema/admin.py.

Own nodes and leases come from the cell's tables and from beats, other cells' from the offers that
their controllers publish. Nothing here changes anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import monotonic
from typing import Final

import msgspec

from isochrone import __version__
from isochrone.atlas.blocs import blocs
from isochrone.fabric.presence import PresenceBoard
from isochrone.gateway.config import GatewayConfig
from isochrone.gateway.fleet import Fleet
from isochrone.gateway.known import Sighting
from isochrone.gateway.place_views import Claim, place_view
from isochrone.gateway.routes import RouteBook
from isochrone.gateway.tables import CellTables
from isochrone.gateway.tallies import SPOOL_FULL, Tallies
from isochrone.gateway.tallies_handing import RecordHand
from isochrone.gateway.traffic import Traffic
from isochrone.rules import health
from isochrone.rules.residency import evidence_of
from isochrone.schema.admin import (
    Door,
    FabricView,
    GatewayView,
    NodeView,
    PlaceView,
    ReplicaView,
    RoutesView,
    ServiceView,
    StatusView,
)
from isochrone.schema.digests import UNREADABLE
from isochrone.schema.errors import NotFound
from isochrone.schema.frames import GatewayDoor
from isochrone.schema.lease import Lease, LeaseStatus
from isochrone.schema.node import Node
from isochrone.schema.operator import OperatorGrant
from isochrone.schema.place import Evidence
from isochrone.schema.plans import CellOffers, HeldReplica
from isochrone.schema.service import Residency

NOTES_MAX: Final = 5
"""Replicas that are named in a status; the metrics count them all."""

NODE_LOST: Final = "lost: its node is not heard"
"""The reason shown for a lease whose node no gateway here sees."""


class Views:
    """Builds the answers. ``own``: this gateway's papers; ``doors()``: its cell's doors;
    ``heard_s``: cell → when its routing table was heard last (absent: from disk only)."""

    def __init__(
        self,
        *,
        config: GatewayConfig,
        own: OperatorGrant,
        fleet: Fleet,
        book: RouteBook,
        tables: CellTables,
        board: PresenceBoard,
        traffic: Traffic,
        doors: Callable[[], tuple[GatewayDoor, ...]],
        in_flight: Callable[[], int],
        ready: Callable[[], bool],
        heard_s: Mapping[str, float],
        tallies: Tallies,
        hand: RecordHand,
    ) -> None:
        self.offers: dict[str, bytes] = {}
        self._config = config
        self._own = own
        self._fleet = fleet
        self._book = book
        self._tables = tables
        self._board = board
        self._traffic = traffic
        self._doors = doors
        self._in_flight = in_flight
        self._ready = ready
        self._heard_s = heard_s
        self._tallies = tallies
        self._hand = hand
        self._started_s = monotonic()

    def door(self) -> Door:
        """Where the cell is entered."""
        own = self._own
        return Door(
            gateway=own.gateway,
            cell=own.cell,
            place=own.place,
            http_url=own.http_url,
            doors=self._doors(),
        )

    def services(self, sees: Callable[[str], bool]) -> list[ServiceView]:
        """Declared services of the tenants that ``sees`` admits."""
        views = []
        for key, declared in sorted(self._tables.declarations.known.items()):
            if not sees(declared.tenant):
                continue
            service, routed = declared.service, self._book.services.get(key)
            views.append(
                ServiceView(
                    service=key,
                    tenant=declared.tenant,
                    name=service.name,
                    revision=service.revision,
                    home_cell=service.home_cell,
                    task=service.model.task,
                    engine=service.model.engine,
                    residency=service.residency,
                    objective=service.objective,
                    replicas=service.replicas,
                    max_price_microusd_per_hour=service.max_price_microusd_per_hour,
                    model_digest=service.model.digest,
                    deleted=service.deleted,
                    serving=len(routed.replicas) if routed else 0,
                    legal=len(routed.legal) if routed else 0,
                    home_key=service.home_key,
                    warm=service.scaling.warm,
                )
            )
        return views

    def nodes(self) -> list[NodeView]:
        """Nodes of this cell, then of the others as their controllers offer them."""
        counts: dict[str, int] = {}
        for lease in self._tables.orders.all():
            if lease.desired == "serving":
                counts[lease.node] = counts.get(lease.node, 0) + 1
        rows = {
            key: self._node(entry.value, counts.get(key, 0))
            for key, entry in self._tables.nodes.entries.items()
        }
        for offers in self._others():
            held = [row.node for row in offers.replicas if row.desired == "serving"]
            for free in offers.nodes:
                if free.node.address not in rows:
                    row = self._node(free.node, held.count(free.node.address))
                    rows[free.node.address] = row
        return [rows[key] for key in sorted(rows, key=lambda key: (rows[key].cell, key))]

    def place(self, address: str) -> PlaceView:
        """What is known of where a key answers; raises NotFound when it was never heard of."""
        return place_view(self._book.places, address, self._claimed(address))

    def replicas(self, sees: Callable[[str], bool], service: str) -> list[ReplicaView]:
        """Replicas of every cell, of one service id or ("") of all that may be seen."""
        rows = [
            self._own_replica(lease)
            for lease in self._tables.orders.all()
            if self._shown(lease.service, sees, service)
        ]
        for offers in self._others():
            places = {free.node.address: free.node.place for free in offers.nodes}
            for held in offers.replicas:
                if self._shown(held.service, sees, service):
                    place = places.get(held.node)
                    country = place.country if place is not None else ""
                    rows.append(self._other_replica(held, offers.cell, country))
        return sorted(rows, key=lambda row: (row.service, row.cell, row.lease))

    def status(self) -> StatusView:
        """This process and its cell."""
        leader = self._tables.leader()
        fabric = self._tables.fabric
        return StatusView(
            gateway=self._own.gateway,
            cell=self._own.cell,
            place=self._own.place,
            http_url=self._own.http_url,
            version=__version__,
            uptime_s=round(monotonic() - self._started_s, 3),
            ready=self._ready(),
            fabric=FabricView(
                connected=fabric.connected,
                silent_for_s=round(fabric.silent_for_s(), 3),
                untrustworthy=self._untrustworthy(),
            ),
            leader=leader.leader if leader is not None else "",
            epoch=self._tables.orders.epoch,
            gateways=self._gateways(),
            routes=self._routes(),
            nodes=sum(1 for known in self._fleet.nodes.values() if known.line is not None),
            services=len(self._book.services),
            requests=self._traffic.answered_total + self._traffic.failed_total,
            failed=self._traffic.failed_total,
            in_flight=self._in_flight(),
            notes=tuple(self._notes()),
        )

    def _claimed(self, key: str) -> Claim:
        entry = self._tables.nodes.entries.get(key)
        nodes = [entry.value] if entry is not None else []
        nodes += [f.node for o in self._others() for f in o.nodes if f.node.address == key]
        if nodes:
            return Claim(nodes[0].place, nodes[0].provider)
        shelf = self._book.places.shelf
        said = {news.vantage: news.place for news in shelf.vantages()}
        said |= {presence.gateway: presence.place for presence, _ in self._board.heard()}
        if key not in said:
            raise NotFound(
                f"No node, gateway or validator {key} is known here.",
                fix="`isochrone nodes` lists the nodes that are.",
            )
        return Claim(said[key], shelf.account_of(key))

    # -- parts -------------------------------------------------------------------------------

    def _others(self) -> list[CellOffers]:
        found = []
        for cell, data in sorted(self.offers.items()):
            if cell == self._config.cell:
                continue
            try:
                found.append(msgspec.json.decode(data, type=CellOffers))
            except UNREADABLE:
                continue
        return found

    def _shown(self, service: str, sees: Callable[[str], bool], only: str) -> bool:
        return (not only or service == only) and sees(service.partition(".")[0])

    def _node(self, node: Node, replicas: int) -> NodeView:
        now_s = monotonic()
        known = self._fleet.nodes.get(node.address)
        state, beat_age_ms, rtt_ms, in_flight = "gone", -1.0, 0.0, 0
        if known is not None and known.line is not None:
            verdict = health.verdict(known.health, now_s)
            state = "alive" if verdict == "alive" else verdict
            beat_age_ms = (now_s - known.health.heard_s) * 1000
            rtt_ms = known.line.rtt_ms
            told = known.beat.in_flight if known.beat is not None else 0
            in_flight = max(told, len(known.tries))  # a beat is up to 250 ms old
        elif known is not None and known.via:
            sighting = min(known.via.values(), key=lambda s: s.presence.rtt_ms)
            beat_age_ms = sighting.beat_age_s(now_s) * 1000
            state = "silent" if self._fleet.silent(known, now_s) else "alive"
            rtt_ms, in_flight = sighting.presence.rtt_ms, sighting.presence.in_flight
        return NodeView(
            address=node.address,
            provider=node.provider,
            cell=node.cell,
            metro=node.place.metro,
            country=node.place.country,
            evidence=self._evidence(node),
            cpu_milli=node.capacity.cpu_milli,
            memory_mib=node.capacity.memory_mib,
            devices=node.capacity.devices,
            engines=node.capacity.engines,
            cpu_core_microusd_per_hour=node.offer.cpu_core_microusd_per_hour,
            memory_gib_microusd_per_hour=node.offer.memory_gib_microusd_per_hour,
            gpu_microusd_per_hour=node.offer.gpu_microusd_per_hour,
            health=state,
            beat_age_ms=round(beat_age_ms, 1),
            rtt_ms=round(rtt_ms, 3),
            in_flight=in_flight,
            replicas=replicas,
        )

    def _own_replica(self, lease: Lease) -> ReplicaView:
        entry = self._tables.nodes.entries.get(lease.node)
        known = self._fleet.nodes.get(lease.node)
        status = known.statuses.get(lease.id) if known is not None else None
        via = self._own.gateway if known is not None and known.line is not None else ""
        if status is None and known is not None:
            status, via = _told(known.via, lease.id)
        if status is None:
            status = _untold(lease, there=known is not None)
        place = entry.value.place if entry is not None else None
        country = place.country if place is not None else ""
        line = known.line if known is not None else None
        return ReplicaView(
            service=lease.service,
            name=lease.service.partition(".")[2],
            lease=lease.id,
            node=lease.node,
            provider=lease.provider,
            cell=lease.cell,
            metro=place.metro if place is not None else "",
            country=country,
            state=status.state,
            reason=status.reason,
            via=via,
            price_microusd_per_hour=lease.price_microusd_per_hour,
            rtt_ms=round(line.rtt_ms, 3) if line is not None else 0.0,
            fetched_bytes=status.fetched_bytes,
            fetch_ms=status.fetch_ms,
            load_ms=status.load_ms,
            first_answer_ms=status.first_answer_ms,
            legal=self._legal(lease.service, lease.node, country, lease.provider),
        )

    def _other_replica(self, held: HeldReplica, cell: str, country: str) -> ReplicaView:
        known = self._fleet.nodes.get(held.node)
        status, via = _told(known.via, held.lease) if known is not None else (None, "")
        return ReplicaView(
            service=held.service,
            name=held.service.partition(".")[2],
            lease=held.lease,
            node=held.node,
            provider=held.provider,
            cell=cell,
            metro=held.metro,
            country=country,
            state=held.state,
            reason=held.reason,
            via=via,
            price_microusd_per_hour=held.price_microusd_per_hour,
            rtt_ms=0.0,
            fetched_bytes=status.fetched_bytes if status else 0,
            fetch_ms=status.fetch_ms if status else 0.0,
            load_ms=status.load_ms if status else 0.0,
            first_answer_ms=status.first_answer_ms if status else 0.0,
            legal=self._legal(held.service, held.node, country, held.provider),
        )

    def _legal(self, service: str, node: str, country: str, provider: str) -> bool:
        routed, places = self._book.services.get(service), self._book.places
        if routed is None or places.barred(node):
            return False
        return routed.admits(places.node(node, country, provider))

    def _evidence(self, node: Node) -> Evidence:
        """How well it is known that a node is in its own country."""
        where = self._book.places.node(node.address, node.place.country, node.provider)
        return evidence_of(where, Residency(allow=(node.place.country,)), blocs())

    def _untrustworthy(self) -> tuple[str, ...]:
        return tuple(t.name for t in self._tables.all_tables() if not t.trustworthy)

    def _gateways(self) -> tuple[GatewayView, ...]:
        views = []
        for presence, age_s in self._board.heard():
            peer = self._fleet.peers.get(presence.gateway)
            ours = presence.gateway == self._own.gateway
            views.append(
                GatewayView(
                    gateway=presence.gateway,
                    cell=presence.cell,
                    metro=presence.place.metro,
                    country=presence.place.country,
                    http_url=presence.http_url,
                    age_ms=round(age_s * 1000, 1),
                    rtt_ms=round(peer.line.rtt_ms, 3) if peer is not None else 0.0,
                    nodes=len(presence.nodes),
                    channel=ours or peer is not None,
                )
            )
        return tuple(views)

    def _routes(self) -> tuple[RoutesView, ...]:
        now_s = monotonic()
        return tuple(
            RoutesView(
                cell=cell,
                epoch=table.epoch,
                sequence=table.sequence,
                services=len(table.services),
                replicas=sum(len(service.replicas) for service in table.services),
                age_s=round(now_s - self._heard_s.get(cell, self._started_s), 3),
                from_disk=cell not in self._heard_s,
            )
            for cell, table in sorted(self._book.tables.items())
        )

    def _notes(self) -> list[str]:
        notes = []
        fabric = self._tables.fabric
        if not fabric.connected:
            notes.append(
                f"The fabric has been away for {fabric.silent_for_s():.0f} s; "
                "serving goes on from the last snapshot."
            )
        for name in self._untrustworthy():
            notes.append(f"The table {name} lost entries; nothing is ended because of it.")
        if not self._book.tables:
            notes.append("No routing table has come yet.")
        if self._fleet.doubtful:
            notes.append("Most nodes fell silent together: this gateway doubts its own view.")
        return [*notes, *self._ledger_notes()]

    def _ledger_notes(self) -> list[str]:
        notes = []
        if self._tallies.full:
            notes.append(f"No paid work is taken ({SPOOL_FULL}): see the disk of the state folder.")
        unsigned = sorted({t.id for t in self._tallies.barred() if t.barred != SPOOL_FULL})
        for lease in unsigned[:NOTES_MAX]:
            notes.append(f"Replica {lease} is not asked: its node has not signed what it did.")
        behind = self._hand.behind
        if self._config.ledger.settles and len(behind) > 1:
            notes.append(f"Records of {len(behind)} epochs wait for a validator.")
        return notes


def _untold(lease: Lease, *, there: bool) -> LeaseStatus:
    """What a lease is at whose node has said nothing of it: a node that is not there took no
    offer, and what ran on it is lost."""
    if lease.desired == "ended":
        return LeaseStatus(lease=lease.id, revision=0, state="ended")
    if there:
        return LeaseStatus(lease=lease.id, revision=0, state="offered")
    return LeaseStatus(lease=lease.id, revision=0, state="failed", reason=NODE_LOST)


def _told(via: Mapping[str, Sighting], lease: str) -> tuple[LeaseStatus | None, str]:
    """A lease's status in other gateways' digests, and which gateway told it."""
    for gateway, sighting in sorted(via.items()):
        for status in sighting.presence.leases:
            if status.lease == lease:
                return status, gateway
    return None, ""
