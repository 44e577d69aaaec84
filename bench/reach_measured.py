"""What a table of measured round trips says by itself: a check of shares, and detours.

*Check*: people who live in a city of the table, and the sites that are in it. Their shares by what
was measured, beside the shares by what the model says of the same cities when they were left out
of its fit, in the eight folds of ``atlas.rtt_model_fit``: what the shares of everybody else rest
on. *Detours*: between how many pairs of cities a relay in one of the network's own cells is faster
than the direct way, although the relay itself takes time.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from bench.reach_people import BOUNDS_MS, Floats, People, RoundTrips
from numpy.typing import NDArray

from isochrone.atlas import rtt_model
from isochrone.atlas.cities import nearest_city
from isochrone.atlas.roundtrips import FIBRE_MS_PER_KM, SAME_METRO_MS, points_of
from isochrone.atlas.rtt_model import distances_km
from isochrone.atlas.rtt_model_fit import deal, folds, predicted
from isochrone.schema.place import Place

RELAY_MS = 0.9
"""What one hop through another cell takes: the platform time that the demo measures, all that
gateway and node add (p50 over calm calls: 0.96, 0.86 and 0.92 ms in the releases 0.1 to 0.3, see
CHANGELOG), with the whole network on two shared cores. Alone ``bench.gateway`` measures 0.1 ms."""

FASTER = 0.10
"""A detour counts when it is at least a tenth faster than the direct way."""

HERE_KM = 25.0
"""A city within so many kilometres of a server has that server's round trips."""


class Measured(NamedTuple):
    """Servers and the square of round trips between them, ms; NaN where none was measured."""

    ids: tuple[str, ...]
    places: tuple[Place, ...]
    rtt_ms: Floats


def read_measured(cities: Path, pairs: Path) -> Measured:
    """Averages of both directions; servers whose place contradicts light are left out."""
    with cities.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row.get("geo_suspect", "0") != "1"]
    position = {row["id"]: n for n, row in enumerate(rows)}
    total, count = np.zeros((len(rows),) * 2), np.zeros((len(rows),) * 2)
    with pairs.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            a, b = position.get(row["src"]), position.get(row["dst"])
            if a is not None and b is not None and a != b:
                for i, j in ((a, b), (b, a)):
                    total[i, j] += float(row["rtt_avg_ms"])
                    count[i, j] += 1
    with np.errstate(invalid="ignore"):
        square = total / count
    places = tuple(
        Place(
            latitude=float(row["latitude"]),
            longitude=float(row["longitude"]),
            country=row["iso2"],
            metro=nearest_city(float(row["latitude"]), float(row["longitude"])).place.metro,
        )
        for row in rows
    )
    return Measured(tuple(position), places, square)


def servers_at(measured: Measured, places: Sequence[Place]) -> NDArray[np.intp]:
    """The server within ``HERE_KM`` of each place; -1 where there is none."""
    found = np.full(len(places), -1, dtype=np.intp)
    for first in range(0, len(places), 2_000):
        km = distances_km(points_of(places[first : first + 2_000]), points_of(measured.places))
        nearest = km.argmin(axis=1)
        near = km[np.arange(len(km)), nearest] <= HERE_KM
        found[first : first + 2_000] = np.where(near, nearest, -1)
    return found


def round_trips_of(measured: Measured) -> RoundTrips:
    """Expected round trips by another table: measured in its cities, else a model fitted to it."""
    points = points_of(measured.places)
    model = rtt_model.fit(points, measured.rtt_ms)

    def likeness(places: Sequence[Place], at: NDArray[np.intp]) -> Floats:
        like = model.likeness(points_of(places))
        inside = np.flatnonzero(at >= 0)
        like[inside] = model.own_likeness(at[inside])
        return like

    def expected(a: Sequence[Place], b: Sequence[Place]) -> Floats:
        at, there = servers_at(measured, a), servers_at(measured, b)
        km = distances_km(points_of(a), points_of(b))
        ms = np.exp(model.log_at(km, likeness(a, at), likeness(b, there)))
        ms = np.maximum(ms, FIBRE_MS_PER_KM * km)
        known = measured.rtt_ms[np.ix_(at, there)]
        in_table = (at >= 0)[:, None] & (there >= 0)[None, :] & ~np.isnan(known)
        ms = np.where(in_table, known, ms)
        here: Floats = np.where(km <= HERE_KM, SAME_METRO_MS, ms).clip(SAME_METRO_MS)
        return here

    return expected


def left_out_ms(measured: Measured) -> Floats:
    """What the model says of each city (row) when that city is not in its fit."""
    points = points_of(measured.places)
    told = np.full(measured.rtt_ms.shape, np.nan)
    for fold in folds(points, measured.rtt_ms, deal(len(points))):
        told[fold.out] = predicted(points, fold)
    return told


def check(who: People, measured: Measured, sites: Sequence[Place], told: Floats) -> dict[str, Any]:
    """Measured shares beside those of the left-out model ``told``, for who is in the table.

    Where city and site are one, both sides count the 1.5 ms that is assumed within a metro.
    """
    at, there = servers_at(measured, who.places), servers_at(measured, sites)
    rows, columns = np.flatnonzero(at >= 0), np.flatnonzero(there >= 0)
    here = int(who.weights[rows].sum())
    if not len(columns) or not here:
        return {"people": 0.0, "sites": len(columns)}
    own = at[rows][:, None] == there[columns][None, :]
    real = measured.rtt_ms[np.ix_(at[rows], there[columns])]
    model = told[np.ix_(at[rows], there[columns])]
    shares = {}
    for name, ms in (("measured", real), ("modelled", model)):
        known = np.where(own, SAME_METRO_MS, np.where(np.isnan(real), np.inf, ms)).min(axis=1)
        shares[name] = {
            f"{bound}ms": round(int(who.weights[rows][known <= bound].sum()) / here, 4)
            for bound in BOUNDS_MS
        }
    return {"people": round(here / int(who.weights.sum()), 4), "sites": len(columns), **shares}


def detours(measured: Measured, relays: Sequence[int]) -> dict[str, Any]:
    """Share of city pairs that a relay makes at least a tenth faster, and the median saving.

    ``relays``: servers in whose city the network has a cell. Neither end is its own relay.
    """
    direct = measured.rtt_ms
    ways = np.full(direct.shape, np.inf)
    for relay in relays:
        way = direct[:, relay][:, None] + direct[relay][None, :] + RELAY_MS
        way[relay, :] = way[:, relay] = np.inf
        ways = np.fmin(ways, way)
    upper = np.triu_indices(len(direct), 1)
    pairs = direct[upper]
    asked = ~np.isnan(pairs)
    saving = (pairs - ways[upper])[asked]
    won = saving >= FASTER * pairs[asked]
    return {
        "cells": len(relays),
        "pairs": int(asked.sum()),
        "relay_ms": RELAY_MS,
        "share": round(float(won.mean()), 4) if len(won) else 0.0,
        "median_saving_ms": round(float(np.median(saving[won])), 2) if won.any() else 0.0,
    }
