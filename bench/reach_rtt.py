"""How wrong expected round trips are in cities that nobody measured: cities left out, eight folds.

For each fold the model that ships (``atlas.rtt_model``) is fitted to the table without the fold's
cities, and predicts their round trips: to every city of the fit and to each other. The headline
(``rtt_model_median_abs_err_ms``, ``rtt_model_p90_rel_err``) counts every pair with at least one
city left out. Beside it: pairs of a city left out and one in the fit (``_half_``: a new user's city
and a list of measured sites; the baselines' own question), and pairs of two left out (``_new_``).
Nothing of a left-out city is used. In particular there is no average with the model of another
fold, which has seen that city's row: it would print 7.3 ms and 0.25 for ``_half_`` and mean
nothing.

With probes a left-out city contributes its round trips to ten cities of the fit, the landmarks that
``rtt_model_probed`` chooses from the fit alone (``_random_``: drawn by a seed instead); what is
probed is not counted. Baselines: a line in distance, and the median of the three nearest cities'
rows corrected for distance by that line's slope. Harder: whole countries left out (``_country_``).
The floor: one pair in ten left out with both of its cities in the fit, so that nine tenths of both
rows are known, told by the model (``rtt_pair_floor_``) and by the cities whose rows are most alike
(``rtt_pair_donors_``): what is special about a single pair nobody can know without measuring it.

A round trip is the mean of the two directions' daily averages; ``_least_`` of their daily minima.
Cities whose place contradicts light (``geo_suspect``) and those without any pair are left out. The
constants of the model were chosen on the shared table (folds of other seeds), where all within a
factor of two err alike.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from isochrone.atlas import rtt_model
from isochrone.atlas.roundtrips import FIBRE_MS_PER_KM, SAME_METRO_MS
from isochrone.atlas.rtt_model import Floats, Indices
from isochrone.atlas.rtt_model_donors import borrowed, mixed
from isochrone.atlas.rtt_model_fit import Fold, deal, folds, predicted
from isochrone.atlas.rtt_model_probed import Patterns, correction, landmarks, patterns

PROBES: Final = 10
SEEDS: Final = (11, 12, 13)
"""Deals of the cities into folds; errors are pooled, so that one lucky deal decides nothing."""

NEIGHBOURS: Final = 3


class Table(NamedTuple):
    """A table of round trips: points n by 2 degrees, countries, n by n milliseconds."""

    points: Floats
    country: list[str]
    rtt_ms: Floats


class Errors:
    """Absolute and relative errors, collected."""

    def __init__(self) -> None:
        self._off: list[Floats] = []
        self._truth: list[Floats] = []

    def add(self, predicted_ms: Floats, truth_ms: Floats) -> None:
        """Compare; NaN in either is left out."""
        known = ~np.isnan(truth_ms) & ~np.isnan(predicted_ms)
        self._off.append(np.abs(predicted_ms - truth_ms)[known])
        self._truth.append(truth_ms[known])

    def told(self, name: str) -> dict[str, float]:
        """The two figures of the issue under a name."""
        off = np.concatenate(self._off) if self._off else np.array([np.nan])
        share = off / np.concatenate(self._truth) if self._off else off
        return {
            f"{name}_median_abs_err_ms": round(float(np.median(off)), 2),
            f"{name}_p90_rel_err": round(float(np.quantile(share, 0.9)), 3),
        }


def read(cities_csv: str | Path, pairs_csv: str | Path, column: str = "rtt_avg_ms") -> Table:
    """The table in two CSV files, of the columns that the shared data's README describes."""
    with Path(cities_csv).open(encoding="utf-8", newline="") as file:
        cities = [row for row in csv.DictReader(file) if row.get("geo_suspect") != "1"]
    position = {row["id"]: index for index, row in enumerate(cities)}
    directed = np.full((len(cities), len(cities)), np.nan)
    with Path(pairs_csv).open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            src, dst = position.get(row["src"]), position.get(row["dst"])
            if src is None or dst is None or src == dst or not row[column]:
                continue
            directed[src, dst] = float(row[column])
    known = ~np.isnan(directed)
    ways = known.astype(float) + known.T
    total = np.nan_to_num(directed) + np.nan_to_num(directed).T
    with np.errstate(invalid="ignore"):
        rtt_ms = np.where(ways > 0, total / ways, np.nan)
    points = np.array([(float(row["latitude"]), float(row["longitude"])) for row in cities])
    used = np.flatnonzero(known.any(axis=0) | known.any(axis=1))
    countries = [cities[index]["iso2"] for index in used]
    return Table(points[used], countries, rtt_ms[np.ix_(used, used)])


