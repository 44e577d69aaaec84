"""The Equal Earth projection, and the part of it that a picture shows.

Equal Earth (Šavrič, Patterson, Jenny 2018, Int. J. Geographical Information Science 33) keeps
areas, so that a band of time looks as large as the land it covers. A ``Frame`` is what a picture
shows: the whole world, or the part of it around an audience, always as wide to high as the world. A
part has its own middle meridian, near which shapes are true; so Japan does not lean.

Rules of this file: degrees on one side, radii of the sphere on the other. Lines (rings of land, a
grid) run on beyond ±180°, so that none is torn; single points are moved to the frame's side of the
globe (``Frame.spots``). Nothing is drawn here. Needs numpy.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from isochrone.atlas.borders import Bounds

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

A1, A2, A3, A4 = 1.340264, -0.081106, 0.000893, 0.003796
"""Coefficients of Equal Earth."""

TURNS = 12
"""Of Newton's method, which needs five of them for the last digit."""

SOUTH, NORTH = -58.0, 84.0
"""Degrees drawn: to the south of them there is no country, but ice."""

WORLD = Bounds(south=SOUTH, north=NORTH, west=-180.0, east=180.0)

MARGIN = 0.12
"""Of the width of what is shown, on each side of it: 25 ms further on fibre for a continent."""

LEAST_SHARE, MOST_SHARE = 0.125, 0.75
"""Of the world's width: an eighth is 4,300 km, the bands of 10 and 25 ms around one city; beyond
three quarters the world is shown as it is known."""


LEAST_GATHERED = 0.3
"""Of the length of the mean of all points on the equator: more scattered people have no side of the
globe, and the world is shown around Greenwich."""


class Frame(NamedTuple):
    """What a picture shows of the projected world: its left, lower, right and upper edges.

    ``middle``: the longitude that is drawn upright.
    """

    west: float
    south: float
    east: float
    north: float
    middle: float = 0.0

    @property
    def width(self) -> float:
        """In radii of the sphere."""
        return self.east - self.west

    @property
    def height(self) -> float:
        """In radii of the sphere."""
        return self.north - self.south

    @property
    def share(self) -> float:
        """Of the world's width, 0-1."""
        return self.width / whole().width

    def spots(self, places: Floats) -> Floats:
        """Single places, (longitude, latitude) rows, projected on the frame's side of the globe."""
        return project(moved(places, self.middle), self.middle)

    def touches(self, projected: Floats) -> bool:
        """Whether the box around these points reaches into the frame."""
        west, south = projected.min(axis=0)
        east, north = projected.max(axis=0)
        across = west < self.east and east > self.west
        return bool(across and south < self.north and north > self.south)

    def holds(self, projected: Floats) -> NDArray[np.bool_]:
        """Which of these points lie inside."""
        x, y = projected.T
        across = (self.west <= x) & (x <= self.east)
        inside: NDArray[np.bool_] = across & (self.south <= y) & (y <= self.north)
        return inside

    def bounds(self) -> Bounds:
        """The degrees that are seen in it; beyond ±180 where the frame is."""
        if self == whole():
            return WORLD
        x = np.linspace(self.west, self.east, 30)
        y = np.linspace(self.south, self.north, 30)
        rim = unproject(np.stack(np.meshgrid(x, y), axis=2).reshape(-1, 2))
        rim = rim[np.abs(rim[:, 0]) <= 180] + [self.middle, 0.0]
        west, south = rim.min(axis=0)
        east, north = rim.max(axis=0)
        return Bounds(south=float(south), north=float(north), west=float(west), east=float(east))


def moved(places: Floats, middle: float) -> Floats:
    """The same places, at most half a turn from a meridian."""
    near: Floats = places.copy()
    near[:, 0] = (places[:, 0] - middle + 180) % 360 - 180 + middle
    return near


def middle_of(longitudes: Floats, weights: Floats) -> float:
    """The whole degree in the middle of people; 0 when they are all around the globe."""
    mean = complex((weights * np.exp(1j * np.radians(longitudes))).sum() / weights.sum())
    return float(round(np.degrees(np.angle(mean)))) if abs(mean) >= LEAST_GATHERED else 0.0


def project(corners: Floats, middle: float = 0.0) -> Floats:
    """Equal Earth around a meridian: (longitude, latitude) rows in degrees to (x, y)."""
    east, north = np.radians(corners - [middle, 0.0]).T
    theta = np.arcsin(np.sqrt(3) / 2 * np.sin(north))
    x = 2 * np.sqrt(3) / 3 * east * np.cos(theta) / _slope(theta)
    return np.stack([x, _rise(theta)], axis=1)


def unproject(points: Floats) -> Floats:
    """(x, y) rows back to degrees east of the middle, and north; beyond ±180 outside the globe."""
    x, y = points.T
    theta = y / A1
    for _ in range(TURNS):
        theta = theta - (_rise(theta) - y) / _slope(theta)
    east = x * _slope(theta) * np.sqrt(3) / 2 / np.cos(theta)
    north = np.arcsin(np.clip(2 / np.sqrt(3) * np.sin(theta), -1, 1))
    corners: Floats = np.degrees(np.stack([east, north], axis=1))
    return corners


def _rise(theta: Floats) -> Floats:
    squared = theta * theta
    rise: Floats = theta * (A1 + A2 * squared + squared**3 * (A3 + A4 * squared))
    return rise


def _slope(theta: Floats) -> Floats:
    squared = theta * theta
    slope: Floats = A1 + 3 * A2 * squared + squared**3 * (7 * A3 + 9 * A4 * squared)
    return slope


def outline() -> Floats:
    """The edge of the map: both meridians of 180° between ``SOUTH`` and ``NORTH``, closed."""
    north = np.linspace(SOUTH, NORTH, 90)
    east = np.full(len(north), 180.0)
    return project(np.concatenate([np.stack([-east, north], 1), np.stack([east, north[::-1]], 1)]))


@lru_cache(maxsize=1)
def whole() -> Frame:
    """The frame of the whole world."""
    edge = outline()
    return Frame(*edge.min(axis=0).tolist(), *edge.max(axis=0).tolist())


def frame_around(projected: Floats, middle: float = 0.0) -> Frame:
    """The part of the world around some points; the whole world where that is most of it.

    ``middle``: the meridian that the points were projected around.
    """
    world = whole()
    west, south = projected.min(axis=0)
    east, north = projected.max(axis=0)
    ratio = world.width / world.height
    width = (1 + 2 * MARGIN) * max(east - west, ratio * (north - south))
    width = max(width, LEAST_SHARE * world.width)
    if width > MOST_SHARE * world.width:
        return world
    height = width / ratio
    left = min(max((west + east - width) / 2, world.west), world.east - width)
    lower = min(max((south + north - height) / 2, world.south), world.north - height)
    edges = (float(left), float(lower), float(left + width), float(lower + height))
    return Frame(*edges, middle)
