"""What a placement looks at, gathered from the world, the other cells' offers and the atlas.

The round trip that a cell's gateways *measured* to a node replaces the atlas's prior for it: a
node that is measured is measured, whether or not it runs anything yet. Clients are never measured;
what is expected of their way to a gateway is the prior, corrected by what gateways measured to each
other (``ways``). The record holds the numbers that were used.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from functools import lru_cache
from statistics import median_low
from typing import Literal

import msgspec

from isochrone.atlas.audience import audience_points
from isochrone.atlas.blocs import blocs, blocs_version
from isochrone.atlas.roundtrips import matrix
from isochrone.controller.declared import Declared
from isochrone.controller.view import World, free_nodes, rtts_of, sites_of
from isochrone.controller.ways import STEP_MS, client_rows, ways_of, whole_steps
from isochrone.rules.expected import service_prior_ms
from isochrone.rules.rotation import seed_for
from isochrone.schema.decision import (
    AudiencePoint,
    Cleared,
    FreeNode,
    GatewaySite,
    PlacementInputs,
    Shape,
)
from isochrone.schema.digests import canonical
from isochrone.schema.lease import Site
from isochrone.schema.node import Resources
from isochrone.schema.place import Place
from isochrone.schema.plans import CellOffers, GatewayWay
from isochrone.schema.service import AudienceShare, Service


class Stamp(msgspec.Struct, frozen=True, kw_only=True):
    """Who decides and when: recorded, and looked at by no rule."""

    cell: str
    epoch: int
    at_unix_ms: int


class Ground(msgspec.Struct, frozen=True, kw_only=True):
    """Where a service could go: gateways and nodes of the cells, round trips that were measured.

    ``rtt_ms``: from a node's cell's gateways to it. ``ways``: between gateways. ``service_ms``:
    what answers take besides, by service.
    """

    gateways: tuple[GatewaySite, ...]
    nodes: tuple[FreeNode, ...]
    rtt_ms: Mapping[str, float]
    ways: tuple[GatewayWay, ...] = ()
    service_ms: Mapping[str, float] = {}


def own_ground(world: World, service: str) -> Ground:
    """This cell's ground for a service."""
    return Ground(
        gateways=sites_of(world),
        nodes=free_nodes(world, service),
        rtt_ms=rtts_of(world),
        ways=ways_of(world),
        service_ms=world.service_ms,
    )


def whole_ground(world: World, others: Mapping[str, CellOffers], service: str) -> Ground:
    """The ground of all cells: our own as we see it, the others' as they told us."""
    grounds = [own_ground(world, service)]
    grounds += [
        _told_ground(others[cell], service) for cell in sorted(others) if cell != world.cell
    ]
    return Ground(
        gateways=tuple(g for ground in grounds for g in ground.gateways),
        nodes=_once(node for ground in grounds for node in ground.nodes),
        rtt_ms={node: ms for ground in grounds for node, ms in ground.rtt_ms.items()},
        ways=tuple(way for ground in grounds for way in ground.ways),
        service_ms=world.service_ms,
    )


def gather(
    kind: Literal["sites", "fit"],
    declared: Declared,
    ground: Ground,
    stamp: Stamp,
    *,
    sites: tuple[Site, ...] = (),
    shapes: tuple[Shape, ...] = (),
    cleared: tuple[Cleared, ...] = (),
) -> PlacementInputs:
    """The inputs of one decision; raises InvalidInput for an audience or bloc nobody knows.

    ``shapes``: what the cell is asked for in all. ``cleared``: nodes that the service is to leave.
    """
    service = declared.service
    audience = audience_of(service)
    gateways, nodes = ground.gateways, ground.nodes
    return PlacementInputs(
        kind=kind,
        service=service,
        tenant=declared.tenant,
        cell=stamp.cell,
        epoch=stamp.epoch,
        at_unix_ms=stamp.at_unix_ms,
        seed=seed_for(declared.id, service.revision, stamp.epoch, stamp.at_unix_ms),
        blocs_version=blocs_version(),
        blocs=named_blocs((*service.residency.allow, *service.residency.deny)),
        gateways=gateways,
        audience=audience,
        nodes=nodes,
        client_rtt_ms=client_rows([p.place for p in audience], gateways, ground.ways),
        node_rtt_ms=_node_rows(gateways, nodes, ground.rtt_ms),
        sites=sites,
        service_ms=ground.service_ms.get(declared.id) or service_prior_ms(service.model),
        shapes=shapes,
        cleared=cleared,
    )


