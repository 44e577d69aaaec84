"""What the network expects of a round trip before anybody has measured it.

Three kinds, best first:

1. *metro*: the same metro (same name, or at most 25 km apart): 1.5 ms, and never less than that;
2. *measured*: both places are in metros of the table of round trips between data centres (one day
   of 2020, 238 cities, averages; no access network on either side), and the table has the pair;
3. *modelled*: everything else, by the model that was fitted to that table (``rtt_model``): *half*
   when one of the two places is in a metro of the table, whose own habits are then known.

A place at most 25 km from a metro of the table is in that metro. How wrong each kind is stands
beside the model in the packaged file, measured on cities left out of the fit (``error_share``); a
measured pair carries how much it varied over its day, which says nothing of other days. A few pairs
of the table are faster than light in fibre between their centres (Milan-Rome): servers that stood
elsewhere than their name; left as they were measured. A modelled value is never below light in
fibre.

All values are rounded to 0.01 ms, which is what the table has. Symmetric: a to b is b to a.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from isochrone.atlas import rtt_model
from isochrone.atlas.cities import city
from isochrone.atlas.packaged import read_bytes, read_rows
from isochrone.atlas.rtt_model import RttModel
from isochrone.schema.place import Place

SAME_METRO_MS = 1.5
"""Round trip inside a metro, two data centres: assumed, not measured; also the least of all."""

METRO_KM = 25.0
"""Places this near to each other are in one metro, whatever their metros are called."""

FIBRE_MS_PER_KM: Final = 0.0098
"""The least that a round trip takes in fibre along the great circle: light there is slower by its
refractive index, 1.468."""

MISSING = 65_535
"""Marks a pair without measurement in the packaged tables."""

FILE: Final = "rtt_model.json"
"""The packaged parameters of the model, with its measured errors (``rtt_model_fit`` writes it)."""

Kind = Literal["metro", "measured", "half", "modelled"]
"""Where an expected round trip comes from."""

KINDS: Final[tuple[Kind, ...]] = ("metro", "measured", "half", "modelled")
"""The kinds in the order of the codes that ``kinds`` gives."""

ACCESS_MS: Final[dict[str, float]] = {"data-centre": 0.0, "fibre": 2.0, "cable": 10.0}
"""What the last mile adds to a round trip between data centres, milliseconds; stated, not measured
here. ``data-centre``: none, what the table has. ``fibre``: a good passive optical network. The
upstream slot that a home waits for is 0.1 to 1 ms (ITU-T G.984: 125 us frames), the rest is the
way to the metro's exchange. ``cable``: also DSL and good mobile networks; the idle latencies of
the FCC's Measuring Broadband America reports, 10 to 30 ms by technology, include the way to the
test server, so 10 is their better end. Geostationary satellites (600 ms) are not among them."""

Floats = NDArray[np.float64]
Codes = NDArray[np.int8]


class RoundTrip(msgspec.Struct, frozen=True):
    """A measured round trip between two metros: least and average over a day, milliseconds."""

    min_ms: float
    avg_ms: float


class ErrorShare(msgspec.Struct, frozen=True):
    """How wrong a kind is: |expected - true| over the true value, its median and its 90 %."""

    median: float
    p90: float


class Fitted(msgspec.Struct, frozen=True, kw_only=True):
    """The packaged file: parameters in the table's order, and errors by kind."""

    curve: tuple[float, ...]
    nuggets: tuple[float, ...]
    errors: dict[str, ErrorShare]


class _Table:
    """The measured round trips as square arrays; NaN where a pair is missing or is a metro."""

    def __init__(self) -> None:
        self.metros = tuple(row["metro"] for row in read_rows("rtt_metros.csv"))
        self.row = {metro: index for index, metro in enumerate(self.metros)}
        self.places = tuple(city(metro).place for metro in self.metros)
        self.points = points_of(self.places)
        self.avg_ms = _square("rtt_avg.u16.gz", len(self.metros))
        self.min_ms = _square("rtt_min.u16.gz", len(self.metros))


