"""Learning what holes are worth by rehearsing: the usual demands arrive, and one looks what became.

Intuition: what a hole in a GPU will be worth depends on which other holes compete for the demands
that would fill it, and those depend on how one packs. So pack a make-believe stream of the usual
demands into empty nodes, and note for every hole that arose what was left of its GPU in the end.
The average is the hole's waste under this way of packing; pack again with it, and it gets better
(policy iteration, Howard 1960). Holes that were seldom seen keep what ``holes`` expects of them.

Rules of this file: pure; the streams follow from ``seed``. What it does not do: look at what is
really free. A rehearsal takes as long as it takes to place ``rounds`` times the demands that fill
the nodes given, so a part of a large site's nodes is enough.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from isochrone.rules.packing.cluster import Cluster
from isochrone.rules.packing.demand import WHOLE_MILLI, Demand, Residual
from isochrone.rules.packing.fragmentation import Typical
from isochrone.rules.packing.holes import DETAIL, Table, hole_waste
from isochrone.rules.packing.valuing import Numbers

ARRIVALS_PER_CENT = 130
"""What arrives in a rehearsal, of all GPUs: enough that the last holes find whom they can."""

PRIOR_SEEN = 5
"""A hole's expected waste counts as much as having been seen five times."""

KEPT = 0.5
"""What earlier rounds count beside a later one, which packs better."""


def rehearse(
    nodes: Sequence[Residual], typical: Typical, rounds: int, seed: int, begin: Table | None = None
) -> Table:
    """The waste of holes as learnt in ``rounds`` rehearsals on these (empty) nodes.

    ``begin``: what was known before. Without GPUs or usual demands for them, what is expected.
    """
    expected = np.array(hole_waste(typical), dtype=np.float64)
    table = begin or hole_waste(typical)
    if not any(d.gpu_count for d in typical.demands) or not any(n.gpu_milli for n in nodes):
        return table
    wasted, seen = np.zeros(WHOLE_MILLI + 1), np.zeros(WHOLE_MILLI + 1)
    chance = np.random.Generator(np.random.PCG64(seed))
    for _ in range(rounds):
        wasted *= KEPT
        seen *= KEPT
        order = [nodes[i] for i in chance.permutation(len(nodes))]
        _rehearse_once(Cluster(order, typical, table), typical, chance, wasted, seen)
        learnt = (wasted * DETAIL + PRIOR_SEEN * expected) / (seen + PRIOR_SEEN)
        learnt[WHOLE_MILLI] = expected[WHOLE_MILLI]
        table = tuple(int(value) for value in np.floor(learnt))
    return table


def _rehearse_once(
    cluster: Cluster, typical: Typical, chance: np.random.Generator, wasted: Numbers, seen: Numbers
) -> None:
    """Fill the cluster; add to ``wasted`` and ``seen`` what became of every hole that arose."""
    holes: dict[tuple[int, int], list[int]] = {}
    for demand in _arrivals(cluster, typical, chance):
        placement = cluster.place(demand)
        if placement is not None and demand.gpu_count == 1:
            gpu = placement.node, placement.gpus[0]
            holes.setdefault(gpu, []).append(int(cluster.free[gpu]))
    for gpu, sizes in holes.items():
        np.add.at(wasted, sizes, cluster.free[gpu])
        np.add.at(seen, sizes, 1.0)


def _arrivals(cluster: Cluster, typical: Typical, chance: np.random.Generator) -> list[Demand]:
    """Usual demands, drawn by their shares, worth ``ARRIVALS_PER_CENT`` of the cluster's GPUs."""
    shares = np.array(typical.shares_ppm, dtype=np.float64)
    asked = np.array([demand.total_gpu_milli for demand in typical.demands], dtype=np.float64)
    mean = float(shares @ asked / shares.sum())
    count = int(cluster.free.sum() * ARRIVALS_PER_CENT / 100 / mean) + 1
    drawn = chance.choice(len(shares), size=count, p=shares / shares.sum())
    return [typical.demands[index] for index in drawn]
