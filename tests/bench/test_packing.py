"""What the packing benchmark calls the running fit is what the placement rule decides."""

from __future__ import annotations

import random

from bench.packing_running import Running, is_by_rule

from isochrone.rules.packing.cluster import Placement
from isochrone.rules.packing.demand import Demand, Residual

MACHINES = [
    Residual(
        cpu_milli=cores * 1000, memory_mib=65_536, gpu_milli=(1000,) * gpus, models=(name,) * gpus
    )
    for cores, gpus, name in ((16, 1, "T4"), (32, 2, "T4"), (64, 4, "G2"), (96, 8, "V100M16")) * 3
]


def demand(chance: random.Random) -> Demand:
    gpus = chance.choice((0, 1, 1, 1, 2))
    return Demand(
        cpu_milli=chance.choice((1000, 4000, 8000)),
        memory_mib=chance.choice((512, 8192)),
        gpu_count=gpus,
        gpu_milli=chance.choice((200, 470, 500, 810, 1000)) if gpus == 1 else 1000,
        models=chance.choice(((), (), ("T4",), ("V100",))) if gpus else (),
    )


def test_the_rule_decides_as_the_benchmark_with_arrivals_and_departures() -> None:
    chance = random.Random("running")
    cluster = Running(MACHINES)
    stands: list[tuple[Placement, Demand]] = []
    refused = 0
    for _ in range(90):
        one = demand(chance)
        if cluster.saw(one):  # the rule takes the mix anew each time, the benchmark now and then
            assert is_by_rule(cluster, one)
        placement = cluster.place(one)
        if placement is None:
            refused += 1
        else:
            stands.append((placement, one))
        if chance.random() < 0.3 and stands:
            cluster.release(*stands.pop(chance.randrange(len(stands))))
    assert len(stands) > 20
    assert refused, "and where nothing fits, neither of them places anything"
