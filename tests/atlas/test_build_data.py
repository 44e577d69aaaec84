from __future__ import annotations

import gzip
import struct
from pathlib import Path

from tests.atlas.topology import topology

from isochrone.atlas.build_data import build, slug

SOURCES = {
    "rtt_cities.csv": """\
id,city,state,country,iso2,latitude,longitude,geo_suspect
4,Paris,Ile-de-France,France,FR,48.85,2.35,0
7,Belfast,Northern Ireland,United Kingdom,GB,54.6,-5.9,1
9,Frankfurt,Hesse,Germany,DE,50.1,8.7,0
12,Ktis,South Bohemian Region,Czech Republic,CZ,48.92,14.12,0
""",
    "rtt_city_pairs.csv": """\
src,dst,rtt_min_ms,rtt_avg_ms,rtt_max_ms,mdev_ms
4,9,10.48,10.60,11,0.1
9,4,10.52,10.80,11,0.1
4,7,1,1,1,0
9,12,20,21,22,0.1
""",
    "cities_15000.csv": """\
geonameid,name,iso2,admin1,latitude,longitude,population,timezone
1,Paris,FR,11,48.853,2.349,2138551,Europe/Paris
2,Frankfurt am Main,DE,05,50.116,8.684,650000,Europe/Berlin
3,Paris 15 Vaugirard,FR,11,48.841,2.300,229713,Europe/Paris
4,Frankfurt (Oder),DE,11,52.347,14.551,51691,Europe/Berlin
5,Paris,US,TX,33.66,-95.55,24782,America/Chicago
6,Vaduz,LI,11,47.14,9.52,5197,Europe/Vaduz
""",
    "countries.csv": """\
iso2,iso3,name,continent,capital,population,area_km2,currency,city_pop_15000,internet_users,internet_users_year,eu,eea,gdpr_adequacy
DE,DEU,Germany,EU,Berlin,82927922,357021,EUR,1,75000000,2021,1,1,
CS,SCG,Serbia and Montenegro,EU,Belgrade,1,1,RSD,1,,,0,0,
""",
    "iso_numeric.csv": "iso_numeric,iso2\n528,NL\n276,DE\n",
    "countries-10m.json": topology(),
}


def build_into(folder: Path, out: Path) -> dict[str, bytes]:
    folder.mkdir(exist_ok=True)
    out.mkdir()
    for name, text in SOURCES.items():
        (folder / name).write_text(text, encoding="utf-8")
    build(folder, out)
    return {path.name: path.read_bytes() for path in sorted(out.iterdir())}


def test_the_data_is_reduced_as_its_attribution_says(tmp_path: Path) -> None:
    files = build_into(tmp_path / "in", tmp_path / "out")
    cities = gzip.decompress(files["cities.csv.gz"]).decode().splitlines()[1:]
    assert [line.split(",")[0] for line in cities] == [
        "paris",
        "frankfurt",
        "paris-15-vaugirard",
        "paris-us",  # its country's largest in this table
        "vaduz",
        "ktis",  # measured there, and in no list of cities
    ]
    assert cities[1].startswith("frankfurt,Frankfurt am Main,DE,50.116,8.684,650000,frankfurt-am-")
    assert cities[2].endswith(",paris")  # a district
    assert files["rtt_metros.csv"] == b"metro\nparis\nfrankfurt\nktis\n"  # Belfast is doubtful
    average = gzip.decompress(files["rtt_avg.u16.gz"])
    assert struct.unpack("<3H", average) == (1070, 65_535, 2100)
    assert struct.unpack("<3H", gzip.decompress(files["rtt_min.u16.gz"])) == (1048, 65_535, 2000)
    assert files["countries.csv"].decode().splitlines()[1:] == [
        "DE,Germany,EU,1,1,,82927922,75000000,357021"
    ]


def test_the_same_sources_give_the_same_bytes(tmp_path: Path) -> None:
    assert build_into(tmp_path / "in", tmp_path / "a") == build_into(
        tmp_path / "in", tmp_path / "b"
    )


def test_slugs_are_plain() -> None:
    assert slug("São Paulo") == "sao-paulo"
    assert slug("St. John's") == "st-john-s"