class Known:
    """Places as the table and the model see them: each one's row (or -1) and likeness."""

    def __init__(self, places: Sequence[Place], model: RttModel) -> None:
        table = _table()
        self.points = points_of(places)
        self.metros = np.array([place.metro for place in places], dtype=np.str_)
        km = rtt_model.distances_km(self.points, table.points)
        own = np.array([table.row.get(place.metro, -1) for place in places], dtype=np.intp)
        near = np.where(km.min(axis=1) <= METRO_KM, km.argmin(axis=1), -1)
        self.rows = np.where(own >= 0, own, near)
        self.likeness = rtt_model.kernel(km)
        inside = np.flatnonzero(self.rows >= 0)
        self.likeness[inside] = model.own_likeness(self.rows[inside])


@lru_cache(maxsize=1)
def _table() -> _Table:
    return _Table()


@lru_cache(maxsize=1)
def fitted() -> Fitted:
    """The packaged parameters and errors."""
    return msgspec.json.decode(read_bytes(FILE), type=Fitted)


@lru_cache(maxsize=1)
def model() -> RttModel:
    """The model of the whole packaged table (0.05 s the first time)."""
    table, known = _table(), fitted()
    return rtt_model.solve(
        table.points, table.avg_ms, np.array(known.curve), np.array(known.nuggets)
    )


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


def in_table(place: Place) -> bool:
    """Whether a place is in a metro with measured round trips."""
    return bool(Known((place,), model()).rows[0] >= 0)


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


def measured_average_ms() -> Floats:
    """The average round trips, otherwise as ``measured_least_ms``."""
    return _table().avg_ms.copy()


def prior_rtt_ms(a: Place, b: Place) -> float:
    """The round trip expected between two places, milliseconds, at least 1.5."""
    return float(matrix((a,), (b,))[0, 0])


def matrix(places_a: Sequence[Place], places_b: Sequence[Place]) -> Floats:
    """Expected round trips, milliseconds: row = place of ``places_a``, column of ``places_b``.

    Hundreds by thousands take about 0.1 s.
    """
    return expected(places_a, places_b)[0]


def kinds(places_a: Sequence[Place], places_b: Sequence[Place]) -> Codes:
    """Where each value of ``matrix`` comes from: positions in ``KINDS``, row by column."""
    return expected(places_a, places_b)[1]


def expected(places_a: Sequence[Place], places_b: Sequence[Place]) -> tuple[Floats, Codes]:
    """``matrix`` and ``kinds`` in one go."""
    if not places_a or not places_b:
        shape = (len(places_a), len(places_b))
        return np.empty(shape), np.empty(shape, dtype=np.int8)
    a, b = Known(places_a, model()), Known(places_b, model())
    km = rtt_model.distances_km(a.points, b.points)
    return settled(a, b, km, model().log_at(km, a.likeness, b.likeness))


def settled(a: Known, b: Known, km: Floats, log_ms: Floats) -> tuple[Floats, Codes]:
    """Modelled logarithms made round trips, with what is measured or within a metro put in."""
    inside_a, inside_b = (a.rows >= 0)[:, None], (b.rows >= 0)[None, :]
    table_ms = _table().avg_ms[np.ix_(a.rows, b.rows)]
    known = inside_a & inside_b & ~np.isnan(table_ms)
    same = (a.metros[:, None] == b.metros[None, :]) | (km <= METRO_KM)
    same |= inside_a & inside_b & (a.rows[:, None] == b.rows[None, :])
    modelled = np.maximum(np.exp(log_ms), FIBRE_MS_PER_KM * km)
    ms = np.where(same, SAME_METRO_MS, np.where(known, table_ms, modelled))
    code = np.where(same, 0, np.where(known, 1, np.where(inside_a | inside_b, 2, 3)))
    return ms.clip(SAME_METRO_MS).round(2), code.astype(np.int8)


def error_share(kind: Kind) -> ErrorShare:
    """How wrong a kind is, as shares of the true round trip: see the file's beginning.

    ``metro`` is an assumption that was never measured: 1 and 1, which claims nothing.
    """
    return fitted().errors.get(kind, ErrorShare(1.0, 1.0))


def distances_km(places_a: Sequence[Place], places_b: Sequence[Place]) -> Floats:
    """Great-circle distances, kilometres, row by column."""
    return rtt_model.distances_km(points_of(places_a), points_of(places_b))


def points_of(places: Sequence[Place]) -> Floats:
    """Latitude and longitude, degrees, a place a row."""
    degrees = [(place.latitude, place.longitude) for place in places]
    return np.array(degrees, dtype=float).reshape(-1, 2)
