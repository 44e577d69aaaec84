"""Where countries' land is: what a disc around a place can touch.

``reach`` lists, for a place, how far it is at least to the nearest land of each country; a disc
whose radius is below that distance cannot touch the country. Intuition: borders are edges on a
sphere; the nearest point of an edge is its foot under the place when that lies between its ends,
else an end. One product with a packed matrix of all edges answers for every country at once.

Rules of this file: a distance is never too large. ``BORDER_ERROR_KM`` and ``SPHERE_ERROR`` are
subtracted, the result is rounded down to 0.1 km (so that machines whose last bits differ agree) and
is at least 0. Land is as Natural Earth draws it, which follows who governs in fact; territories
with a code of their own are countries of their own (``GF`` is not ``FR``), and land that has no
code at all (Northern Cyprus ``XN``, Somaliland ``XS``, sovereign bases ``XA`` and ``XD``, ...; all
but Kosovo ``XK``) has one that no bloc holds: it is foreign to everybody.

What this file does not do: the sea belongs to nobody, so nothing here notices a ship in foreign
waters; islets and exclaves that a map of 1:10,000,000 leaves out do not exist (Büsingen, Campione);
embassies are their host's. Imports numpy on first use: gateways and nodes must not call it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from isochrone.atlas.packaged import read_bytes
from isochrone.schema.place import EARTH_RADIUS_KM, REACH_KM, SPHERE_ERROR, Place

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

BORDER_ERROR_KM = 7.5
"""Subtracted from every distance to land, kilometres:

* 5.0: half a millimetre on the source's map of 1:10,000,000, the accuracy that maps are drawn to;
* 1.0: its simplification (``build_borders`` measures every vertex, and the tests say how far);
* 0.3: its grid, half a diagonal of 0.0036° × 0.0017° is 0.22;
* 0.1: edges are straight in degrees and great circles here, at most 1° long (``EDGE_DEGREES``);
* 0.1: round trips in whole microseconds, a distance rounded to 0.1;
* 1.0: how exactly a vantage must state its own point.
"""

EDGE_DEGREES = 1.0
"""Longer edges are cut: a great circle over 1° leaves the straight line by at most 0.12 km."""

TURNS = (-360.0, 0.0, 360.0)
"""A point's other longitudes: rings that cross the antimeridian go on beyond ±180°."""

PLACES_KEPT = 4096
"""Answers kept: places of vantages and cities; some 3 KB each."""


class Topology(msgspec.Struct):
    """The parts of a TopoJSON file that are needed."""

    transform: dict[str, tuple[float, float]]
    objects: dict[str, Geometries]
    arcs: list[list[tuple[int, int]]]


class Geometries(msgspec.Struct):
    """A collection of countries."""

    geometries: list[Geometry]


class Geometry(msgspec.Struct):
    """A country: its code, and polygons of rings of numbers of arcs (``~n``: n backwards)."""

    id: str
    arcs: list[list[list[int]]]


class Bounds(NamedTuple):
    """A box in degrees, west < east; either may lie beyond ±180 (within a turn)."""

    south: float
    north: float
    west: float
    east: float


class Ring(NamedTuple):
    """One closed line of a country's border; ``corners``: (longitude, latitude) a row."""

    country: str
    corners: Floats


class _Edges(NamedTuple):
    """All edges, grouped by country: edge ``starts[i]`` is the first of ``codes[i]``.

    ``ends``: (longitude, latitude) from and to, a row of four an edge. ``sides``: rows of three for
    the products with a place's unit vector, four blocks of as many rows as there are edges: the
    edge's first end; its great circle's pole; the normals of the planes through pole and either
    end that face inward.
    """

    codes: tuple[str, ...]
    starts: NDArray[np.intp]
    ends: Floats
    sides: Floats


def reach(place: Place) -> tuple[tuple[str, float], ...]:
    """(country, kilometres to its nearest land at least), nearest first, up to ``REACH_KM``.

    0 for the country that the place is in, and for all within the error of the borders. Some 8 ms
    the first time for a place, and 0.3 s for the very first.
    """
    return _reach(place.latitude, place.longitude)


def country_at(latitude: float, longitude: float) -> str:
    """The country whose land a point is on; empty at sea. Exact for the simplified borders only."""
    inside = _inside(latitude, longitude)
    return next((code for code, holds in zip(_edges().codes, inside, strict=True) if holds), "")


def foreign_km(place: Place, admitted: frozenset[str]) -> float:
    """How far it is at least to land of any country but the admitted: what a disc may measure."""
    outside = (km for code, km in reach(place) if code not in admitted)
    return next(outside, REACH_KM)


def outlines(bounds: Bounds) -> list[Ring]:
    """The rings of every country that come into a box, for drawing; whole, not cut at the box.

    A ring that reaches the box beyond the antimeridian is moved there.
    """
    import numpy as np

    moved = (
        Ring(ring.country, ring.corners + np.array([turn, 0.0]))
        for turn in TURNS
        for ring in _rings()
    )
    return [ring for ring in moved if _meets(ring.corners, bounds)]


