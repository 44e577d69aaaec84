"""Rebuild ``data/borders.topo.json.gz`` from Natural Earth; ``build_data`` calls it.

The source is TopoJSON: borders are *arcs*, and two countries that share a border share the arc. An
arc is simplified once (Douglas and Peucker, by shapely), so neighbours still meet afterwards. The
result is TopoJSON again, one geometry a country, its ``id`` an ISO 3166-1 alpha-2 code.

Rules of this file: a territory with a code of its own is cut out of its state (``TERRITORIES``), as
``atlas.blocs`` counts it; land without any code gets a user-assigned one (``UNCODED``) that no bloc
holds, so that it is foreign to everybody; whatever is left without a code ends the build. How far
the simplified borders lie from the source's is measured, every vertex, and the build ends when it
is more than ``SIMPLIFIED_KM``.

Not imported by anything at run time (shapely is in the ``dev`` extra).
"""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

SIMPLIFIED_KM = 1.0
"""Tolerance of the simplification, part of ``atlas.borders.BORDER_ERROR_KM``: keeps 35 % of the
source's vertices. A quarter of it would double the edges to look at and gain no city."""

KM_PER_DEGREE = 111.2
"""On the mean sphere."""

Steps = NDArray[np.int64]
"""Vertices of an arc, one a row: steps east and north on the source's grid."""

Floats = NDArray[np.float64]
Polygon = list[list[int]]
"""Rings as TopoJSON has them: numbers of arcs, ``~n`` for arc n backwards."""

UNCODED = {
    "Akrotiri": "XA",
    "Baikonur": "XB",
    "Dhekelia": "XD",
    "Siachen Glacier": "XG",
    "Clipperton I.": "XI",
    "Bajo Nuevo Bank": "XJ",
    "Kosovo": "XK",
    "Serranilla Bank": "XL",
    "N. Cyprus": "XN",
    "Spratly Is.": "XP",
    "USNB Guantanamo Bay": "XQ",
    "Scarborough Reef": "XR",
    "Somaliland": "XS",
    "Cyprus U.N. Buffer Zone": "XU",
    "Coral Sea Is.": "AU",
    "Indian Ocean Ter.": "AU",
}
"""Names without a code in the source. ``XK`` is in ``countries.csv``, the other ``X`` are not; the
last two are Australian, and the islands with codes are cut out of the second below."""


class Territory(NamedTuple):
    """What lies in a box (degrees) of a state's land has a code of its own."""

    state: str
    code: str
    south: float
    north: float
    west: float
    east: float


TERRITORIES = (
    Territory("FR", "GF", 2, 6, -55, -51),
    Territory("FR", "GP", 15.7, 16.6, -62, -60.9),
    Territory("FR", "MQ", 14.3, 15, -61.3, -60.7),
    Territory("FR", "RE", -21.5, -20.8, 55, 56),
    Territory("FR", "YT", -13.1, -12.5, 44.9, 45.4),
    Territory("NL", "BQ", 11.9, 12.4, -68.6, -68.1),
    Territory("NL", "BQ", 17.4, 17.7, -63.3, -62.9),
    Territory("NO", "SJ", 74, 81.5, 10, 35),
    Territory("NO", "SJ", 70.7, 71.3, -9.2, -7.8),
    Territory("NO", "BV", -55, -54, 3, 3.7),
    Territory("NZ", "TK", -9.6, -8.4, -172.7, -171),
    Territory("AU", "CX", -10.7, -10.3, 105.4, 105.8),
    Territory("AU", "CC", -12.3, -11.7, 96.7, 97),
)


def build_borders(folder: Path, out: Path) -> None:
    """Write ``borders.topo.json.gz`` from ``countries-10m.json`` and ``iso_numeric.csv``."""
    source = json.loads((folder / "countries-10m.json").read_bytes())
    with (folder / "iso_numeric.csv").open(encoding="utf-8", newline="") as file:
        codes = {row["iso_numeric"]: row["iso2"] for row in csv.DictReader(file)}
    arcs = [np.cumsum(np.array(arc, dtype=np.int64), axis=0) for arc in source["arcs"]]
    transform = source["transform"]
    countries: dict[str, list[Polygon]] = {}
    for geometry in source["objects"]["countries"]["geometries"]:
        code = _code(geometry, codes)
        for polygon in _polygons(geometry):
            first = polygon[0][0]
            corner = degrees(arcs[max(first, ~first)][:1], transform)[0]
            countries.setdefault(_owner(code, corner), []).append(polygon)
    wanted = {territory.code for territory in TERRITORIES if territory.state in countries}
    if absent := wanted - countries.keys():
        raise ValueError(f"no land of {sorted(absent)} was found in that of their states")
    simple = [simplify(arc, transform) for arc in arcs]
    topology = {
        "type": "Topology",
        "transform": transform,
        "objects": {
            "countries": {
                "type": "GeometryCollection",
                "geometries": [
                    {"type": "MultiPolygon", "id": code, "arcs": countries[code]}
                    for code in sorted(countries)
                ],
            }
        },
        "arcs": [np.diff(arc, axis=0, prepend=[[0, 0]]).tolist() for arc in simple],
    }
    packed = json.dumps(topology, separators=(",", ":")).encode()
    (out / "borders.topo.json.gz").write_bytes(gzip.compress(packed, 9, mtime=0))


def degrees(arc: Steps, transform: dict[str, list[float]]) -> Floats:
    """(longitude, latitude) of grid points, one a row."""
    turned: Floats = arc * np.array(transform["scale"]) + np.array(transform["translate"])
    return turned


def simplify(arc: Steps, transform: dict[str, list[float]]) -> Steps:
    """The vertices of an arc that are kept; both ends always are.

    Raises ValueError when a vertex left out lies more than ``SIMPLIFIED_KM`` from what is kept.
    """
    import shapely

    flat = _flat(degrees(arc, transform))
    line = shapely.LineString(flat).simplify(SIMPLIFIED_KM, preserve_topology=False)
    gap_km = float(shapely.distance(line, shapely.points(flat)).max())
    if gap_km > SIMPLIFIED_KM:
        raise ValueError(f"a simplified border lies {gap_km:.3f} km from the source's")
    kept, index = [], 0
    for corner in shapely.get_coordinates(line):
        while not np.array_equal(flat[index], corner):
            index += 1
        kept.append(index)
        index += 1
    return arc[kept]


def _flat(corners: Floats) -> Floats:
    """Degrees as kilometres on a plane that shortens no distance between points of the arc."""
    widest = np.radians(np.abs(corners[:, 1]).min())
    flat: Floats = corners * KM_PER_DEGREE * np.array([np.cos(widest), 1.0])
    return flat


def _polygons(geometry: dict[str, Any]) -> list[Polygon]:
    arcs: list[Any] = geometry["arcs"]
    return arcs if geometry["type"] == "MultiPolygon" else [arcs]


def _code(geometry: dict[str, Any], codes: dict[str, str]) -> str:
    """The country's code; raises KeyError for one that nobody has thought of."""
    number = geometry.get("id")
    return codes[number] if number else UNCODED[geometry["properties"]["name"]]


def _owner(code: str, corner: Floats) -> str:
    """The code of a polygon: its state's, or that of a territory with one of its own."""
    east, north = corner
    return next(
        (
            t.code
            for t in TERRITORIES
            if t.state == code and t.south <= north <= t.north and t.west <= east <= t.east
        ),
        code,
    )
