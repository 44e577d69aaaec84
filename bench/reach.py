"""How many people a network reaches, how fast, at what cost: ``python -m bench.reach --json``.

* ``rtt_model_*``: how wrong expected round trips are in cities left out (``bench.reach_rtt``);
* ``share_within_50ms`` (``25``, ``10``): people whose round trip to the nearest site is at most
  that, for ``central20`` (the twenty regions where AWS sells accelerators for large models) and
  for 50, 200 and 1,000 chosen sites; server to server, and with ``_access2``, ``_access10`` for
  2 and 10 ms of access; ``…_by_continent`` for 50 ms. ``bench.reach_people`` says who is counted
  and how sites are chosen;
* ``measured_check``: the same shares over measured pairs only, where there are some;
* ``cost_ratio_hyperscaler``: per GPU (``bench.reach_prices``);
* ``detour_gain``: relaying through one of 50 cells, over measured pairs (``bench.reach_measured``).

``--rtt-cities`` and ``--rtt-pairs`` take another table of measured round trips: the model's error,
the check and the detours are then of that table, and round trips are expected by a model that is
fitted to it. The planner's own table is used otherwise, which comes from the same two files.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from bench.conditions import conditions
from bench.data import DEFAULT_FOLDER, need, need_table, stop
from bench.reach_measured import (
    Measured,
    check,
    detours,
    left_out_ms,
    read_measured,
    round_trips_of,
    servers_at,
)
from bench.reach_people import (
    SIZES,
    best,
    chosen,
    people,
    possible_sites,
    shares,
    shares_by_continent,
    table,
)
from bench.reach_prices import ratios

from isochrone.atlas import roundtrips
from isochrone.atlas.sites import central_regions

CELLS = (20, 50)
"""Numbers of cells through which detours are looked for; the key tells the last."""

CITIES_LEAST = 16
"""Two in each of the eight folds: a model of fewer says nothing."""

QUICK_EVERY = 12
"""A smoke run looks at every twelfth city."""


def main() -> None:
    """Run it all."""
    parser = argparse.ArgumentParser(description="People within reach, price ratios, detours.")
    parser.add_argument("--json", action="store_true", help="accepted for uniformity")
    parser.add_argument("--data", default=DEFAULT_FOLDER, help="folder of the shared data")
    parser.add_argument("--rtt-cities", help="another table's servers (as rtt_cities.csv)")
    parser.add_argument("--rtt-pairs", help="... and pairs (as rtt_city_pairs.csv)")
    parser.add_argument("--quick", action="store_true", help="a twelfth of the cities, no folds")
    options = parser.parse_args()
    if bool(options.rtt_cities) != bool(options.rtt_pairs):
        parser.error("--rtt-cities and --rtt-pairs belong together")
    files = {
        "rtt_cities": need_table(
            options.rtt_cities or Path(options.data) / "rtt_cities.csv",
            "rtt_cities.csv",
            {"latitude": (-90, 90), "longitude": (-180, 180)},
            ("id", "iso2"),
            CITIES_LEAST,
        ),
        "rtt_pairs": need_table(
            options.rtt_pairs or Path(options.data) / "rtt_city_pairs.csv",
            "rtt_city_pairs.csv",
            {"rtt_avg_ms": (0.001, 60_000)},
            ("src", "dst"),
            CITIES_LEAST,
        ),
        "cities": need(options.data, "cities_15000.csv"),
        "countries": need(options.data, "countries.csv"),
        "prices": need(options.data, "gpu_prices.csv"),
    }
    print(conditions(f"round trips of {files['rtt_pairs'].name}"), flush=True)
    began = time.monotonic()
    found = run(files, own=bool(options.rtt_cities), quick=options.quick)
    found["seconds"] = round(time.monotonic() - began, 1)
    print(json.dumps(found))


def run(files: dict[str, Path], *, own: bool, quick: bool) -> dict[str, Any]:
    """All keys of the last line."""
    measured = joined(files)
    found: dict[str, Any] = {} if quick else _model_errors(files)
    round_trips = round_trips_of(measured) if own else roundtrips.matrix
    who = people(files["cities"], files["countries"], QUICK_EVERY if quick else 1)
    sites = possible_sites()
    central = [region.place for region in central_regions()]
    _say(f"{len(who.places)} cities, {len(sites)} possible sites")
    rtt = table(who.places, sites, round_trips)
    picked = chosen(who.weights, rtt, SIZES[-1])
    _say(f"{len(picked)} sites chosen")
    times = {"central20": best(table(who.places, central, round_trips), range(len(central)))}
    times |= {str(size): best(rtt, picked[:size]) for size in SIZES}
    found |= shares(who.weights, times)
    found["share_within_50ms_by_continent"] = shares_by_continent(who, times, 50)
    first, told = [sites[n] for n in picked[: SIZES[1]]], left_out_ms(measured)
    found["measured_check"] = {
        "central20": check(who, measured, central, told),
        str(SIZES[1]): check(who, measured, first, told),
    }
    found |= ratios(files["prices"])
    found |= _detours(measured, [sites[n] for n in picked])
    found["weighted_by"] = "internet users by country, spread by the population of cities"
    found["people_counted"] = len(who.places)
    found["possible_sites"] = len(sites)
    found["sites"] = [[place.metro, place.latitude, place.longitude, place.country]
                      for place in (sites[n] for n in picked[: SIZES[1]])]  # fmt: skip
    found["curve"] = _curve(who.weights, rtt, picked)
    return found


def joined(files: dict[str, Path]) -> Measured:
    """The table of round trips; SystemExit (2) where too few cities have one."""
    measured = read_measured(files["rtt_cities"], files["rtt_pairs"])
    joined = int((~np.isnan(measured.rtt_ms)).any(axis=1).sum())
    if joined < CITIES_LEAST:
        pairs, cities = files["rtt_pairs"], files["rtt_cities"]
        stop(
            f"{joined} cities of {cities} have a round trip in {pairs} (src and dst are their ids);"
            f" at least {CITIES_LEAST} are needed."
        )
    return measured


def _model_errors(files: dict[str, Path]) -> dict[str, Any]:
    from bench.reach_rtt import evaluate

    _say("the model's error, city by city left out")
    return evaluate(files["rtt_cities"], files["rtt_pairs"])


def _detours(measured: Any, order: list[Any]) -> dict[str, Any]:
    """Cells: the first chosen sites that are in the table; beside it any server as a relay."""
    at = [int(server) for server in servers_at(measured, order) if server >= 0]
    cells = list(dict.fromkeys(at))
    told = {str(count): detours(measured, cells[:count]) for count in CELLS}
    told["any"] = detours(measured, range(len(measured.places)))
    gain = told[str(CELLS[-1])]
    return {
        "detour_gain": {key: gain[key] for key in ("share", "median_saving_ms")},
        "detours": told,
    }


def _curve(weights: Any, rtt: Any, picked: list[int]) -> list[list[float]]:
    """(sites, shares within 10, 25 and 50 ms) for growing numbers of sites."""
    nearest = np.full(rtt.shape[0], 65_535, dtype=np.uint16)
    whole = int(weights.sum())
    rows = []
    for count, site in enumerate(picked, start=1):
        np.minimum(nearest, rtt[:, site], out=nearest)
        if count in (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200, 300, 500, 700, 1000):
            rows.append(
                [count, *(round(int(weights[nearest <= ms * 100].sum()) / whole, 4)
                          for ms in (10, 25, 50))]
            )  # fmt: skip
    return rows


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