@lru_cache(maxsize=PLACES_KEPT)
def _reach(latitude: float, longitude: float) -> tuple[tuple[str, float], ...]:
    import numpy as np

    edges = _edges()
    count = len(edges.ends)
    products = edges.sides @ _unit(np.array([[longitude, latitude]]))[0]
    end, pole = products[:count], products[count : 2 * count]
    between = (products[2 * count : 3 * count] > 0) & (products[3 * count :] > 0)
    foot = np.sqrt(np.clip(1 - pole * pole, 0, 1))
    nearest = np.maximum.reduceat(np.where(between, foot, end), edges.starts)
    km = np.arccos(np.clip(nearest, -1, 1)) * EARTH_RADIUS_KM
    km[_inside(latitude, longitude)] = 0.0
    least = np.floor((km * (1 - SPHERE_ERROR) - BORDER_ERROR_KM).clip(0) * 10) / 10
    order = sorted((float(far), code) for code, far in zip(edges.codes, least, strict=True))
    return tuple((code, far) for far, code in order if far <= REACH_KM)


def _inside(latitude: float, longitude: float) -> NDArray[np.bool_]:
    """For each country whether the point is on its land: its edges east of it are odd in number."""
    import numpy as np

    edges = _edges()
    west, south, east, north = edges.ends.T
    spans = np.flatnonzero((south > latitude) != (north > latitude))
    rise = (latitude - south[spans]) / (north[spans] - south[spans])
    crossing = west[spans] + rise * (east[spans] - west[spans])
    owner = np.searchsorted(edges.starts, spans, side="right") - 1
    inside = np.zeros(len(edges.codes), dtype=np.bool_)
    for turn in TURNS:
        crossed = owner[crossing > longitude + turn]
        inside |= np.bincount(crossed, minlength=len(edges.codes)) % 2 == 1
    return inside


@lru_cache(maxsize=1)
def _edges() -> _Edges:
    import numpy as np

    rings = _rings()
    codes = tuple(dict.fromkeys(ring.country for ring in rings))
    runs = [_short(np.hstack([ring.corners[:-1], ring.corners[1:]])) for ring in rings]
    sizes = dict.fromkeys(codes, 0)
    for ring, run in zip(rings, runs, strict=True):
        sizes[ring.country] += len(run)
    ends = np.concatenate(runs)
    starts = np.cumsum([0, *sizes.values()])[:-1]
    first, last = _unit(ends[:, :2]), _unit(ends[:, 2:])
    pole = np.cross(first, last)
    length = np.linalg.norm(pole, axis=1, keepdims=True)
    pole /= np.where(length == 0, 1, length)
    sides = np.concatenate([first, pole, np.cross(pole, first), np.cross(last, pole)])
    return _Edges(codes, starts, ends, sides)


def _short(ends: Floats) -> Floats:
    """The same edges, long ones cut into pieces of at most ``EDGE_DEGREES``."""
    import numpy as np

    span = np.abs(ends[:, 2:] - ends[:, :2]).max(axis=1)
    pieces = np.maximum(1, np.ceil(span / EDGE_DEGREES)).astype(np.intp)
    whole = np.repeat(ends, pieces, axis=0)
    number = np.arange(len(whole)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    step = (whole[:, 2:] - whole[:, :2]) / np.repeat(pieces, pieces)[:, None]
    begin = whole[:, :2] + step * number[:, None]
    return np.hstack([begin, begin + step])


@lru_cache(maxsize=1)
def _rings() -> tuple[Ring, ...]:
    """Every ring of the packaged file, countries in the order of their codes."""
    import numpy as np

    file = msgspec.json.decode(read_bytes("borders.topo.json.gz"), type=Topology)
    scale, translate = np.array(file.transform["scale"]), np.array(file.transform["translate"])
    arcs = [np.cumsum(np.array(arc), axis=0) * scale + translate for arc in file.arcs]
    return tuple(
        Ring(country.id, _joined(ring, arcs))
        for country in file.objects["countries"].geometries
        for polygon in country.arcs
        for ring in polygon
    )


def _joined(ring: list[int], arcs: list[Floats]) -> Floats:
    """A ring without jumps at the antimeridian, so that some longitudes lie beyond ±180°.

    A ring around a pole (Antarctica's) is closed along it.
    """
    import numpy as np

    corners = np.concatenate([arcs[n] if n >= 0 else arcs[~n][::-1] for n in ring])
    corners[:, 0] = np.unwrap(corners[:, 0], period=360)
    (start, _), (end, _) = corners[0], corners[-1]
    if abs(end - start) < 180:
        return corners
    pole = np.copysign(90.0, corners[:, 1].mean())
    return np.concatenate([corners, [[end, pole], [start, pole]], corners[:1]])


def _meets(corners: Floats, bounds: Bounds) -> bool:
    west, south = corners.min(axis=0)
    east, north = corners.max(axis=0)
    apart = north < bounds.south or south > bounds.north or east < bounds.west or west > bounds.east
    return not bool(apart)


def _unit(corners: Floats) -> Floats:
    """Unit vectors of (longitude, latitude) rows."""
    import numpy as np

    east, north = np.radians(corners).T
    flat = np.cos(north)
    return np.stack([flat * np.cos(east), flat * np.sin(east), np.sin(north)], axis=1)
