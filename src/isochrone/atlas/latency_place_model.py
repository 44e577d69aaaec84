"""A posterior over cities from round trips: the arithmetic of ``latency_place``.

Intuition: a round trip is distance times a detour, and detours are alike for places that are close
to each other, for they use the same cables. So the logarithm of every measured round trip is split
into what distance explains (``mean_of``) and a residual in units of its usual size (``scale_of``);
the residual at a place where nobody has measured is interpolated from the cities around it
(kriging, a Gaussian process whose covariance is a product over both ends, so one matrix of the
size of the table serves all vantages). A candidate city is as likely as the observed round trips
are under what is interpolated for it. Beside that stand three plainer terms: how common the detours
are that the nearest one, the next two and the next five vantages would then have had (a smoothed
histogram by distance: its lower edge, the speed of light in glass, is sharper than a Gaussian's),
and a prior: inhabitants, rank in the country, and how many data centres of the table the country
has. Seven weights make one score of them, as in a conditional logit; they were fitted for several
numbers of vantages apart, because errors of neighbouring vantages are not independent.

Hard bounds come first: candidates whose distance light could not have come from (149.896 km per ms
of round trip, plus ``NEAR_KM`` since a candidate stands for what is around it) are out. If every
candidate breaks one, those breaking fewest stay: one vantage with a false place moves the answer,
but does not veto it.

Not here: who believes vantages, what the answer is good for (``latency_place``), and how the
parameters were found (``latency_place_fit``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from isochrone.atlas.cities import all_cities
from isochrone.atlas.roundtrips import distances_km
from isochrone.schema.place import LIGHT_KM_PER_MS, Place

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

NEAR_KM = 75.0
"""A candidate stands for everything this near: 97 % of the table's cities have one so near that is
not themselves made a candidate for being measured (96 % within 50 km, 98 % within 100)."""

POINT_KM = 60.0
"""The point is the city with most probability around it, in a Gaussian of this width."""

LARGE = 100_000
"""Inhabitants that make a candidate (or being the largest of its country). Small towns that the
atlas lists only because round trips were measured there are none: that would tell the answer."""

KNOTS_KM = (60.0, 150.0, 400.0, 1000.0, 2500.0, 6000.0)
LEAST_KM = 15.0
"""Bends of the distance term; below the least, distance explains nothing."""

DETOUR_BINS = np.linspace(-0.6, 3.0, 46)
DISTANCE_BINS_KM = np.concatenate([[0.0], np.geomspace(40.0, 15_000.0, 16), [1e9]])
"""The histogram's cells: logarithm of round trip over distance at 100 km/ms, by distance."""

GROUPS = ((0, 1), (1, 3), (3, 8))
"""Vantages by rank of their round trips, one histogram term a group."""

KRIGED = 60
"""Vantages that the interpolated term looks at, nearest first: more add noise, not place."""

KEPT = 500
"""Candidates that get the interpolated term: the best by the plainer terms at equal weights."""

POINTS = 150
"""Candidates among which the point is sought, the likeliest."""

CLIP = 4.0
"""Most that one vantage's residual counts for, in its usual size: bounds what one liar moves."""

NUGGET = 0.03
"""Variance between two data centres in one place. Fitting would choose less, since no two cities of
the table are one; but a node next to a vantage need not share its provider."""

TERMS = 8
"""Three histogram terms, the interpolated one, and four of the prior."""


class Kernel(msgspec.Struct, frozen=True, kw_only=True):
    """How alike residuals are: shared by all, by places near each other, inside one country.

    Variances in squared usual sizes, lengths in kilometres. ``nugget``: one site's own;
    ``noise``: one round trip's own.
    """

    common: float = 0.1
    near: float = 0.3
    near_km: float = 500.0
    national: float = 0.2
    national_km: float = 1000.0
    vantage_nugget: float = 0.2
    noise: float = 0.05


class Parameters(msgspec.Struct, frozen=True, kw_only=True):
    """Everything fitted but the weights: coefficients of mean and size, log densities, kernel."""

    mean: tuple[float, ...]
    scale: tuple[float, ...]
    log_density: tuple[tuple[float, ...], ...]
    kernel: Kernel


class Candidates(NamedTuple):
    """The cities that can be the answer, largest first, and what the prior knows of them."""

    places: tuple[Place, ...]
    countries: NDArray[np.str_]
    log_population: Floats
    log_rank: Floats


@lru_cache(maxsize=1)
def candidates() -> Candidates:
    """About 4,100 cities: 100,000 inhabitants or its country's largest, districts left out."""
    ranks: Counter[str] = Counter()
    chosen = []
    for city in all_cities():
        if city.part_of or not (city.population >= LARGE or not ranks[city.place.country]):
            continue
        chosen.append((city.place, max(city.population, 1000), ranks[city.place.country]))
        ranks[city.place.country] += 1
    places = tuple(place for place, _, _ in chosen)
    return Candidates(
        places,
        np.array([place.country for place in places]),
        np.log([float(people) for _, people, _ in chosen]),
        np.log1p([float(rank) for _, _, rank in chosen]),
    )


