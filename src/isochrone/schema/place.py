"""Where things are: a place, and how its truth is known."""

from __future__ import annotations

from typing import Literal

import msgspec

Evidence = Literal["declared", "statistical", "physical"]
"""How a place is known. Only ``declared`` exists until places are proven; the classes never mix."""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A point on Earth: degrees north and east, ISO 3166-1 alpha-2 country, metro slug.

    ``latitude`` -90..90, ``longitude`` -180..180, ``country`` two upper-case letters, ``metro`` a
    lower-case slug of the atlas (``frankfurt``).
    """

    latitude: float
    longitude: float
    country: str
    metro: str
