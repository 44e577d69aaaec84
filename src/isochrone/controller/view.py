"""The observed world: one immutable picture that every decision of a pass is made from.

It joins the tables (what is wanted and who exists) with the sight of the gateways (who is alive).
Rule 4 of reliability lives here: a table whose view vanished, or a sight in doubt, makes the
picture *untrustworthy*, and then nothing may be ended or moved because of it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import msgspec

from isochrone.controller.declared import Declared
from isochrone.controller.liveness import Sight
from isochrone.rules.devices import WHOLE, free_milli
from isochrone.schema.decision import FreeNode, GatewaySite
from isochrone.schema.lease import Lease, LeaseStatus, Quota
from isochrone.schema.node import Node
from isochrone.schema.place import Whereabouts
from isochrone.schema.plans import HeldReplica


class World(msgspec.Struct, frozen=True, kw_only=True):
    """One look at the cell.

    ``nodes``: with what is believed of each; ``where``: the same of gateways, by address.
    ``services``: declarations whose home is this cell. ``quotas``: grants that this cell holds,
    with their declarations in ``granted``. ``doubt``: why the picture is not to be trusted.
    ``held_back``: services that get nothing new in this cell, as others' fair share comes first.
    ``service_ms``: what answers take besides round trips, by service, where it was measured.
    """

    cell: str
    nodes: Mapping[str, Node]
    leases: Mapping[str, Lease]
    services: Mapping[str, Declared]
    quotas: Mapping[str, Quota]
    granted: Mapping[str, Declared]
    sight: Sight
    where: Mapping[str, Whereabouts] = {}
    doubt: str = ""
    held_back: frozenset[str] = frozenset()
    service_ms: Mapping[str, float] = {}

    def leases_of(self, service: str) -> list[Lease]:
        """The service's leases in this cell, by id."""
        return [self.leases[key] for key in sorted(self.leases) if self._is(key, service)]

    def _is(self, key: str, service: str) -> bool:
        return self.leases[key].service == service

    def whereabouts(self, gateway: str, country: str) -> Whereabouts:
        """Where a gateway is, as far as it is believed."""
        return self.where.get(gateway) or Whereabouts(country=country)

    def status(self, lease: Lease) -> LeaseStatus | None:
        """What the lease's node says of it, as any gateway last heard."""
        seen = self.sight.nodes.get(lease.node)
        if seen is None:
            return None
        return next((status for status in seen.statuses if status.lease == lease.id), None)


def sites_of(world: World) -> tuple[GatewaySite, ...]:
    """Where the cell's gateways stand: one row per place. The one of whom most is proven speaks for
    it, of several the lowest address."""
    rows: dict[tuple[float, float], GatewaySite] = {}
    for presence in world.sight.known:
        place = presence.place
        row = GatewaySite(
            cell=world.cell,
            place=place,
            http_url=presence.http_url,
            gateway=presence.gateway,
            whereabouts=world.whereabouts(presence.gateway, place.country),
        )
        held = rows.setdefault((place.latitude, place.longitude), row)
        if len(held.whereabouts.discs) < len(row.whereabouts.discs):
            rows[place.latitude, place.longitude] = row
    return tuple(rows.values())


def free_nodes(world: World, service: str = "") -> tuple[FreeNode, ...]:
    """The cell's nodes with what is left of them, by address.

    ``holds`` counts the leases of ``service`` that are wanted there, ``held_gpu_milli`` what those
    of it take that are not over. A node counts as alive for
    a service that it holds unless it is dead; for others only if it is alive, listed and not
    ejected: nothing new is put where we are unsure.
    """
    leases: defaultdict[str, list[Lease]] = defaultdict(list)
    for key in sorted(world.leases):
        if world.leases[key].desired not in ("standby", "ended"):
            leases[world.leases[key].node].append(world.leases[key])
    return tuple(
        _free(world.nodes[address], leases[address], service, world.sight)
        for address in sorted(world.nodes)
        if world.nodes[address].cell == world.cell
    )


def rtts_of(world: World) -> dict[str, float]:
    """Measured round trips from the cell's gateways to its nodes, milliseconds."""
    seen = world.sight.nodes
    return {
        address: seen[address].rtt_ms
        for address in sorted(world.nodes)
        if address in seen and seen[address].rtt_ms > 0
    }


def held(world: World, service: str = "") -> tuple[HeldReplica, ...]:
    """The cell's replicas and standbys (of one service, or all) as other cells are told of them."""
    rows = []
    for key in sorted(world.leases):
        lease = world.leases[key]
        if service and lease.service != service:
            continue
        node = world.nodes.get(lease.node)
        status = world.status(lease)
        rows.append(
            HeldReplica(
                service=lease.service,
                service_revision=lease.service_revision,
                lease=lease.id,
                node=lease.node,
                provider=lease.provider,
                metro=node.place.metro if node else "",
                state=status.state if status else "offered",
                desired=lease.desired,
                price_microusd_per_hour=lease.price_microusd_per_hour,
                alive=world.sight.verdict(lease.node) != "dead",
                reason=status.reason if status else "",
            )
        )
    return tuple(rows)


def _free(node: Node, leases: Sequence[Lease], service: str, sight: Sight) -> FreeNode:
    """``leases``: those on the node that are not ended."""
    verdict = sight.verdict(node.address)
    seen = sight.nodes.get(node.address)
    ejected = seen is not None and seen.ejected
    own = [lease for lease in leases if lease.service == service]
    holds = sum(lease.desired == "serving" for lease in own)
    cpu_milli = sum(lease.resources.cpu_milli for lease in leases)
    memory_mib = sum(lease.resources.memory_mib for lease in leases)
    return FreeNode(
        node=node,
        free_cpu_milli=max(0, node.capacity.cpu_milli - cpu_milli),
        free_memory_mib=max(0, node.capacity.memory_mib - memory_mib),
        free_gpu_milli=tuple(max(0, milli) for milli in free_milli(node.capacity, leases)),
        held_gpu_milli=tuple(WHOLE - milli for milli in free_milli(node.capacity, own)),
        holds=holds,
        alive=verdict != "dead" if holds else verdict == "alive" and not ejected,
    )
