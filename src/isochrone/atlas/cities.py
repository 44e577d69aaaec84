"""Cities by name, and the city nearest to a point.

A city's id is its metro slug: lower-case, ASCII, hyphens (``sao-paulo``). Where several cities
share a name the most populous has the bare slug; every city also answers to ``slug-cc`` with its
country (``valencia`` is in Venezuela, ``valencia-es`` in Spain). Places found here are those of
the city's centre and never a claim that anything stands there.

Not here: districts are listed like cities (GeoNames does so) and marked with ``part_of``; nothing
below 100,000 inhabitants unless it is its country's largest or round trips were measured there.
"""

from __future__ import annotations

import difflib
import math
import re
import unicodedata
from bisect import bisect_left
from functools import lru_cache

import msgspec

from isochrone.atlas.packaged import read_rows
from isochrone.schema.errors import InvalidInput, NotFound
from isochrone.schema.place import Place, great_circle_km

_POINT = re.compile(r"(-?\d{1,2}(?:\.\d{1,9})?)\s*,\s*(-?\d{1,3}(?:\.\d{1,9})?)")

LEAST_KM_PER_DEGREE = 111.0
"""A degree of latitude is a little more than that on the sphere of ``great_circle_km``."""


class City(msgspec.Struct, frozen=True, kw_only=True):
    """A city: its name as people write it, its place (with the metro slug), its inhabitants.

    ``part_of`` is the metro of a larger city of the country within 25 km, or empty. A population
    of 0 means a small place that is listed because round trips were measured there.
    """

    name: str
    place: Place
    population: int
    part_of: str = ""


def slug(name: str) -> str:
    """``São Paulo`` -> ``sao-paulo``."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")


@lru_cache(maxsize=1)
def all_cities() -> tuple[City, ...]:
    """Every known city, most populous first."""
    return tuple(
        City(
            name=row["name"],
            place=Place(
                latitude=float(row["latitude"]),
                longitude=float(row["longitude"]),
                country=row["country"],
                metro=row["metro"],
            ),
            population=int(row["population"]),
            part_of=row["part_of"],
        )
        for row in read_rows("cities.csv.gz")
    )


@lru_cache(maxsize=1)
def _by_name() -> dict[str, City]:
    """Every spelling that finds a city: ids first, then aliases, then slug-cc, largest first."""
    cities = all_cities()
    names = {city.place.metro: city for city in cities}
    for row in read_rows("cities.csv.gz"):
        for alias in filter(None, row["aliases"].split("|")):
            names.setdefault(alias, names[row["metro"]])
    for city in cities:
        for spelling in (city.place.metro, slug(city.name)):
            names.setdefault(f"{spelling}-{city.place.country.lower()}", city)
    return names


def find_city(name: str) -> City | None:
    """The city of that name or slug (any case and accents), or None."""
    return _by_name().get(slug(name))


def city(name: str) -> City:
    """The city of that name or slug, e.g. ``frankfurt``, ``São Paulo``, ``valencia-es``.

    Raises NotFound with the nearest names.
    """
    found = find_city(name)
    if found is None:
        near = suggest(name)
        hint = f"Did you mean {', '.join(near)}?" if near else "Name a city of 100,000 or more."
        raise NotFound(f"No city {name[:60]!r} in the atlas.", fix=hint)
    return found


def place_named(text: str) -> Place:
    """A place as people write it: a city (its centre), or ``LATITUDE,LONGITUDE`` in degrees.

    A vantage states its own point to a kilometre, or near a border it proves too much; a city's
    centre may be 25 km away. A point has the country whose land it is on (at sea the nearest
    city's) and the nearest city's metro. Raises NotFound or InvalidInput.
    """
    written = _POINT.fullmatch(text.strip())
    if written is None:
        return city(text).place
    latitude, longitude = (float(number) for number in written.groups())
    if abs(latitude) > 90 or abs(longitude) > 180:
        raise InvalidInput(f"{text[:60]!r} is not on Earth.", fix="Write 50.11,8.68: north, east.")
    from isochrone.atlas.borders import country_at  # numpy, for points only

    nearest = nearest_city(latitude, longitude).place
    country = country_at(latitude, longitude) or nearest.country
    return Place(latitude=latitude, longitude=longitude, country=country, metro=nearest.metro)


def suggest(name: str, count: int = 3) -> list[str]:
    """Up to ``count`` known spellings that look like ``name``, best first."""
    return difflib.get_close_matches(slug(name)[:60], _by_name(), n=count, cutoff=0.75)


def nearest_city(latitude: float, longitude: float) -> City:
    """The city whose centre is nearest to a point; districts count as their city.

    Of equally near ones the most populous. Looks at cities by latitude, outwards, until those that
    are left are farther away by latitude alone.
    """
    point = Place(latitude=latitude, longitude=longitude, country="", metro="")
    latitudes, ranks = _by_latitude()
    middle = bisect_left(latitudes, latitude)
    cities, best = all_cities(), (math.inf, -1)
    for row in (range(middle, len(ranks)), range(middle - 1, -1, -1)):
        for at in row:
            if abs(latitudes[at] - latitude) * LEAST_KM_PER_DEGREE > best[0]:
                break
            best = min(best, (great_circle_km(point, cities[ranks[at]].place), ranks[at]))
    return cities[best[1]]


@lru_cache(maxsize=1)
def _by_latitude() -> tuple[list[float], list[int]]:
    """Latitudes of all cities that are no districts, rising, and their places in the list."""
    mains = [rank for rank, city in enumerate(all_cities()) if not city.part_of]
    mains.sort(key=lambda rank: all_cities()[rank].place.latitude)
    return [all_cities()[rank].place.latitude for rank in mains], mains
