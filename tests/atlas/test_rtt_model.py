from __future__ import annotations

import numpy as np
import pytest

from isochrone.atlas import rtt_model
from isochrone.atlas.roundtrips import measured_average_ms, measured_places, points_of
from isochrone.atlas.rtt_model import Floats, distances_km, fit
from isochrone.atlas.rtt_model_fit import Fold, deal, error_of, folds, predicted


def invented(cities: int, seed: int, detour: float = 0.0) -> tuple[Floats, Floats]:
    """Cities of one continent; cables that run in proportion to distance; a tenth of noise."""
    chance = np.random.default_rng(seed)
    points = np.stack([chance.uniform(35, 60, cities), chance.uniform(-10, 40, cities)], axis=1)
    south = (points[:, 0] < 45)[:, None] ^ (points[:, 0] < 45)[None, :]
    ms = (3 + 0.02 * distances_km(points, points)) * np.where(south, 1 + detour, 1.0)
    noise = np.triu(chance.normal(0, 0.02, ms.shape), 1)
    ms = ms * np.exp(noise + noise.T)
    np.fill_diagonal(ms, np.nan)
    return points, ms


def median_error(points: Floats, ms: Floats) -> float:
    off = [
        np.abs(predicted(points, part) - ms[part.out]) / ms[part.out]
        for part in folds(points, ms, deal(len(points)))
    ]
    return error_of(np.concatenate(off)).median


def test_distance_alone_is_learnt_within_the_noise() -> None:
    assert median_error(*invented(64, seed=1)) < 0.05


def test_a_detour_between_two_regions_is_learnt_from_their_cities() -> None:
    points, ms = invented(64, seed=2, detour=0.8)
    off = [
        np.abs(predicted(points, part) - ms[part.out]) / ms[part.out]
        for part in folds(points, ms, deal(len(points)))
    ]
    assert error_of(np.concatenate(off)).p90 < 0.35
    curve = rtt_model.fit_curve(distances_km(points, points), ms)
    alone = np.exp(rtt_model.curve_at(curve, distances_km(points, points)))
    assert error_of(np.abs(alone - ms) / ms).p90 > 0.6  # what distance alone makes of it


def test_a_city_unlike_its_neighbours_has_a_large_nugget() -> None:
    points, ms = invented(64, seed=3)
    ms[7] *= 2.0
    ms[:, 7] *= 2.0
    model = fit(points, ms)
    assert model.nuggets[7] == model.nuggets.max()
    assert model.nuggets[7] > 5 * np.median(model.nuggets)


def test_predictions_are_symmetric_and_know_the_table_nearly_by_heart() -> None:
    points, ms = invented(48, seed=4, detour=0.5)
    model = fit(points, ms)
    places = np.array([(50.0, 8.0), (38.0, 23.0), (41.0, 2.0)])
    assert np.allclose(model.log_ms(places, places), model.log_ms(places, places).T)
    like = model.own_likeness(np.arange(48))
    again = np.exp(model.log_between(points, points, like, like))
    assert error_of(np.abs(again - ms) / ms).median < 0.03


def test_missing_pairs_are_filled_in() -> None:
    points, ms = invented(48, seed=5, detour=0.5)
    truth = ms[3, 30]
    ms[3, 30] = ms[30, 3] = np.nan
    model = fit(points, ms)
    like = model.own_likeness(np.array([3, 30]))
    inside = np.exp(model.log_between(points[[3, 30]], points[[3, 30]], like, like))
    assert inside[0, 1] == pytest.approx(truth, rel=0.15)


def test_a_left_out_city_is_in_nothing_that_predicts_it() -> None:
    points, ms = invented(40, seed=6)
    fold = deal(40)
    first = next(folds(points, ms, fold))
    spoilt = ms.copy()
    spoilt[first.out] *= 3.0
    spoilt[:, first.out] *= 3.0
    again = next(folds(points, spoilt, fold))
    assert np.array_equal(predicted(points, first), predicted(points, again))
    assert isinstance(first, Fold)


def test_on_the_packaged_table_the_model_beats_distance_and_neighbours() -> None:
    points, ms = points_of(measured_places()), measured_average_ms()
    fold = deal(len(points))
    part = next(folds(points, ms, fold))
    known = np.isin(np.arange(len(points)), part.kept)
    truth = ms[np.ix_(part.out, known)]
    off = error_of(np.abs(predicted(points, part)[:, known] - truth) / truth)
    km = distances_km(points, points)
    curve = rtt_model.fit_curve(km[np.ix_(part.kept, part.kept)], ms[np.ix_(part.kept, part.kept)])
    alone = np.exp(rtt_model.curve_at(curve, km[np.ix_(part.out, known)]))
    nearest = part.kept[km[np.ix_(part.out, part.kept)].argmin(axis=1)]
    borrowed = ms[np.ix_(nearest, known)]
    assert off.median < 0.8 * error_of(np.abs(alone - truth) / truth).median
    assert off.p90 < 0.8 * error_of(np.abs(borrowed - truth) / truth).p90


def test_a_table_with_half_of_its_pairs_missing_is_learnt_nearly_as_well() -> None:
    points, ms = invented(64, seed=7, detour=0.5)
    missing = np.triu(np.random.default_rng(7).random(ms.shape) < 0.5, 1)
    holes = np.where(missing | missing.T, np.nan, ms)
    holes[11, 1:] = holes[1:, 11] = np.nan  # a city of which next to nothing is known
    part = next(folds(points, holes, deal(64)))
    told, truth = predicted(points, part), ms[part.out]
    assert error_of(np.abs(told - truth) / truth).median < 0.12
