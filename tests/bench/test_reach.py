"""The parts of ``bench.reach`` on worlds small enough to be worked out by hand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from bench.reach_measured import RELAY_MS, Measured, detours, read_measured
from bench.reach_people import (
    WEIGHT_UNITS,
    People,
    best,
    chosen,
    people,
    shares,
    shares_by_continent,
    table,
)
from bench.reach_prices import ratios

from isochrone.schema.place import Place


def place(latitude: float, longitude: float) -> Place:
    return Place(latitude=latitude, longitude=longitude, country="XX", metro="")


def test_people_are_internet_users_spread_by_population(tmp_path: Path) -> None:
    cities, countries = tmp_path / "cities.csv", tmp_path / "countries.csv"
    cities.write_text(
        "name,iso2,latitude,longitude,population\nA,AA,0,0,300\nB,AA,1,1,100\nC,BB,2,2,5\n",
        encoding="utf-8",
    )
    countries.write_text("iso2,internet_users\nAA,100\nBB,300\n", encoding="utf-8")
    who = people(cities, countries)
    assert [w * 16 // WEIGHT_UNITS for w in who.weights.tolist()] == [3, 1, 12]


def test_shares_count_access_and_grow_with_sites() -> None:
    weights = np.array([50, 30, 20], dtype=np.int64)

    def round_trips(rows: object, sites: object) -> np.ndarray:
        return np.array([[9.0, 60.0], [49.0, 24.0], [41.0, 700.0]])

    rtt = table([place(0, 0)] * 3, [place(0, 0)] * 2, round_trips)
    assert chosen(weights, rtt, 5) == [0, 1]  # 50 + 30 + 20 within 50, and more
    times = {"1": best(rtt, [0]), "2": best(rtt, [0, 1])}
    assert times["2"].tolist() == [9.0, 24.0, 41.0]
    found = shares(weights, times)
    assert found["share_within_50ms"] == {"1": 1.0, "2": 1.0}
    assert found["share_within_25ms"] == {"1": 0.5, "2": 0.8}
    assert found["share_within_25ms_access2"] == {"1": 0.5, "2": 0.5}
    assert found["share_within_50ms_access10"] == {"1": 0.5, "2": 0.8}  # 41 + 10 is too far
    assert found["share_within_10ms_access10"] == {"1": 0.0, "2": 0.0}


def test_shares_by_continent_are_of_the_people_there() -> None:
    def there(country: str) -> Place:
        return Place(latitude=0.0, longitude=0.0, country=country, metro="")

    who = People(tuple(map(there, ("DE", "FR", "NG"))), np.array([2, 1, 5], dtype=np.int64))
    found = shares_by_continent(who, {"a": np.array([50.0, 51.0, 10.0])}, 50)
    assert found == {
        "Africa": {"people": 0.625, "a": 1.0},
        "Europe": {"people": 0.375, "a": 0.6667},
    }


def test_a_detour_counts_when_it_is_a_tenth_faster_with_its_relay() -> None:
    nan = np.nan
    square = np.array(
        [[nan, 100.0, 40.0, nan], [100.0, nan, 45.0, 30.0], [40.0, 45.0, nan, 80.0],
         [nan, 30.0, 80.0, nan]]
    )  # fmt: skip
    measured = Measured(("a", "b", "c", "d"), (place(0, 0),) * 4, square)
    # a-b by c: 85.9 instead of 100; c-d by b: 75.9 instead of 80 (b is no cell); a-d: unmeasured.
    assert detours(measured, [2]) == {
        "cells": 1, "pairs": 5, "relay_ms": RELAY_MS, "share": 0.2,
        "median_saving_ms": round(15 - RELAY_MS, 2),
    }  # fmt: skip
    assert detours(measured, [3])["share"] == 0.0


def test_servers_in_impossible_places_are_left_out_and_directions_averaged(tmp_path: Path) -> None:
    cities, pairs = tmp_path / "cities.csv", tmp_path / "pairs.csv"
    cities.write_text(
        "id,city,iso2,latitude,longitude,geo_suspect\n1,Paris,FR,48.85,2.35,0\n"
        "2,Belfast,GB,54.6,-5.9,1\n3,Frankfurt,DE,50.1,8.7,0\n",
        encoding="utf-8",
    )
    pairs.write_text("src,dst,rtt_avg_ms\n1,3,10\n3,1,12\n1,2,1\n", encoding="utf-8")
    measured = read_measured(cities, pairs)
    assert [place.metro for place in measured.places] == ["paris", "frankfurt"]
    assert measured.rtt_ms[0, 1] == measured.rtt_ms[1, 0] == 11.0


def test_a_ratio_counts_each_provider_once_and_no_spot_price(tmp_path: Path) -> None:
    prices = tmp_path / "prices.csv"
    rows = [
        ("AWS", "hyperscaler", "on-demand", "us", 6), ("AWS", "hyperscaler", "on-demand", "us", 9),
        ("AWS", "hyperscaler", "on-demand", "eu", 8), ("AWS", "hyperscaler", "spot", "eu", 1),
        ("GCP", "hyperscaler", "on-demand", "us", 5), ("N1", "neocloud", "on-demand", "us", 2),
        ("N2", "neocloud", "secure", "us", 4), ("V", "marketplace", "on-demand", "us", 1),
        ("V", "marketplace", "on-demand", "us", 1.5),
    ]  # fmt: skip
    head = "date,source,provider,provider_class,billing,region,usd_per_gpu_hour,gpu\n"
    prices.write_text(
        head + "".join(f"d,s,{p},{c},{b},{r},{usd},H100\n" for p, c, b, r, usd in rows),
        encoding="utf-8",
    )
    found = ratios(prices)
    assert found["cost_ratio_hyperscaler"] == {"H100": 3.0}  # (7 and 5) : (2, 4 and 1.25)
    told = found["prices"]["H100"]
    assert told["marketplace"]["ratio"] == 4.8
    assert told["neocloud"] == {
        "usd_per_hour": 3.0, "rows": 2, "providers": 2, "dates": ["d"], "sources": ["s"],
        "ratio": 2.0,
    }  # fmt: skip


@pytest.mark.processes
def test_a_missing_file_is_named(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench.reach", "--json", "--data", str(tmp_path)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "rtt_cities.csv is missing" in done.stderr
    assert "README.md" in done.stderr
