from __future__ import annotations

import time

import numpy as np
import pytest

from isochrone.atlas.cities import all_cities, city
from isochrone.atlas.roundtrips import (
    NEIGHBOUR_KM,
    distance_model_ms,
    distances_km,
    matrix,
    measured,
    measured_metros,
    prior_rtt_ms,
)
from isochrone.schema.place import Place, great_circle_km


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


def test_a_place_outside_the_table_borrows_its_neighbours_round_trips() -> None:
    mainz = Place(latitude=50.0, longitude=8.27, country="DE", metro="mainz")
    assert prior_rtt_ms(mainz, place("singapore")) == prior_rtt_ms(
        place("frankfurt"), place("singapore")
    )
    # ... but not for a near neighbour, where the borrowed kilometres would be most of the way.
    koblenz = Place(latitude=50.36, longitude=7.59, country="DE", metro="koblenz")
    expected = float(distance_model_ms(distances_km([mainz], [koblenz]))[0, 0])
    assert prior_rtt_ms(mainz, koblenz) == pytest.approx(expected, abs=0.006)


def test_far_from_every_measured_city_distance_decides() -> None:
    island = Place(latitude=-49.35, longitude=70.22, country="TF", metro="kerguelen")
    km = great_circle_km(island, place("paris"))
    assert prior_rtt_ms(island, place("paris")) == pytest.approx(
        4.0 + 0.022 * 2000 + 0.015 * (km - 2000), abs=0.006
    )


def test_how_wrong_the_prior_is() -> None:
    """Leave each city out in turn and predict its round trips: the figures of the docstring."""
    metros = sorted(measured_metros())
    places = [place(metro) for metro in metros]
    km = distances_km(places, places)
    truth = np.array(
        [[(pair.avg_ms if (pair := measured(a, b)) else np.nan) for b in metros] for a in metros]
    )
    model_error = np.abs(distance_model_ms(km) - truth) / truth
    upper = np.triu_indices(len(metros), 1)
    assert 0.13 < np.nanmedian(model_error[upper]) < 0.18
    to_nearest = km + np.diag(np.full(len(metros), np.inf))
    neighbour, gap_km = to_nearest.argmin(axis=1), to_nearest.min(axis=1)
    borrowed = np.abs(truth[neighbour] - truth) / truth
    fair = (gap_km <= NEIGHBOUR_KM)[:, None] & (gap_km[:, None] <= 0.5 * km)
    assert 0.05 < np.nanmedian(borrowed[fair]) < 0.08


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
