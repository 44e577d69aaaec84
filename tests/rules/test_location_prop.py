"""Round countries: what physics allows is never called a lie, and a far lie never proven."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isochrone.rules.location import (
    ACCOUNTS_MIN,
    CLAIM_MARGIN_KM,
    Bound,
    Reach,
    contradicted,
    discs,
    distance_km,
    finding,
    radius_km,
    touched,
)
from isochrone.schema.place import (
    LIGHT_KM_PER_MS,
    REACH_KM,
    SPHERE_ERROR,
    Place,
    great_circle_km,
)

COUNTRY_KM = 300.0
"""Radius of a round country."""


def at(latitude: float, longitude: float, country: str = "") -> Place:
    return Place(latitude=latitude, longitude=longitude, country=country, metro="")


CENTRES = {"AA": at(50, 0), "BB": at(50, 12), "CC": at(40, 5), "DD": at(-10, 100)}


def reach_of(place: Place) -> Reach:
    rows = [
        (country, max(0.0, great_circle_km(centre, place) - COUNTRY_KM))
        for country, centre in CENTRES.items()
    ]
    return tuple(sorted((r for r in rows if r[1] <= REACH_KM), key=lambda row: row[1]))


def rtt_us(a: Place, b: Place, stretch: float = 1.0) -> int:
    return math.ceil(great_circle_km(a, b) / LIGHT_KM_PER_MS * 1000 * stretch)


points = st.builds(at, st.floats(-80, 80), st.floats(-180, 180))
near = st.builds(at, st.floats(35, 60), st.floats(-10, 20))


@st.composite
def measured(draw: st.DrawFn, truth: Place) -> list[Bound]:
    """Bounds of honest vantages: never faster than light."""
    rows = draw(
        st.lists(
            st.tuples(near, st.integers(0, 4), st.floats(1.0, 3.0), st.integers(0, 5000)),
            max_size=8,
        )
    )
    return [
        Bound(
            account=f"account{account}" if account else "",
            vantage=f"vantage{index}",
            place=place,
            rtt_us=rtt_us(place, truth, stretch) + delay_us,
            burst_at_unix_ms=index,
        )
        for index, (place, account, stretch, delay_us) in enumerate(rows)
    ]


@given(st.data(), near)
def test_a_true_claim_is_never_contradicted(data: st.DataObject, truth: Place) -> None:
    bounds = data.draw(measured(truth))
    assert contradicted(bounds, truth) == ()
    assert finding(bounds, truth, reach_of, "mine").verdict != "failed"


@given(st.data(), st.sampled_from(sorted(CENTRES)), st.floats(0, 0.99), st.floats(0, 2 * math.pi))
def test_the_country_it_is_in_is_in_every_disc(
    data: st.DataObject, country: str, out: float, bearing: float
) -> None:
    centre = CENTRES[country]
    degrees = out * COUNTRY_KM / 112
    truth = at(
        centre.latitude + degrees * math.cos(bearing),
        centre.longitude + degrees * math.sin(bearing),
    )
    for lands in discs(data.draw(measured(truth)), reach_of, "mine"):
        assert country in lands


@given(st.data(), near)
def test_discs_are_sorted_one_an_account_and_do_not_depend_on_the_order(
    data: st.DataObject, truth: Place
) -> None:
    bounds = data.draw(measured(truth))
    found = discs(bounds, reach_of, "account1")
    assert found == discs(data.draw(st.permutations(bounds)), reach_of, "account1")
    assert len(found) <= len({b.account for b in bounds} - {"", "account1"})
    assert all(lands and list(lands) == sorted(set(lands)) for lands in found)


@given(st.data(), near)
def test_delay_only_widens(data: st.DataObject, truth: Place) -> None:
    bounds = data.draw(measured(truth))
    delay_us = data.draw(st.integers(0, 5000))
    slower = [
        Bound(**{f: getattr(b, f) for f in b.__struct_fields__} | {"rtt_us": b.rtt_us + delay_us})
        for b in bounds
    ]
    before = {b.vantage: set(touched(reach_of(b.place), radius_km(b.rtt_us))) for b in bounds}
    for bound in slower:
        lands = set(touched(reach_of(bound.place), radius_km(bound.rtt_us)))
        assert before[bound.vantage] <= lands
    assert {b.vantage for b in contradicted(slower, truth)} == set()


def bound(account: str, place: Place, rtt: int, vantage: str = "0xvantage") -> Bound:
    return Bound(account=account, vantage=vantage, place=place, rtt_us=rtt, burst_at_unix_ms=0)


def test_three_accounts_prove_a_country_and_two_do_not() -> None:
    home = at(50, 0, "AA")
    three = [bound(name, home, 500) for name in "abc"]
    assert discs(three, reach_of, "mine") == (("AA",),) * ACCOUNTS_MIN
    assert finding(three, home, reach_of, "mine").verdict == "ok"
    assert finding(three, home, reach_of, "c").verdict == "unknown"  # its own does not count
    assert finding(three[:2] * 5, home, reach_of, "mine").verdict == "unknown"
    assert finding([], home, reach_of, "mine").verdict == "unknown"
    assert "75 km" in finding(three, home, reach_of, "mine").note


def test_an_account_s_discs_meet_and_a_contradiction_proves_nothing() -> None:
    west, east = at(50, 0), at(50, 12)
    wide_us = 5_000  # 750 km: touches AA and BB from either side
    both = [bound("a", west, wide_us, "v1"), bound("a", at(50, -8), 6_000, "v2")]
    assert discs(both[:1], reach_of, "") == (("AA", "BB"),)
    assert discs(both, reach_of, "") == (("AA",),)
    torn = [bound("a", west, 500, "v1"), bound("a", east, 500, "v2")]
    assert discs(torn, reach_of, "") == ()


def test_a_disc_at_sea_or_larger_than_the_reach_proves_nothing() -> None:
    sea = at(0, -140)
    assert reach_of(sea) == ()
    assert discs([bound("a", sea, 1_000)], reach_of, "") == ()
    limit_us = math.floor(REACH_KM / LIGHT_KM_PER_MS * 1000)
    assert discs([bound("a", at(-10, 100), limit_us)], reach_of, "") == (("DD",),)
    assert discs([bound("a", at(-10, 100), limit_us + 2)], reach_of, "") == ()


@pytest.mark.parametrize("off_km", [-1.0, 1.0])
def test_a_claim_fails_when_it_lies_outside_by_more_than_the_margin(off_km: float) -> None:
    vantage, claimed = at(50, 0), at(50, 12, "BB")
    gap_km = distance_km(vantage, claimed) - CLAIM_MARGIN_KM - off_km
    found = finding(
        [bound("a", vantage, int(gap_km / LIGHT_KM_PER_MS * 1000))], claimed, reach_of, ""
    )
    assert found.verdict == ("failed" if off_km > 0 else "unknown")
    if off_km > 0:
        assert "from the place that it claims" in found.note
    assert distance_km(vantage, claimed) == great_circle_km(vantage, claimed) * (1 - SPHERE_ERROR)


@given(near, points, st.integers(0, 3000))
def test_a_lie_of_500_km_is_caught_by_a_vantage_beside_the_truth(
    truth: Place, claimed: Place, delay_us: int
) -> None:
    vantage = at(truth.latitude + 0.1, truth.longitude)
    lie_km = distance_km(truth, claimed)
    found = contradicted([bound("a", vantage, rtt_us(vantage, truth) + delay_us)], claimed)
    slack_km = CLAIM_MARGIN_KM + 25 + delay_us * LIGHT_KM_PER_MS / 1000
    if lie_km > slack_km:
        assert found
