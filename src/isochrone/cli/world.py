"""Land as a picture: shores and borders, and a grid of places on land.

Corners of borders are snapped to a lattice and repeated ones dropped, which is all the
simplification that a map needs. Both the lattice and the grid are finer where a ``Frame`` shows
less of the world.

Rules of this file: degrees. Rings that cross the antimeridian go on beyond ±180. Needs numpy;
``grid`` needs matplotlib, too.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from isochrone.atlas.borders import outlines
from isochrone.cli.projection import Frame, project
from isochrone.schema.place import Place

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Owners = NDArray[np.int64]

GRID_DEGREES = 1.0
"""Between places of the grid of the whole world: 111 km, a millisecond or two of round trip."""

FINER_BELOW = ((0.25, 4), (0.5, 2))
"""Shares of the world's width, and how many times finer the grid is there: about as many places in
every picture."""

SNAP_DEGREES = 0.1
"""Corners of the whole world are snapped to this lattice: a fifth of a point of a picture 12 inches
wide. Those of a part of it to as much less."""


class Shore(NamedTuple):
    """One closed line of a country's land: (longitude, latitude) a row."""

    country: str
    corners: Floats


class Grid(NamedTuple):
    """Places over land and a step beyond its shores, and where they are in a square of cells.

    ``longitudes``, ``latitudes``: of columns and rows, the former beyond ±180 where the frame is;
    ``rows``, ``columns``: of each place.
    """

    longitudes: Floats
    latitudes: Floats
    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    places: tuple[Place, ...]

    def square(self, values: Floats) -> Floats:
        """One value a place as a square of cells; NaN where there is no place."""
        cells = np.full((len(self.latitudes), len(self.longitudes)), np.nan)
        cells[self.rows, self.columns] = values
        return cells


@lru_cache(maxsize=4)
def shores(frame: Frame, snap_degrees: float = SNAP_DEGREES) -> tuple[Shore, ...]:
    """The land that comes into a frame, simplified; islands smaller than the lattice vanish."""
    lattice = snap_degrees * frame.share
    found = []
    for ring in outlines(frame.bounds()):
        snapped = np.round(ring.corners / lattice)
        kept = np.ones(len(snapped), dtype=np.bool_)
        kept[1:] = (np.diff(snapped, axis=0) != 0).any(axis=1)
        corners = snapped[kept] * lattice
        if kept.sum() > 3 and frame.touches(project(corners, frame.middle)):
            found.append(Shore(ring.country, corners))
    return tuple(found)


def grid_degrees(frame: Frame) -> float:
    """Between places of a frame's grid."""
    finer = (times for below, times in FINER_BELOW if frame.share <= below)
    return GRID_DEGREES / next(finer, 1)


@lru_cache(maxsize=2)
def grid(frame: Frame) -> Grid:
    """Places a step apart on land and two steps around it, each with the country of its land."""
    step, seen = grid_degrees(frame), frame.bounds()
    longitudes = _steps(seen.west, seen.east, step)
    latitudes = _steps(seen.south, seen.north, step)
    land = shores(frame)
    owner = _owners(longitudes, latitudes, land)
    rows, columns = np.nonzero(owner >= 0)
    places = tuple(
        Place(
            latitude=float(latitudes[row]),
            longitude=float((longitudes[column] + 180) % 360 - 180),
            country=land[owner[row, column]].country,
            metro="",
        )
        for row, column in zip(rows, columns, strict=True)
    )
    return Grid(longitudes, latitudes, rows, columns, places)


def _steps(low: float, high: float, step: float) -> Floats:
    """Multiples of a step that reach from ``low`` to ``high``."""
    return np.arange(np.floor(low / step), np.ceil(high / step) + 1) * step


def _owners(longitudes: Floats, latitudes: Floats, land: tuple[Shore, ...]) -> Owners:
    """By row and column: the number of the shore inside which, or beside which, a cell lies."""
    from matplotlib.path import Path

    owner = np.full((len(latitudes), len(longitudes)), -1, dtype=np.int64)
    islets = []
    for number, shore in enumerate(land):
        west, south = shore.corners.min(axis=0)
        east, north = shore.corners.max(axis=0)
        columns = np.flatnonzero((longitudes >= west) & (longitudes <= east))
        rows = np.flatnonzero((latitudes >= south) & (latitudes <= north))
        x, y = np.meshgrid(longitudes[columns], latitudes[rows])
        inside = Path(shore.corners).contains_points(np.stack([x.ravel(), y.ravel()], 1))
        if not inside.any():
            islets.append((number, (west + east) / 2, (south + north) / 2))
            continue
        cells = owner[np.ix_(rows, columns)]
        cells[inside.reshape(cells.shape)] = number
        owner[np.ix_(rows, columns)] = cells
    owner = _spread(_spread(owner))
    for number, east, north in islets:
        row, column = np.abs(latitudes - north).argmin(), np.abs(longitudes - east).argmin()
        if max(abs(latitudes[row] - north), abs(longitudes[column] - east)) < GRID_DEGREES:
            around = owner[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
            around[around < 0] = number
    return owner


def _spread(owner: Owners) -> Owners:
    """Gives each cell without an owner one of its neighbours', so that bands run to the shore."""
    wide = owner.copy()
    for axis, shift in ((0, 1), (0, -1), (1, 1), (1, -1)):
        beside = np.roll(owner, shift, axis)
        if axis == 0:  # there is nothing beyond the top and the bottom
            beside[0 if shift == 1 else -1] = -1
        wide = np.where(wide < 0, beside, wide)
    return wide
