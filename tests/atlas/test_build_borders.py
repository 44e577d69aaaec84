from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from tests.atlas.topology import topology

from isochrone.atlas.build_borders import build_borders

CODES = "iso_numeric,iso2\n528,NL\n276,DE\n"


def built(folder: Path, world: str, codes: str = CODES) -> dict[str, Any]:
    (folder / "countries-10m.json").write_text(world)
    (folder / "iso_numeric.csv").write_text(codes)
    build_borders(folder, folder)
    topology: dict[str, Any] = json.loads(
        gzip.decompress((folder / "borders.topo.json.gz").read_bytes())
    )
    return topology


def test_territories_and_land_without_a_code_stand_alone(tmp_path: Path) -> None:
    world = built(tmp_path, topology())
    shapes = world["objects"]["countries"]["geometries"]
    assert {shape["id"]: shape["arcs"] for shape in shapes} == {
        "BQ": [[[2]]],  # Bonaire is no part of NL
        "DE": [[[-1, 4]]],
        "NL": [[[0, 1]]],
        "XN": [[[3]]],
    }


def test_neighbours_share_the_simplified_border(tmp_path: Path) -> None:
    shared = built(tmp_path, topology())["arcs"][0]
    assert shared == [[182000, 138000], [0, 2000]]  # bends of 70 m are gone, both ends are there


def test_land_that_nobody_has_thought_of_ends_the_build(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="Atlantis"):
        built(tmp_path, topology().replace("N. Cyprus", "Atlantis"))
    with pytest.raises(KeyError, match="276"):
        built(tmp_path, topology(), "iso_numeric,iso2\n528,NL\n")


def test_a_territory_that_is_not_found_ends_the_build(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="TK"):
        built(tmp_path, topology(), CODES.replace("528,NL", "528,NZ"))
