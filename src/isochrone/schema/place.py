"""Where things are: a place, and how its truth is known."""

from __future__ import annotations

from typing import Literal

import msgspec

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


class Whereabouts(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of where a key answers, in countries: what every mask looks at.

    ``country``: as declared. ``discs``: for each independent account that measured it, the sorted
    countries whose land its disc touches; where the key answers is in one of each. ``region``:
    countries that the statistical model's 95 % region touches (empty: there is none).
    """

    country: str
    discs: tuple[tuple[str, ...], ...] = ()
    region: tuple[str, ...] = ()
