"""Fit the latency model and measure it: ``python -m isochrone.atlas.latency_place_fit [OUT]``.

Writes ``latency_place.json`` beside the other packaged tables, from those tables alone, in some ten
minutes on two cores; the same input gives the same file up to rounding of the machine's algebra.
Not imported by anything at run time except for the bench, which repeats the measurement.

Which cities. Every city of the table is vantage, site and target, except those that contradict the
speed of light: of all pairs with round trips too short for their stated places in vacuum, the
cities with most such pairs are dropped, ties together, until none is left (``impossible``: Prague
with Vienna and Bratislava, Rome with Milan and Lugano, Auckland with Wellington, of which nobody
can tell who is wrong). Of the source's 242 servers, Belfast and La Ceiba, found in the same way,
and two with each other's coordinates, Panama and Guatemala, were dropped when it was packaged.

How it is kept honest. Cities are dealt into eight folds. For each fold, parameters and weights are
fitted on the five folds after the next two, from a table that holds these five alone; the two in
between calibrate the 95 % region (split conformal: the region is the most likely candidates up to
the share of probability at which 95 % of the calibration cities were inside); then the fold's own
cities are located, each from the table of all other cities, itself left out of it entirely. So a
city is in nothing that was fitted, calibrated or looked up for it; its neighbours are (that is
what vantages are). What is shipped was fitted on all folds and carries the errors measured so.

What each part gave, median error in km over held-out cities: the city of the shortest round trip
314 (the nearest city of the table is 198 away); histogram terms and inhabitants 232; rank and data
centres of the country 201; the interpolated term 137; its kernel fitted 120; the likeliest city
instead of the middle 82. The first four are from trials with one kernel chosen by hand, the last
two from the procedure above. Such medians move by some 20 km with details that should not matter.
"""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median
from typing import NamedTuple

import msgspec
import numpy as np

from isochrone.atlas.latency_place import FILE, Level, Model
from isochrone.atlas.latency_place_model import (
    DETOUR_BINS,
    DISTANCE_BINS_KM,
    KEPT,
    NEAR_KM,
    TERMS,
    Floats,
    Indices,
    Kernel,
    Parameters,
    Table,
    bends,
    candidates,
    detour_cells,
    distance_cells,
    likeliest,
    members,
    posterior,
)
from isochrone.atlas.roundtrips import distances_km, measured_least_ms, measured_places
from isochrone.schema.place import LIGHT_KM_PER_MS, SPHERE_ERROR, Place

FOLDS = 8
COVERED = 0.95
VANTAGES = (10, 30, 10_000)
"""Numbers of vantages that weights and calibration are made for; the last: all there are."""

IMPOSSIBLE_MARGIN_KM = 10.0
"""How much farther apart than light allows two cities must be to be at odds: places are stated to
a few kilometres."""

SOFT_KM = 40.0
"""A candidate this far from the truth is half right: what the weights are fitted to."""

SEARCH_KEPT = 150
"""Candidates per target while the kernel is sought: a third of the time, the same choice nearly."""

STEPS = (2.5, 1.6)
"""Factors by which each of the kernel's values is tried, up and down, one round a factor."""


class Sites(NamedTuple):
    """The cities of the table that contradict nothing: places, round trips (ms), folds."""

    places: tuple[Place, ...]
    rtt_ms: Floats
    fold: Indices
    candidate_km: Floats


class Located(NamedTuple):
    """A held-out city: error of the point, whether the region has it, the region's candidates."""

    metro: str
    error_km: float
    covered: bool
    region: Indices


class Score(NamedTuple):
    """One target's candidates and terms, and the candidates' distances to the truth."""

    chosen: Indices
    terms: Floats
    km: Floats


class Fitted(NamedTuple):
    """Parameters, and weights for each of ``VANTAGES``."""

    parameters: Parameters
    weights: tuple[tuple[float, ...], ...]


def impossible(places: Sequence[Place], rtt_ms: Floats) -> tuple[str, ...]:
    """Metros to distrust, sorted: those at odds with most others, ties together, until none is.

    The rule, its margin included, of ``rules.vantages.inconsistent_vantages``, as if every metro
    were an account of its own (the bench compares; this level does not see those rules).
    """
    apart_km = distances_km(places, places) * (1 - SPHERE_ERROR)
    odds = apart_km > rtt_ms * LIGHT_KM_PER_MS + IMPOSSIBLE_MARGIN_KM
    wrong: set[int] = set()
    while odds.any():
        count = odds.sum(axis=1)
        worst = np.flatnonzero(count == count.max())
        wrong.update(int(row) for row in worst)
        odds[worst, :] = False
        odds[:, worst] = False
    return tuple(sorted(places[row].metro for row in wrong))


