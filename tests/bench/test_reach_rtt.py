"""The measurement itself, on an invented world: what it leaves out, and what it counts."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from bench.reach_rtt import Errors, Table, baselines, evaluate, read

from isochrone.atlas.rtt_model import distances_km
from isochrone.atlas.rtt_model_fit import deal, folds


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("table")
    chance = np.random.default_rng(3)
    points = np.stack([chance.uniform(35, 60, 49), chance.uniform(-10, 40, 49)], axis=1)
    ms = 3 + 0.02 * distances_km(points, points)
    cities, pairs = folder / "cities.csv", folder / "pairs.csv"
    with cities.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["id", "city", "iso2", "latitude", "longitude", "geo_suspect"])
        for index, (latitude, longitude) in enumerate(points):
            out.writerow([100 + index, "x", "AA", latitude, longitude, int(index == 48)])
    with pairs.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["src", "dst", "rtt_min_ms", "rtt_avg_ms"])
        for i, j in np.ndindex(49, 49):
            if i != j:
                out.writerow([100 + i, 100 + j, ms[i, j], ms[i, j] + (2 if i < j else 0)])
    return cities, pairs


def test_directions_are_averaged_and_suspects_left_out(files: tuple[Path, Path]) -> None:
    table = read(*files)
    assert len(table.points) == 48
    assert np.isnan(np.diag(table.rtt_ms)).all()
    km = distances_km(table.points, table.points)
    assert table.rtt_ms[0, 1] == pytest.approx(3 + 0.02 * km[0, 1] + 1)
    assert np.allclose(table.rtt_ms, table.rtt_ms.T, equal_nan=True)


def test_a_world_of_straight_cables_is_predicted_and_all_keys_are_there(
    files: tuple[Path, Path],
) -> None:
    figures = evaluate(*files, quick=True)
    assert figures["rtt_model_median_abs_err_ms"] < 0.5
    assert figures["rtt_line_median_abs_err_ms"] < 0.1
    assert figures["rtt_model_probed_median_abs_err_ms"] < 1.0
    assert {"rtt_model_p90_rel_err", "rtt_model_half_p90_rel_err"} <= set(figures)


def test_a_baseline_never_sees_the_cities_left_out() -> None:
    chance = np.random.default_rng(4)
    points = np.stack([chance.uniform(35, 60, 40), chance.uniform(-10, 40, 40)], axis=1)
    ms = chance.uniform(10, 90, (40, 40))
    ms = (ms + ms.T) / 2
    np.fill_diagonal(ms, np.nan)
    part = next(folds(points, ms, deal(40)))
    spoilt = ms.copy()
    spoilt[part.out] = spoilt[:, part.out] = 1e6
    for one, other in zip(
        baselines(Table(points, ["XX"] * 40, ms), part),
        baselines(Table(points, ["XX"] * 40, spoilt), part),
        strict=True,
    ):
        assert np.array_equal(one, other)


def test_errors_leave_out_what_is_unknown() -> None:
    errors = Errors()
    errors.add(np.array([10.0, np.nan, 5.0]), np.array([8.0, 1.0, np.nan]))
    assert errors.told("x") == {"x_median_abs_err_ms": 2.0, "x_p90_rel_err": 0.25}