def evaluate(
    cities_csv: str | Path, pairs_csv: str | Path, *, quick: bool = False
) -> dict[str, float]:
    """The figures of this file's beginning, by name: milliseconds, and shares of the round trip.

    About 30 s on one core for 240 cities; ``quick``: one deal, without the harder variants.
    """
    table = read(cities_csv, pairs_csv)
    figures = _left_out(table, SEEDS[:1] if quick else SEEDS)
    if not quick:
        least = read(cities_csv, pairs_csv, "rtt_min_ms")
        figures |= _modelled("rtt_model_least", least, [deal(len(least.points), seed=SEEDS[0])])
        figures |= _modelled("rtt_model_country", table, [_by_country(table.country)])
        figures |= _floor(table)
    return figures


def _left_out(table: Table, seeds: tuple[int, ...]) -> dict[str, float]:
    names = ("all", "half", "new", "line", "neighbours", "probed", "random")
    errors = {name: Errors() for name in names}
    for seed in seeds:
        print(f"Cities left out, deal {seed}.", file=sys.stderr)
        for part in folds(table.points, table.rtt_ms, deal(len(table.points), seed=seed)):
            told = bounded(table, part, predicted(table.points, part))
            _split(errors, told, table, part)
            kept = table.rtt_ms[np.ix_(part.kept, part.kept)]
            line, neighbours = baselines(table, part)
            errors["line"].add(line, table.rtt_ms[part.out])
            errors["neighbours"].add(neighbours, table.rtt_ms[np.ix_(part.out, part.kept)])
            known = patterns(part.model, kept)
            best = part.kept[landmarks(known, PROBES)]
            chance = np.random.default_rng(seed)
            errors["probed"].add(*probed(table, part, told, known, lambda _, best=best: best))
            errors["random"].add(
                *probed(
                    table,
                    part,
                    told,
                    known,
                    lambda _, chance=chance, kept=part.kept: chance.choice(kept, PROBES, False),
                )
            )
    return (
        errors["all"].told("rtt_model")
        | errors["half"].told("rtt_model_half")
        | errors["new"].told("rtt_model_new")
        | errors["probed"].told("rtt_model_probed")
        | errors["random"].told("rtt_model_probed_random")
        | errors["line"].told("rtt_line")
        | errors["neighbours"].told("rtt_three_neighbours")
    )


def _modelled(name: str, table: Table, deals: list[Indices]) -> dict[str, float]:
    print(f"{name}.", file=sys.stderr)
    errors = {kind: Errors() for kind in ("all", "half", "new")}
    for fold in deals:
        for part in folds(table.points, table.rtt_ms, fold):
            _split(errors, bounded(table, part, predicted(table.points, part)), table, part)
    return errors["all"].told(name) | errors["half"].told(f"{name}_half")


def _split(errors: dict[str, Errors], told: Floats, table: Table, part: Fold) -> None:
    truth = table.rtt_ms[part.out]
    errors["all"].add(told, truth)
    errors["half"].add(told[:, part.kept], truth[:, part.kept])
    errors["new"].add(told[:, part.out], truth[:, part.out])


def bounded(table: Table, part: Fold, told: Floats) -> Floats:
    """Predictions as ``roundtrips`` gives them: never faster than light in fibre."""
    km = rtt_model.distances_km(table.points[part.out], table.points)
    least: Floats = np.maximum(told, FIBRE_MS_PER_KM * km)
    return least


def probed(
    table: Table,
    part: Fold,
    told: Floats,
    known: Patterns,
    choose: Callable[[int], Indices],
) -> tuple[Floats, Floats]:
    """Predictions and truth when each left-out city has probed the cities that ``choose`` gives.

    Pairs of two left-out cities are corrected from both ends. Probed pairs are NaN in the truth.
    """
    added, truth = np.zeros(told.shape), table.rtt_ms[part.out].copy()
    km = rtt_model.distances_km(table.points, table.points)
    donors, least = _donors(table, part, told), np.maximum(FIBRE_MS_PER_KM * km, SAME_METRO_MS)
    for row, city in enumerate(part.out):
        chosen = choose(row)
        chosen = chosen[~np.isnan(table.rtt_ms[city, chosen])]
        if not len(chosen):
            continue
        probes = table.rtt_ms[city, chosen]
        off = np.log(probes) - np.log(told[row, chosen])
        smooth = correction(known, table.points[chosen], off, table.points)
        lent = borrowed(probes, donors[:, chosen], donors, km[part.kept, city], km[chosen])
        added[row] = mixed(
            told[row],
            smooth,
            np.maximum(lent, least[city]),
            probes=len(chosen),
            donors=len(donors),
        )
        truth[row, chosen] = np.nan
    together = added[:, part.out]
    added[:, part.out] = together + together.T
    return bounded(table, part, told * np.exp(added)), truth


