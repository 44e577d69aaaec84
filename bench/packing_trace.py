"""The openb trace and the published protocol that makes a stream of arrivals of it.

Protocol (Weng et al., USENIX ATC 2023, and its simulator): only nodes with GPUs count; the pods are
shuffled by a seed; further pods are drawn from the list with replacement until the requests are
worth 130 % of the cluster's GPUs; nodes stand in an order drawn by the seed, which breaks ties.
"""

from __future__ import annotations

import csv
import random
from collections.abc import Iterable
from pathlib import Path

import msgspec
from bench.data import need, need_file

from isochrone.rules.packing.demand import WHOLE_MILLI, Demand, Residual

ARRIVALS = 1.3
"""Requests worth this share of the cluster's GPUs arrive."""

PREFIX, SUFFIX = "openb_pods_", ".csv"


class Pod(msgspec.Struct, frozen=True):
    """One pod of the trace: what it asks and when it came and went, seconds."""

    demand: Demand
    created_s: int
    deleted_s: int


def nodes_of(folder: str) -> list[Residual]:
    """The nodes with GPUs, all free."""
    found = []
    with need(folder, "openb_nodes.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            gpus = int(row["gpu"])
            if gpus:
                found.append(
                    Residual(
                        cpu_milli=int(row["cpu_milli"]),
                        memory_mib=int(row["memory_mib"]),
                        gpu_milli=(WHOLE_MILLI,) * gpus,
                        models=(row["model"],) * gpus,
                    )
                )
    return found


def pods_of(path: Path) -> list[Pod]:
    """The pods of a list in the trace's format."""
    found = []
    with need_file(path).open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            gpus = int(row["num_gpu"])
            models = sorted({name for name in row["gpu_spec"].split("|") if name})
            demand = Demand(
                cpu_milli=int(row["cpu_milli"]),
                memory_mib=int(row["memory_mib"]),
                gpu_count=gpus,
                gpu_milli=int(row["gpu_milli"]) if gpus else WHOLE_MILLI,
                models=tuple(models) if gpus else (),
            )
            created = int(float(row.get("creation_time") or 0))
            found.append(Pod(demand, created, int(float(row.get("deletion_time") or created))))
    return found


def name_of(path: Path) -> str:
    """The workload's name: of ``openb_pods_default.csv`` it is ``default``."""
    return path.name.removeprefix(PREFIX).removesuffix(SUFFIX)


def published(folder: str, workload: str, policy: str) -> float | None:
    """The published allocation at 130 % arrivals, percent; None where none was published."""
    path = need(folder, "openb_expected_allocation.csv")
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            key = row["workload"], row["policy"], row["arrived_gpu_pct"]
            if key == (workload, policy, "130"):
                return float(row["alloc_pct_mean"])
    return None


def capacity_milli(nodes: Iterable[Residual]) -> int:
    """All GPUs of the nodes, thousandths."""
    return sum(sum(node.gpu_milli) for node in nodes)


def stream(demands: list[Demand], capacity: int, seed: int) -> list[Demand]:
    """The arrivals of one seed: shuffled, then drawn with replacement up to 130 %, or cut there."""
    chance = random.Random(f"arrivals {seed}")
    order = list(demands)
    chance.shuffle(order)
    asked = sum(demand.total_gpu_milli for demand in order)
    while asked > ARRIVALS * capacity:
        asked -= order.pop().total_gpu_milli
    while asked < ARRIVALS * capacity:
        order.append(chance.choice(demands))
        asked += order[-1].total_gpu_milli
    return order


def shuffled_nodes(nodes: list[Residual], seed: int) -> list[Residual]:
    """The nodes in the order of their random names."""
    order = list(nodes)
    random.Random(f"names {seed}").shuffle(order)
    return order
