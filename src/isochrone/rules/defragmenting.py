"""Live defragmentation before anybody waits: which one replica may move so that usual demands fit.

Intuition: a cell that could not take one more of what usually comes, although enough is free in
pieces, moves one small replica while all is calm, instead of letting the next tenant wait for it
(``rules.making_room`` is for those who wait). What becomes placeable must be more GPU than what
moves; a move is paid by a tenant who gained nothing by it.

Which replicas would do is asked of packing (``packing.defragment``); whether one of them has
somewhere to go of the placement rule, with its node *cleared*, so that a move leaves behind an
ordinary decision which says "defragment" and why. A replica moves among its own provider's machines
in its metro, for no higher price: packing takes business from nobody.

Rules of this file: pure. What it does not do: move more than one replica for one demand, or choose
when (``controller.defragmenting``).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import msgspec

from isochrone.rules.packing.cluster import Placement
from isochrone.rules.packing.defragment import Replica, without_room
from isochrone.rules.packing.defragment import openings as found
from isochrone.rules.packing.demand import Demand
from isochrone.rules.packing.fragmentation import POPULARITY_PPM
from isochrone.rules.packing.site import demand_for, site_of, usual
from isochrone.schema.decision import Cleared, Decision, FreeNode, PlacementInputs, Shape
from isochrone.schema.lease import Lease

DEFRAGMENT = "defragment"
"""How the reason of such a move begins, in records and logs."""

TRIED = 4
"""Replicas tried in one look: each asks the placement rule once."""


class Opening(msgspec.Struct, frozen=True, kw_only=True):
    """``service``'s ``lease`` leaves ``node`` so that one more of ``demand`` has room there."""

    service: str
    lease: str
    node: str
    demand: Demand


def openings(
    nodes: Sequence[FreeNode], shapes: Iterable[Shape], leases: Iterable[Lease]
) -> list[Opening]:
    """The moves to try, for the commonest usual demand without room that any move would help, the
    least disturbing first; empty while every usual demand has room.

    ``nodes``: the cell's, with what all leases leave of them. ``shapes``: the mix that came.
    ``leases``: those that serve.
    """
    places = [free for free in nodes if free.alive]
    site = site_of(places, shapes)
    numbers = {free.node.address: number for number, free in enumerate(places)}
    by_id = {lease.id: lease for lease in leases if lease.node in numbers}
    replicas = [_replica(lease, numbers[lease.node]) for lease in by_id.values()]
    for demand in without_room(site, usual(shapes, POPULARITY_PPM)):
        rows = [by_id[replica.key] for replica in found(site, replicas, demand)]
        if rows:
            return [
                Opening(service=row.service, lease=row.id, node=row.node, demand=demand)
                for row in rows[:TRIED]
            ]
    return []


def is_possible(
    opening: Opening, fit: PlacementInputs, decision: Decision, seats: Collection[str]
) -> bool:
    """Whether the moved service keeps its other ``seats`` and gets one more of the same provider,
    in the same metro, for no more money.

    ``fit``: what its fit would look at with the node cleared; ``decision``: what came of it.
    """
    rows = {row.node: row for row in decision.candidates}
    old, staying = rows.get(opening.node), set(seats) - {opening.node}
    new = set(decision.winners) - staying
    if old is None or len(new) != 1 or not staying <= set(decision.winners):
        return False
    row = rows[new.pop()]
    return (
        row.node != opening.node
        and (row.provider, row.metro) == (old.provider, old.metro)
        and row.price_microusd_per_hour <= old.price_microusd_per_hour
    )


def clearing(opening: Opening) -> Cleared:
    """What the moved service's fits are told while the move goes on."""
    what = words(opening.demand)
    return Cleared(
        node=opening.node,
        reason=f"{DEFRAGMENT}: its replica moves so that {what} has room in one piece",
    )


def words(demand: Demand) -> str:
    """A demand for people."""
    model = f" {'|'.join(demand.models)}" if demand.models else ""
    gpus = f"{demand.gpu_count} x {demand.gpu_milli / 1000:g} GPU{model}"
    return f"{gpus} with {demand.cpu_milli / 1000:g} cores and {demand.memory_mib} MiB"


def _replica(lease: Lease, number: int) -> Replica:
    return Replica(
        key=lease.id,
        demand=demand_for(lease.resources),
        placement=Placement(node=number, gpus=lease.gpus),
        weight=lease.model.size_bytes,
    )