def bends(km: Floats) -> Floats:
    """The distance term's columns: one, log distance, and what lies beyond each knot."""
    log_km = np.log(np.maximum(km, LEAST_KM))
    columns = [np.ones_like(log_km), log_km, *(np.maximum(log_km - np.log(k), 0) for k in KNOTS_KM)]
    stacked: Floats = np.stack(columns, axis=-1)
    return stacked


def mean_of(km: Floats, parameters: Parameters) -> Floats:
    """Logarithm of the round trip (ms) that distance suggests."""
    mean: Floats = bends(km) @ np.array(parameters.mean)
    return mean


def scale_of(km: Floats, parameters: Parameters) -> Floats:
    """Usual size of the logarithm's residual at a distance."""
    logs: Floats = bends(km)[..., :2] @ np.array(parameters.scale)
    scale: Floats = np.exp(logs)
    return scale


def detour_cells(rtt_ms: Floats, km: Floats) -> Indices:
    """The histogram's column of a round trip over a distance."""
    detour = np.log(rtt_ms * 100.0 / np.maximum(km, 20.0))
    return np.clip(np.digitize(detour, DETOUR_BINS) - 1, 0, len(DETOUR_BINS) - 2)


def distance_cells(km: Floats) -> Indices:
    """The histogram's row of a distance."""
    return np.digitize(km, DISTANCE_BINS_KM) - 1


def covariance(km: Floats, same_country: NDArray[np.bool_], kernel: Kernel) -> Floats:
    """How alike residuals at two places are."""
    shared: Floats = kernel.common + kernel.near * np.exp(-km / kernel.near_km)
    national: Floats = np.exp(-km / kernel.national_km) * kernel.national
    total: Floats = shared + np.where(same_country, national, 0.0)
    return total


class Observed(NamedTuple):
    """Round trips to one target, nearest first: where the vantages stand, and their row in the
    table, -1 for a place that is none of its metros."""

    places: tuple[Place, ...]
    rows: Indices
    rtt_ms: Floats
    candidate_km: Floats


