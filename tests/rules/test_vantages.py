from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isochrone.rules.location import Reach
from isochrone.rules.vantages import (
    VANTAGE_MARGIN_KM,
    Candidate,
    Sighting,
    inconsistent_vantages,
    provable_within_ms,
    would_settle,
)
from isochrone.schema.place import LIGHT_KM_PER_MS, Place, great_circle_km


def at(latitude: float, longitude: float) -> Place:
    return Place(latitude=latitude, longitude=longitude, country="DE", metro="")


BERLIN, MUNICH, LIMA, OSLO = at(52.5, 13.4), at(48.1, 11.6), at(-12, -77), at(59.9, 10.7)


class Vantage:
    """Where it says it is and where it is; answers at the speed of light in fibre."""

    def __init__(self, key: str, claims: Place, truth: Place | None = None, account: str = ""):
        self.key, self.claims, self.truth = key, claims, truth or claims
        self.account = account or f"account of {key}"

    def sees(self, other: Vantage, rtt_us: int | None = None) -> Sighting:
        km = great_circle_km(self.truth, other.truth)
        return Sighting(
            vantage=self.key,
            account=self.account,
            place=self.claims,
            other=other.key,
            other_account=other.account,
            other_place=other.claims,
            rtt_us=int(km * 10) + 200 if rtt_us is None else rtt_us,
        )


def all_pairs(vantages: list[Vantage]) -> list[Sighting]:
    return [one.sees(other) for one, other in combinations(vantages, 2)]


@given(st.lists(st.tuples(st.floats(-60, 70), st.floats(-179, 179)), max_size=7))
def test_honest_vantages_are_never_distrusted(corners: list[tuple[float, float]]) -> None:
    vantages = [Vantage(f"v{i}", at(*corner)) for i, corner in enumerate(corners)]
    assert inconsistent_vantages(all_pairs(vantages)) == frozenset()


def test_the_one_at_odds_with_most_is_distrusted_and_nobody_else() -> None:
    honest = [Vantage("a", BERLIN), Vantage("b", MUNICH), Vantage("c", OSLO)]
    liar = Vantage("zz", LIMA, truth=BERLIN)
    assert inconsistent_vantages(all_pairs([*honest, liar])) == {"zz"}
    assert inconsistent_vantages(all_pairs([liar, *honest])) == {"zz"}


def test_a_pair_alone_is_distrusted_together_whatever_its_keys() -> None:
    for key in ("0", "zz"):
        pair = [Vantage("a", BERLIN), Vantage(key, LIMA, truth=BERLIN)]
        assert inconsistent_vantages(all_pairs(pair)) == {"a", key}


def test_many_vantages_of_one_account_accuse_as_one() -> None:
    honest = [Vantage("a", BERLIN), Vantage("b", MUNICH), Vantage("c", OSLO)]
    crowd = [Vantage(f"x{i}", LIMA, truth=BERLIN, account="crowd") for i in range(9)]
    assert inconsistent_vantages(all_pairs(honest + crowd)) == {v.key for v in crowd}
    assert inconsistent_vantages(all_pairs(crowd)) == frozenset()


@pytest.mark.parametrize(("off_km", "distrusted"), [(-1.0, frozenset("ab")), (1.0, frozenset())])
def test_a_few_kilometres_are_forgiven(off_km: float, distrusted: frozenset[str]) -> None:
    km = great_circle_km(BERLIN, MUNICH) * 0.994 - VANTAGE_MARGIN_KM + off_km
    sighting = Vantage("a", BERLIN).sees(
        Vantage("b", MUNICH), rtt_us=round(km / LIGHT_KM_PER_MS * 1000)
    )
    assert inconsistent_vantages([sighting]) == distrusted


def reach_of(place: Place) -> Reach:
    """A foreign country as far east of 13.4° as the degree says; nothing else but DE."""
    km = max(0.0, (20 - place.longitude) * 70)
    return (("DE", 0.0), ("PL", km)) if place.latitude > -50 else ()


def test_the_vantage_with_most_time_to_spare_would_settle() -> None:
    claimed = at(52.5, 13.0)
    candidates = [
        Candidate(name="berlin", account="a", place=BERLIN),
        Candidate(name="munich", account="b", place=MUNICH),
        Candidate(name="border", account="c", place=at(52.5, 19.9)),
    ]
    best = would_settle(claimed, candidates, frozenset({"DE"}), reach_of)
    assert best is not None
    assert best.candidate.name == "berlin"
    assert best.hopeful
    assert best.within_ms == pytest.approx(6.6 * 70 / LIGHT_KM_PER_MS)
    far = would_settle(claimed, candidates[2:], frozenset({"DE"}), reach_of)
    assert far is not None
    assert not far.hopeful


def test_where_no_disc_can_prove_nobody_settles() -> None:
    foreign = [Candidate(name="abroad", account="a", place=at(52.5, 25))]
    assert would_settle(at(52.5, 24), foreign, frozenset({"DE"}), reach_of) is None
    assert would_settle(at(52.5, 24), [], frozenset({"DE"}), reach_of) is None
    assert provable_within_ms(at(52, 25), frozenset({"DE"}), reach_of) == 0
    assert provable_within_ms(at(-60, 0), frozenset({"DE"}), reach_of) > 13  # nothing within reach
