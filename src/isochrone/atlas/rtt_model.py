"""Round trips that nobody measured, from a table of those that somebody did: a fitted model.

Intuition. The logarithm of a round trip is a curve in the distance plus what is special about the
pair, and what is special is alike for pairs whose ends are near each other: all of East Africa
reaches Europe by the same cables. The residuals of the table are one Gaussian field over pairs,
with the product of two city kernels as covariance (kriging in a product space; Stegle et al. 2011
for the algebra: with the eigenvectors of *one* kernel of n cities the n² by n² system is solved
in n³). The city kernel is a constant (what a city adds to all of its round trips), a decay with
distance, and a variance of its own, the *nugget*, for what a city shares with no neighbour: bad
transit, a wrong place. A city that its neighbours predict badly has a larger one, so that nobody
borrows much from it; that takes the place of the median of neighbours.

Rules of this file: pure functions of arrays, no files, no names. Angles in degrees, milliseconds,
kilometres; a table is square and symmetric with NaN where nothing was measured.

What did not help, on cities left out (7.9 ms before single pairs' surprises were cut, 7.8 since;
deals that ``bench.reach`` does not report): roots or plain milliseconds instead of logarithms (8.0
to 8.2), medians of neighbours' rows however corrected (7.9 to 8.3), boosted trees on 49 features of
the pair (7.9); mixed with the model, each takes off less than 0.1. A kernel that knows countries,
populations and clouds' regions gets 7.7; not worth two more tables. The two directions of a pair
differ by 0.1 ms, so it is not noise: a new city's own carriers are what nobody knows before it
probes. The true median of its row alone would give 6.3.

Nearby it is not slow: of pairs below 100 km 81 % are within 10 ms by measurement and 90 % by the
model, at 100 to 300 km 43 and 48 %, at 300 to 600 km 12 and 2 %. But real round trips scatter, and
the best of several that scatter is nearer than the best of several typical ones (within 10 ms of
any other: 59 % of cities, by the model 43 %). So shares of people come out too low.

What it does not do: know cables, providers or borders; predict the access network of a home.
``roundtrips`` decides when a measured value is used instead, ``rtt_model_probed`` adds what a new
city has measured itself, and ``bench.reach_rtt`` says how wrong all of it is.
"""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from isochrone.schema.place import EARTH_RADIUS_KM

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

KNOTS_KM: Final = np.array([0.0, 300.0, 1000.0, 2000.0, 4000.0, 7000.0, 11_000.0, 20_040.0])
"""Where the curve of distance may bend; 20,040 km is half way round the Earth."""

REACH_KM: Final = 5000.0
"""The kernel falls to 1/e over this distance. Anything from 3,000 to 10,000 km errs alike: what
counts is that it falls in proportion to the distance nearby, like a random walk's."""

COMMON: Final = 0.5
"""The kernel's constant, against 1 for the part that decays: what is common to all cities."""

NUGGET, NUGGET_LEAST, NUGGET_MOST = 0.15, 0.2, 20.0
"""A typical city's own variance, and between which multiples of it a city's may lie."""

PAIR_NOISE: Final = 0.3
"""The variance of a pair that neither end explains, against the kernel's units squared."""

SURPRISE: Final = 0.1
"""Residuals that differ by more (a tenth) from what the model makes of them count as that much: the
detours of single pairs are heavy-tailed, and squares would give them the word. (Huber's
pseudo-values, 1964.)"""

TURNS, SETTLED = 60, 1e-3
"""Missing pairs (and the diagonal) are filled in with what the model says of them, and surprises
are cut, at most so often and until nothing moves by more than this, a thousandth of itself."""

ROUNDS, PARTS = 2, 10
"""How often nuggets are estimated, and into how many parts the cities are left out for it."""

LEAST_DEVIATION: Final = 0.02
"""Residuals (of logarithms) below this count alike in the fit of least absolute deviations."""


class RttModel(msgspec.Struct, frozen=True):
    """A fitted model. ``points``: the table's cities, n by 2 degrees (latitude, longitude).

    ``curve``: log milliseconds at ``KNOTS_KM``. ``nuggets``: n variances. ``weights``: n by n, what
    the kernels of two places are multiplied with.
    """

    points: Floats
    curve: Floats
    nuggets: Floats
    weights: Floats

    def log_ms(self, a: Floats, b: Floats) -> Floats:
        """Log round trips between new places, rows ``a`` and columns ``b`` (n by 2, degrees)."""
        return self.log_between(a, b, self.likeness(a), self.likeness(b))

    def log_between(self, a: Floats, b: Floats, like_a: Floats, like_b: Floats) -> Floats:
        """The same for places whose likeness to the table's cities is known."""
        return self.log_at(distances_km(a, b), like_a, like_b)

    def log_at(self, km: Floats, like_a: Floats, like_b: Floats) -> Floats:
        """The same for places whose distances are known, too."""
        special: Floats = like_a @ self.weights @ like_b.T
        return special + curve_at(self.curve, km)

    def likeness(self, points: Floats) -> Floats:
        """How alike places are to the table's cities: places by n, in the kernel's units."""
        return kernel(distances_km(points, self.points))

    def own_likeness(self, rows: Indices) -> Floats:
        """The same for the table's own cities, which share their nugget with themselves."""
        like = self.likeness(self.points[rows])
        like[np.arange(len(rows)), rows] += self.nuggets[rows]
        return like


