"""Round trips that somebody measured, laid over the expected ones.

``read`` takes what a user writes: CSV with the columns ``src,dst,rtt_ms``, places as city names or
as quoted ``"LATITUDE,LONGITUDE"``. ``overlay`` answers like ``roundtrips.matrix``:

- a pair that was measured has the measured value (several values: their median; the two directions
  count alike), between any places of the two metros;
- a city outside the packaged table that probed a handful of others has its whole row corrected by
  what the probes say (``rtt_model_probed``), in proportion to how much they tell, and by the rows
  of the table's cities that have like round trips to the same places (``rtt_model_donors``);
- everything else stays as ``roundtrips`` expects it.

What a measurement includes it includes: probes from a home hold the home's access delay, and a row
corrected by them holds it, too, so callers add none for such places. Cities of the packaged table
keep their rows: those have 237 probes already. A lie in the file becomes a wrong plan for whoever
wrote it, and for nobody else.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from functools import lru_cache
from statistics import median
from typing import Final

import msgspec
import numpy as np

from isochrone.atlas import roundtrips, rtt_model_probed
from isochrone.atlas.cities import place_named
from isochrone.atlas.roundtrips import (
    FIBRE_MS_PER_KM,
    KINDS,
    METRO_KM,
    SAME_METRO_MS,
    Floats,
    measured_average_ms,
    measured_places,
    points_of,
)
from isochrone.atlas.rtt_model import Indices
from isochrone.atlas.rtt_model_donors import borrowed, mixed
from isochrone.atlas.rtt_model_probed import Patterns, correction
from isochrone.schema.errors import InvalidInput, IsochroneError
from isochrone.schema.place import LIGHT_KM_PER_MS, Place, great_circle_km

COLUMNS: Final = ("src", "dst", "rtt_ms")
"""The header of a file of measurements, in any order; other columns are ignored."""

RTT_MOST_MS: Final = 3000.0
"""Slower answers are no round trip of a network that anybody would place on: two satellites."""

ROWS_MOST: Final = 100_000
"""Lines that a file may have."""

SITES_MOST: Final = 1000
"""Places of measurements that are more than 25 km apart."""

PROBES_MOST: Final = 400
"""Of one city: more are taken at regular steps, since the algebra grows with their cube."""


class Measurement(msgspec.Struct, frozen=True):
    """One measured round trip between two places, milliseconds."""

    src: Place
    dst: Place
    rtt_ms: float


def read(text: str, name: str = "Measurements") -> tuple[Measurement, ...]:
    """The measurements in a CSV text.

    Raises InvalidInput that names the line: a missing column, an unknown city, a number that is
    none, lies outside 0 to 3,000 ms, or would be faster than light. ``name``: of the file.
    """
    rows = csv.DictReader(io.StringIO(text.lstrip("\ufeff"), newline=""), skipinitialspace=True)
    try:
        return _read(rows, name)
    except csv.Error as error:
        raise InvalidInput(
            f"{name}, line {rows.line_num + 1}: {error}.",
            fix="Give a CSV file with the header src,dst,rtt_ms.",
        ) from error


def _read(rows: csv.DictReader[str], name: str) -> tuple[Measurement, ...]:
    missing = [column for column in COLUMNS if column not in (rows.fieldnames or ())]
    if missing:
        raise InvalidInput(
            f"{name}, line 1: no column {', '.join(missing)}.",
            fix="Begin with the line src,dst,rtt_ms.",
        )
    found: list[Measurement] = []
    for row in rows:
        if len(found) == ROWS_MOST:
            raise InvalidInput(
                f"{name} has more than {ROWS_MOST} measurements.", fix="Give fewer, or medians."
            )
        found.append(_measurement(row, f"{name}, line {rows.line_num}"))
    return tuple(found)


def _measurement(row: dict[str, str | None], line: str) -> Measurement:
    try:
        src, dst = (place_named((row[end] or "").strip()) for end in ("src", "dst"))
    except IsochroneError as error:
        raise InvalidInput(
            f"{line}: {error}",
            fix=f'{error.fix} Points are quoted: "50.11,8.68".',
        ) from error
    try:
        rtt_ms = float(row["rtt_ms"] or "")
    except ValueError:
        rtt_ms = math.nan
    if not 0.0 < rtt_ms <= RTT_MOST_MS:
        raise InvalidInput(
            f"{line}: {row['rtt_ms'] or ''!r} is no round trip.",
            fix=f"Write milliseconds above 0 and at most {RTT_MOST_MS:.0f}, such as 12.5.",
        )
    least_ms = (great_circle_km(src, dst) - 2 * METRO_KM) / LIGHT_KM_PER_MS
    if rtt_ms < least_ms:
        raise InvalidInput(
            f"{line}: {rtt_ms:g} ms is faster than light, which takes {least_ms:.1f} ms there.",
            fix="Write milliseconds, there and back; seconds must be multiplied by 1000.",
        )
    return Measurement(src, dst, rtt_ms)


def overlay(measurements: Iterable[Measurement]) -> Overlay:
    """What is expected when these were measured; ``Overlay.matrix`` is its answer."""
    return Overlay(measurements)


class Overlay:
    """Expected round trips with measurements laid over them."""

    def __init__(self, measurements: Iterable[Measurement]) -> None:
        self._sites: list[Place] = []
        self._number: dict[Place, int] = {}
        values: dict[tuple[int, int], list[float]] = {}
        for each in measurements:
            a, b = self._site(each.src), self._site(each.dst)
            if a != b:
                values.setdefault((min(a, b), max(a, b)), []).append(each.rtt_ms)
        self._ms = np.full((len(self._sites), len(self._sites)), np.nan)
        for (a, b), found in values.items():
            self._ms[a, b] = self._ms[b, a] = median(found)
        self._probes = self._probes_of_new_cities()
        self._donors_ms = donors_ms(self._sites) if self._probes else np.empty((0, 0))

    def matrix(self, places_a: Sequence[Place], places_b: Sequence[Place]) -> Floats:
        """Expected round trips, milliseconds, rounded to 0.01; as ``roundtrips.matrix``."""
        ms, code = roundtrips.expected(places_a, places_b)
        if not ms.size or not self._sites:
            return ms
        at_a, at_b = self._sites_of(places_a), self._sites_of(places_b)
        added: Floats = self._corrections(at_a, places_b) + self._corrections(at_b, places_a).T
        modelled = code >= roundtrips.KINDS.index("half")
        ms = np.where(modelled, ms * np.exp(added), ms)
        measured = np.where((at_a[:, None] < 0) | (at_b < 0), np.nan, self._ms[np.ix_(at_a, at_b)])
        told: Floats = np.where(np.isnan(measured), ms, measured).round(2)
        return told

    def _site(self, place: Place) -> int:
        """The number of a place's site; a new one for a place that is in none.

        Raises InvalidInput for more than ``SITES_MOST``.
        """
        known = self._number.get(place)
        if known is not None:
            return known
        near = ((great_circle_km(place, site), number) for number, site in enumerate(self._sites))
        km, number = min(near, default=(math.inf, -1))
        if km > METRO_KM:
            if len(self._sites) == SITES_MOST:
                raise InvalidInput(f"More than {SITES_MOST} measured places.", fix="Give fewer.")
            self._sites.append(place)
            number = len(self._sites) - 1
        self._number[place] = number
        return number

    def _sites_of(self, places: Sequence[Place]) -> Indices:
        km = roundtrips.distances_km(places, self._sites)
        return np.where(km.min(axis=1) <= METRO_KM, km.argmin(axis=1), -1)

    def _probes_of_new_cities(self) -> dict[int, Indices]:
        """Site outside the table -> the sites that it probed."""
        found: dict[int, Indices] = {}
        for site, place in enumerate(self._sites):
            ends = np.flatnonzero(~np.isnan(self._ms[site]))
            if not roundtrips.in_table(place) and ends.size:
                found[site] = ends[:: math.ceil(len(ends) / PROBES_MOST)]
        return found

    def _corrections(self, sites: Indices, columns: Sequence[Place]) -> Floats:
        """What to add to the logarithms of the rows at ``sites`` (-1: of no site)."""
        added = np.zeros((len(sites), len(columns)))
        asked = sorted(set(sites.tolist()) & set(self._probes))
        if asked:
            expected = roundtrips.matrix([self._sites[site] for site in asked], columns)
            donors = donors_ms(columns)
            for site, row in zip(asked, expected, strict=True):
                added[sites == site] = self._correction(site, columns, row, donors)
        return added

    def _correction(
        self, site: int, columns: Sequence[Place], expected_ms: Floats, donors: Floats
    ) -> Floats:
        """Of one site's row: by the pattern of errors, and by the cities that probe alike."""
        place, ends = self._sites[site], self._probes[site]
        probed = [self._sites[end] for end in ends]
        probed_ms = self._ms[site, ends]
        off = np.log(probed_ms) - np.log(roundtrips.matrix([place], probed)[0])
        lent = borrowed(
            probed_ms,
            self._donors_ms[:, ends],
            donors,
            roundtrips.distances_km([place], measured_places())[0],
            roundtrips.distances_km(probed, columns),
        )
        least = FIBRE_MS_PER_KM * roundtrips.distances_km([place], columns)[0]
        return mixed(
            expected_ms,
            correction(_patterns(), points_of(probed), off, points_of(columns)),
            np.maximum(lent, np.maximum(least, SAME_METRO_MS)),
            probes=len(ends),
            donors=len(donors),
        )


def donors_ms(places: Sequence[Place]) -> Floats:
    """The table's rows at any places: measured, else modelled; NaN within a donor's own metro."""
    ms, code = roundtrips.expected(measured_places(), places)
    return np.where(code == KINDS.index("metro"), np.nan, ms)


@lru_cache(maxsize=1)
def _patterns() -> Patterns:
    return rtt_model_probed.patterns(roundtrips.model(), measured_average_ms())
