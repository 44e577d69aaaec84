"""The cell's routing table: which replicas serve, as one numbered snapshot.

A table is known by ``(epoch, sequence)`` and the greater pair wins, so a gateway can take tables
from the stream, from core messages and from its disk in any order. The sequence grows only when
the content changes; repeating a table every two seconds is harmless.

A replica is listed when its lease wants it serving, its node says that it serves, and the node is
not dead for us. The lease's revision in the route is the one the *node* holds: it refuses
requests that are older than its lease, and the table may be written before it has heard of a
newer one. A service is listed by its home cell even without replicas here (callers learn "no
replica" instead of "unknown"), and by every cell that holds a quota of it.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from isochrone.controller.declared import Declared
from isochrone.controller.view import World
from isochrone.schema.lease import Lease
from isochrone.schema.routing import ReplicaRoute, RoutingTable, ServiceRoute, Starting

REPEAT_S = 2.0
"""How often an unchanged table is told again: a gateway that missed it waits no longer."""


class State(msgspec.Struct, frozen=True):
    """What was published last, and when (monotonic seconds)."""

    table: RoutingTable | None = None
    told_s: float = float("-inf")


def step(
    state: State,
    world: World,
    epoch: int,
    now_s: float,
    starting: Mapping[str, Starting] | None = None,
) -> tuple[State, RoutingTable | None]:
    """The table to publish now, if any. ``starting``: of services at home here, by id.

    In doubt nothing changes: replicas that serve keep their routes, and gateways, who see the
    nodes themselves, decide. But a replica that has just begun to serve is added.
    """
    services = services_of(world, starting or {})
    if world.doubt and state.table is not None:
        services = _only_grown(state.table.services, services)
    table = state.table
    if table is None or table.epoch != epoch:
        table = RoutingTable(cell=world.cell, epoch=epoch, sequence=1, services=services)
    elif table.services != services:
        sequence = table.sequence + 1
        table = RoutingTable(cell=world.cell, epoch=epoch, sequence=sequence, services=services)
    if table is state.table and now_s - state.told_s < REPEAT_S:
        return state, None
    return State(table, now_s), table


def services_of(
    world: World, starting: Mapping[str, Starting] | None = None
) -> tuple[ServiceRoute, ...]:
    """Every service that this cell speaks of, with its serving replicas here, by id."""
    known = {id_: d for id_, d in world.granted.items() if world.quotas[id_].sites}
    for id_, home in world.services.items():
        if id_ not in known or known[id_].service.revision < home.service.revision:
            known[id_] = home
    by_service: dict[str, list[Lease]] = {}
    for key in sorted(world.leases):
        by_service.setdefault(world.leases[key].service, []).append(world.leases[key])
    return tuple(
        _service(known[id_], by_service.get(id_, []), world, (starting or {}).get(id_))
        for id_ in sorted(known)
        if not known[id_].service.deleted
    )


def _service(
    known: Declared, leases: list[Lease], world: World, starting: Starting | None
) -> ServiceRoute:
    service = known.service
    rows = (_replica(lease, world) for lease in leases)
    return ServiceRoute(
        service=known.id,
        tenant=known.tenant,
        name=service.name,
        revision=service.revision,
        task=service.model.task,
        engine=service.model.engine,
        residency=service.residency,
        objective=service.objective,
        hedge=service.hedge,
        replicas=tuple(row for row in rows if row is not None),
        answer_checks=service.answer_checks,
        starting=starting,
    )


def _replica(lease: Lease, world: World) -> ReplicaRoute | None:
    node = world.nodes.get(lease.node)
    status = world.status(lease)
    if node is None or status is None or lease.desired != "serving" or status.state != "serving":
        return None
    if world.sight.verdict(lease.node) == "dead":
        return None
    return ReplicaRoute(
        lease=lease.id,
        lease_revision=min(status.revision, lease.revision),
        node=node.address,
        provider=node.provider,
        place=node.place,
        cell=world.cell,
    )


def _only_grown(
    before: tuple[ServiceRoute, ...], now: tuple[ServiceRoute, ...]
) -> tuple[ServiceRoute, ...]:
    """The services now, none of whose replicas of before is missing."""
    merged = {service.service: service for service in before}
    for service in now:
        old = merged.get(service.service)
        rows = {replica.lease: replica for replica in old.replicas} if old else {}
        rows |= {replica.lease: replica for replica in service.replicas}
        replicas = tuple(rows[lease] for lease in sorted(rows))
        merged[service.service] = msgspec.structs.replace(service, replicas=replicas)
    return tuple(merged[id_] for id_ in sorted(merged))
