"""What a gateway's view of a node's place means, in kilometres and countries: for table and map."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from isochrone.atlas.blocs import bloc_members
from isochrone.atlas.borders import reach
from isochrone.atlas.cities import all_cities
from isochrone.rules.location import (
    ACCOUNTS_MIN,
    Bound,
    contradicted,
    discs,
    distance_km,
    radius_km,
    touched,
)
from isochrone.rules.vantages import Candidate, Settling, would_settle
from isochrone.schema.admin import PlaceBound, PlaceView
from isochrone.schema.place import REACH_KM

CITY_KM = 300.0
"""How far from the claimed place a city is looked at for a vantage that would settle it."""

CITIES_MAX = 20
"""Cities looked at, the nearest ones."""


class Disc(msgspec.Struct, frozen=True, kw_only=True):
    """A bound drawn: ``radius_km`` around its vantage, and the countries whose land it touches.

    ``counts``: whether its account is independent of the node's. ``contradicts``: whether the
    claimed place cannot be in it.
    """

    bound: PlaceBound
    radius_km: float
    touched: tuple[str, ...]
    counts: bool
    contradicts: bool

    @property
    def bounded(self) -> bool:
        """Whether it is small enough to say something."""
        return self.radius_km <= REACH_KM


class Jurisdiction(msgspec.Struct, frozen=True, kw_only=True):
    """How well it is known that the node is inside a country or bloc.

    ``evidence``: a class, or ``outside`` when the node does not claim to be in it. ``proving``:
    independent accounts that each prove it alone. ``settling``: who would settle it, if anybody;
    empty where nothing is left to settle.
    """

    name: str
    evidence: str
    proving: int
    settling: Settling | None = None


class PlaceFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is printed and drawn of one node."""

    view: PlaceView
    discs: tuple[Disc, ...]
    jurisdictions: tuple[Jurisdiction, ...]


def place_facts(view: PlaceView) -> PlaceFacts:
    """The discs, smallest first, and what they prove for its country and for the EU."""
    drawn = tuple(
        Disc(
            bound=bound,
            radius_km=radius_km(bound.rtt_us),
            touched=touched(reach(bound.place), radius_km(bound.rtt_us)),
            counts=bound.account not in ("", view.account),
            contradicts=bool(contradicted([_bound(bound)], view.place)),
        )
        for bound in sorted(view.bounds, key=lambda b: (b.rtt_us, b.vantage))
    )
    names = (view.place.country, "EU")
    return PlaceFacts(
        view=view,
        discs=drawn,
        jurisdictions=tuple(_jurisdiction(view, drawn, name) for name in names),
    )


def _jurisdiction(view: PlaceView, drawn: Sequence[Disc], name: str) -> Jurisdiction:
    admitted = bloc_members(name)
    if view.place.country not in admitted:
        return Jurisdiction(name=name, evidence="outside", proving=0)
    proving = {account for account, lands in _lands(view, drawn) if set(lands) <= admitted}
    evidence = view.evidence.get(name, "declared")
    settled = evidence == "physical" or len(proving) >= ACCOUNTS_MIN
    return Jurisdiction(
        name=name,
        evidence=evidence,
        proving=len(proving),
        settling=None if settled else _settling(view, proving, admitted),
    )


def _lands(view: PlaceView, drawn: Sequence[Disc]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """(account, countries that all its discs touch) of each independent account."""
    for account in sorted({disc.bound.account for disc in drawn if disc.counts}):
        bounds = [_bound(disc.bound) for disc in drawn if disc.bound.account == account]
        for lands in discs(bounds, reach, view.account):
            yield account, lands


def _bound(shown: PlaceBound) -> Bound:
    return Bound(
        account=shown.account,
        vantage=shown.vantage,
        place=shown.place,
        rtt_us=shown.rtt_us,
        burst_at_unix_ms=0,
    )


def _settling(view: PlaceView, proving: set[str], admitted: frozenset[str]) -> Settling | None:
    """A known vantage that has not measured it and could prove it, else a city to build one in."""
    measured = {bound.vantage for bound in view.bounds}
    known = [
        Candidate(name=vantage.vantage, account=vantage.account, place=vantage.place)
        for vantage in view.vantages
        if vantage.account not in {"", view.account, *proving} and vantage.vantage not in measured
    ]
    found = would_settle(view.place, known, admitted, reach)
    if found is not None and found.hopeful:
        return found
    return would_settle(view.place, _cities(view, admitted), admitted, reach)


def _cities(view: PlaceView, admitted: frozenset[str]) -> list[Candidate]:
    here = Candidate(name=view.place.metro, account="", place=view.place)
    near = sorted(
        (distance_km(view.place, city.place), city.place.metro, city.place)
        for city in all_cities()
        if not city.part_of
        and city.place.country in admitted
        and abs(city.place.latitude - view.place.latitude) < CITY_KM / 100
        and city.place.metro != view.place.metro
    )
    return [here] + [
        Candidate(name=metro, account="", place=place)
        for km, metro, place in near[:CITIES_MAX]
        if km <= CITY_KM
    ]
