"""Bands of equal time around sites, on a world map drawn with matplotlib.

A band is the land from which the nearest site answers within so many milliseconds of round trip;
the nearest by time, not by distance. Between the places of the grid (``world.grid``) the time is
taken to change evenly, and bands are cut off at the shore.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from isochrone.cli.place_land import BORDER, INK, LAND, SEA
from isochrone.cli.place_names import places_of_names
from isochrone.cli.projection import Frame, outline, project, whole
from isochrone.cli.world import Grid, grid, shores
from isochrone.schema.place import Place

if TYPE_CHECKING:
    from isochrone.cli.plan_ground import Floats, RoundTrips

BANDS_MS = (10.0, 25.0, 50.0, 100.0)

COLOURS = ("#0b3c6f", "#1f78b4", "#66b7c9", "#c5e3d0", LAND)
"""Of the bands, nearest first: darker is nearer, evenly in lightness, so that the order is seen in
grey, too, and by people who do not tell red from green. The last is whatever is farther."""

LABELS = ("≤ 10 ms", "10-25 ms", "25-50 ms", "50-100 ms", "> 100 ms")

MARK = "#e4572e"
"""Of sites: no band has a colour like it."""

DOT_PIXELS, NAME_PAD = 9.0, 2.0
"""Of a picture of 150 dots an inch: what a site and the edge of a name keep free around them."""

NEAREST = 24
"""Sites looked at for each block of the grid: the nearest by distance to its middle. By time the
nearest is among them, unless cables run the other way round the world."""

BLOCK_DEGREES = 15


def field(
    sites: Sequence[Place], round_trips: RoundTrips, access_ms: float, shown: Frame | None = None
) -> Floats:
    """The round trip from every cell of ``world.grid`` to the nearest site, ms; NaN at sea.

    ``shown``: of the world, all of it unless said.
    """
    lattice = grid(shown or whole())
    if len(sites) <= NEAREST:
        best = round_trips(lattice.places, sites).min(axis=1)
        return lattice.square(best + access_ms)
    best = np.full(len(lattice.places), np.inf)
    for block in _blocks(lattice):
        middle = block[len(block) // 2]
        here = lattice.places[middle]
        apart = [_nearness(here, site) for site in sites]
        near = [sites[n] for n in np.argsort(apart, kind="stable")[:NEAREST]]
        best[block] = round_trips([lattice.places[n] for n in block], near).min(axis=1)
    return lattice.square(best + access_ms)


def _blocks(lattice: Grid) -> list[Any]:
    """Numbers of the grid's places, block by block."""
    across = (lattice.longitudes[lattice.columns] + 180) // BLOCK_DEGREES
    up = (lattice.latitudes[lattice.rows] + 90) // BLOCK_DEGREES
    key = (up * 100 + across).astype(np.int64)
    return [np.flatnonzero(key == one) for one in np.unique(key)]


def _nearness(a: Place, b: Place) -> float:
    """Less is nearer: minus the cosine of the angle between two places."""
    phi_a, phi_b = np.radians(a.latitude), np.radians(b.latitude)
    turn = np.radians(a.longitude - b.longitude)
    cosine = np.sin(phi_a) * np.sin(phi_b) + np.cos(phi_a) * np.cos(phi_b) * np.cos(turn)
    return -float(cosine)


def draw_world(
    axes: Any,
    times_ms: Floats,
    sites: Sequence[Place],
    mark_size: float,
    shown: Frame | None = None,
) -> None:
    """Fill an axes with the map: sea, land, bands of time, borders, sites. ``shown``: of the world.

    The nearer it is looked at, the heavier its lines.
    """
    from matplotlib.collections import LineCollection, PolyCollection
    from matplotlib.patches import PathPatch, Polygon

    globe = Polygon(outline(), closed=True, facecolor=SEA, edgecolor="none", zorder=0)
    axes.add_patch(globe)
    world = whole()
    view = shown or world
    rings = [project(shore.corners, view.middle) for shore in shores(view)]
    land = PolyCollection(rings, facecolors=LAND, edgecolors="none", zorder=1)
    axes.add_collection(land)
    land.set_clip_path(globe)
    _draw_bands(axes, view, times_ms, PathPatch(_compound(rings), transform=axes.transData))
    heavier = (world.width / view.width) ** 0.5
    lines = LineCollection(rings, colors=BORDER, linewidths=0.35 * heavier, zorder=3)
    axes.add_collection(lines)
    lines.set_clip_path(globe)
    spots = view.spots(corners_of(sites))
    axes.scatter(*spots.T, s=mark_size, color=MARK, edgecolors="white", linewidths=0.9, zorder=5)
    edge = outline()
    axes.plot(*np.vstack([edge, edge[:1]]).T, color=BORDER, linewidth=0.8, zorder=4)
    axes.set(xlim=(view.west, view.east), ylim=(view.south, view.north))
    axes.set_aspect("equal")
    axes.set(xticks=[], yticks=[])
    for side in axes.spines.values():
        side.set(visible=view != world, edgecolor=BORDER, linewidth=0.8, zorder=6)


def _draw_bands(axes: Any, view: Frame, times_ms: Floats, shore_path: Any) -> None:
    lattice = grid(view)
    x, y = np.meshgrid(lattice.longitudes, lattice.latitudes)
    where = project(np.stack([x.ravel(), y.ravel()], 1), view.middle).reshape(*x.shape, 2)
    bands = axes.contourf(
        where[..., 0],
        where[..., 1],
        np.ma.masked_invalid(times_ms),
        levels=(0.0, *BANDS_MS, 1e9),
        colors=COLOURS,
        antialiased=True,
        zorder=2,
    )
    bands.set_clip_path(shore_path)


def _compound(rings: Sequence[Floats]) -> Any:
    """All land as one path, for cutting bands off at the shore."""
    from matplotlib.path import Path

    return Path.make_compound_path(*(Path(ring, closed=True) for ring in rings))


def corners_of(places: Sequence[Place]) -> Floats:
    """(longitude, latitude) rows."""
    degrees = [(place.longitude, place.latitude) for place in places]
    return np.array(degrees, dtype=float).reshape(-1, 2)


def label_sites(axes: Any, names: Sequence[tuple[str, Place]], size: float, view: Frame) -> None:
    """Names beside their sites, each where it covers no other name and no site; else none."""
    from matplotlib.font_manager import FontProperties

    renderer, font = axes.figure.canvas.get_renderer(), FontProperties(size=size)
    spots = view.spots(corners_of([place for _, place in names]))
    dots = [tuple(axes.transData.transform(spot)) for spot in spots]
    sizes = []
    for name, _ in names:
        width, height, _ = renderer.get_text_width_height_descent(name, font, False)
        sizes.append((width + 2 * NAME_PAD, height + 2 * NAME_PAD))
    points = 72 / axes.figure.dpi
    middles = places_of_names(dots, sizes, DOT_PIXELS)
    for (name, _), spot, dot, middle in zip(names, spots, dots, middles, strict=True):
        if middle is None:
            continue
        axes.annotate(
            name,
            tuple(spot),
            xytext=((middle[0] - dot[0]) * points, (middle[1] - dot[1]) * points),
            textcoords="offset points",
            ha="center",
            va="center",
            fontproperties=font,
            color=INK,
            zorder=6,
            annotation_clip=False,
            bbox={"facecolor": "white", "alpha": 0.72, "edgecolor": "none", "pad": 0.8},
        )
