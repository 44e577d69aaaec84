"""Rebuild ``atlas/data`` from the public tables it came from: ``python -m ... FOLDER [OUT]``.

FOLDER holds ``rtt_cities.csv``, ``rtt_city_pairs.csv``, ``countries.csv``, ``cities_15000.csv``,
``countries-10m.json`` and ``iso_numeric.csv``, as ``data/ATTRIBUTION.md`` describes them. The
output is deterministic: same input, same bytes (gzip without time stamps).

Not imported by anything at run time. ``latency_place.json`` is fitted to its output afterwards, in
minutes: ``python -m isochrone.atlas.latency_place_fit``.
"""

from __future__ import annotations

import array
import csv
import gzip
import io
import math
import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from isochrone.atlas.build_borders import build_borders

MIN_POPULATION = 100_000
"""Cities below are left out, unless round trips were measured there: keeps the file at 170 KB."""

SAME_CITY_KM = 60.0
"""A measurement server this near to a city of its name belongs to it (Dulles is 31 km from the
centre of Washington). Some servers' stated places are wrong by more: see ``RENAMED``."""

DISTRICT_KM = 25.0
"""A city this near to a larger one of its country counts as part of it when an audience is spread
over cities: GeoNames lists boroughs and arrondissements beside their city."""

MISSING = 65_535
"""Marks a pair without measurement in the tables of hundredths of a millisecond (uint16)."""

WITHDRAWN = {"CS", "AN"}
"""Codes that ISO 3166 no longer assigns (Serbia and Montenegro, Netherlands Antilles)."""

DOUBTFUL = {"Belfast", "La Ceiba", "Panama", "Guatemala"}
"""Servers left out: the first two contradict the speed of light, the other two have each other's
coordinates and nobody can tell which of name and place is right."""

RENAMED = {
    "Bangalore": ("Bengaluru", "bengaluru"),
    "Bruges": ("Brugge", "bruges"),
    "Fez": ("Fes", "fez"),
    "Frankfurt": ("Frankfurt am Main", "frankfurt"),
    "Karaganda": ("Karagandy", "karaganda"),
    "Kiev": ("Kyiv", "kyiv"),
    "Malaysia": ("Kuala Lumpur", "kuala-lumpur"),
    "Mexico": ("Mexico City", "mexico-city"),
    "Newcastle": ("Newcastle upon Tyne", "newcastle-upon-tyne"),
    "New York": ("New York City", "new-york"),
    "Quebec City": ("Québec", "quebec-city"),
    "St Petersburg": ("Saint Petersburg", "saint-petersburg"),
    "Koto": ("Koto", "koto"),
}
"""Server's city -> (the city's name in GeoNames, the metro id wanted)."""

PLACE_BY_NAME = {"Santiago", "Minneapolis", "Tunis"}
"""Servers whose coordinates are those of a region or country, not of the city they name."""

ALIASES = {
    "bengaluru": ("bangalore",),
    "koln": ("cologne", "koeln"),
    "gent": ("ghent",),
    "sevilla": ("seville",),
    "mumbai": ("bombay",),
    "kolkata": ("calcutta",),
    "chennai": ("madras",),
    "yangon": ("rangoon",),
    "kyiv": ("kiev",),
    "new-york": ("new-york-city",),
    "frankfurt": ("frankfurt-am-main",),
    "saint-petersburg": ("st-petersburg",),
    "washington": ("ashburn", "washington-dc"),
    "ho-chi-minh-city": ("saigon",),
}
"""Other names that people type. Ashburn is where Washington's data centres (and server) are."""


class Row(NamedTuple):
    """A city on its way into ``cities.csv.gz``; ``wanted`` is a metro id asked for, or empty."""

    name: str
    country: str
    region: str
    latitude: float
    longitude: float
    population: int
    wanted: str = ""


def slug(name: str) -> str:
    """``São Paulo`` -> ``sao-paulo``: ASCII, lower case, hyphens."""
    ascii_name = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", ascii_name).strip("-")


def distance_km(a: Row, b: Row) -> float:
    """Great-circle distance on a sphere of 6,371 km."""
    phi_a, phi_b = math.radians(a.latitude), math.radians(b.latitude)
    half = math.sin((phi_b - phi_a) / 2) ** 2
    half += (
        math.cos(phi_a)
        * math.cos(phi_b)
        * math.sin(math.radians(b.longitude - a.longitude) / 2) ** 2
    )
    return 2 * 6371.0088 * math.asin(min(1.0, math.sqrt(half)))


def read(path: Path) -> Iterator[dict[str, str]]:
    """The rows of a CSV file by column name."""
    with path.open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


def read_cities(path: Path) -> list[Row]:
    """GeoNames cities, largest first."""
    return [
        Row(
            r["name"],
            r["iso2"],
            r["admin1"].lower(),
            float(r["latitude"]),
            float(r["longitude"]),
            int(r["population"]),
        )
        for r in read(path)
    ]


def read_servers(path: Path) -> list[tuple[int, Row]]:
    """Measurement servers that can be trusted, with their ids in the pairs table."""
    return [
        (
            int(r["id"]),
            Row(
                r["city"],
                r["iso2"],
                slug(r["state"]),
                float(r["latitude"]),
                float(r["longitude"]),
                0,
            ),
        )
        for r in read(path)
        if r["city"] not in DOUBTFUL
    ]


