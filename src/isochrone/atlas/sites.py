"""Where sites could be: the planner's candidates, and the clouds it compares them with.

A *candidate* is a metro in which an independent provider could stand, because somebody already
houses machines there: metros with a region of a public cloud (244 regions of nine clouds) or with
a measurement server, and, so that no country is left without, the largest city of each. Whether
somebody really offers there is for ``plan --live`` to say.

Two sets stand for the field. *Central*: the regions where AWS sells accelerators for large models
(A100 or newer) to everybody; as of 2026-01-21 there are exactly twenty. *Usual*: the three regions
in America, Europe and Asia that teams deploy to first.

Deterministic and in a fixed order. What it does not say: whether a site has free machines.
"""

from __future__ import annotations

from functools import lru_cache

import msgspec

from isochrone.atlas.cities import all_cities
from isochrone.atlas.packaged import read_rows
from isochrone.schema.place import Place

CENTRAL_GPUS = frozenset({"A100", "H100", "H200", "B200", "B300"})
"""What large models are served on in central clouds; T4, L4 and A10G stand in more regions."""

CENTRAL_PROVIDER = "aws"
"""The one cloud whose accelerators by region are public in our data."""

USUAL = ("us-east-1", "eu-central-1", "ap-northeast-1")
"""Northern Virginia, Frankfurt, Tokyo: one region a continent, those with the most services."""


class CloudRegion(msgspec.Struct, frozen=True, kw_only=True):
    """A region of a public cloud. ``gpus``: models offered there (known for AWS only)."""

    provider: str
    region: str
    location: str
    place: Place
    gpus: tuple[str, ...]


class CandidateSite(msgspec.Struct, frozen=True, kw_only=True):
    """A metro that could hold a site. ``clouds``: how many clouds have a region there.

    ``measured``: round trips were measured there. ``name``: as people write the city.
    """

    name: str
    place: Place
    population: int
    clouds: int = 0
    measured: bool = False


@lru_cache(maxsize=1)
def cloud_regions() -> tuple[CloudRegion, ...]:
    """Every packaged region, by provider and name."""
    return tuple(
        CloudRegion(
            provider=row["provider"],
            region=row["region"],
            location=row["location"],
            place=Place(
                latitude=float(row["latitude"]),
                longitude=float(row["longitude"]),
                country=row["country"],
                metro=row["metro"],
            ),
            gpus=tuple(filter(None, row["gpus"].split("|"))),
        )
        for row in read_rows("cloud_regions.csv")
    )


def central_regions() -> tuple[CloudRegion, ...]:
    """The twenty centralised GPU regions: AWS's that sell A100 or newer, without GovCloud."""
    return tuple(
        region
        for region in cloud_regions()
        if region.provider == CENTRAL_PROVIDER
        and CENTRAL_GPUS.intersection(region.gpus)
        and "-gov-" not in region.region
    )


def usual_regions() -> tuple[CloudRegion, ...]:
    """The three usual choices at a hyperscaler, in the order of ``USUAL``."""
    named = {one.region: one for one in cloud_regions() if one.provider == CENTRAL_PROVIDER}
    return tuple(named[region] for region in USUAL)


@lru_cache(maxsize=1)
def candidate_sites() -> tuple[CandidateSite, ...]:
    """Every candidate, most populous metro first."""
    clouds: dict[str, set[str]] = {}
    for region in cloud_regions():
        clouds.setdefault(region.place.metro, set()).add(region.provider)
    measured = {row["metro"] for row in read_rows("rtt_metros.csv")}
    seen: set[str] = set()
    found = []
    for city in all_cities():  # most populous first
        metro, country = city.place.metro, city.place.country
        largest = country not in seen
        seen.add(country)
        if largest or metro in clouds or metro in measured:
            found.append(
                CandidateSite(
                    name=city.name,
                    place=city.place,
                    population=city.population,
                    clouds=len(clouds.get(metro, ())),
                    measured=metro in measured,
                )
            )
    return tuple(found)
