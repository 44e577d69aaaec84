"""How many people live where light can prove the jurisdiction: what vantages are worth building.

A city counts as provable at a round trip when some vantage *in its metro* has a disc of that radius
that touches no foreign land (``atlas.borders``, every error subtracted). The vantage need not stand
in the city's centre: whoever wants the proof builds it on the side away from the border, at most
``SITE_KM`` out, a data centre's distance (15 km of fibre with a detour factor of two: 0.3 ms).
``site_km=0`` counts vantages at the centres alone.

What this file does not do: ask whether anybody runs a vantage there, or whether a node in the city
reaches it in that time. Rome is never provable for the EU, since the Vatican lies in it.
"""

from __future__ import annotations

import math
from functools import lru_cache

from isochrone.atlas.blocs import bloc_members
from isochrone.atlas.borders import country_at, foreign_km
from isochrone.atlas.cities import all_cities
from isochrone.schema.place import EARTH_RADIUS_KM, LIGHT_KM_PER_MS, Place

SITE_KM = 15.0
"""How far from its city's centre a vantage of the metro may stand."""

BEARINGS = 8
"""Sites tried around a centre whose own disc touches foreign land."""


def eu_population_provable(rtt_ms: float = 0.5, site_km: float = SITE_KM) -> float:
    """The share of the EU's city population that vantages in the metros can prove to be in the EU.

    Cities of the atlas (100,000 inhabitants and more); districts belong to their city's metro.
    About 3 s.
    """
    return population_provable(bloc_members("EU"), rtt_ms, site_km)


def population_provable(admitted: frozenset[str], rtt_ms: float, site_km: float = SITE_KM) -> float:
    """The share (0 to 1) of the countries' city population in metros provable at a round trip."""
    radius_km = LIGHT_KM_PER_MS * rtt_ms
    cities = [city for city in all_cities() if city.place.country in admitted]
    centres = {city.place.metro: city.place for city in cities if not city.part_of}
    provable = {
        metro
        for metro, centre in centres.items()
        if best_site_km(centre, admitted, site_km, radius_km) > radius_km
    }
    inside = sum(c.population for c in cities if (c.part_of or c.place.metro) in provable)
    return inside / sum(city.population for city in cities)


@lru_cache(maxsize=4096)
def best_site_km(
    centre: Place, admitted: frozenset[str], site_km: float = SITE_KM, enough_km: float = math.inf
) -> float:
    """The farthest from foreign land that a vantage of the metro can stand, kilometres at least.

    Stops looking when a site is farther than ``enough_km``, or none can be.
    """
    best = foreign_km(centre, admitted)
    if best > enough_km or best + site_km <= enough_km < math.inf:
        return best
    for step in range(BEARINGS if site_km else 0):
        site = moved(centre, site_km, 2 * math.pi * step / BEARINGS)
        if country_at(site.latitude, site.longitude) in admitted:  # not in the bay
            best = max(best, foreign_km(site, admitted))
        if best > enough_km:
            break
    return best


def moved(place: Place, km: float, bearing: float) -> Place:
    """The point so many kilometres from a place, ``bearing`` radians east of north."""
    angle, north = km / EARTH_RADIUS_KM, math.radians(place.latitude)
    sine = math.sin(north) * math.cos(angle)
    sine += math.cos(north) * math.sin(angle) * math.cos(bearing)
    east = math.atan2(
        math.sin(bearing) * math.sin(angle) * math.cos(north),
        math.cos(angle) - math.sin(north) * sine,
    )
    longitude = (place.longitude + math.degrees(east) + 180) % 360 - 180
    return Place(
        latitude=math.degrees(math.asin(max(-1.0, min(1.0, sine)))),
        longitude=longitude,
        country=place.country,
        metro=place.metro,
    )