def city_of(server: Row, by_name: dict[tuple[str, str], list[Row]]) -> Row:
    """The GeoNames city that a server stands in; the server itself where there is none."""
    name, wanted = RENAMED.get(server.name, (server.name, ""))
    near = [
        (distance_km(server, city), city)
        for city in by_name.get((slug(name), server.country), [])
        if server.name in PLACE_BY_NAME or distance_km(server, city) <= SAME_CITY_KM
    ]
    if not near:
        return server._replace(wanted=wanted)
    if server.name in PLACE_BY_NAME:
        return max((city for _, city in near), key=lambda city: city.population)
    return min(near)[1]._replace(wanted=wanted)


def name_metros(cities: Iterable[Row]) -> dict[str, Row]:
    """Metro id -> city. The most populous takes the bare slug, then slug-cc, then slug-cc-region.

    A city that finds all three taken is a second listing of one and is left out.
    """
    metros: dict[str, Row] = {}
    for city in sorted(cities, key=lambda c: (not c.wanted, -c.population, c.name, c.country)):
        bare = city.wanted or slug(city.name)
        national = f"{bare}-{city.country.lower()}"
        for metro in (bare, national, f"{national}-{slug(city.region)}"):
            if metro and metro not in metros:
                metros[metro] = city
                break
    return metros


def hundredths(pairs: Path, ids: list[int], column: str) -> bytes:
    """The upper triangle of a table of uint16 hundredths of ms, row by row, little-endian.

    Averages of the two directions are averaged, minima minimised (they differ by 0.08 ms at the
    median).
    """
    position = {server: index for index, server in enumerate(ids)}
    seen: dict[tuple[int, int], list[float]] = {}
    for row in read(pairs):
        ends = position.get(int(row["src"])), position.get(int(row["dst"]))
        if ends[0] is not None and ends[1] is not None:
            pair = (min(ends[0], ends[1]), max(ends[0], ends[1]))
            seen.setdefault(pair, []).append(float(row[column]))
    merge = min if "min" in column else fmean
    table = array.array(
        "H",
        (
            round(merge(seen[pair]) * 100) if pair in seen else MISSING
            for pair in combinations(range(len(ids)), 2)
        ),
    )
    if sys.byteorder == "big":
        table.byteswap()
    return table.tobytes()


def write_csv(path: Path, header: list[str], rows: Iterable[Iterable[object]]) -> None:
    """A CSV file; gzipped when its name ends in ``.gz``."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    data = text.getvalue().encode("utf-8")
    path.write_bytes(gzip.compress(data, 9, mtime=0) if path.suffix == ".gz" else data)


def build(folder: Path, out: Path) -> None:
    """Write every file of ``atlas/data`` except its attribution."""
    listed = read_cities(folder / "cities_15000.csv")
    by_name: dict[tuple[str, str], list[Row]] = {}
    for city in listed:
        by_name.setdefault((slug(city.name), city.country), []).append(city)
    servers = [
        (server, city_of(row, by_name)) for server, row in read_servers(folder / "rtt_cities.csv")
    ]
    measured = {city._replace(wanted=""): city for _, city in servers}
    main_of_country = {city.country: city for city in reversed(listed)}
    large = [
        city
        for city in listed
        if (city.population >= MIN_POPULATION or main_of_country[city.country] is city)
        and city not in measured
    ]
    metros = name_metros([*measured.values(), *large])
    metro_of = {city: metro for metro, city in metros.items()}
    ranked = sorted(metros.items(), key=lambda item: (-item[1].population, item[0]))
    parts = districts(ranked)
    write_csv(
        out / "cities.csv.gz",
        ["metro", "name", "country", "latitude", "longitude", "population", "aliases", "part_of"],
        (
            (
                *(m, c.name, c.country, c.latitude, c.longitude, c.population),
                *("|".join(ALIASES.get(m, ())), parts.get(m, "")),
            )
            for m, c in ranked
        ),
    )
    ids = [server for server, _ in servers]
    write_csv(out / "rtt_metros.csv", ["metro"], ([metro_of[city]] for _, city in servers))
    for column in ("avg", "min"):
        table = hundredths(folder / "rtt_city_pairs.csv", ids, f"rtt_{column}_ms")
        (out / f"rtt_{column}.u16.gz").write_bytes(gzip.compress(table, 9, mtime=0))
    write_countries(folder / "countries.csv", out / "countries.csv")
    build_borders(folder, out)


def districts(ranked: list[tuple[str, Row]]) -> dict[str, str]:
    """Metro -> the larger city of its country that it is a part of; ``ranked``: largest first."""
    mains: dict[str, list[tuple[str, Row]]] = {}
    part_of: dict[str, str] = {}
    for metro, city in ranked:
        national = mains.setdefault(city.country, [])
        owner = next((m for m, c in national if distance_km(city, c) <= DISTRICT_KM), None)
        if owner is None:
            national.append((metro, city))
        else:
            part_of[metro] = owner
    return part_of


def write_countries(source: Path, out: Path) -> None:
    """Countries with what residency and audiences need."""
    columns = ["iso2", "name", "continent", "eu", "eea", "gdpr_adequacy"]
    columns += ["population", "internet_users", "area_km2"]
    rows = [row for row in read(source) if row["iso2"] not in WITHDRAWN]
    for row in rows:
        row["continent"] = row["continent"] or "NA"  # only Bonaire's is empty: the Caribbean
    write_csv(out, columns, sorted([row[column].strip() for column in columns] for row in rows))


if __name__ == "__main__":
    arguments = [Path(text) for text in sys.argv[1:]]
    if not 1 <= len(arguments) <= 2:
        sys.exit("usage: python -m isochrone.atlas.build_data FOLDER [OUT]")
    build(arguments[0], arguments[1] if len(arguments) == 2 else Path(__file__).parent / "data")
