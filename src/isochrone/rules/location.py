"""Discs: what round trips say about where a key answers.

Intuition: nothing outruns light, so an answer after ``t`` comes from within ``t`` × 149.9 km/ms of
the vantage. Delay that somebody adds can only make the disc larger: a subject can look farther
away than it is, never nearer. What matters of a disc is which countries' land it touches.

Rules of this file:

* a *bound* is one vantage's fastest round trip; bounds of one account count once, and those of the
  subject's own account or of none at all do not count;
* several bounds of an account meet: the subject is in each disc, so only countries that all of them
  touch are left. Nothing left means that the account contradicts itself: it proves nothing;
* a disc that touches no land proves nothing (a ship at sea is in no jurisdiction), and neither does
  one that is larger than vantages know the countries around them (``REACH_KM``);
* ``failed`` takes a contradiction: a claimed place that lies outside a disc by more than
  ``CLAIM_MARGIN_KM``. What cannot be proven is ``unknown``, and that never punishes.

Cheapest lie caught: claiming a country in which the key does not answer; one honest vantage of
another account near either place is enough to contradict a claim that is far off, and without three
near the claimed one it is not proven. A relay near the vantages that lacks the burst's secret gains
nothing. Cheapest lie missed: a box near the vantages that holds the node's key, or is handed the
secret before the burst; three accounts in collusion; a ship or platform in foreign waters beside
admitted land; a claim that is wrong by less than its disc (no place within a jurisdiction is
proven); a vantage that names its city's centre and stands nearer to the border (a kilometre is
allowed for, ``isochrone validate --place LAT,LON`` states a point). It proves where the key
answers, not that data stays there.

What this file does not do: check documents (``fabric.attestations``), say which vantages are
believed (``fabric.attested``) or which of them lie about their own place (``rules.vantages``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec

from isochrone.rules.exact_distance import exact_km
from isochrone.rules.residency import ACCOUNTS_MIN as ACCOUNTS_MIN
from isochrone.schema.place import (
    LIGHT_KM_PER_MS,
    REACH_KM,
    SPHERE_ERROR,
    Place,
)
from isochrone.schema.proof import Finding, Verdict

CLAIM_MARGIN_KM: Final = 50.0
"""How far a claimed place may lie outside a disc before it is a lie: a claim names a metro, whose
centre may be 25 km from the machine, and so may a vantage's be from its own."""

Reach = Sequence[tuple[str, float]]
"""(country, kilometres to its nearest land at least), nearest first, up to ``REACH_KM``."""

ReachOf = Callable[[Place], Reach]
"""``atlas.borders.reach``, or what stands for it."""


class Bound(msgspec.Struct, frozen=True, kw_only=True):
    """One vantage's word: the subject answered within ``rtt_us`` of ``place``.

    ``account``: whom the vantage works for (empty: nobody). ``burst_at_unix_ms``: when it began.
    """

    account: str
    vantage: str
    place: Place
    rtt_us: int
    burst_at_unix_ms: int


def radius_km(rtt_us: int) -> float:
    """How far the subject of a round trip may be at most, kilometres over ground."""
    return rtt_us * LIGHT_KM_PER_MS / 1000


def distance_km(a: Place, b: Place) -> float:
    """How far apart two places are at least, kilometres: the sphere's error is subtracted."""
    return exact_km(a, b) * (1 - SPHERE_ERROR)


def touched(reach: Reach, radius: float) -> tuple[str, ...]:
    """The countries whose land a disc of ``radius`` kilometres may touch, sorted."""
    return tuple(sorted(country for country, km in reach if km <= radius))


def discs(
    bounds: Iterable[Bound], reach_of: ReachOf, own_account: str
) -> tuple[tuple[str, ...], ...]:
    """What each account's discs touch together (``Whereabouts.discs``), in the accounts' order.

    ``own_account``: the subject's, which does not count.
    """
    by_account: dict[str, set[str]] = {}
    for bound in bounds:
        radius = radius_km(bound.rtt_us)
        if bound.account in ("", own_account) or radius > REACH_KM:
            continue
        lands = set(touched(reach_of(bound.place), radius))
        by_account[bound.account] = by_account.get(bound.account, lands) & lands
    return tuple(tuple(sorted(by_account[a])) for a in sorted(by_account) if by_account[a])


def contradicted(bounds: Iterable[Bound], claimed: Place) -> tuple[Bound, ...]:
    """The bounds in whose discs the claimed place cannot lie, in the order given."""
    return tuple(
        bound
        for bound in bounds
        if distance_km(bound.place, claimed) > radius_km(bound.rtt_us) + CLAIM_MARGIN_KM
    )


def finding(
    bounds: Sequence[Bound], claimed: Place, reach_of: ReachOf, own_account: str
) -> Finding:
    """What these bounds say of a claim: ``failed``, ``ok`` or ``unknown``, and the numbers.

    A validator asks about its own bounds, or about all that it believes; ``failed`` needs one bound
    only, so it is as true as that vantage's own place.
    """
    counted = [bound for bound in bounds if bound.account not in ("", own_account)]
    if not counted:
        return Finding(kind="place", verdict="unknown", note="no independent vantage measured it")
    nearest = min(counted, key=lambda bound: (bound.rtt_us, bound.vantage))
    shortest = f"within {radius_km(nearest.rtt_us):.0f} km of {nearest.vantage[:8]}"
    wrong = contradicted(counted, claimed)
    if wrong:
        worst = max(wrong, key=lambda bound: (_excess_km(bound, claimed), bound.vantage))
        note = (
            f"it answers within {radius_km(worst.rtt_us):.0f} km of {worst.vantage[:8]}, "
            f"{distance_km(worst.place, claimed):.0f} km from the place that it claims"
        )
        return Finding(kind="place", verdict="failed", note=note)
    proving = sum(lands == (claimed.country,) for lands in discs(counted, reach_of, own_account))
    verdict: Verdict = "ok" if proving >= ACCOUNTS_MIN else "unknown"
    note = f"{proving} of {ACCOUNTS_MIN} accounts prove {claimed.country[:8]}; it is {shortest}"
    return Finding(kind="place", verdict=verdict, note=note)


def _excess_km(bound: Bound, claimed: Place) -> float:
    return distance_km(bound.place, claimed) - radius_km(bound.rtt_us)
