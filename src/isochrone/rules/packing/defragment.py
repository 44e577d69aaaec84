"""Moving a few replicas while they run, so that what is free becomes useful again.

Intuition: departures leave holes that no new demand would have made. Moving the replica whose place
would gain most by its leaving into a hole that it fills well mends two nodes at once. A move costs
somebody a little, so there is a budget, and a move must pay.

Rules of this file: make before break (the new place must be free while the old one is still held);
every move lowers the waste of the cluster by ``GAIN_MIN`` or more; at most ``moves_max`` moves and
``replica_s_max`` seconds of replicas held twice. What it does not do: decide when.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from isochrone.rules.packing.cluster import Cluster, Flags, Placement
from isochrone.rules.packing.demand import Demand
from isochrone.rules.packing.fragmentation import PPM

GAIN_MIN = 100 * PPM * 1_000
"""A move must win a tenth of a GPU: less is not worth somebody's warm cache."""

TRIED = 4
"""Replicas tried for each move of the budget, the most promising first."""


class Replica(msgspec.Struct, frozen=True, kw_only=True):
    """A replica that runs, and how long moving it holds two places, seconds."""

    key: str
    demand: Demand
    placement: Placement
    move_s: float = 60.0


class Move(msgspec.Struct, frozen=True, kw_only=True):
    """Start the replica at ``to``, then end it where it was. ``gain``: waste less, as ``waste``."""

    key: str
    before: Placement
    to: Placement
    gain: float


def defragment(
    cluster: Cluster,
    replicas: Sequence[Replica],
    moves_max: int,
    replica_s_max: float = float("inf"),
    among: dict[str, Flags] | None = None,
) -> tuple[Move, ...]:
    """The moves that pay, best first; the cluster stands as after them.

    ``among``: per replica's key the nodes it may go to (missing: all).
    """
    moves: list[Move] = []
    seconds = 0.0
    for index in _promising(cluster, replicas)[: TRIED * moves_max]:
        replica = replicas[index]
        if len(moves) >= moves_max:
            break
        if seconds + replica.move_s > replica_s_max:
            continue
        move = _tried(cluster, replica, (among or {}).get(replica.key))
        if move is not None:
            moves.append(move)
            seconds += replica.move_s
    return tuple(moves)


def _promising(cluster: Cluster, replicas: Sequence[Replica]) -> list[int]:
    """Replicas by what their leaving would do to the waste; ties by key."""
    if not replicas:
        return []
    wins = cluster.without([(replica.placement, replica.demand) for replica in replicas])
    return sorted(range(len(replicas)), key=lambda i: (wins[i], replicas[i].key))


def _tried(cluster: Cluster, replica: Replica, among: Flags | None) -> Move | None:
    """The move if it pays; the cluster is as before if it does not."""
    old, demand = replica.placement, replica.demand
    allowed = np.ones(len(cluster.cpu), dtype=bool) if among is None else among.copy()
    allowed[old.node] = False
    before = cluster.waste
    new = cluster.place(demand, allowed)
    if new is None:
        return None
    cluster.release(old, demand)
    gain = before - cluster.waste
    if gain >= GAIN_MIN:
        return Move(key=replica.key, before=old, to=new, gain=gain)
    cluster.take(old, demand)
    cluster.release(new, demand)
    return None
