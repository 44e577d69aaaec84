"""Moving a few replicas while they run, so that every usual demand finds room before it comes.

Intuition: departures leave pieces. While some node can take one more of each usual demand, pieces
harm nobody; when one of these demands fits nowhere although enough is free, the next tenant who
asks for it waits for a move. So the move is made before: the smallest replica whose leaving gives
the demand room goes where it fits well. A move costs somebody a cold cache, so what becomes
placeable must be more than what moves, and there is a budget.

Moving for what it does to the waste of the nodes (``valuing``) was measured and put aside: hundreds
of moves of live services won nothing that those who came later could use.

Rules of this file: make before break (the new place must be free while the old one is still held);
a demand is opened once, on one node. What it does not do: decide when, or keep to law and price
(``rules.defragmenting`` asks the placement rule).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from isochrone.rules.packing.cluster import Cluster, Flags, Placement
from isochrone.rules.packing.demand import Demand, after
from isochrone.rules.packing.fragmentation import Typical

TRIED = 4
"""Replicas tried for each demand that has no room, the least disturbing first."""


class Replica(msgspec.Struct, frozen=True, kw_only=True):
    """A replica that runs. ``weight``: of equal replicas the lightest moves (its model's bytes)."""

    key: str
    demand: Demand
    placement: Placement
    weight: int = 0


class Move(msgspec.Struct, frozen=True, kw_only=True):
    """Start the replica at ``to``, then end it where it was, so that ``opened`` has room there."""

    key: str
    before: Placement
    to: Placement
    opened: Demand


def without_room(cluster: Cluster, typical: Typical) -> list[Demand]:
    """The usual demands for GPUs that no node can take now, the commonest first."""
    rows = zip(typical.demands, typical.shares_ppm, strict=True)
    asked = sorted((-share, demand) for demand, share in rows if demand.gpu_count)
    return [demand for _, demand in asked if cluster.best(demand) is None]


def openings(cluster: Cluster, replicas: Sequence[Replica], demand: Demand) -> list[Replica]:
    """The replicas whose leaving would give the demand room where they were, and which are smaller
    than it; the least disturbing first: the fewest GPUs, then the lightest."""
    smaller = [
        replica
        for replica in replicas
        if replica.demand.total_gpu_milli < demand.total_gpu_milli
        and not cluster.lost[replica.placement.node]
        and _opens(cluster, replica, demand)
    ]
    return sorted(smaller, key=lambda r: (r.demand.total_gpu_milli, r.weight, r.key))


def defragment(
    cluster: Cluster,
    replicas: Sequence[Replica],
    typical: Typical,
    moves_max: int,
    among: Mapping[str, Flags] | None = None,
) -> tuple[Move, ...]:
    """The moves that pay; the cluster stands as after them.

    ``among``: per replica's key the nodes it may go to (missing: all).
    """
    moves: list[Move] = []
    for demand in without_room(cluster, typical) if moves_max else ():
        gone = {move.key for move in moves}
        staying = [replica for replica in replicas if replica.key not in gone]
        for replica in openings(cluster, staying, demand)[:TRIED]:
            move = moved(cluster, replica, demand, (among or {}).get(replica.key))
            if move is not None:
                moves.append(move)
                break
        if len(moves) >= moves_max:
            break
    return tuple(moves)


def moved(cluster: Cluster, replica: Replica, demand: Demand, among: Flags | None) -> Move | None:
    """The move, made, if the replica has a place to go; None: it has not, and all is as before.

    ``among``: the nodes it may go to (all).
    """
    old = replica.placement
    allowed = np.ones(len(cluster.cpu), dtype=bool) if among is None else among.copy()
    allowed[old.node] = False
    new = cluster.place(replica.demand, allowed)
    if new is None:
        return None
    cluster.release(old, replica.demand)
    return Move(key=replica.key, before=old, to=new, opened=demand)


def _opens(cluster: Cluster, replica: Replica, demand: Demand) -> bool:
    rest, gone = cluster.residual(replica.placement.node), replica.demand
    freed = msgspec.structs.replace(
        rest,
        cpu_milli=rest.cpu_milli + gone.cpu_milli,
        memory_mib=rest.memory_mib + gone.memory_mib,
        gpu_milli=tuple(
            milli + gone.gpu_milli * (gpu in replica.placement.gpus)
            for gpu, milli in enumerate(rest.gpu_milli)
        ),
    )
    return after(freed, demand) is not None