def fit(points: Floats, rtt_ms: Floats) -> RttModel:
    """The model of a table: ``points`` n by 2 degrees, ``rtt_ms`` n by n, NaN where missing.

    About 0.2 s for 240 cities. Needs at least ``PARTS`` cities.
    """
    km = distances_km(points, points)
    curve = fit_curve(km, rtt_ms)
    nuggets = fit_nuggets(km, rtt_ms, curve)
    return solve(points, rtt_ms, curve, nuggets)


def solve(points: Floats, rtt_ms: Floats, curve: Floats, nuggets: Floats) -> RttModel:
    """The model with a known curve and nuggets: the quick part of ``fit`` (30 ms)."""
    km = distances_km(points, points)
    special = _special(rtt_ms, curve, km)
    return RttModel(points, curve, nuggets, _weights(special, kernel(km), nuggets))


def kernel(km: Floats) -> Floats:
    """How much two places have in common, without what a city has in common with itself alone."""
    like: Floats = COMMON + np.exp(-km / REACH_KM)
    return like


def curve_at(curve: Floats, km: Floats) -> Floats:
    """The logarithm of the round trip that distance alone suggests."""
    return np.interp(km, KNOTS_KM, curve)


def fit_curve(km: Floats, rtt_ms: Floats) -> Floats:
    """The curve with the least absolute deviations of logarithms, by reweighted least squares."""
    rows, columns = np.triu_indices(len(km), 1)
    known = ~np.isnan(rtt_ms[rows, columns])
    y = np.log(rtt_ms[rows, columns][known])
    hats = np.eye(len(KNOTS_KM))
    x = np.stack([np.interp(km[rows, columns][known], KNOTS_KM, hat) for hat in hats], axis=1)
    weight = np.ones(len(y))
    curve: Floats = np.zeros(len(KNOTS_KM))
    for _ in range(15):
        weighted = x * weight[:, None]
        curve = np.asarray(
            np.linalg.solve(weighted.T @ x + 1e-6 * hats, weighted.T @ y), dtype=np.float64
        )
        weight = 1.0 / np.maximum(np.abs(y - x @ curve), LEAST_DEVIATION)
    return curve


def fit_nuggets(km: Floats, rtt_ms: Floats, curve: Floats) -> Floats:
    """Each city's own variance: the square of how badly the other cities predict it.

    A city of which they cannot say (too few pairs) has the typical one.
    """
    special, like = _special(rtt_ms, curve, km), kernel(km)
    nuggets = np.full(len(km), NUGGET)
    for turn in range(ROUNDS):
        off = np.abs(left_out(special, like, nuggets, turn))
        said = ~np.isnan(off).all(axis=1)
        missed = np.nanmedian(off[said], axis=1)
        share = np.ones(len(km))
        share[said] = (missed / np.median(missed)) ** 2
        nuggets = NUGGET * share.clip(NUGGET_LEAST, NUGGET_MOST)
    return nuggets


def left_out(special: Floats, like: Floats, nuggets: Floats, turn: int = 0) -> Floats:
    """What each city's row is off by when the model does not know the city: n by n, NaN inside.

    Cities are left out a tenth at a time, in an order that ``turn`` seeds; columns left out with
    their row stay NaN.
    """
    part = np.empty(len(like), dtype=int)
    part[np.random.default_rng(turn).permutation(len(like))] = np.arange(len(like)) % PARTS
    off = np.full(like.shape, np.nan)
    for number in range(PARTS):
        kept, out = np.flatnonzero(part != number), np.flatnonzero(part == number)
        inner = np.ix_(kept, kept)
        weights = _weights(special[inner], like[inner], nuggets[kept])
        known = like[inner] + np.diag(nuggets[kept])
        rows = np.ix_(out, kept)
        off[rows] = special[rows] - like[rows] @ weights @ known
    return off


def distances_km(a: Floats, b: Floats) -> Floats:
    """Great-circle distances between points in degrees, kilometres, row by column."""
    phi_a, lambda_a = np.radians(a).T
    phi_b, lambda_b = np.radians(b).T
    rise = np.sin((phi_a[:, None] - phi_b[None, :]) / 2) ** 2
    turn = np.sin((lambda_a[:, None] - lambda_b[None, :]) / 2) ** 2
    haversine = rise + np.cos(phi_a)[:, None] * np.cos(phi_b)[None, :] * turn
    km: Floats = 2 * EARTH_RADIUS_KM * np.arcsin(np.sqrt(np.clip(haversine, 0.0, 1.0)))
    return km


def _special(rtt_ms: Floats, curve: Floats, km: Floats) -> Floats:
    special: Floats = np.log(rtt_ms) - curve_at(curve, km)
    return special


def _weights(special: Floats, like: Floats, nuggets: Floats) -> Floats:
    """(K⊗K + noise)⁻¹ applied to the residuals, missing and surprising ones mended."""
    variances, vectors = np.linalg.eigh(like + np.diag(nuggets))
    variances = variances.clip(1e-9)
    products = variances[:, None] * variances[None, :]
    missing = np.isnan(special)
    filled = np.where(missing, 0.0, special)
    for _ in range(TURNS):
        turned = vectors.T @ filled @ vectors
        estimate = vectors @ (turned * (products / (products + PAIR_NOISE))) @ vectors.T
        kept = estimate + (special - estimate).clip(-SURPRISE, SURPRISE)
        mended = np.where(missing, estimate, kept)
        moved = np.abs(mended - filled).max(initial=0.0)
        filled = mended
        if moved < SETTLED:
            break
    turned = vectors.T @ filled @ vectors
    weights: Floats = vectors @ (turned / (products + PAIR_NOISE)) @ vectors.T
    return weights