def shapes_of(world: World) -> tuple[Shape, ...]:
    """What this cell is asked for by all the grants that it holds: the kinds of replicas for which
    room is to be kept together."""
    counts: Counter[Resources] = Counter()
    for id_, quota in world.quotas.items():
        if id_ in world.granted:
            need = world.granted[id_].service.resources
            counts[need] += sum(site.replicas for site in quota.sites)
    asked = [Shape(resources=need, count=count) for need, count in counts.items() if count > 0]
    return tuple(sorted(asked, key=canonical))


def audience_of(service: Service) -> tuple[AudiencePoint, ...]:
    """A service's audience as weighted points; raises InvalidInput for a place nobody knows."""
    return _points(service.audience)


@lru_cache(maxsize=256)
def _points(audience: tuple[AudienceShare, ...]) -> tuple[AudiencePoint, ...]:
    return audience_points(audience)


def _told_ground(offers: CellOffers, service: str) -> Ground:
    holds = Counter(
        row.node
        for row in offers.replicas
        if row.service == service and row.desired == "serving" and row.alive
    )
    nodes = tuple(
        msgspec.structs.replace(
            free, holds=holds[free.node.address], alive=free.alive or holds[free.node.address] > 0
        )
        for free in offers.nodes
    )
    return Ground(gateways=offers.gateways, nodes=nodes, rtt_ms=offers.rtt_ms, ways=offers.ways)


def _once(nodes: Iterable[FreeNode]) -> tuple[FreeNode, ...]:
    """Each node once, by address: one that moved between cells counts where it is alive."""
    best: dict[str, FreeNode] = {}
    for node in nodes:
        known = best.get(node.node.address)
        if known is None or (node.alive and not known.alive):
            best[node.node.address] = node
    return tuple(best[address] for address in sorted(best))


def named_blocs(names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The members of those names that are blocs."""
    known = blocs()
    return {name: tuple(sorted(known[name])) for name in sorted(set(names)) if name in known}


def _rows(rows: list[Place], columns: list[Place]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(float(ms) for ms in row) for row in matrix(rows, columns))


def _node_rows(
    gateways: tuple[GatewaySite, ...], nodes: tuple[FreeNode, ...], measured: Mapping[str, float]
) -> tuple[tuple[float, ...], ...]:
    prior = _rows([g.place for g in gateways], [n.node.place for n in nodes])
    told = levelled(nodes, measured)
    return tuple(
        tuple(
            told[n.node.address]
            if g.cell == n.node.cell and n.node.address in told
            else prior[i][j]
            for j, n in enumerate(nodes)
        )
        for i, g in enumerate(gateways)
    )


def levelled(nodes: Iterable[FreeNode], measured: Mapping[str, float]) -> dict[str, float]:
    """Measured round trips by node, in whole steps, milliseconds.

    One provider's machines of one metro that are less than a step from their middle count as the
    middle: else a step's border would divide machines that nobody can tell apart, and packing could
    not choose among them.
    """
    sites: defaultdict[tuple[str, str, str], list[str]] = defaultdict(list)
    for free in nodes:
        if free.node.address in measured:
            node = free.node
            sites[node.cell, node.provider, node.place.metro].append(node.address)
    told: dict[str, float] = {}
    for addresses in sites.values():
        middle = median_low(measured[address] for address in addresses)
        for address in addresses:
            rtt_ms = measured[address]
            told[address] = whole_steps(middle if abs(rtt_ms - middle) < STEP_MS else rtt_ms)
    return told
