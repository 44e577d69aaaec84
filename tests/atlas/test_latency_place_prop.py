from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isochrone.atlas.latency_place import model
from isochrone.atlas.latency_place_fit import Score, fit_weights, needed_share, sites, threshold
from isochrone.atlas.latency_place_model import (
    NEAR_KM,
    TERMS,
    Table,
    candidates,
    likeliest,
    members,
    posterior,
)
from isochrone.schema.place import LIGHT_KM_PER_MS

KNOWN = sites()
TABLE = Table(KNOWN.places, KNOWN.rtt_ms, model().parameters)
targets = st.integers(0, len(KNOWN.places) - 1)


def rows_of(target: int, vantages: int, seed: int) -> list[int]:
    seen = [r for r in range(len(KNOWN.places)) if not np.isnan(KNOWN.rtt_ms[r, target])]
    return random.Random(seed).sample(seen, vantages)


@settings(max_examples=6)
@given(targets, st.integers(10, 40), st.integers(0, 99))
def test_no_candidate_is_farther_than_light(target: int, vantages: int, seed: int) -> None:
    rows = rows_of(target, vantages, seed)
    trips = KNOWN.rtt_ms[rows, target]
    observed = TABLE.observed([KNOWN.places[r] for r in rows], trips)
    chosen, terms = TABLE.terms(observed)
    allowed_km = trips[:, None] * LIGHT_KM_PER_MS + NEAR_KM
    assert (KNOWN.candidate_km[np.ix_(rows, chosen)] <= allowed_km).all()
    assert terms.shape == (TERMS, len(chosen))
    assert np.isfinite(terms).all()


@settings(max_examples=6)
@given(targets, st.integers(10, 40), st.integers(0, 99))
def test_the_order_of_vantages_does_not_matter(target: int, vantages: int, seed: int) -> None:
    rows = rows_of(target, vantages, seed)
    (chosen, terms), (again, same) = (
        TABLE.terms(TABLE.observed([KNOWN.places[r] for r in order], KNOWN.rtt_ms[order, target]))
        for order in (rows, rows[::-1])
    )
    assert (chosen == again).all()
    np.testing.assert_allclose(terms, same, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("rtt_ms", [1e-3, 1e9])
def test_absurd_round_trips_still_leave_probabilities(rtt_ms: float) -> None:
    observed = TABLE.observed(list(KNOWN.places[:30]), np.full(30, rtt_ms))
    _, terms = TABLE.terms(observed)
    assert np.isfinite(terms).all()
    np.testing.assert_allclose(posterior(terms, model().levels[0].weights).sum(), 1.0)


shares_of = st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=40).map(
    lambda drawn: np.array(drawn) / np.sum(drawn)
)


@given(shares_of, st.floats(0.0, 1.0))
def test_a_region_is_the_likeliest_and_holds_its_share(
    shares: np.ndarray[tuple[int], np.dtype[np.float64]], share: float
) -> None:
    inside = members(shares, share)
    outside = np.setdiff1d(np.arange(len(shares)), inside)
    assert len(inside) >= 1
    assert len(outside) == 0 or shares[inside].min() >= shares[outside].max()
    assert len(outside) == 0 or shares[inside].sum() > share - 1e-9


@given(shares_of, st.data())
def test_the_truth_is_inside_at_the_share_that_it_needs(
    shares: np.ndarray[tuple[int], np.dtype[np.float64]], data: st.DataObject
) -> None:
    near = data.draw(st.integers(0, len(shares) - 1))
    km = np.where(np.arange(len(shares)) == near, 10.0, 500.0)
    score = Score(np.arange(len(shares)), np.log(shares)[None, :], km)
    needed = needed_share(score, (1.0,))
    kept = members(posterior(score.terms, (1.0,)), needed + 1e-9)
    assert shares[near] >= shares[kept].min() - 1e-12


@given(st.lists(st.floats(0.0, 1.0), min_size=19, max_size=80))
def test_the_threshold_covers_19_in_20(needed: list[float]) -> None:
    share = threshold(needed)
    assert sum(value <= share for value in needed) >= 0.95 * len(needed)


def test_weights_find_the_term_that_tells() -> None:
    draw = np.random.default_rng(1)
    told = []
    for _ in range(40):
        terms = draw.normal(size=(TERMS, 30))
        km = np.full(30, 900.0)
        km[int(terms[2].argmax())] = 0.0
        told.append(Score(np.arange(30), terms, km))
    weights, _ = fit_weights(told)
    assert int(np.argmax(weights)) == 2
    assert weights[2] > 4 * max(abs(weight) for index, weight in enumerate(weights) if index != 2)


def test_the_point_is_a_city_and_not_the_middle() -> None:
    metros = [place.metro for place in candidates().places]
    chosen = np.array([metros.index(metro) for metro in ("berlin", "munich", "hamburg")])
    point = likeliest(chosen, np.array([0.45, 0.4, 0.15]))
    assert metros[point] == "berlin"
