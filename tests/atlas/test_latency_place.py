from __future__ import annotations

import numpy as np
import pytest

from isochrone.atlas.cities import city, great_circle_km
from isochrone.atlas.latency_place import model, region
from isochrone.atlas.latency_place_fit import impossible, sites
from isochrone.atlas.roundtrips import measured, measured_least_ms, measured_places
from isochrone.rules.vantages import Sighting, inconsistent_vantages
from isochrone.schema.place import Place, Region

KNOWN = sites()


def bounds(target: str, extra_us: int = 0) -> list[tuple[Place, int]]:
    """What every other city of the table sees of a target."""
    found = []
    for place in KNOWN.places:
        trip = measured(target, place.metro)
        if trip is not None:
            found.append((place, round(trip.min_ms * 1000) + extra_us))
    return found


def rtt_of(bound: tuple[Place, int]) -> int:
    return bound[1]


def km_off(found: Region, metro: str) -> float:
    point = Place(latitude=found.latitude, longitude=found.longitude, country="", metro="")
    return great_circle_km(point, city(metro).place)


def answered(seen: list[tuple[Place, int]]) -> Region:
    found = region(seen)
    assert found is not None
    return found


@pytest.mark.parametrize("metro", ["frankfurt", "chicago", "singapore"])
def test_a_city_is_found(metro: str) -> None:
    found = answered(bounds(metro))
    assert km_off(found, metro) < 150
    assert city(metro).place.country in found.countries


def test_a_plain_claim_is_found_out() -> None:
    found = answered(bounds("zagreb"))
    assert "HR" in found.countries
    assert "FR" not in found.countries


def test_delays_imitate_another_place() -> None:
    """The lie that it misses: the class is therefore never mixed with the physical one."""
    wanted = dict(bounds("dallas"))
    shown = [(p, max(us, wanted.get(p, us))) for p, us in bounds("chicago")]
    assert km_off(answered(bounds("chicago")), "chicago") < 100
    assert km_off(answered(shown), "chicago") > 500


def test_one_vantage_with_a_false_place_does_not_move_the_answer() -> None:
    seen = bounds("frankfurt")
    liar = (city("sydney").place, 900)
    moved = [entry for entry in seen if entry[0].metro != "sydney"] + [liar]
    assert km_off(answered(moved), "frankfurt") < 150


def test_vantages_outside_the_table_are_interpolated() -> None:
    elsewhere = [
        (Place(latitude=p.latitude, longitude=p.longitude, country=p.country, metro="here"), us)
        for p, us in bounds("chicago")
    ]
    assert km_off(answered(elsewhere), "chicago") < 300


def test_few_vantages_get_no_answer() -> None:
    seen = sorted(bounds("new-york"), key=rtt_of)  # the nearest: a region of few cities
    assert region([]) is None
    assert region(seen[:9]) is None
    assert region([seen[0]] * 50) is None
    assert region(seen[:10]) is not None


@pytest.mark.parametrize("rtt_us", [-5, 10**12])
def test_an_absurd_round_trip_raises_nothing_and_moves_little(rtt_us: int) -> None:
    seen = bounds("frankfurt")
    found = answered([(seen[0][0], rtt_us), *seen[1:]])
    assert km_off(found, "frankfurt") < 150


def test_absurd_round_trips_raise_nothing() -> None:
    assert region([(place, -5) for place in KNOWN.places[:30]]) is not None


def test_the_packaged_model_carries_errors_within_the_target() -> None:
    last = model().levels[-1]
    assert last.median_error_km <= 100
    assert 0.92 <= last.covered <= 0.98
    assert [level.vantages for level in model().levels] == [10, 30, len(KNOWN.places) - 1]


def test_the_impossible_are_whom_the_network_distrusts() -> None:
    places, rtt_ms = measured_places(), measured_least_ms()
    sightings = [
        Sighting(
            vantage=places[a].metro,
            account=places[a].metro,
            place=places[a],
            other=places[b].metro,
            other_account=places[b].metro,
            other_place=places[b],
            rtt_us=round(rtt_ms[a, b] * 1000),
        )
        for a, b in np.argwhere(~np.isnan(rtt_ms))
        if a < b
    ]
    wrong = impossible(places, rtt_ms)
    assert wrong == ("auckland", "prague", "rome", "wellington") == model().impossible
    assert inconsistent_vantages(sightings) == set(wrong)
