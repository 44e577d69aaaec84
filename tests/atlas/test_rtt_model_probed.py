from __future__ import annotations

import numpy as np

from isochrone.atlas import rtt_model
from isochrone.atlas.rtt_model import Floats, distances_km
from isochrone.atlas.rtt_model_probed import PROBE_NOISE, correction, landmarks, patterns


def habits(cities: int = 60, seed: int = 1) -> tuple[Floats, Floats]:
    """Every city has its own slowness towards the west and towards the east."""
    chance = np.random.default_rng(seed)
    points = np.stack([chance.uniform(35, 60, cities), chance.uniform(-10, 60, cities)], axis=1)
    east = points[:, 1] > 25
    slow = chance.normal(0, 0.15, (cities, 2))
    own = np.where(east[None, :], slow[:, 1:], slow[:, :1])
    ms = (3 + 0.02 * distances_km(points, points)) * np.exp(own + own.T)
    np.fill_diagonal(ms, np.nan)
    return points, ms


def row_errors(count: int) -> tuple[float, float]:
    """The median error of rows left out, as predicted and as corrected by ``count`` probes."""
    points, ms = habits()
    plain, better = [], []
    for out in range(12):
        kept = np.flatnonzero(np.arange(len(points)) != out)
        model = rtt_model.fit(points[kept], ms[np.ix_(kept, kept)])
        like = model.own_likeness(np.arange(len(kept)))
        own = model.likeness(points[[out]])
        told = model.log_between(points[[out]], points[kept], own, like)[0]
        known = patterns(model, ms[np.ix_(kept, kept)])
        chosen = landmarks(known, count)
        off = np.log(ms[out, kept]) - told
        added = correction(known, points[kept][chosen], off[chosen], points[kept])
        rest = np.setdiff1d(np.arange(len(kept)), chosen)
        plain.append(np.abs(off[rest]))
        better.append(np.abs((off - added)[rest]))
    return float(np.median(np.concatenate(plain))), float(np.median(np.concatenate(better)))


def test_a_few_probes_halve_the_error_of_a_citys_other_round_trips() -> None:
    plain, better = row_errors(6)
    assert better < 0.5 * plain


def test_probes_that_say_what_was_expected_change_nothing() -> None:
    points, ms = habits()
    model = rtt_model.fit(points, ms)
    known = patterns(model, ms)
    assert np.array_equal(correction(known, points[:4], np.zeros(4), points), np.zeros(len(points)))


def test_a_probe_corrects_its_own_column_most_and_by_less_than_it_says() -> None:
    points, ms = habits()
    known = patterns(rtt_model.fit(points, ms), ms)
    added = correction(known, points[[5]], np.array([0.2]), points)
    assert added.argmax() == 5 or added[5] > 0.9 * added.max()
    assert 0.2 / (1 + 10 * PROBE_NOISE) < added[5] < 0.2


def test_landmarks_differ_and_lie_in_both_halves() -> None:
    points, ms = habits()
    chosen = landmarks(patterns(rtt_model.fit(points, ms), ms), 6)
    assert len(set(chosen.tolist())) == 6
    assert {bool(points[city, 1] > 25) for city in chosen} == {True, False}
