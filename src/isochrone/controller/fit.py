"""One service's fit in this cell: when the rule has to look again, and what it is told.

Pure. A fit stands until something that it depended on changes: the grant, the declaration, a
chosen node (dead, failed, new terms, no longer proven), a node with a lease that lost its proof,
and, while replicas are missing, the nodes that could take
one. Load, prices of others and round trips that wander are no reason to look again, nor is a node
that returns: what replaced it stays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from isochrone.controller.declared import Declared
from isochrone.controller.inputs import Stamp, gather, own_ground, shapes_of
from isochrone.controller.lawful import Lawful
from isochrone.controller.quotas import replicas_of
from isochrone.controller.view import World, free_nodes
from isochrone.rules.reconcile import RETRY_S, Held, Wanted, as_held, wanted_of, withdrawn
from isochrone.schema.decision import Cleared, Decision, PlacementInputs, Shape
from isochrone.schema.digests import digest
from isochrone.schema.lease import Quota
from isochrone.schema.node import Node

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
            said_of=status.revision if status else None,
        )
        for lease in world.leases_of(service)
    ]


def is_bad(row: Held) -> bool:
    """On a dead node, failed, or ended though it is wanted: what time is counted of."""
    return row.verdict == "dead" or _has_failed(row)


def _has_failed(row: Held) -> bool:
    unasked = row.lease.desired in ("serving", "standby")
    return row.state == "failed" or (row.state == "ended" and unasked)


def situation(
    world: World,
    quota: Quota,
    grant: Declared,
    held: Sequence[Held],
    wanted: Wanted,
    short: bool,
    cleared: tuple[Cleared, ...] = (),
) -> Situation:
    """What the fit depends on now. ``short``: replicas are missing, so every free node matters.
    ``cleared``: nodes that it is to leave."""
    lawful = Lawful(grant)
    failed = {row.lease.node for row in held if _has_failed(row) and row.for_s < RETRY_S}
    seats = tuple(
        (seat.node, _terms(world, seat.node), world.sight.verdict(seat.node) == "dead")
        for seat in wanted.seats
    )
    unlawful = tuple(
        row.lease.node for row in held if not _is_lawful(lawful, world.nodes.get(row.lease.node))
    )
    takers = tuple(
        (
            free.node.address,
            free.node.revision,
            free.free_cpu_milli,
            free.free_memory_mib,
            free.free_gpu_milli,
            lawful(free.node),
        )
        for free in (free_nodes(world, quota.service) if short else ())
        if free.alive and free.node.address not in failed
    )
    spoilt = tuple(seat.node for seat in wanted.seats if seat.node in failed)
    return (quota.sites, quota.service_document, seats, spoilt, unlawful, takers, cleared)


def _is_lawful(lawful: Lawful, node: Node | None) -> bool:
    return node is None or lawful(node)


def _terms(world: World, node: str) -> int:
    known = world.nodes.get(node)
    return known.revision if known else 0


def look(
    world: World,
    quota: Quota,
    grant: Declared,
    held: Sequence[Held],
    stamp: Stamp,
    cleared: tuple[Cleared, ...] = (),
    usual: tuple[Shape, ...] = (),
) -> PlacementInputs:
    """What the rule is told, but for the costs of its nodes (``rules.fit_costs``).

    Raises InvalidInput for a declaration that nothing understands.

    ``usual``: the mix of demands that has come to this cell (what it is asked for now).
    """
    inputs = gather(
        "fit",
        grant,
        own_ground(world, grant.id),
        stamp,
        sites=quota.sites,
        shapes=usual or shapes_of(world),
        cleared=cleared,
    )
    return as_held(inputs, held)


def fitted(
    world: World,
    quota: Quota,
    grant: Declared,
    held: Sequence[Held],
    inputs: PlacementInputs,
    decision: Decision,
    cleared: tuple[Cleared, ...] = (),
) -> Fit:
    """The fit that a decision amounts to. ``cleared``: nodes that it had to leave."""
    wanted = wanted_of(inputs, decision, digest(decision))
    missing = replicas_of(quota.sites) - len(wanted.seats)
    unmet = decision.unmet or (f"too_few_replicas: {missing} cannot be placed here",)
    return Fit(
        situation=situation(world, quota, grant, held, wanted, missing > 0, cleared),
        wanted=wanted,
        unmet=unmet if missing > 0 else (),
        decision=decision,
        inputs=inputs,
    )


def of_nothing(world: World, quota: Quota, held: Sequence[Held], grant: Declared) -> Fit:
    """The fit of a service that was withdrawn or deleted."""
    wanted = withdrawn(grant.service, grant.id, world.cell)
    return Fit(situation=situation(world, quota, grant, held, wanted, False), wanted=wanted)


def stands(
    world: World,
    quota: Quota,
    grant: Declared,
    held: Sequence[Held],
    standing: Fit,
    cleared: tuple[Cleared, ...] = (),
) -> bool:
    """Whether nothing that the fit depended on has changed."""
    now = situation(world, quota, grant, held, standing.wanted, bool(standing.unmet), cleared)
    return now == standing.situation