class Table:
    """The sites between which round trips are known, under given parameters, ready to be asked.

    ``rtt_ms``: square, symmetric, NaN where unknown and on the diagonal.
    """

    def __init__(self, places: Sequence[Place], rtt_ms: Floats, parameters: Parameters) -> None:
        self.places, self.parameters = tuple(places), parameters
        self.row_of = {place.metro: row for row, place in enumerate(self.places)}
        self._countries = np.array([place.country for place in self.places])
        km = distances_km(self.places, self.places)
        same = self._countries[:, None] == self._countries[None, :]
        self._kernel = covariance(km, same, parameters.kernel)
        self._inverse = np.linalg.inv(self._kernel + NUGGET * np.eye(len(self.places)))
        residual = (np.log(rtt_ms) - mean_of(km, parameters)) / scale_of(km, parameters)
        self._residual = self._filled(residual)
        sites = Counter(place.country for place in self.places)
        count = np.array([float(sites[country]) for country in candidates().countries])
        self._prior = np.stack(
            [
                candidates().log_population,
                candidates().log_rank,
                np.log1p(count),
                (count == 0).astype(float),
            ]
        )

    def _filled(self, residual: Floats) -> Floats:
        """Unknown residuals (a site and itself, too) take what their row's others suggest."""
        known = np.where(np.isnan(residual), 0.0, residual)
        guess = -(self._inverse @ known) / np.diag(self._inverse)[:, None]
        filled: Floats = np.where(np.isnan(residual), guess, known)
        return filled

    def observed(
        self, places: Sequence[Place], rtt_ms: Floats, candidate_km: Floats | None = None
    ) -> Observed:
        """Round trips in the order that the terms want, with distances to every candidate.

        ``candidate_km``: these distances, vantage by candidate, where they are known already.
        """
        order = np.argsort(rtt_ms, kind="stable")
        sorted_places = tuple(places[index] for index in order)
        rows = np.array(
            [self.row_of.get(place.metro, -1) for place in sorted_places], dtype=np.intp
        )
        if candidate_km is None:
            candidate_km = distances_km(places, candidates().places)
        return Observed(sorted_places, rows, rtt_ms[order], candidate_km[order])

    def terms(self, seen: Observed, kept: int = KEPT) -> tuple[Indices, Floats]:
        """The candidates that light allows and that are not hopeless, and ``TERMS`` rows of terms.

        Takes a few milliseconds for a dozen vantages, 15 for 240.
        """
        allowed_km = seen.rtt_ms[:, None] * LIGHT_KM_PER_MS + NEAR_KM
        broken = (seen.candidate_km > allowed_km).sum(axis=0)
        chosen = np.flatnonzero(broken == broken.min())
        plain = self._histogram_terms(seen, chosen)
        prior = self._prior[:, chosen]
        hope = plain.sum(axis=0) + prior[0]
        best = np.sort(np.argsort(-hope, kind="stable")[:kept])
        chosen = chosen[best]
        kriged = self._kriged_term(seen, chosen)
        return chosen, np.vstack([plain[:, best], kriged[None, :], prior[:, best]])

    def _histogram_terms(self, seen: Observed, chosen: Indices) -> Floats:
        last = GROUPS[-1][1]
        km = seen.candidate_km[:last, chosen]
        density = np.array(self.parameters.log_density)
        logs = density[distance_cells(km), detour_cells(seen.rtt_ms[:last, None], km)]
        groups = [logs[first:after] for first, after in GROUPS]
        return np.stack([part.sum(axis=0) / np.sqrt(max(len(part), 1)) for part in groups])

    def _kriged_term(self, seen: Observed, chosen: Indices) -> Floats:
        """Log likelihood of the nearest vantages' residuals under what is interpolated."""
        kernel = self.parameters.kernel
        places, rows = seen.places[:KRIGED], seen.rows[:KRIGED]
        km = seen.candidate_km[:KRIGED, chosen]
        where = tuple(candidates().places[index] for index in chosen)
        to_sites = self._to_sites(where)
        weights = self._inverse @ to_sites
        unknown = np.maximum(_self(kernel) - (to_sites * weights).sum(axis=0), 0.02)
        vantage_weights, vantage_unknown = self._vantage_weights(places, rows)
        expected = vantage_weights @ self._residual @ weights
        scale = scale_of(km, self.parameters)
        residual = (np.log(seen.rtt_ms[:KRIGED, None]) - mean_of(km, self.parameters)) / scale
        surprise = np.clip(residual - expected, -CLIP, CLIP)
        noise = kernel.noise + vantage_unknown * _self(kernel)
        among = self._among(places) + kernel.vantage_nugget * np.eye(len(places))
        root = 1.0 / np.sqrt(noise)
        # Eigenvectors by way of singular ones: LAPACK's symmetric solver gives up on some of these.
        axes, spread, _ = np.linalg.svd(among * root[:, None] * root[None, :])
        turned = axes.T @ (surprise * root[:, None])
        variance = unknown[None, :] * spread[:, None] + 1.0
        logs = -0.5 * (np.log(variance) + turned**2 / variance) - np.log(scale)
        term: Floats = logs.sum(axis=0) / np.sqrt(len(places))
        return term

    def _to_sites(self, where: Sequence[Place]) -> Floats:
        countries = np.array([place.country for place in where])
        same = self._countries[:, None] == countries[None, :]
        return covariance(distances_km(self.places, where), same, self.parameters.kernel)

    def _vantage_weights(self, places: Sequence[Place], rows: Indices) -> tuple[Floats, Floats]:
        """What of each site's residuals a vantage has, and its variance that no site tells.

        A metro of the table has its own row's; another place is interpolated.
        """
        weights = np.zeros((len(places), len(self.places)))
        unknown = np.zeros(len(places))
        for index, row in enumerate(rows):
            if row >= 0:
                weights[index, row] = 1.0
                continue
            to_sites = self._to_sites((places[index],))[:, 0]
            weights[index] = self._inverse @ to_sites
            left = _self(self.parameters.kernel) - float(to_sites @ weights[index])
            unknown[index] = max(left, 0.0)
        return weights, unknown

    def _among(self, places: Sequence[Place]) -> Floats:
        countries = np.array([place.country for place in places])
        same = countries[:, None] == countries[None, :]
        return covariance(distances_km(places, places), same, self.parameters.kernel)


def _self(kernel: Kernel) -> float:
    return kernel.common + kernel.near + kernel.national + NUGGET


def posterior(terms: Floats, weights: Sequence[float]) -> Floats:
    """Probabilities of the candidates from their terms."""
    score = np.array(weights) @ terms
    likely = np.exp(score - score.max())
    shares: Floats = likely / likely.sum()
    return shares


def likeliest(chosen: Indices, shares: Floats) -> int:
    """The candidate with most probability around it.

    Not the one from which the answer is nearest on average: that lies between two cities and is
    wrong by half their distance, whichever it is.
    """
    best = np.argsort(-shares, kind="stable")[:POINTS]
    where = tuple(candidates().places[chosen[index]] for index in best)
    around = np.exp(-0.5 * (distances_km(where, where) / POINT_KM) ** 2)
    return int(chosen[best[int((around @ shares[best]).argmax())]])


def members(shares: Floats, share: float) -> Indices:
    """The most likely candidates: each but for which likelier ones would hold less than a share."""
    order = np.argsort(-shares, kind="stable")
    before = np.cumsum(shares[order]) - shares[order]
    return order[before <= share + 1e-12]
