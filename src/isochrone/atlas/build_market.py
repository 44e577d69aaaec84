"""Rebuild the planner's data: ``python -m isochrone.atlas.build_market FOLDER [OUT]``.

FOLDER holds ``cloud_regions.csv`` and ``gpu_prices.csv``, as ``data/ATTRIBUTION.md`` describes
them. Three files come of it:

* ``cloud_regions.csv``: regions of public clouds, each with the metro of the atlas it stands in;
* ``gpu_prices.csv``: medians of what is asked for a GPU, by class of provider, AWS also by region;
* ``price_index.csv``: what the same AWS instance costs in a country, beside Northern Virginia.

Rules of this file: prices are on demand (spot and interruptible offers are another product). A
hyperscaler sells one GPU in instances of many sizes and is counted by the cheapest of each region,
since nobody has to buy more cores than they need. A median is over providers first, so that
one provider's thirty regions do not outvote the others. Deterministic; not imported at run time.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import median
from typing import NamedTuple

from isochrone.atlas.build_data import read, write_csv
from isochrone.atlas.cities import all_cities
from isochrone.schema.place import Place, great_circle_km

ON_DEMAND = frozenset({"on-demand", "secure", "community"})
"""Kinds of billing that a renter may keep for as long as it pays; spot may be taken away."""

HOME_REGION = "us-east-1"
"""Where AWS's list prices are lowest: the index is relative to it."""

STEP_FROM, STEP_TO, STEP_CPUS = "g6.2xlarge", "g6.4xlarge", 8
"""Two instances that differ by 8 virtual CPUs and 32 GiB only: what AWS asks for those alone."""

CPU = "vCPU with 4 GiB"
INDEPENDENT_CPU = (0.0248, "Nebius list price by skypilot-catalog v8 at 0082b043")
"""US dollars an hour for a virtual CPU and 4 GiB: 0.016 and 4 × 0.0022."""


class Ask(NamedTuple):
    """One median on its way into ``gpu_prices.csv``; ``where`` is empty for everywhere."""

    gpu: str
    provider_class: str
    where: str
    usd_per_hour: float
    rows: int
    providers: int
    dates: str


def nearest_metro(latitude: float, longitude: float) -> str:
    """The metro of the atlas whose centre is nearest to a point."""
    point = Place(latitude=latitude, longitude=longitude, country="", metro="")
    mains = [city.place for city in all_cities() if not city.part_of]
    return min(mains, key=lambda place: great_circle_km(point, place)).metro


def regions(source: Path) -> list[tuple[object, ...]]:
    """Cloud regions with their metro, by provider and name."""
    rows = []
    for row in read(source):
        latitude, longitude = float(row["latitude"]), float(row["longitude"])
        rows.append(
            (
                *(row["provider"], row["region"], row["location"], row["iso2"]),
                *(latitude, longitude, nearest_metro(latitude, longitude), row["gpus_offered"]),
            )
        )
    return sorted(rows)


def asks(offers: Iterable[Mapping[str, str]]) -> list[Ask]:
    """Medians by GPU and class everywhere; for AWS also by region."""
    kept = list(offers)
    groups: dict[tuple[str, str, str], list[Mapping[str, str]]] = defaultdict(list)
    for row in kept:
        groups[row["gpu"], row["provider_class"], ""].append(row)
        if row["provider"] == "AWS" and row["instance"]:
            groups[row["gpu"], row["provider_class"], row["region"]].append(row)
        elif row["provider_class"] == "india_cloud":
            groups[row["gpu"], row["provider_class"], "IN"].append(row)
    found = [_ask(gpu, kind, where, rows) for (gpu, kind, where), rows in groups.items()]
    return sorted([*found, *_cpus(kept)])


def _ask(gpu: str, kind: str, where: str, rows: list[Mapping[str, str]]) -> Ask:
    offers: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        offers[row["provider"]][row["region"]].append(float(row["usd_per_gpu_hour"]))
    middles = [
        median(map(min, places.values()))
        if kind == "hyperscaler"
        else median(price for prices in places.values() for price in prices)
        for places in offers.values()
    ]
    dates = "|".join(sorted({row["date"] or "undated" for row in rows}))
    return Ask(gpu, kind, where, round(median(middles), 4), len(rows), len(middles), dates)


def _cpus(rows: list[Mapping[str, str]]) -> list[Ask]:
    """What a virtual CPU with 4 GiB costs: AWS's step between two instances, region by region."""
    price = {(row["region"], row["instance"]): float(row["usd_per_gpu_hour"]) for row in rows}
    steps = {
        region: (price[region, STEP_TO] - price[region, STEP_FROM]) / STEP_CPUS
        for region, instance in price
        if instance == STEP_TO and (region, STEP_FROM) in price
    }
    dates = "|".join(sorted({row["date"] for row in rows if row["instance"] == STEP_TO}))
    found = [
        Ask(CPU, "hyperscaler", region, round(step, 4), 2, 1, dates)
        for region, step in steps.items()
    ]
    if steps:
        middle = round(median(steps.values()), 4)
        found.append(Ask(CPU, "hyperscaler", "", middle, 2 * len(steps), 1, dates))
    return [*found, Ask(CPU, "neocloud", "", INDEPENDENT_CPU[0], 1, 1, "undated")]


def index(offers: Iterable[Mapping[str, str]]) -> list[tuple[str, float, int]]:
    """(country, median ratio to the same instance in Northern Virginia, instances compared)."""
    rows = [row for row in offers if row["instance"] and row["country"]]
    home = {
        row["instance"]: float(row["usd_per_gpu_hour"])
        for row in rows
        if row["region"] == HOME_REGION
    }
    ratios: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        public = "-gov-" not in row["region"]  # sold to governments only
        if row["instance"] in home and row["provider"] == "AWS" and public:
            price = float(row["usd_per_gpu_hour"])
            ratios[row["country"]].append(price / home[row["instance"]])
    return [(code, round(median(ratios[code]), 3), len(ratios[code])) for code in sorted(ratios)]


def build(folder: Path, out: Path) -> None:
    """Write the planner's files."""
    write_csv(
        out / "cloud_regions.csv",
        ["provider", "region", "location", "country", "latitude", "longitude", "metro", "gpus"],
        regions(folder / "cloud_regions.csv"),
    )
    offers = [row for row in read(folder / "gpu_prices.csv") if row["billing"] in ON_DEMAND]
    write_csv(out / "gpu_prices.csv", list(Ask._fields), asks(offers))
    write_csv(out / "price_index.csv", ["country", "factor", "rows"], index(offers))


if __name__ == "__main__":
    arguments = [Path(text) for text in sys.argv[1:]]
    if not 1 <= len(arguments) <= 2:
        sys.exit("usage: python -m isochrone.atlas.build_market FOLDER [OUT]")
    build(arguments[0], arguments[1] if len(arguments) == 2 else Path(__file__).parent / "data")