def sites() -> Sites:
    """What the packaged table holds, without the impossible, dealt into folds."""
    places, rtt_ms = measured_places(), measured_least_ms()
    wrong = set(impossible(places, rtt_ms))
    kept = [row for row, place in enumerate(places) if place.metro not in wrong]
    dealt = np.arange(len(kept)) % FOLDS
    np.random.default_rng(0).shuffle(dealt)
    stay = tuple(places[row] for row in kept)
    km = distances_km(stay, candidates().places)
    return Sites(stay, rtt_ms[np.ix_(kept, kept)], dealt, km)


# --- fitting -------------------------------------------------------------------------------------


def distance_terms(places: Sequence[Place], rtt_ms: Floats) -> Parameters:
    """Mean and size (least absolute residuals) and the smoothed histogram, neutral kernel."""
    rows, columns = np.nonzero(~np.isnan(rtt_ms))
    km = distances_km(places, places)[rows, columns]
    trips = rtt_ms[rows, columns]
    design, wanted = bends(km), np.log(trips)
    weight = np.ones(len(km))
    for _ in range(20):
        left = (design * weight[:, None]).T @ design + 1e-3 * np.eye(design.shape[1])
        mean = np.linalg.solve(left, (design * weight[:, None]).T @ wanted)
        weight = 1 / np.maximum(np.abs(wanted - design @ mean), 0.03)
    size = np.log(np.maximum(np.abs(wanted - design @ mean), 0.02))
    scale = np.linalg.lstsq(design[:, :2], size, rcond=None)[0]
    scale[0] += 0.3  # the mean of a logarithm lies below the usual size
    counts = np.zeros((len(DISTANCE_BINS_KM) - 1, len(DETOUR_BINS) - 1))
    np.add.at(counts, (distance_cells(km), detour_cells(trips, km)), 1)
    smooth = _blur(len(counts), 0.7) @ counts @ _blur(counts.shape[1], 1.2)
    smooth += 0.002 * smooth.sum(axis=1, keepdims=True) + 1e-3
    density = np.log(smooth / smooth.sum(axis=1, keepdims=True))
    return Parameters(
        mean=_told(mean),
        scale=_told(scale),
        log_density=tuple(map(_told, density)),
        kernel=Kernel(),
    )


def _told(values: Iterable[float]) -> tuple[float, ...]:
    return tuple(round(float(value), 4) for value in values)


def _blur(size: int, width: float) -> Floats:
    steps = np.subtract.outer(np.arange(size), np.arange(size)) / width
    blur = np.exp(-0.5 * steps**2)
    total: Floats = blur / blur.sum(axis=1, keepdims=True)
    return total


def scores(
    known: Sites,
    rows: Sequence[int],
    targets: Sequence[int],
    parameters: Parameters,
    vantages: int,
    kept: int = KEPT,
) -> list[Score]:
    """Terms of each target from the table of ``rows`` without it, and as many vantages of them.

    Which vantages is drawn by the target's name, so that it is the same whoever asks.
    """
    found = []
    for target in targets:
        others = [row for row in rows if row != target]
        table = Table(
            [known.places[row] for row in others], known.rtt_ms[np.ix_(others, others)], parameters
        )
        seen = [row for row in others if not np.isnan(known.rtt_ms[row, target])]
        if len(seen) > vantages:
            draw = random.Random(f"{known.places[target].metro} {vantages}")
            seen = sorted(draw.sample(seen, vantages))
        places = [known.places[row] for row in seen]
        observed = table.observed(places, known.rtt_ms[seen, target], known.candidate_km[seen])
        chosen, terms = table.terms(observed, kept)
        found.append(Score(chosen, terms, known.candidate_km[target, chosen]))
    return found


def fit_weights(
    targets: Sequence[Score], start: Sequence[float] | None = None, rounds: int = 200
) -> tuple[tuple[float, ...], float]:
    """Weights for the largest mean log probability of being near the truth; Adam on few numbers."""
    weights = np.array(start) if start is not None else np.full(TERMS, 0.3)
    size = np.mean([score.terms.std(axis=1) for score in targets], axis=0) + 1e-6
    weights = weights * size
    data = [
        (score.terms / size[:, None], np.exp(-0.5 * (score.km / SOFT_KM) ** 2) + 1e-5)
        for score in targets
    ]
    speed, square = np.zeros(TERMS), np.zeros(TERMS)
    total = 0.0
    for step in range(1, rounds + 1):
        slope, total = -0.3 * weights, 0.0
        for terms, right in data:
            shares = posterior(terms, tuple(weights))
            hit = shares * right
            total += math.log(hit.sum())
            slope = slope + terms @ (hit / hit.sum() - shares)
        slope = slope / len(data)
        speed, square = 0.9 * speed + 0.1 * slope, 0.99 * square + 0.01 * slope**2
        ahead = speed / (1 - 0.9**step) / (np.sqrt(square / (1 - 0.99**step)) + 1e-8)
        weights = weights + 0.1 * ahead
    return tuple(round(float(value), 4) for value in weights / size), total / len(data)


