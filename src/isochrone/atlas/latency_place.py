"""Where a key probably answers, from its round trips to known vantages: the statistical class.

A calibrated guess, not a proof. ``region`` gives the cities among which a target is with 95 %
probability, by the model of ``latency_place_model``, the countries whose land lies within 75 km of
any of them, and the single best point. Its parameters and its measured errors are in the packaged
file that ``latency_place_fit`` writes; both come from round trips between 234 data centres on one
day of 2020, so they hold for targets in data centres that are drawn like those, asked from
vantages spread like those: from all other cities of the table the point is 82 km off at the median
(a quarter 0, a quarter above 353), and the region has 96 % of held-out cities. From fewer vantages
it is calibrated apart: 250 km from 30 drawn anywhere and 464 from 10, with regions of hundreds of
cities that touch too many countries to admit anything; from fewer than ten there is no answer. Even
from all, the region of only one EU city in eight touches the EU alone. It fails closed by width.

The cheapest lie that it catches: a plain claim. A key that says Paris and answers as Zagreb does is
placed in or near Croatia. The cheapest that it misses: delay. Whoever delays its answers to each
vantage by what the round trips between another place and these vantages are longer imitates that
place as well as the model knows it; that costs nothing where every delay is positive (the place
imitated is farther from all vantages), so the class is never mixed with the physical one, which
delay cannot widen towards a vantage. A tunnel to a machine near the vantages is seen as that
machine's place. A node that keeps silent towards some vantages chooses what the model sees: callers
should give all the round trips of a burst, or none.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import msgspec
import numpy as np

from isochrone.atlas.borders import reach
from isochrone.atlas.latency_place_model import (
    NEAR_KM,
    Parameters,
    Table,
    candidates,
    likeliest,
    members,
    posterior,
)
from isochrone.atlas.packaged import read_bytes
from isochrone.atlas.roundtrips import distances_km, measured_least_ms, measured_places
from isochrone.schema.place import Place, Region

FILE = "latency_place.json"
"""The packaged parameters, with their measured errors."""

VANTAGES_MAX = 300
"""Round trips looked at, the shortest first: what the model was measured with, and a bound."""

LEAST_RTT_US = 1
"""Shorter round trips count as this: a clock's error must not become the logarithm of zero."""


class Level(msgspec.Struct, frozen=True, kw_only=True):
    """Weights and calibration for at least so many vantages, and the errors measured with them.

    ``share``: the probability that the 95 % region's likelier cities hold. Of held-out cities:
    ``median_error_km`` of the point, ``covered`` by the region, and the region's median number of
    cities.
    """

    vantages: int
    weights: tuple[float, ...]
    share: float
    median_error_km: float
    covered: float
    median_cities: int


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """The packaged file. ``impossible``: metros that contradict the speed of light, left out.

    ``levels`` from few vantages to many. ``folds``: what was fitted without each fold, from which
    anybody can repeat the measurement.
    """

    impossible: tuple[str, ...]
    parameters: Parameters
    levels: tuple[Level, ...]
    folds: tuple[tuple[Parameters, tuple[tuple[float, ...], ...]], ...]


@lru_cache(maxsize=1)
def model() -> Model:
    """The packaged parameters and errors."""
    return msgspec.json.decode(read_bytes(FILE), type=Model)


@lru_cache(maxsize=1)
def _table() -> Table:
    places, rtt_ms = measured_places(), measured_least_ms()
    wrong = set(model().impossible)
    kept = [row for row, place in enumerate(places) if place.metro not in wrong]
    return Table([places[row] for row in kept], rtt_ms[np.ix_(kept, kept)], model().parameters)


def region(bounds: Sequence[tuple[Place, int]]) -> Region | None:
    """The 95 % region of a target from the vantages' places and least round trips, microseconds.

    None from fewer distinct places than the model was measured with (ten): it would have to guess.
    One place counts once, with its shortest round trip. Borders are looked up for each city of the
    region, 5 ms a city the first time (they are remembered): up to 2.5 s, afterwards 20 ms.
    Processes that do without numpy ask a child (``atlas.placing``).
    """
    shortest: dict[tuple[float, float], tuple[int, Place]] = {}
    for place, rtt_us in bounds:
        point = (place.latitude, place.longitude)
        if point not in shortest or rtt_us < shortest[point][0]:
            shortest[point] = (max(rtt_us, LEAST_RTT_US), place)
    chosen = sorted(shortest.values(), key=lambda entry: (entry[0], entry[1].metro))[:VANTAGES_MAX]
    fitting = [level for level in model().levels if level.vantages <= len(chosen)]
    if not fitting:
        return None
    level = fitting[-1]
    rtt_ms = np.array([rtt_us / 1000.0 for rtt_us, _ in chosen])
    table = _table()
    cities, terms = table.terms(table.observed([place for _, place in chosen], rtt_ms))
    shares = posterior(terms, level.weights)
    best = candidates().places[likeliest(cities, shares)]
    inside = [candidates().places[cities[index]] for index in members(shares, level.share)]
    countries = {country for place in inside for country, km in reach(place) if km <= NEAR_KM}
    return Region(
        countries=tuple(sorted(countries)),
        latitude=best.latitude,
        longitude=best.longitude,
        error_km=round(float(distances_km((best,), inside).max()) + NEAR_KM, 1),
    )
