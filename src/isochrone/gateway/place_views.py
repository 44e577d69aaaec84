"""What this gateway shows of where a key answers: claims, bounds, and the class for each area."""

from __future__ import annotations

import time

import msgspec

from isochrone.atlas.blocs import blocs
from isochrone.gateway.places import Places
from isochrone.rules.residency import WORLD, evidence_of
from isochrone.schema.admin import KnownVantage, PlaceBound, PlaceView
from isochrone.schema.place import Evidence, Place, Whereabouts
from isochrone.schema.service import Residency


class Claim(msgspec.Struct, frozen=True):
    """What somebody says of itself: its place, and the account that it works for."""

    place: Place
    account: str


def place_view(places: Places, key: str, claim: Claim) -> PlaceView:
    """What is known of a key that claims a place."""
    shelf = places.shelf
    where = shelf.whereabouts(key, claim.place.country, claim.account)
    return PlaceView(
        node=key,
        account=claim.account,
        place=claim.place,
        whereabouts=where,
        bounds=_bounds(places, key),
        evidence=evidence_by_area(where),
        region=shelf.region(key, claim.account),
        vantages=tuple(
            KnownVantage(
                vantage=news.vantage,
                account=shelf.account_of(news.vantage),
                role=news.role,
                place=news.place,
            )
            for news in shelf.vantages()
        ),
    )


def evidence_by_area(where: Whereabouts) -> dict[str, Evidence]:
    """The class of evidence that a key is in its own country, and in each bloc with it."""
    country, known = where.country, blocs()
    areas = [name for name, members in known.items() if name != WORLD and country in members]
    return {area: evidence_of(where, Residency(allow=(area,)), known) for area in (country, *areas)}


def _bounds(places: Places, key: str) -> tuple[PlaceBound, ...]:
    shelf, now_ms = places.shelf, time.time_ns() // 1_000_000
    return tuple(
        PlaceBound(
            vantage=row.bound.vantage,
            account=row.bound.account,
            role="validator" if shelf.is_validator(row.bound.vantage) else "gateway",
            place=row.bound.place,
            rtt_us=row.bound.rtt_us,
            age_s=round(max(0, now_ms - row.bound.burst_at_unix_ms) / 1000, 1),
            kernel_time=row.kernel_time,
        )
        for row in shelf.bounds(key)
    )