def fit(known: Sites, rows: Sequence[int]) -> Fitted:
    """Everything, from the table of ``rows`` alone: one value of the kernel after the other."""
    places = [known.places[row] for row in rows]
    parameters = distance_terms(places, known.rtt_ms[np.ix_(rows, rows)])

    def tried(kernel: Kernel, start: Sequence[float] | None) -> tuple[tuple[float, ...], float]:
        changed = msgspec.structs.replace(parameters, kernel=kernel)
        all_of_them = scores(known, rows, rows, changed, VANTAGES[-1], SEARCH_KEPT)
        return fit_weights(all_of_them, start, 40 if start else 120)

    weights, best = tried(parameters.kernel, None)
    for factor in STEPS:
        for name in Kernel.__struct_fields__:
            for change in (factor, 1 / factor):
                value = round(getattr(parameters.kernel, name) * change, 5)
                kernel = msgspec.structs.replace(parameters.kernel, **{name: value})
                found, reached = tried(kernel, weights)
                if reached > best:
                    weights, best = found, reached
                    parameters = msgspec.structs.replace(parameters, kernel=kernel)
                    break
    by_level = [
        fit_weights(scores(known, rows, rows, parameters, vantages))[0] for vantages in VANTAGES
    ]
    return Fitted(parameters, tuple(by_level))


# --- measuring -----------------------------------------------------------------------------------


def needed_share(score: Score, weights: Sequence[float]) -> float:
    """Probability of all candidates that are likelier than any near the truth; 1: none is near."""
    shares = posterior(score.terms, weights)
    near = score.km <= NEAR_KM
    return float(shares[shares > shares[near].max()].sum()) if near.any() else 1.0


def threshold(needed: Sequence[float]) -> float:
    """The share that covers 95 % of cities like these, and one more (split conformal)."""
    rank = math.ceil(COVERED * (len(needed) + 1))
    return sorted(needed)[min(rank, len(needed)) - 1]


def measure_fold(known: Sites, fold: int) -> tuple[Fitted, list[list[tuple[float, Located]]]]:
    """One fold's parameters, and for each of ``VANTAGES`` its located cities."""
    rows = np.arange(len(known.places))
    away = (known.fold - fold) % FOLDS
    fitted = fit(known, [int(row) for row in rows[away > 2]])
    return fitted, locate_fold(known, fold, fitted)


def locate_fold(known: Sites, fold: int, fitted: Fitted) -> list[list[tuple[float, Located]]]:
    """For each of ``VANTAGES``: the fold's cities, each with the share that it needed."""
    rows = range(len(known.places))
    away = (known.fold - fold) % FOLDS
    calibrating = [row for row in rows if 1 <= away[row] <= 2]
    held_out = [row for row in rows if away[row] == 0]
    # Calibration cities see the fold's cities no more than these see themselves.
    without_fold = [row for row in rows if away[row] != 0]
    found = []
    for vantages, weights in zip(VANTAGES, fitted.weights, strict=True):
        asked = scores(known, without_fold, calibrating, fitted.parameters, vantages)
        share = threshold([needed_share(score, weights) for score in asked])
        located = []
        for row, score in zip(
            held_out, scores(known, rows, held_out, fitted.parameters, vantages), strict=True
        ):
            needed = needed_share(score, weights)
            located.append((needed, _located(known.places[row], score, weights, needed, share)))
        found.append(located)
    return found


def _located(
    truth: Place, score: Score, weights: Sequence[float], needed: float, share: float
) -> Located:
    shares = posterior(score.terms, weights)
    point = likeliest(score.chosen, shares)
    error_km = distances_km((truth,), (candidates().places[point],))[0, 0]
    covered = needed <= share and bool((score.km <= NEAR_KM).any())
    return Located(truth.metro, float(error_km), covered, score.chosen[members(shares, share)])


def build(out: Path, workers: int = 2) -> None:
    """Fit, measure, write."""
    known = sites()
    with ProcessPoolExecutor(workers) as pool:
        shipped = pool.submit(fit, known, list(range(len(known.places))))
        folds = [pool.submit(measure_fold, known, fold) for fold in range(FOLDS)]
        measured = [fold.result() for fold in folds]
        final = shipped.result()
    levels = []
    for level, vantages in enumerate(VANTAGES):
        told = [entry for _, found in measured for entry in found[level]]
        levels.append(
            Level(
                vantages=min(vantages, len(known.places) - 1),
                weights=final.weights[level],
                share=round(threshold([needed for needed, _ in told]), 5),
                median_error_km=round(median(entry.error_km for _, entry in told), 1),
                covered=round(sum(entry.covered for _, entry in told) / len(told), 4),
                median_cities=int(median(len(entry.region) for _, entry in told)),
            )
        )
    model = Model(
        impossible=impossible(measured_places(), measured_least_ms()),
        parameters=final.parameters,
        levels=tuple(levels),
        folds=tuple((fitted.parameters, fitted.weights) for fitted, _ in measured),
    )
    (out / FILE).write_bytes(msgspec.json.format(msgspec.json.encode(model), indent=0))


if __name__ == "__main__":
    build(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "data")
