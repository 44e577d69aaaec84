from __future__ import annotations

import time

import pytest

from isochrone.atlas import rtt_model
from isochrone.atlas.cities import all_cities, city
from isochrone.atlas.roundtrips import (
    FIBRE_MS_PER_KM,
    KINDS,
    distances_km,
    error_share,
    expected,
    fitted,
    kinds,
    matrix,
    measured,
    measured_average_ms,
    measured_metros,
    measured_places,
    points_of,
    prior_rtt_ms,
)
from isochrone.schema.place import Place


def place(name: str) -> Place:
    return city(name).place


def test_measured_pairs_are_used_as_they_are() -> None:
    # Values of the public table, both directions averaged.
    assert prior_rtt_ms(place("frankfurt"), place("washington")) == pytest.approx(97.33, abs=0.02)
    assert prior_rtt_ms(place("frankfurt"), place("singapore")) == pytest.approx(150.19, abs=0.02)
    assert prior_rtt_ms(place("paris"), place("frankfurt")) == pytest.approx(10.68, abs=0.02)
    pair = measured("frankfurt", "singapore")
    assert pair is not None
    assert pair.min_ms == pytest.approx(150.03, abs=0.01)


def test_the_table_is_nearly_complete_and_symmetric() -> None:
    metros = sorted(measured_metros())
    assert len(metros) == 238
    pairs = [measured(a, b) for i, a in enumerate(metros) for b in metros[i + 1 :]]
    assert sum(pair is not None for pair in pairs) / len(pairs) > 0.99
    assert measured("tokyo", "madrid") == measured("madrid", "tokyo")
    assert measured("tokyo", "tokyo") is None
    assert measured("tokyo", "nowhere") is None


def test_inside_a_metro_it_is_one_and_a_half_milliseconds() -> None:
    assert prior_rtt_ms(place("frankfurt"), place("frankfurt")) == 1.5
    assert prior_rtt_ms(place("frankfurt"), place("offenbach")) == 1.5
    village = Place(latitude=50.13, longitude=8.70, country="DE", metro="seckbach")
    assert prior_rtt_ms(village, place("frankfurt")) == 1.5


def test_a_place_near_a_metro_of_the_table_is_in_it() -> None:
    offenbach = Place(latitude=50.1, longitude=8.77, country="DE", metro="offenbach-east")
    assert prior_rtt_ms(offenbach, place("singapore")) == prior_rtt_ms(
        place("frankfurt"), place("singapore")
    )
    assert KINDS[kinds([offenbach], [place("singapore")])[0, 0]] == "measured"


def test_other_places_are_modelled_like_their_neighbours() -> None:
    mainz = Place(latitude=50.0, longitude=8.27, country="DE", metro="mainz")
    koblenz = Place(latitude=50.36, longitude=7.59, country="DE", metro="koblenz")
    assert 3.0 < prior_rtt_ms(mainz, koblenz) < 12.0
    far = prior_rtt_ms(mainz, place("singapore"))
    germans = [measured(metro, "singapore") for metro in ("frankfurt", "dusseldorf", "berlin")]
    values = [pair.avg_ms for pair in germans if pair is not None]
    assert 0.9 * min(values) < far < 1.1 * max(values)
    assert [KINDS[code] for code in kinds([mainz], [koblenz, place("singapore"), mainz])[0]] == [
        "modelled",
        "half",
        "metro",
    ]


def test_no_modelled_round_trip_is_faster_than_fibre() -> None:
    towns = [each.place for each in all_cities() if each.place.metro not in measured_metros()][::20]
    ms, code = expected(towns, towns)
    modelled = code == KINDS.index("modelled")
    assert modelled.sum() > 1000
    assert (ms >= FIBRE_MS_PER_KM * distances_km(towns, towns) - 0.01)[modelled].all()


def test_errors_are_stated_by_kind_and_grow_with_ignorance() -> None:
    measured_, half, modelled = (error_share(kind) for kind in ("measured", "half", "modelled"))
    assert 0 < measured_.median < half.median < modelled.median < 0.2
    assert measured_.p90 < half.p90 < modelled.p90 < 0.5
    assert error_share("metro").median == 1.0


def test_the_packaged_parameters_are_those_of_the_packaged_table() -> None:
    points = points_of(measured_places())
    again = rtt_model.fit(points, measured_average_ms())
    assert again.curve == pytest.approx(fitted().curve, abs=1e-4)
    assert again.nuggets == pytest.approx(fitted().nuggets, abs=1e-3)


def test_hundreds_by_thousands_are_quick() -> None:
    places = [each.place for each in all_cities()]
    matrix(places[:1], places[:1])  # loads the table
    start = time.process_time()
    result = matrix(places[:300], places[:3000])
    assert result.shape == (300, 3000)
    assert time.process_time() - start < 2.0  # 0.1 s on an idle machine


def test_no_places_give_an_empty_matrix() -> None:
    assert matrix([], [place("paris")]).shape == (0, 1)
    assert matrix([place("paris")], []).shape == (1, 0)
