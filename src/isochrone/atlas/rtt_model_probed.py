"""What a city's own probes say of the round trips that it did not probe.

Intuition. The model's errors have a pattern: a city that is 20 ms slower than expected to London is
so to Paris, too, and perhaps not at all to Miami. ``patterns`` learns how the errors of a city's
row go together, column by column, from the table's cities, each predicted without itself. From a
few probed columns of a new city the others then follow as the conditional mean of a Gaussian
(kriging on what the model left). Half of the covariance is what was seen of the table's cities, the
other half one that falls with the distance between columns, since the first is from only some 240
rows.

Rules of this file: as ``rtt_model``; all in logarithms of milliseconds. Nothing is pinned to the
probed values here: ``measurements`` returns those as they are. ``rtt_model_donors`` adds what
cities that probe alike say, and leans on this the more, the fewer the probes.
"""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np

from isochrone.atlas import rtt_model
from isochrone.atlas.rtt_model import Floats, Indices, RttModel

SEEN: Final = 0.5
"""The share of the covariance that is as seen. From 0.25 to 0.75 it errs alike."""

COLUMN_REACH_KM: Final = 1500.0
"""The other share falls to 1/e over this distance between columns, ..."""

COLUMN_COMMON: Final = 0.3
"""... but for this constant, against 1: what all columns of a row share."""

PROBE_NOISE: Final = 0.1
"""A probe's own variance, as a share of a column's."""

ERROR_MOST: Final = 0.3
"""Errors of the table's cities count as at most so much (35 %): one broken row is no pattern."""

SPREAD_KM: Final = 300.0
"""A column outside the table has the pattern of those around it, by weights of this reach."""


class Patterns(msgspec.Struct, frozen=True):
    """How errors of one row go together: ``seen`` n by n between the table's columns.

    ``spread``: the typical variance of a column.
    """

    points: Floats
    seen: Floats
    spread: float

    def between(self, a: Floats, b: Floats) -> Floats:
        """The covariance of errors between columns at points ``a`` and ``b`` (n by 2, degrees)."""
        falling = COLUMN_COMMON + np.exp(-rtt_model.distances_km(a, b) / COLUMN_REACH_KM)
        seen = self._mixture(a) @ self.seen @ self._mixture(b).T
        together: Floats = SEEN * seen + (1.0 - SEEN) * self.spread * falling / (1 + COLUMN_COMMON)
        return together

    def _mixture(self, points: Floats) -> Floats:
        km = rtt_model.distances_km(points, self.points)
        nearness = np.exp(-(km - km.min(axis=1, keepdims=True)) / SPREAD_KM)
        mixed: Floats = nearness / nearness.sum(axis=1, keepdims=True)
        on_it = km.min(axis=1) < 0.1
        mixed[on_it] = np.eye(len(self.points))[km[on_it].argmin(axis=1)]
        return mixed


def patterns(model: RttModel, rtt_ms: Floats) -> Patterns:
    """The patterns of a model's table; 0.15 s for 240 cities."""
    km = rtt_model.distances_km(model.points, model.points)
    special = np.log(rtt_ms) - rtt_model.curve_at(model.curve, km)
    off = rtt_model.left_out(special, rtt_model.kernel(km), model.nuggets)
    known = np.where(np.isnan(off), 0.0, off).clip(-ERROR_MOST, ERROR_MOST)
    seen = known.T @ known / len(known)
    return Patterns(model.points, seen, float(np.median(np.diag(seen))))


def correction(known: Patterns, probed: Floats, off: Floats, columns: Floats) -> Floats:
    """What to add to a row's logarithms at ``columns``, given ``off`` at the points ``probed``.

    ``off``: log measured minus log expected, one a probe. Points n by 2, degrees.
    """
    noise = PROBE_NOISE * known.spread * np.eye(len(probed))
    weights = np.linalg.solve(known.between(probed, probed) + noise, off)
    added: Floats = known.between(columns, probed) @ weights
    return added


def landmarks(known: Patterns, count: int) -> Indices:
    """The table's cities whose probes tell most about a new city's row, best first.

    Greedy: each next one takes the most variance from all columns together.
    """
    left = known.between(known.points, known.points)
    chosen: list[int] = []
    for _ in range(count):
        gain = (left**2).sum(axis=0) / (np.diag(left) + PROBE_NOISE * known.spread)
        gain[chosen] = -1.0
        best = int(gain.argmax())
        chosen.append(best)
        scale = left[best, best] + PROBE_NOISE * known.spread
        left = left - np.outer(left[:, best], left[best]) / scale
    return np.array(chosen, dtype=np.intp)
