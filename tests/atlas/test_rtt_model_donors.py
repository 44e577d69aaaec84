from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isochrone.atlas.rtt_model import Floats
from isochrone.atlas.rtt_model_donors import borrowed, mixed, weighted_median

FLAT = np.full((3, 5), 1000.0)
"""Three probes that are equally far from five columns."""


def carriers(seed: int = 1) -> tuple[Floats, Floats]:
    """Sixty donors of six carriers: alike within one but for a constant. And the carriers."""
    chance = np.random.default_rng(seed)
    rows = chance.uniform(20, 200, (6, 8))
    of = np.arange(60) % 6
    return rows[of] + chance.uniform(0, 30, 60)[:, None] + chance.normal(0, 0.3, (60, 8)), rows


def test_a_row_is_borrowed_from_whoever_probes_alike() -> None:
    donors, rows = carriers()
    km = np.full(60, 200.0)
    for carrier, row in enumerate(rows):
        told = borrowed(row[:3] + 12, donors[:, :3], donors[:, 3:], km, FLAT)
        assert told == pytest.approx(row[3:] + 12, abs=2.0), carrier


def test_one_donor_with_a_special_route_does_not_matter() -> None:
    donors, rows = carriers()
    donors[0, 5] = 900.0
    told = borrowed(rows[0, :3], donors[:, :3], donors[:, 3:], np.full(60, 200.0), FLAT)
    assert told == pytest.approx(rows[0, 3:], abs=2.0)


def test_what_no_donor_knows_is_unknown_and_what_one_does_not_know_another_does() -> None:
    donors, rows = carriers()
    donors[:, 7] = np.nan
    donors[:30, 1] = donors[6:12, 4] = np.nan
    told = borrowed(rows[2, :3], donors[:, :3], donors[:, 3:], np.full(60, 200.0), FLAT)
    assert np.isnan(told).tolist() == [False, False, False, False, True]
    assert told[:4] == pytest.approx(rows[2, 3:7], abs=2.0)
    nobody = borrowed(rows[2, :3], np.full((60, 3), np.nan), donors[:, 3:], np.zeros(60), FLAT)
    assert np.isnan(nobody).all()


def test_what_a_probe_found_odd_is_found_odd_near_it_alone() -> None:
    rows = np.full((1, 6), 100.0)
    probed = np.array([100.0, 100.0, 108.0])
    apart = np.array([[50.0, 9000.0], [9000.0, 9000.0], [9000.0, 50.0]])
    told = borrowed(probed, rows[:, :3], rows[:, :2], np.zeros(1), apart)
    assert told[0] == pytest.approx(100.0, abs=0.2)
    assert 103.0 < told[1] < 105.0


def test_more_probes_and_more_donors_give_what_was_borrowed_more_weight() -> None:
    expected, smooth, lent = np.array([100.0, 100.0]), np.zeros(2), np.array([150.0, np.nan])
    shares = [
        mixed(expected, smooth, lent, probes=probes, donors=donors)[0] / np.log(1.5)
        for probes, donors in ((1, 200), (3, 200), (10, 200), (10, 12))
    ]
    assert shares == pytest.approx([0.25, 0.49, 0.76, 0.14], abs=0.01)
    assert mixed(expected, smooth + 0.1, lent, probes=10, donors=200)[1] == 0.1


@given(st.lists(st.tuples(st.integers(-50, 50), st.integers(1, 5)), min_size=1, max_size=12))
def test_a_weighted_median_is_the_median_of_everything_repeated(
    pairs: list[tuple[int, int]],
) -> None:
    values = np.array([[float(value)] for value, _ in pairs])
    weights = np.array([[float(weight)] for _, weight in pairs])
    repeated = sorted(value for value, weight in pairs for _ in range(weight))
    assert weighted_median(values, weights)[0] == repeated[(len(repeated) - 1) // 2]
