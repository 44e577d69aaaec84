"""Countries and legal blocs: what a residency may name, and which countries that means.

A residency is written in ISO 3166-1 alpha-2 codes and names of blocs:

* ``EU``: the 27 member states;
* ``EEA``: the EU with Iceland, Liechtenstein and Norway;
* ``GDPR-adequate``: the EEA and the countries with a *full* adequacy decision of the European
  Commission. Countries whose decision covers only some recipients (``partially_adequate``: Canada,
  United States) are not in it: name them explicitly if your lawyer agrees;
* ``world``: every country.

Rules of this file: when in doubt, a country is out (residency fails closed). Territories with an
ISO code of their own (Réunion, Åland, ...) are not counted with their state, though EU law reaches
some of them. Continents are geography, not law, and belong to audiences only. ``XK`` (Kosovo) is
not assigned by ISO but used by everybody. The lists change by politics; a decision records
``blocs_version()``. This is not legal advice.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from functools import lru_cache

import msgspec

from isochrone.atlas.packaged import read_rows
from isochrone.schema.digests import digest
from isochrone.schema.errors import InvalidInput

BLOCS_VERSION = "2026.1"
"""Raised by hand with every change of membership; the digest catches a forgotten raise."""

CONTINENTS = {
    "Africa": "AF",
    "Antarctica": "AN",
    "Asia": "AS",
    "Europe": "EU",
    "North America": "NA",
    "Oceania": "OC",
    "South America": "SA",
}
"""Continent names, for audiences only, with GeoNames' codes."""

MISSPELT = {"UK": "GB", "USA": "US", "EL": "GR", "UAE": "AE"}
"""Codes that people write which ISO 3166 does not use, with those it does."""


class Country(msgspec.Struct, frozen=True, kw_only=True):
    """A country: ISO code, English name, GeoNames' continent code, population.

    ``internet_users``: people, mostly of 2021; the population where no count is known.
    """

    iso2: str
    name: str
    continent: str
    population: int
    internet_users: int


@lru_cache(maxsize=1)
def countries() -> dict[str, Country]:
    """Every country by ISO 3166-1 alpha-2 code."""
    return {
        row["iso2"]: Country(
            iso2=row["iso2"],
            name=row["name"],
            continent=row["continent"],
            population=int(row["population"] or 0),
            internet_users=int(row["internet_users"] or row["population"] or 0),
        )
        for row in read_rows("countries.csv")
    }


@lru_cache(maxsize=1)
def blocs() -> dict[str, frozenset[str]]:
    """Every bloc by name: its member countries."""
    rows = read_rows("countries.csv")
    eea = frozenset(row["iso2"] for row in rows if row["eea"] == "1" or row["eu"] == "1")
    full = frozenset(row["iso2"] for row in rows if row["gdpr_adequacy"] == "full")
    return {
        "EU": frozenset(row["iso2"] for row in rows if row["eu"] == "1"),
        "EEA": eea,
        "GDPR-adequate": eea | full,
        "world": frozenset(row["iso2"] for row in rows),
    }


@lru_cache(maxsize=1)
def partially_adequate() -> frozenset[str]:
    """Countries whose adequacy decision covers only some recipients; in no bloc but ``world``."""
    return frozenset(
        r["iso2"] for r in read_rows("countries.csv") if r["gdpr_adequacy"] == "partial"
    )


@lru_cache(maxsize=1)
def blocs_version() -> str:
    """What a decision records: ``2026.1+`` and 12 hex digits of the digest of all memberships."""
    membership = {name: sorted(members) for name, members in blocs().items()}
    return f"{BLOCS_VERSION}+{digest(membership)[:12]}"


def bloc_name(name: str) -> str | None:
    """The proper spelling of a bloc's name in any case, or None."""
    return next((known for known in blocs() if known.lower() == name.lower()), None)


def country_code(name: str) -> str | None:
    """The code when ``name`` is a known country code in any case, or None."""
    return name.upper() if name.upper() in countries() else None


def bloc_members(name: str) -> frozenset[str]:
    """The countries that a bloc's name or a country's code means.

    Raises InvalidInput with near names, and says so when the name is a continent.
    """
    proper = bloc_name(name)
    if proper is not None:
        return blocs()[proper]
    code = country_code(name)
    if code is None:
        raise InvalidInput(f"{name[:60]!r} is no country code or bloc.", fix=_fix(name))
    return frozenset((code,))


def expand(names: Iterable[str]) -> frozenset[str]:
    """The union of what the names mean; empty for none. Raises InvalidInput as ``bloc_members``."""
    return frozenset().union(*(bloc_members(name) for name in names))


def near_areas(name: str) -> list[str]:
    """Codes and names of countries and blocs that look like ``name``, best first, at most 3."""
    by_name = {country.name.lower(): code for code, country in countries().items()}
    by_name |= {known.lower(): known for known in blocs()}
    matches = difflib.get_close_matches(name.lower()[:60], by_name, n=3, cutoff=0.7)
    return [by_name[match] for match in matches]


def _fix(name: str) -> str:
    if name.title() in CONTINENTS:
        return (
            f"{name.title()} is a continent, not a legal area; use {', '.join(blocs())} or codes."
        )
    if name.upper() in MISSPELT:
        return f"Did you mean {MISSPELT[name.upper()]}?"
    near = near_areas(name)
    if near:
        return f"Did you mean {', '.join(near)}?"
    return f"Use ISO 3166 codes (DE, US) or one of {', '.join(blocs())}."
