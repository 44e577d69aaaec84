"""An audience in words ("Europe", "DE", "sao-paulo") as weighted points on the map.

A share of an audience names a city, a country, a bloc or a continent; a name that could be both
an area and a city means the area, unless it is written ``city:NAME``. Countries are weighted by
their internet users and spread over their cities by population; then at most 60 points are kept:
one for each of the heaviest countries, the rest dealt out by D'Hondt's method (like seats of a
parliament). Every city left out gives its weight to the nearest kept point, of its own country if
that has one. So no part of the audience is forgotten, and "Europe" costs a placement 60 points,
not 800.

Deterministic: no randomness, ties broken by name. What it does not know: who really calls. Once
traffic flows, measured demand is the better audience.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping
from functools import lru_cache

from isochrone.atlas.blocs import (
    CONTINENTS,
    MISSPELT,
    bloc_name,
    blocs,
    countries,
    country_code,
    near_areas,
)
from isochrone.atlas.cities import City, all_cities, find_city, suggest
from isochrone.schema.decision import AudiencePoint
from isochrone.schema.errors import InvalidInput
from isochrone.schema.place import great_circle_km
from isochrone.schema.service import AudienceShare

POINTS_MAX = 60
"""Points of one audience. Placement looks at points x nodes: 60 x 10,000 round trips stay under
5 MB and 50 ms, and the cities left out are on average a few ms from the point that stands for
them."""


CITY_PREFIX = "city:"
"""Says that a name means a city, whatever else is called so."""


def audience_points(
    shares: Iterable[AudienceShare], points_max: int = POINTS_MAX
) -> tuple[AudiencePoint, ...]:
    """The points of an audience, heaviest first, weights summing to 1.

    Raises InvalidInput for an empty audience, an unknown name (with near names), a weight that is
    not a positive number, an area without any known city, or more cities than ``points_max``.
    """
    weights: dict[str, float] = {}
    named: set[str] = set()
    for share in _normalised(tuple(shares)):
        for metro, part in _spread(share.where).items():
            weights[metro] = weights.get(metro, 0.0) + share.weight * part
        city = _named_city(share.where)
        named |= {city.place.metro} if city else set()
    if len(named) > points_max:
        raise InvalidInput(
            f"The audience names {len(named)} cities; the limit is {points_max}.",
            fix="Name countries or continents instead.",
        )
    kept = _choose(weights, named, points_max)
    return _points(_gather(weights, kept))


def audience_countries(where: str) -> frozenset[str]:
    """The countries that a share's name means; a city's own country. Raises InvalidInput."""
    members = _area(where)
    if members is not None:
        return members
    city = _named_city(where)
    if city is None:
        raise InvalidInput(f"Nobody knows where the audience {where[:60]!r} is.", fix=_fix(where))
    return frozenset((city.place.country,))


def _normalised(shares: tuple[AudienceShare, ...]) -> tuple[AudienceShare, ...]:
    if not shares:
        raise InvalidInput("The audience is empty.", fix="Name cities, countries or continents.")
    for share in shares:
        if not (math.isfinite(share.weight) and share.weight > 0):
            raise InvalidInput(
                f"The weight of audience {share.where[:60]!r} is {share.weight}.",
                fix="Weights are numbers above 0; they are relative to each other.",
            )
    # Scaling by the largest first keeps huge weights from adding up to infinity.
    largest = max(share.weight for share in shares)
    scaled = [share.weight / largest for share in shares]
    total = math.fsum(scaled)
    return tuple(
        AudienceShare(where=share.where, weight=weight / total)
        for share, weight in zip(shares, scaled, strict=True)
    )


def _area(where: str) -> frozenset[str] | None:
    """The countries of a bloc, continent or country code; None when the name is none of them."""
    proper, code = bloc_name(where), country_code(where)
    if proper is not None:
        return blocs()[proper]
    continent = CONTINENTS.get(where.title())
    if continent is not None:
        return frozenset(c.iso2 for c in countries().values() if c.continent == continent)
    return None if code is None else frozenset((code,))


def _named_city(where: str) -> City | None:
    """The city a share names; areas come first (``SG`` is the country, ``singapore`` the city)."""
    if where.startswith(CITY_PREFIX):
        return find_city(where.removeprefix(CITY_PREFIX))
    return find_city(where) if _area(where) is None else None


def _spread(where: str) -> dict[str, float]:
    """Metro -> part of the share, summing to 1."""
    members = audience_countries(where)
    city = _named_city(where)
    if city is not None:
        return {city.place.metro: 1.0}
    people = {
        code: max(1, countries()[code].internet_users) for code in members if code in _main_cities()
    }
    total = sum(people.values())
    if not people:
        raise InvalidInput(
            f"The atlas has no city in {where[:60]}.", fix="Name a city near this audience."
        )
    spread = {}
    for code in sorted(people):
        cities = _main_cities()[code]
        inhabitants = sum(max(1, city.population) for city in cities)
        for city in cities:
            spread[city.place.metro] = people[code] / total * max(1, city.population) / inhabitants
    return spread


@lru_cache(maxsize=1)
def _main_cities() -> dict[str, tuple[City, ...]]:
    """Country -> its cities without districts, most populous first."""
    mains: dict[str, list[City]] = {}
    for city in all_cities():
        if not city.part_of:
            mains.setdefault(city.place.country, []).append(city)
    return {code: tuple(cities) for code, cities in mains.items()}


@lru_cache(maxsize=1)
def _metros() -> dict[str, City]:
    return {city.place.metro: city for city in all_cities()}


def _choose(weights: Mapping[str, float], named: set[str], points_max: int) -> list[City]:
    """Named cities; a seat for each of the heaviest countries; the rest dealt out by weight."""
    kept = [_metros()[metro] for metro in sorted(named)]
    waiting: dict[str, list[str]] = {}
    total: dict[str, float] = {}
    for metro in sorted(weights, key=lambda metro: (weights[metro], metro)):
        country = _metros()[metro].place.country
        total[country] = total.get(country, 0.0) + weights[metro]
        if metro not in named:
            waiting.setdefault(country, []).append(metro)
    seats = {code: sum(1 for city in kept if city.place.country == code) for code in total}
    for code in sorted(waiting, key=lambda code: (-total[code], code)):
        if seats[code] == 0 and len(kept) < points_max // 2:
            kept.append(_metros()[waiting[code].pop()])
            seats[code] = 1
    return kept + _deal(waiting, total, seats, points_max - len(kept))


def _deal(
    waiting: dict[str, list[str]],
    total: Mapping[str, float],
    seats: dict[str, int],
    count: int,
) -> list[City]:
    """Up to ``count`` more cities by D'Hondt's method; takes them from the ends of ``waiting``."""
    queue = [(-total[code] / (seats[code] + 1), code) for code in waiting if waiting[code]]
    heapq.heapify(queue)
    dealt: list[City] = []
    while queue and len(dealt) < count:
        _, code = heapq.heappop(queue)
        dealt.append(_metros()[waiting[code].pop()])
        seats[code] += 1
        if waiting[code]:
            heapq.heappush(queue, (-total[code] / (seats[code] + 1), code))
    return dealt


def _gather(weights: Mapping[str, float], kept: list[City]) -> dict[str, float]:
    """Metro kept -> its own weight and that of the cities left out which it stands for."""
    gathered = dict.fromkeys((city.place.metro for city in kept), 0.0)
    for metro in sorted(weights):
        if metro in gathered:
            gathered[metro] += weights[metro]
            continue
        left_out = _metros()[metro].place
        home = [city for city in kept if city.place.country == left_out.country]
        nearest = min(home or kept, key=lambda city: great_circle_km(left_out, city.place))
        gathered[nearest.place.metro] += weights[metro]
    return gathered


def _points(gathered: Mapping[str, float]) -> tuple[AudiencePoint, ...]:
    total = math.fsum(gathered.values())
    order = sorted(gathered, key=lambda metro: (-gathered[metro], metro))
    return tuple(
        AudiencePoint(place=_metros()[metro].place, weight=gathered[metro] / total)
        for metro in order
    )


def _fix(where: str) -> str:
    if where.upper() in MISSPELT:
        return f"Did you mean {MISSPELT[where.upper()]}?"
    name = where.removeprefix(CITY_PREFIX)
    near = [*near_areas(name), *suggest(name)][:3]
    if near:
        return f"Did you mean {', '.join(near)}?"
    return "Use a city, an ISO 3166 code (DE), a bloc (EU), a continent (Europe) or world."
