"""People, sites and the round trips between them, for ``bench.reach``.

*People*: the cities of 15,000 inhabitants or more; a country's internet users are spread over its
cities by their population (as ``atlas.audience`` does with larger cities; districts that the
list has beside their city count too). *Sites*: any city of 200,000 inhabitants or more, any metro
with a cloud's region or a measurement server, and the largest city of each country. *Chosen*: in
the greedy order of ``rules.coverage_order``, which counts people within 10, 25 and 50 ms at once,
so that one list of sites stands behind all shares; its first 50, 200, 1,000 are the sets.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from isochrone.atlas.blocs import CONTINENTS, countries
from isochrone.atlas.cities import all_cities, slug
from isochrone.atlas.sites import candidate_sites
from isochrone.rules.coverage_order import order
from isochrone.schema.place import Place

Floats = NDArray[np.float64]
RoundTrips = Callable[[Sequence[Place], Sequence[Place]], Floats]

BOUNDS_MS = (50, 25, 10)
ACCESS_MS = (0, 2, 10)
SIZES = (50, 200, 1000)
SITE_POPULATION_MIN = 200_000
ROWS = 1_000
"""Cities whose round trips are worked out at once."""

WEIGHT_UNITS = 1_000_000_000
"""All people, in whole units."""

CLIP_MS = 600.0
"""Round trips are kept as hundredths in 16 bits; beyond this nothing is asked."""


class People(NamedTuple):
    """Cities and how many of ``WEIGHT_UNITS`` live there."""

    places: tuple[Place, ...]
    weights: NDArray[np.int64]


def people(cities: Path, users_by_country: Path, every: int = 1) -> People:
    """Read the cities, weighted by internet users. ``every``: only each so-many-th city."""
    with users_by_country.open(encoding="utf-8", newline="") as file:
        users = {row["iso2"]: float(row["internet_users"] or 0) for row in csv.DictReader(file)}
    with cities.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))[::every]
    inhabitants: defaultdict[str, float] = defaultdict(float)
    for row in rows:
        inhabitants[row["iso2"]] += _population(row)
    metros = {(slug(c.name), c.place.country): c.place.metro for c in reversed(all_cities())}
    weights = [
        users.get(row["iso2"], 0.0) * _population(row) / inhabitants[row["iso2"]] for row in rows
    ]
    scale = WEIGHT_UNITS / sum(weights)
    places = tuple(
        Place(
            latitude=float(row["latitude"]),
            longitude=float(row["longitude"]),
            country=row["iso2"],
            metro=metros.get((slug(row["name"]), row["iso2"]), ""),
        )
        for row in rows
    )
    return People(places, np.array([round(weight * scale) for weight in weights], dtype=np.int64))


def _population(row: Mapping[str, str]) -> float:
    return max(1.0, float(row["population"]))  # some listed cities are given none


def possible_sites() -> tuple[Place, ...]:
    """Where the chosen sites may be, most populous first."""
    named = {site.place.metro for site in candidate_sites()}
    return tuple(
        city.place
        for city in all_cities()
        if city.place.metro in named
        or (city.population >= SITE_POPULATION_MIN and not city.part_of)
    )


def table(rows: Sequence[Place], sites: Sequence[Place], round_trips: RoundTrips) -> NDArray:
    """Round trips in hundredths of a millisecond, uint16, ordered by columns."""
    kept = np.empty((len(rows), len(sites)), dtype=np.uint16, order="F")
    for first in range(0, len(rows), ROWS):
        block = round_trips(rows[first : first + ROWS], sites)
        kept[first : first + ROWS] = np.rint(np.minimum(block, CLIP_MS) * 100)
    return kept


def chosen(weights: NDArray[np.int64], rtt: NDArray, count: int) -> list[int]:
    """The sites in the order in which they add most people within any of the bounds."""
    return order(weights, [rtt <= bound * 100 for bound in BOUNDS_MS], count)


def best(rtt: NDArray, sites: Sequence[int]) -> Floats:
    """Each city's round trip to the nearest of some sites, milliseconds."""
    nearest = np.full(rtt.shape[0], np.iinfo(np.uint16).max, dtype=np.uint16)
    for site in sites:
        np.minimum(nearest, rtt[:, site], out=nearest)
    return nearest / 100.0


def shares(weights: NDArray[np.int64], times: dict[str, Floats]) -> dict[str, dict[str, float]]:
    """``share_within_50ms`` and so on, with their access suffixes: set of sites -> share."""
    whole = int(weights.sum())
    found: dict[str, dict[str, float]] = {}
    for access in ACCESS_MS:
        for bound in BOUNDS_MS:
            key = f"share_within_{bound}ms" + (f"_access{access}" if access else "")
            found[key] = {
                name: round(int(weights[ms + access <= bound].sum()) / whole, 4)
                for name, ms in times.items()
            }
    return found


def shares_by_continent(
    who: People, times: Mapping[str, Floats], bound_ms: float
) -> dict[str, dict[str, float]]:
    """Continent -> its share of all people, and of its people within a bound by set of sites."""
    named = {code: name for name, code in CONTINENTS.items()}
    known = countries()
    codes = np.array([known[place.country].continent for place in who.places], dtype=np.str_)
    whole = int(who.weights.sum())
    found = {}
    for code in sorted(set(codes.tolist())):
        rows = codes == code
        here = int(who.weights[rows].sum())
        if not here:
            continue
        near = {
            name: round(int(who.weights[rows & (ms <= bound_ms)].sum()) / here, 4)
            for name, ms in times.items()
        }
        found[named[code]] = {"people": round(here / whole, 4), **near}
    return found
