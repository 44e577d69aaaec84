"""How much dearer a hyperscaler is, GPU by GPU, with how much data that rests on.

A ratio is the median of what hyperscalers ask on demand, divided by the median of what independent
providers ask on demand. Each provider counts once (its own median first), so that thirty regions of
one cloud, or a hundred offers of one marketplace, do not outvote the others. A hyperscaler is
counted by the cheapest instance of each region that has the GPU: its larger ones also sell cores.

Bias: the marketplace's rows are the cheapest offers of each region and so too low, which is why
the ratio to it stands apart; hyperscalers' prices are before discounts for commitment, so too
high for whoever commits; neoclouds' "community" rows are machines of private hosts.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

from isochrone.atlas.build_market import ON_DEMAND

INDEPENDENT = ("neocloud", "india_cloud", "marketplace")
PROVIDERS_MIN = 2
"""On either side; one provider's price is no market."""


def by_provider(rows: Iterable[Mapping[str, str]]) -> dict[str, float]:
    """Each provider's median for one GPU, US dollars an hour."""
    offers: defaultdict[str, defaultdict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    kinds: dict[str, str] = {}
    for row in rows:
        offers[row["provider"]][row["region"]].append(float(row["usd_per_gpu_hour"]))
        kinds[row["provider"]] = row["provider_class"]
    return {
        provider: median(map(min, places.values()))
        if kinds[provider] == "hyperscaler"
        else median(price for prices in places.values() for price in prices)
        for provider, places in offers.items()
    }


def ratios(path: Path) -> dict[str, Any]:
    """``cost_ratio_hyperscaler`` per GPU, and beside it each class's median and counts."""
    with path.open(encoding="utf-8", newline="") as file:
        kept = [row for row in csv.DictReader(file) if row["billing"] in ON_DEMAND]
    found: dict[str, float] = {}
    detail: dict[str, Any] = {}
    for gpu in sorted({row["gpu"] for row in kept}):
        sides = {
            kind: [row for row in kept if row["gpu"] == gpu and row["provider_class"] == kind]
            for kind in ("hyperscaler", *INDEPENDENT)
        }
        hyperscaler = by_provider(sides["hyperscaler"])
        independent = by_provider(row for kind in INDEPENDENT for row in sides[kind])
        if min(len(hyperscaler), len(independent)) < PROVIDERS_MIN:
            continue
        dear = median(hyperscaler.values())
        found[gpu] = round(dear / median(independent.values()), 2)
        detail[gpu] = {"hyperscaler": _told(sides["hyperscaler"])}
        detail[gpu]["independent"] = {
            "usd_per_hour": round(median(independent.values()), 4),
            "providers": len(independent),
        }
        for kind in INDEPENDENT:
            if sides[kind]:
                told = _told(sides[kind])
                told["ratio"] = round(dear / told["usd_per_hour"], 2)
                detail[gpu][kind] = told
    return {"cost_ratio_hyperscaler": found, "prices": detail}


def _told(rows: list[dict[str, str]]) -> dict[str, Any]:
    providers = by_provider(rows)
    return {
        "usd_per_hour": round(median(providers.values()), 4),
        "rows": len(rows),
        "providers": len(providers),
        "dates": sorted({row["date"] or "undated" for row in rows}),
        "sources": sorted({row["source"] for row in rows}),
    }
