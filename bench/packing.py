"""How much of a cluster's GPUs packing allocates: ``python -m bench.packing --json``.

First, the published protocol of FGD (Weng et al., USENIX ATC 2023) on the openb trace: arrivals
only, shuffled and inflated to 130 % of the cluster's GPUs, 10 seeds; Random, BestFit and FGD beside
ours, with the same simulator. Then what it leaves out (``packing_live``): departures, failed nodes,
demands that the law keeps in some countries, for FGD and ours.

``ours`` knows the workload's distribution and rehearsed on seeds of its own; ``ours_online`` knows
only what has arrived; ``running`` is what a cell's controller does: it knows as much and rehearses
nothing (``packing_running``, checked by the placement rule itself). All place whatever fits
somewhere and move nothing. The weights were tuned on other arrivals than those reported. The last
line on standard output is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from bench.conditions import conditions
from bench.data import DEFAULT_FOLDER, need, need_table, stop
from bench.packing_live import live
from bench.packing_runs import Outcome, known_table, run_seed
from bench.packing_trace import PREFIX, SUFFIX, name_of, pods_of, published

SEEDS = 10
PROCESSES = 2
DEFAULT_WORKLOADS = ("default", "gpuspec33")
NUMBERS = {
    "cpu_milli": (0, 1e7),
    "memory_mib": (0, 1e8),
    "num_gpu": (0, 1000),
    "gpu_milli": (0, 1000),
}
"""Columns of a pod list, their least and most: thousandths of a GPU are of one GPU."""

POLICIES = ("random", "bestfit", "fgd_here", "ours", "ours_online", "running")


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description="How much of a cluster's GPUs is allocated.")
    parser.add_argument("--json", action="store_true", help="the last line is JSON (always so)")
    parser.add_argument("--data", default=DEFAULT_FOLDER, help="folder of the data files")
    parser.add_argument("--pods", help="another pod list, in the format of openb_pods_*.csv")
    parser.add_argument("--quick", action="store_true", help="one seed, for a smoke run")
    chosen = parser.parse_args()
    if chosen.pods:
        lists = [own_pods(chosen.pods)]
    else:
        lists = [need(chosen.data, f"{PREFIX}{name}{SUFFIX}") for name in DEFAULT_WORKLOADS]
    need(chosen.data, "openb_nodes.csv")
    need(chosen.data, "openb_expected_allocation.csv")
    seeds = 1 if chosen.quick else SEEDS
    print(conditions(f"numpy {np.__version__}", f"{seeds} seeds", f"{PROCESSES} processes"))
    workloads, speeds = {}, []
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(PROCESSES, mp_context=context) as pool:
        tables = list(pool.map(partial(known_table, chosen.data), lists))
        for pods, table in zip(lists, tables, strict=True):
            print(f"{name_of(pods)} ...", file=sys.stderr)
            run = partial(run_seed, chosen.data, pods, table=table)
            runs = list(pool.map(run, range(seeds)))
            workloads[name_of(pods)] = _row(chosen.data, pods, runs)
            speeds += [one["ours"].placements_per_second for one in runs]
        lived = live(chosen.data, lists[0], 1 if chosen.quick else 4, pool)
    result = {
        "workloads": workloads,
        "placements_per_second": round(statistics.median(speeds)),
        "live": lived,
    }
    print(json.dumps(result))


def own_pods(path: str | Path) -> Path:
    """A pod list that was named; SystemExit (2) where it is none, or asks for no GPU at all."""
    found = need_table(path, f"{PREFIX}default{SUFFIX}", NUMBERS, ("gpu_spec",))
    demands = [pod.demand for pod in pods_of(found)]
    if any(demand.gpu_count and not demand.gpu_milli for demand in demands):
        stop(f"A pod of {found} asks for GPUs (num_gpu) and for nothing of them (gpu_milli 0).")
    if not any(demand.gpu_count for demand in demands):
        stop(f"No pod of {found} asks for a GPU: what share of them is allocated says nothing.")
    return found


def _row(folder: str, pods: Path, runs: list[dict[str, Outcome]]) -> dict[str, float | None]:
    """The means over the seeds; the first refusal is the earliest of ours over all seeds."""
    means: dict[str, float | None] = {
        policy: round(statistics.fmean(run[policy].allocated_pct for run in runs), 2)
        for policy in POLICIES
    }
    refusals = [run["ours"].first_refusal_pct for run in runs]
    print(
        f"  {means}; first refusals {[round(float(value), 1) for value in refusals]}",
        file=sys.stderr,
    )
    return {
        "random": means["random"],
        "bestfit": means["bestfit"],
        "fgd_published": published(folder, name_of(pods), "FGD"),
        "fgd_here": means["fgd_here"],
        "ours": means["ours"],
        "ours_online": means["ours_online"],
        "running": means["running"],
        "first_refusal_pct": round(min(refusals), 2),
        "first_refusal_online_pct": round(
            min(run["ours_online"].first_refusal_pct for run in runs), 2
        ),
        "first_refusal_running_pct": round(
            min(run["running"].first_refusal_pct for run in runs), 2
        ),
        "first_refusal_fgd_pct": round(min(run["fgd_here"].first_refusal_pct for run in runs), 2),
        "random_published": published(folder, name_of(pods), "Random"),
        "bestfit_published": published(folder, name_of(pods), "BestFit"),
    }


if __name__ == "__main__":
    main()
