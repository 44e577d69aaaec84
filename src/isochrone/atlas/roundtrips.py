"""What the network expects of a round trip before anybody has measured it.

Three sources, best first:

1. *measured*: both metros are in the table of round trips between data centres (one day of 2020,
   238 cities, averages; no access network on either side);
2. *neighbour*: a place outside the table takes the round trip of its nearest metro of the table,
   if that is at most 400 km away and near compared to the distance asked about;
3. *distance*: 4 ms + 0.022 ms per km, 0.015 ms beyond 2,000 km. Light in fibre needs 0.01, so the
   cables' detours are a factor of 2.2 nearby and 1.5 far away.

How wrong it is, left out one by one: a neighbour's value is off by 7 % at the median, the distance
model by 16 % (measured in the tests). Inside one metro (same name, or at most 25 km apart) and
never below it: 1.5 ms. A few pairs of the table are faster than light in fibre between their
centres (Milan-Rome): servers that stood elsewhere than their name; left as they were measured.

All values are rounded to 0.01 ms, which is what the table has. Symmetric: a to b is b to a.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import msgspec
import numpy as np
from numpy.typing import NDArray

from isochrone.atlas.cities import city
from isochrone.atlas.packaged import read_bytes, read_rows
from isochrone.schema.place import EARTH_RADIUS_KM, Place

SAME_METRO_MS = 1.5
"""Round trip inside a metro, two data centres: assumed, not measured; also the least of all."""

METRO_KM = 25.0
"""Places this near to each other are in one metro, whatever their metros are called."""

NEIGHBOUR_KM = 400.0
"""How far a place may borrow a neighbour's round trips: the error grows from 6.0 % at 30 km to
6.9 % at 400 km, and 7.7 % at 1,000."""

NEIGHBOUR_SHARE = 0.5
"""... and the borrowed kilometres are at most this share of the distance asked about, or two
places of one region would both become the same city."""

BASE_MS, NEAR_MS_PER_KM, FAR_MS_PER_KM, NEAR_KM = 4.0, 0.022, 0.015, 2000.0
"""The distance model, fitted to the table for the least median relative error."""

MISSING = 65_535
"""Marks a pair without measurement in the packaged tables."""

Floats = NDArray[np.float64]


class RoundTrip(msgspec.Struct, frozen=True):
    """A measured round trip between two metros: least and average over a day, milliseconds."""

    min_ms: float
    avg_ms: float


class _Table:
    """The measured round trips as square arrays; NaN where a pair is missing or is a metro."""

    def __init__(self) -> None:
        self.metros = tuple(row["metro"] for row in read_rows("rtt_metros.csv"))
        self.row = {metro: index for index, metro in enumerate(self.metros)}
        self.places = tuple(city(metro).place for metro in self.metros)
        self.avg_ms = _square("rtt_avg.u16.gz", len(self.metros))
        self.min_ms = _square("rtt_min.u16.gz", len(self.metros))


@lru_cache(maxsize=1)
def _table() -> _Table:
    return _Table()


def _square(name: str, size: int) -> Floats:
    packed = np.frombuffer(read_bytes(name), dtype="<u2")
    square = np.full((size, size), np.nan)
    rows, columns = np.triu_indices(size, 1)
    values = packed.astype(np.float64) / 100.0
    values[packed == MISSING] = np.nan
    square[rows, columns] = values
    square[columns, rows] = values
    return square


def measured_metros() -> frozenset[str]:
    """The metros with measured round trips."""
    return frozenset(_table().row)


def measured(metro_a: str, metro_b: str) -> RoundTrip | None:
    """The measured round trip between two metros, or None (also for a metro and itself)."""
    table = _table()
    i, j = table.row.get(metro_a), table.row.get(metro_b)
    if i is None or j is None or np.isnan(table.avg_ms[i, j]):
        return None
    return RoundTrip(float(table.min_ms[i, j]), float(table.avg_ms[i, j]))


def measured_places() -> tuple[Place, ...]:
    """The places of the table of round trips, in its order."""
    return _table().places


def measured_least_ms() -> Floats:
    """The least round trips of the table, square, in the order of ``measured_places``.

    Milliseconds; NaN where a pair is missing, and from a place to itself.
    """
    return _table().min_ms.copy()


def prior_rtt_ms(a: Place, b: Place) -> float:
    """The round trip expected between two places, milliseconds, at least 1.5."""
    return float(matrix((a,), (b,))[0, 0])


def matrix(places_a: Sequence[Place], places_b: Sequence[Place]) -> Floats:
    """Expected round trips, milliseconds: row = place of ``places_a``, column of ``places_b``.

    Hundreds by thousands take about 0.1 s.
    """
    if not places_a or not places_b:
        return np.empty((len(places_a), len(places_b)))
    km = distances_km(places_a, places_b)
    rows_a, gap_a_km = _nearest_rows(places_a)
    rows_b, gap_b_km = _nearest_rows(places_b)
    table_ms = _table().avg_ms[np.ix_(rows_a, rows_b)]
    gap_km = gap_a_km[:, None] + gap_b_km[None, :]
    near = np.maximum(gap_a_km[:, None], gap_b_km[None, :]) <= NEIGHBOUR_KM
    usable = (gap_km == 0.0) | (near & (gap_km <= NEIGHBOUR_SHARE * km))
    same = (_metros(places_a)[:, None] == _metros(places_b)[None, :]) | (km <= METRO_KM)
    expected = np.where(same, SAME_METRO_MS, distance_model_ms(km))
    expected = np.where(usable & ~np.isnan(table_ms), table_ms, expected)
    return expected.clip(SAME_METRO_MS).round(2)


def distance_model_ms(km: Floats) -> Floats:
    """The round trip that distance alone suggests, milliseconds."""
    near: Floats = np.minimum(km, NEAR_KM)
    model: Floats = BASE_MS + NEAR_MS_PER_KM * near + FAR_MS_PER_KM * (km - near)
    return model


def distances_km(places_a: Sequence[Place], places_b: Sequence[Place]) -> Floats:
    """Great-circle distances, kilometres, row by column."""
    phi_a, lambda_a = _radians(places_a)
    phi_b, lambda_b = _radians(places_b)
    rise = np.sin((phi_a[:, None] - phi_b[None, :]) / 2) ** 2
    turn = np.sin((lambda_a[:, None] - lambda_b[None, :]) / 2) ** 2
    haversine = rise + np.cos(phi_a)[:, None] * np.cos(phi_b)[None, :] * turn
    km: Floats = 2 * EARTH_RADIUS_KM * np.arcsin(np.sqrt(np.clip(haversine, 0.0, 1.0)))
    return km


def _radians(places: Sequence[Place]) -> tuple[Floats, Floats]:
    degrees = np.array([(p.latitude, p.longitude) for p in places], dtype=float).reshape(-1, 2)
    turned = np.radians(degrees)
    return turned[:, 0], turned[:, 1]


def _metros(places: Sequence[Place]) -> NDArray[np.str_]:
    return np.array([place.metro for place in places], dtype=np.str_)


def _nearest_rows(places: Sequence[Place]) -> tuple[NDArray[np.intp], Floats]:
    """For each place the row of its own metro (gap 0) or else of the nearest one (gap in km)."""
    table = _table()
    own = np.array([table.row.get(place.metro, -1) for place in places], dtype=np.intp)
    km = distances_km(places, table.places)
    nearest = km.argmin(axis=1)
    gap_km: Floats = np.where(own >= 0, 0.0, km.min(axis=1))
    return np.where(own >= 0, own, nearest), gap_km
