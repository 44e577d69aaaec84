"""Where things are: a place, how far apart two are, and how a place's truth is known."""

from __future__ import annotations

import math
from typing import Final, Literal

import msgspec

LIGHT_KM_PER_MS: Final = 149.896229
"""How far a thing may be at most, kilometres per millisecond of round trip: half of what light in
vacuum travels (299,792.458 km/s). Radio and hollow-core fibre come near it; ordinary fibre has a
factor of 1.47 less."""

EARTH_RADIUS_KM: Final = 6371.0088
"""Mean radius (IUGG)."""

SPHERE_ERROR: Final = 0.006
"""A distance on that sphere is wrong by at most this share: the ellipsoid's radii of curvature are
6,335 to 6,400 km (WGS 84), 0.56 % from the mean."""

REACH_KM: Final = 2000.0
"""How far from a vantage the countries are listed (``atlas.borders.reach``). A disc that is larger
(13 ms) proves nothing."""

Evidence = Literal["declared", "statistical", "physical"]
"""How a place is known; the classes never mix (``rules.location`` says what each takes)."""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A point on Earth: degrees north and east, ISO 3166-1 alpha-2 country, metro slug.

    ``latitude`` -90..90, ``longitude`` -180..180, ``country`` two upper-case letters, ``metro`` a
    lower-case slug of the atlas (``frankfurt``).
    """

    latitude: float
    longitude: float
    country: str
    metro: str

    @property
    def is_on_earth(self) -> bool:
        """Whether the coordinates are some (NaN and infinities are not). Says nothing of the
        country, whose names the atlas has."""
        return -90 <= self.latitude <= 90 and -180 <= self.longitude <= 180


class Whereabouts(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of where a key answers, in countries: what every mask looks at.

    ``country``: as declared. ``discs``: for each independent account that measured it, the sorted
    countries whose land its disc touches; where the key answers is in one of each. ``region``:
    countries that the statistical model's 95 % region touches (empty: there is none).
    """

    country: str
    discs: tuple[tuple[str, ...], ...] = ()
    region: tuple[str, ...] = ()


class Region(msgspec.Struct, frozen=True, kw_only=True):
    """Where a key answers with 95 % probability, by the latency model.

    ``countries``: sorted codes whose land is within 75 km of a city of the region. ``latitude``,
    ``longitude``: the city with most probability around it. ``error_km``: from there
    to the region's farthest city, plus 75.
    """

    countries: tuple[str, ...]
    latitude: float
    longitude: float
    error_km: float


NOWHERE: Final = Whereabouts(country="")
"""Of whoever has not said where it is: no residency admits it."""


def great_circle_km(a: Place, b: Place) -> float:
    """Distance over ground, kilometres, on a sphere: within 0.6 % of the true ellipsoid."""
    phi_a, phi_b = math.radians(a.latitude), math.radians(b.latitude)
    rise = math.sin((phi_b - phi_a) / 2) ** 2
    turn = math.sin(math.radians(b.longitude - a.longitude) / 2) ** 2
    haversine = rise + math.cos(phi_a) * math.cos(phi_b) * turn
    return 2 * EARTH_RADIUS_KM * math.asin(min(1.0, math.sqrt(haversine)))
