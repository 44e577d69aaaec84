"""Fit the model of round trips and measure it: ``python -m isochrone.atlas.rtt_model_fit [OUT]``.

Writes ``rtt_model.json`` beside the other packaged tables, from the table of round trips alone, in
a few seconds. Errors are measured on cities left out of the fit, in eight folds: *half* is a pair
of a city left out and one that was in the fit, *modelled* a pair of two left out. What is packaged
was fitted to all cities. Not imported by anything at run time; ``bench.reach_rtt`` repeats the
measurement, on any table of the same form.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import numpy as np

from isochrone.atlas import rtt_model
from isochrone.atlas.roundtrips import (
    FILE,
    ErrorShare,
    Fitted,
    measured_average_ms,
    measured_least_ms,
    measured_places,
    points_of,
)
from isochrone.atlas.rtt_model import Floats, Indices, RttModel

FOLDS: Final = 8
"""Into how many parts the cities are dealt; each is predicted from the seven others."""

SEED: Final = 5
"""Of the deal."""


class Fold(NamedTuple):
    """One deal: the model without ``out``, and which cities are ``kept`` and ``out``."""

    model: RttModel
    kept: Indices
    out: Indices


def deal(cities: int, folds: int = FOLDS, seed: int = SEED) -> Indices:
    """Each city's fold, of equal sizes, at random by the seed."""
    fold = np.empty(cities, dtype=np.intp)
    fold[np.random.default_rng(seed).permutation(cities)] = np.arange(cities) % folds
    return fold


def folds(points: Floats, rtt_ms: Floats, fold: Indices) -> Iterator[Fold]:
    """The model of each fold, fitted without its cities."""
    for number in range(int(fold.max()) + 1):
        kept, out = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        yield Fold(rtt_model.fit(points[kept], rtt_ms[np.ix_(kept, kept)]), kept, out)


def predicted(points: Floats, fold: Fold) -> Floats:
    """Predicted milliseconds from the fold's left-out cities (rows) to all cities (columns)."""
    model, kept, out = fold
    like = np.empty((len(points), len(kept)))
    like[kept] = model.own_likeness(np.arange(len(kept)))
    like[out] = model.likeness(points[out])
    ms: Floats = np.exp(model.log_between(points[out], points, like[out], like))
    return ms


def error_of(shares: Floats) -> ErrorShare:
    """Median and 90 % of relative errors, NaN left out."""
    return ErrorShare(
        round(float(np.nanmedian(shares)), 4), round(float(np.nanquantile(shares, 0.9)), 4)
    )


def build(out: Path) -> None:
    """Fit, measure, write."""
    points, rtt_ms = points_of(measured_places()), measured_average_ms()
    fold = deal(len(points))
    off = np.full(rtt_ms.shape, np.nan)
    for part in folds(points, rtt_ms, fold):
        truth = rtt_ms[part.out]
        off[part.out] = np.abs(predicted(points, part) - truth) / truth
    together = fold[:, None] == fold[None, :]
    whole = rtt_model.fit(points, rtt_ms)
    fitted = Fitted(
        curve=tuple(round(float(value), 5) for value in whole.curve),
        nuggets=tuple(round(float(value), 4) for value in whole.nuggets),
        errors={
            "measured": error_of(1.0 - measured_least_ms() / rtt_ms),
            "half": error_of(np.where(together, np.nan, off)),
            "modelled": error_of(np.where(together, off, np.nan)),
        },
    )
    (out / FILE).write_bytes(msgspec.json.format(msgspec.json.encode(fitted), indent=0) + b"\n")


if __name__ == "__main__":
    build(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "data")