def _donors(table: Table, part: Fold, told: Floats) -> Floats:
    """The rows that may be borrowed, kept cities by all: measured, else as the model has them."""
    model, kept, out = part
    like = model.own_likeness(np.arange(len(kept)))
    rows = np.empty((len(kept), len(table.points)))
    rows[:, kept] = np.exp(model.log_between(model.points, model.points, like, like))
    measured = table.rtt_ms[np.ix_(kept, kept)]
    rows[:, kept] = np.where(np.isnan(measured), rows[:, kept], measured)
    rows[:, out] = told[:, kept].T
    rows[np.arange(len(kept)), kept] = np.nan
    return rows


def baselines(table: Table, part: Fold) -> tuple[Floats, Floats]:
    """A line in distance for all columns, and the three nearest cities' rows for those kept."""
    km = rtt_model.distances_km(table.points, table.points)
    rows, columns = np.triu_indices(len(part.kept), 1)
    x, y = (
        km[part.kept[rows], part.kept[columns]],
        table.rtt_ms[part.kept[rows], part.kept[columns]],
    )
    base, slope = _line(x[~np.isnan(y)], y[~np.isnan(y)])
    line = base + slope * km[part.out]
    nearest = part.kept[km[np.ix_(part.out, part.kept)].argsort(axis=1)[:, :NEIGHBOURS]]
    shifted = [
        table.rtt_ms[near][:, part.kept]
        + slope * (km[out, part.kept][None, :] - km[near][:, part.kept])
        for out, near in zip(part.out, nearest, strict=True)
    ]
    middles = [np.ma.median(np.ma.masked_invalid(rows), axis=0) for rows in shifted]
    return line, np.stack([np.ma.filled(middle, np.nan) for middle in middles])


def _line(x: Floats, y: Floats) -> tuple[float, float]:
    """The line of least absolute deviations, by reweighted least squares."""
    columns = np.stack([np.ones_like(x), x], axis=1)
    weight = np.ones(len(x))
    fitted = np.zeros(2)
    for _ in range(40):
        weighted = columns * weight[:, None]
        fitted = np.linalg.solve(weighted.T @ columns, weighted.T @ y)
        weight = 1.0 / np.maximum(np.abs(y - columns @ fitted), 0.5)
    return float(fitted[0]), float(fitted[1])


def _by_country(country: list[str]) -> Indices:
    """Folds of whole countries: the largest first, each into the fold with fewest cities."""
    count = {code: country.count(code) for code in country}
    sizes, fold = [0] * 8, {}
    for code in sorted(count, key=lambda code: (-count[code], code)):
        fold[code] = sizes.index(min(sizes))
        sizes[fold[code]] += count[code]
    return np.array([fold[code] for code in country], dtype=np.intp)


def _floor(table: Table, seed: int = SEEDS[0]) -> dict[str, float]:
    """One pair in ten hidden; each told by the model, and by the donors of both of its rows."""
    print("Pairs left out.", file=sys.stderr)
    hidden = np.triu(np.random.default_rng(seed).random(table.rtt_ms.shape) < 0.1, 1)
    hidden |= hidden.T
    seen = np.where(hidden, np.nan, table.rtt_ms)
    model = rtt_model.fit(table.points, seen)
    like = model.own_likeness(np.arange(len(table.points)))
    told = np.exp(model.log_between(table.points, table.points, like, like))
    km = rtt_model.distances_km(table.points, table.points)
    lent = np.full(seen.shape, np.nan)
    for city in range(len(seen)):
        probed, others = np.flatnonzero(~np.isnan(seen[city])), np.arange(len(seen)) != city
        rows = seen[others]
        lent[city] = borrowed(
            seen[city, probed], rows[:, probed], rows, km[others, city], km[probed]
        )
    errors, donors, truth = Errors(), Errors(), np.where(hidden, table.rtt_ms, np.nan)
    errors.add(told, truth)
    donors.add((lent + lent.T) / 2, truth)
    return errors.told("rtt_pair_floor") | donors.told("rtt_pair_donors")
