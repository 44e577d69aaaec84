"""The sections of ``docs/evidence.md`` on placement, packing and scaling, each from its JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Facts = Mapping[str, Any]


def placement(facts: Facts) -> str:
    """The joint choice of sites beside the exact optimum, and how fast it is."""
    return f"""## Placement

Beside an exact model of the same problem (HiGHS): {100 * facts["gap_mean"]:.2f} % dearer on
average, {100 * facts["gap_max"]:.2f} % at worst. All services of a network of 100,000 nodes and
1,000 services are placed together in {facts["seconds_100k_nodes_1k_services"]:.1f} s on one core;
single placements among 100,000 nodes run at {facts["place_per_second"]:,.0f} a second; after the
loss of 1 % of the nodes a new plan takes {facts["replan_after_1pct_node_loss_seconds"]:.2f} s.
"""


def packing(facts: Facts) -> str:
    """GPU allocation on the published workloads, in percent."""
    columns = ("random", "bestfit", "fgd_published", "fgd_here", "ours", "ours_online")
    rows = []
    for name, row in sorted(facts["workloads"].items()):
        told = (row.get(column) for column in columns)
        cells = (f"{value:.2f}" if value is not None else "-" for value in told)
        rows.append(f"| {name} | {' | '.join(cells)} |")
    lines = "\n".join(rows)
    return f"""## Packing

Share of GPUs allocated, in percent, by the published protocol of FGD (ATC 2023) on its cluster.

| workload | random | best fit | FGD, published | FGD, here | ours | ours, online |
| --- | --- | --- | --- | --- | --- | --- |
{lines}
"""


def scaling(facts: Facts) -> str:
    """Objective attainment and replica-hours on the traces."""
    policies = ("peak", "target_concurrency", "clairvoyant", "ours")
    rows = []
    for name, trace in sorted(facts["traces"].items()):
        cells = (
            f"{100 * trace[policy]['attainment']:.2f} %, {trace[policy]['replica_hours']:,.1f} h"
            for policy in policies
        )
        rows.append(f"| {name} | {' | '.join(cells)} |")
    lines = "\n".join(rows)
    return f"""## Scaling

Share of objective intervals met, and replica-hours, on public traces in simulated time.

| trace | fixed peak | target concurrency | clairvoyant | ours |
| --- | --- | --- | --- | --- |
{lines}
"""
