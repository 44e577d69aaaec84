"""The world as a picture: the Equal Earth projection, land in it, and a grid of places on land.

Equal Earth (Šavrič, Patterson, Jenny 2018, Int. J. Geographical Information Science 33) keeps
areas, so that a band of time looks as large as the land it covers. Corners of borders are snapped
to a lattice of a given size and repeated ones dropped, which is all the simplification a map of
the whole world needs.

Rules of this file: degrees in, units of the sphere's radius out; longitudes beyond ±180 (rings that
cross the antimeridian) stay where they are and are cut by the globe's outline. Needs numpy;
``grid`` needs matplotlib, too.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from isochrone.atlas.borders import Bounds, outlines
from isochrone.schema.place import Place

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

A1, A2, A3, A4 = 1.340264, -0.081106, 0.000893, 0.003796
"""Coefficients of Equal Earth."""

SOUTH, NORTH = -58.0, 84.0
"""Degrees drawn: to the south of them there is no country, but ice."""

WORLD = Bounds(south=SOUTH, north=NORTH, west=-180.0, east=180.0)

GRID_DEGREES = 1.0
"""Between places of the grid: 111 km, a millisecond or two of round trip."""

SNAP_DEGREES = 0.1
"""Corners are snapped to this lattice: a fifth of a point of a picture 12 inches wide."""


class Shore(NamedTuple):
    """One closed line of a country's land: (longitude, latitude) a row."""

    country: str
    corners: Floats


class Grid(NamedTuple):
    """Places over land and a step beyond its shores, and where they are in a square of cells.

    ``longitudes``, ``latitudes``: of columns and rows; ``rows``, ``columns``: of each place.
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


def project(corners: Floats) -> Floats:
    """Equal Earth: (longitude, latitude) rows in degrees to (x, y)."""
    east, north = np.radians(corners).T
    theta = np.arcsin(np.sqrt(3) / 2 * np.sin(north))
    squared = theta * theta
    sixth = squared**3
    slope = A1 + 3 * A2 * squared + sixth * (7 * A3 + 9 * A4 * squared)
    x = 2 * np.sqrt(3) / 3 * east * np.cos(theta) / slope
    y = theta * (A1 + A2 * squared + sixth * (A3 + A4 * squared))
    return np.stack([x, y], axis=1)


def outline() -> Floats:
    """The edge of the map: both meridians of 180° between ``SOUTH`` and ``NORTH``, closed."""
    north = np.linspace(SOUTH, NORTH, 90)
    east = np.full(len(north), 180.0)
    return project(np.concatenate([np.stack([-east, north], 1), np.stack([east, north[::-1]], 1)]))


@lru_cache(maxsize=4)
def shores(snap_degrees: float = SNAP_DEGREES) -> tuple[Shore, ...]:
    """All land, simplified; islands smaller than the lattice vanish."""
    found = []
    for ring in outlines(WORLD):
        snapped = np.round(ring.corners / snap_degrees)
        kept = np.ones(len(snapped), dtype=np.bool_)
        kept[1:] = (np.diff(snapped, axis=0) != 0).any(axis=1)
        if kept.sum() > 3:
            found.append(Shore(ring.country, snapped[kept] * snap_degrees))
    return tuple(found)


@lru_cache(maxsize=2)
def grid(step_degrees: float = GRID_DEGREES) -> Grid:
    """Places a step apart on land and one step around it, each with the country of its land."""
    from matplotlib.path import Path

    longitudes = np.arange(-180.0, 180.0 + step_degrees / 2, step_degrees)
    latitudes = np.arange(SOUTH, NORTH + step_degrees / 2, step_degrees)
    owner = np.full((len(latitudes), len(longitudes)), -1, dtype=np.int64)
    codes: list[str] = []
    for shore in shores():
        west, south = shore.corners.min(axis=0)
        east, north = shore.corners.max(axis=0)
        columns = np.flatnonzero((longitudes >= west) & (longitudes <= east))
        rows = np.flatnonzero((latitudes >= south) & (latitudes <= north))
        if not len(columns) or not len(rows):
            continue
        x, y = np.meshgrid(longitudes[columns], latitudes[rows])
        inside = Path(shore.corners).contains_points(np.stack([x.ravel(), y.ravel()], 1))
        cells = owner[np.ix_(rows, columns)]
        cells[inside.reshape(cells.shape)] = len(codes)
        owner[np.ix_(rows, columns)] = cells
        codes.append(shore.country)
    owner = _spread(_spread(owner))
    rows, columns = np.nonzero(owner >= 0)
    places = tuple(
        Place(
            latitude=float(latitudes[row]),
            longitude=float(longitudes[column]),
            country=codes[owner[row, column]],
            metro="",
        )
        for row, column in zip(rows, columns, strict=True)
    )
    return Grid(longitudes, latitudes, rows, columns, places)


def _spread(owner: NDArray[np.int64]) -> NDArray[np.int64]:
    """Gives each cell without an owner one of its neighbours', so that bands run to the shore."""
    wide = owner.copy()
    for axis, shift in ((0, 1), (0, -1), (1, 1), (1, -1)):
        beside = np.roll(owner, shift, axis)
        if axis == 0:  # there is nothing beyond the top and the bottom
            beside[0 if shift == 1 else -1] = -1
        wide = np.where(wide < 0, beside, wide)
    return wide
