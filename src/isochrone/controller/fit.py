"""One service's fit in this cell: when the rule has to look again, and what it is told.

Pure. A fit stands until something that it depended on changes: the grant, the declaration, a lease
(written, failed) or the life of a leased node; and, while replicas are missing, the nodes that
could take one. Load, prices of others and round trips that wander are no reason to look again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from isochrone.controller.declared import Declared
from isochrone.controller.inputs import Stamp, gather, own_ground
from isochrone.controller.quotas import replicas_of
from isochrone.controller.view import World, free_nodes
from isochrone.rules.reconcile import RETRY_S, Held, Wanted, as_held, wanted_of, withdrawn
from isochrone.schema.decision import Decision, PlacementInputs
from isochrone.schema.digests import digest
from isochrone.schema.lease import Quota

Situation = tuple[object, ...]
"""What a fit depended on, to be compared."""


class Fit(msgspec.Struct, frozen=True, kw_only=True):
    """A fit that stands: its situation, what is wanted, and the record that says why.

    ``unmet``: why fewer replicas could be placed than were granted. ``decision`` and ``inputs``
    are None for a grant of nothing.
    """

    situation: Situation
    wanted: Wanted
    unmet: tuple[str, ...] = ()
    decision: Decision | None = None
    inputs: PlacementInputs | None = None


def is_wanted(quota: Quota, grant: Declared) -> bool:
    """Whether anything of the service should be here."""
    return bool(quota.sites) and not grant.service.deleted


def observe(world: World, service: str, since_s: Mapping[str, float], now_s: float) -> list[Held]:
    """The service's leases as the rule sees them. ``since_s``: lease → since when it is bad."""
    return [
        Held(
            lease=lease,
            state=status.state if (status := world.status(lease)) else None,
            verdict=world.sight.verdict(lease.node),
            for_s=now_s - since_s[lease.id] if lease.id in since_s else 0.0,
        )
        for lease in world.leases_of(service)
    ]


def is_bad(row: Held) -> bool:
    """On a dead node, failed, or ended though it is wanted: what time is counted of."""
    return row.verdict == "dead" or _has_failed(row)


def _has_failed(row: Held) -> bool:
    return row.state == "failed" or (row.state == "ended" and row.lease.desired == "serving")


def situation(
    world: World, quota: Quota, grant: Declared, held: Sequence[Held], short: bool
) -> Situation:
    """What the fit depends on now. ``short``: replicas are missing, so every node matters."""
    leases = tuple(_facts(world, row) for row in held)
    nodes = free_nodes(world, grant.id) if short else ()
    takers = tuple(
        (free.node.address, free.node.revision, free.free_cpu_milli, free.free_memory_mib)
        for free in nodes
        if free.alive
    )
    return (quota.sites, quota.service_document, leases, takers)


def _facts(world: World, row: Held) -> tuple[object, ...]:
    lease, node = row.lease, world.nodes.get(row.lease.node)
    return (
        lease.id,
        lease.revision,
        lease.desired,
        node.revision if node else 0,
        row.verdict == "dead",
        _has_failed(row),
        is_bad(row) and row.for_s >= RETRY_S,
    )


def look(
    world: World, quota: Quota, grant: Declared, held: Sequence[Held], stamp: Stamp
) -> PlacementInputs:
    """What the rule is told; raises InvalidInput for a declaration that nothing understands."""
    inputs = gather("fit", grant, own_ground(world, grant.id), stamp, sites=quota.sites)
    return as_held(inputs, held)


def fitted(now: Situation, quota: Quota, inputs: PlacementInputs, decision: Decision) -> Fit:
    """The fit that a decision amounts to."""
    missing = replicas_of(quota.sites) - len(decision.winners)
    unmet = decision.unmet or (f"too_few_replicas: {missing} cannot be placed here",)
    return Fit(
        situation=now,
        wanted=wanted_of(inputs, decision, digest(decision)),
        unmet=unmet if missing > 0 else (),
        decision=decision,
        inputs=inputs,
    )


def of_nothing(now: Situation, grant: Declared, cell: str) -> Fit:
    """The fit of a service that was withdrawn or deleted."""
    return Fit(situation=now, wanted=withdrawn(grant.service, grant.id, cell))
