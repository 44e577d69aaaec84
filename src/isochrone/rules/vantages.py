"""Vantages themselves: which contradict one another, and which one would settle a proof.

Vantages measure each other like nodes. Two that say they stand 500 km apart and answer each other
within a millisecond cannot both tell the truth about their places. Who of them lies is judged by
how many accounts each is at odds with.

Rules of this file: the vantage at odds with the most accounts is distrusted first, then the
question is asked again among the rest, until nothing contradicts. Ties are distrusted together:
that errs on the closed side, and nobody gains by choosing a key that sorts well. An account counts
once however many vantages it runs, and vantages of one account do not accuse each other.

Cheapest lie caught: a vantage that claims a place where it would prove much, and answers quickly to
honest vantages near its true one. Cheapest lie missed: a vantage that adds delay to every answer it
gives, so that nothing contradicts its claim (its own measurements are then as slow or false; three
accounts are needed for that reason); one that accuses a single honest vantage falsely, at the price
of being distrusted together with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from isochrone.rules.location import ReachOf, distance_km, radius_km
from isochrone.schema.place import LIGHT_KM_PER_MS, REACH_KM, Place

VANTAGE_MARGIN_KM: Final = 10.0
"""How far two vantages may be farther apart than light allows: either states its point to a few
kilometres. One that names its metro's centre instead is found out, and should be."""

FIBRE_KM_PER_MS: Final = 65.0
"""How far a good path gets in a millisecond of round trip: light in fibre makes 102 km, cables
take a detour of a half more, and there are switches. Says what to hope for, proves nothing."""


class Sighting(msgspec.Struct, frozen=True, kw_only=True):
    """One vantage measured another: both claimed places, and the fastest round trip."""

    vantage: str
    account: str
    place: Place
    other: str
    other_account: str
    other_place: Place
    rtt_us: int


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A vantage that could measure, or a city where one could stand (``account`` empty)."""

    name: str
    account: str
    place: Place


class Settling(msgspec.Struct, frozen=True, kw_only=True):
    """Who would settle a proof, and what it takes.

    ``within_ms``: round trips below it prove the jurisdiction from there. ``expected_ms``: what a
    good path to the claimed place takes.
    """

    candidate: Candidate
    within_ms: float
    expected_ms: float

    @property
    def hopeful(self) -> bool:
        """Whether a good path is fast enough."""
        return self.expected_ms < self.within_ms


def inconsistent_vantages(sightings: Iterable[Sighting]) -> frozenset[str]:
    """The keys of vantages to distrust; empty when no two contradict each other."""
    quarrels = {
        (sighting.vantage, sighting.account, sighting.other, sighting.other_account)
        for sighting in sightings
        if sighting.account != sighting.other_account and _impossible(sighting)
    }
    distrusted: set[str] = set()
    while quarrels:
        at_odds: dict[str, set[str]] = {}
        for one, account, other, other_account in quarrels:
            at_odds.setdefault(one, set()).add(other_account)
            at_odds.setdefault(other, set()).add(account)
        most = max(len(accounts) for accounts in at_odds.values())
        distrusted |= {key for key, accounts in at_odds.items() if len(accounts) == most}
        quarrels = {q for q in quarrels if q[0] not in distrusted and q[2] not in distrusted}
    return frozenset(distrusted)


def _impossible(sighting: Sighting) -> bool:
    apart_km = distance_km(sighting.place, sighting.other_place)
    return apart_km > radius_km(sighting.rtt_us) + VANTAGE_MARGIN_KM


def provable_within_ms(place: Place, admitted: frozenset[str], reach_of: ReachOf) -> float:
    """How fast an answer to a vantage at ``place`` must be to prove the jurisdiction, ms.

    0 where no disc can: the place is foreign, or nearer to foreign land than borders are known.
    """
    foreign_km = next((km for country, km in reach_of(place) if country not in admitted), REACH_KM)
    return foreign_km / LIGHT_KM_PER_MS


def would_settle(
    claimed: Place,
    candidates: Sequence[Candidate],
    admitted: frozenset[str],
    reach_of: ReachOf,
) -> Settling | None:
    """The candidate with the most time to spare between a good path and what proves.

    ``admitted``: the jurisdiction's countries. None when no candidate can prove it at any distance.
    One that is not ``hopeful`` is the best there is and still too far away.
    """
    rows = [
        Settling(
            candidate=candidate,
            within_ms=provable_within_ms(candidate.place, admitted, reach_of),
            expected_ms=distance_km(candidate.place, claimed) / FIBRE_KM_PER_MS,
        )
        for candidate in candidates
    ]
    able = [row for row in rows if row.within_ms > 0]
    return min(able, key=lambda r: (r.expected_ms - r.within_ms, r.candidate.name), default=None)
