"""One seed of one workload under every policy, arrivals only: what ``bench.packing`` averages."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import msgspec
from bench.packing_policies import BestFit, Fgd, Random
from bench.packing_running import Running, is_by_rule
from bench.packing_trace import capacity_milli, nodes_of, pods_of, shuffled_nodes, stream

from isochrone.rules.packing.cluster import Cluster
from isochrone.rules.packing.demand import Demand, Residual
from isochrone.rules.packing.fragmentation import Typical, typical_of
from isochrone.rules.packing.holes import Table
from isochrone.rules.packing.rehearsal import rehearse

OURS_POPULARITY_PPM = 1_000_000
"""Ours looks at all demands, the rare ones too; FGD, as published, at the commonest 95 %."""

KNOWN_ROUNDS, KNOWN_SEED = 8, 1_000
"""Rehearsals when the workload is known, on all nodes, with a seed of their own."""

ONLINE_ROUNDS, ONLINE_SEED = 2, 2_000
ONLINE_FIRST, ONLINE_GROWTH = 200, 2.0
"""When only arrivals are known: learn anew at 200 arrivals and at each doubling."""

ONLINE_PART = 6
"""A sixth of the nodes, drawn evenly, is enough to learn between arrivals what holes are worth."""


class Outcome(msgspec.Struct, frozen=True):
    """One run: GPUs allocated, arrivals at the first refusal (all if none), processor's speed."""

    allocated_pct: float
    first_refusal_pct: float
    placements_per_second: float


def known_table(folder: str, pods: Path) -> Table:
    """What holes are worth under a workload whose distribution is known."""
    typical = typical_of((pod.demand for pod in pods_of(pods)), OURS_POPULARITY_PPM)
    nodes = shuffled_nodes(nodes_of(folder), KNOWN_SEED)
    return rehearse(nodes, typical, KNOWN_ROUNDS, KNOWN_SEED)


def run_seed(folder: str, pods: Path, seed: int, table: Table) -> dict[str, Outcome]:
    """Every policy on the same arrivals and the same names."""
    nodes = nodes_of(folder)
    demands = [pod.demand for pod in pods_of(pods)]
    order = stream(demands, capacity_milli(nodes), seed)
    named = shuffled_nodes(nodes, seed)
    published = typical_of(demands)
    ours = typical_of(demands, OURS_POPULARITY_PPM)
    return {
        "random": fill(Random(named, published, seed), order),
        "bestfit": fill(BestFit(named, published), order),
        "fgd_here": fill(Fgd(named, published), order),
        "ours": fill(Cluster(named, ours, table), order),
        "ours_online": online(named, order),
        "running": running(named, order, seed),
    }


def fill(
    cluster: Cluster, order: list[Demand], learn: Callable[[int], None] | None = None
) -> Outcome:
    """Place everything that fits; what does not is refused and gone."""
    capacity = cluster.free.sum()
    arrived = allocated = 0
    refused_at = 0
    begun = time.process_time()
    for index, demand in enumerate(order):
        if learn is not None:
            learn(index)
        arrived += demand.total_gpu_milli
        if cluster.place(demand) is not None:
            allocated += demand.total_gpu_milli
        elif not refused_at:
            refused_at = arrived
    seconds = time.process_time() - begun
    if allocated != capacity - cluster.free.sum():
        raise AssertionError("What was placed and what is gone differ.")
    first = (refused_at or arrived) / capacity * 100
    return Outcome(allocated / capacity * 100, first, len(order) / seconds)


def running(nodes: list[Residual], order: list[Demand], seed: int) -> Outcome:
    """The fit of a running cell (``packing_running``), checked by the rule on the first seed."""
    cluster = Running(nodes)

    def learn(index: int) -> None:
        if cluster.saw(order[index]) and seed == 0 and not is_by_rule(cluster, order[index]):
            raise AssertionError(f"The placement rule chooses otherwise at arrival {index}.")

    return fill(cluster, order, learn)


def online(nodes: list[Residual], order: list[Demand]) -> Outcome:
    """Ours, knowing only what has arrived: it learns anew whenever that has doubled."""
    cluster = Cluster(nodes, Typical())
    part = nodes[::ONLINE_PART]
    due = ONLINE_FIRST
    table: Table | None = None

    def learn(index: int) -> None:
        nonlocal due, table
        if index == due // 8 and table is None:
            cluster.learn(typical_of(order[:index], OURS_POPULARITY_PPM))
        if index == due:
            typical = typical_of(order[:index], OURS_POPULARITY_PPM)
            table = rehearse(part, typical, ONLINE_ROUNDS, ONLINE_SEED + index, table)
            cluster.learn(typical, table)
            due = int(due * ONLINE_GROWTH)

    return fill(cluster, order, learn)
