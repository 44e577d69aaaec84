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
from isochrone.cli.world import Grid, grid, outline, project, shores
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

NEAREST = 24
"""Sites looked at for each block of the grid: the nearest by distance to its middle. By time the
nearest is among them, unless cables run the other way round the world."""

BLOCK_DEGREES = 15


def field(sites: Sequence[Place], round_trips: RoundTrips, access_ms: float) -> Floats:
    """The round trip from every cell of ``world.grid`` to the nearest site, ms; NaN at sea."""
    lattice = grid()
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


def draw_world(axes: Any, times_ms: Floats, sites: Sequence[Place], mark_size: float) -> None:
    """Fill an axes with the map: sea, land, bands of time, borders, sites."""
    from matplotlib.collections import LineCollection, PolyCollection
    from matplotlib.patches import PathPatch, Polygon

    globe = Polygon(outline(), closed=True, facecolor=SEA, edgecolor="none", zorder=0)
    axes.add_patch(globe)
    rings = [project(shore.corners) for shore in shores()]
    land = PolyCollection(rings, facecolors=LAND, edgecolors="none", zorder=1)
    axes.add_collection(land)
    land.set_clip_path(globe)
    lattice = grid()
    x, y = np.meshgrid(lattice.longitudes, lattice.latitudes)
    where = project(np.stack([x.ravel(), y.ravel()], 1)).reshape(*x.shape, 2)
    shore_path = PathPatch(_compound(rings), transform=axes.transData)
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
    lines = LineCollection(rings, colors=BORDER, linewidths=0.35, zorder=3)
    axes.add_collection(lines)
    lines.set_clip_path(globe)
    spots = project(np.array([(site.longitude, site.latitude) for site in sites]).reshape(-1, 2))
    axes.scatter(*spots.T, s=mark_size, color=MARK, edgecolors="white", linewidths=0.9, zorder=5)
    edge = outline()
    axes.plot(*np.vstack([edge, edge[:1]]).T, color=BORDER, linewidth=0.8, zorder=4)
    axes.set(xlim=(edge[:, 0].min(), edge[:, 0].max()), ylim=(edge[:, 1].min(), edge[:, 1].max()))
    axes.set_aspect("equal")
    axes.axis("off")


def _compound(rings: Sequence[Floats]) -> Any:
    """All land as one path, for cutting bands off at the shore."""
    from matplotlib.path import Path

    return Path.make_compound_path(*(Path(ring, closed=True) for ring in rings))


def label_sites(axes: Any, names: Sequence[tuple[str, Place]], size: float) -> None:
    """Names beside their sites, each where it covers no other name and no site; else none."""
    renderer = axes.figure.canvas.get_renderer()
    spots = [project(np.array([[p.longitude, p.latitude]]))[0] for _, p in names]
    pixels = [tuple(axes.transData.transform(spot)) for spot in spots]
    taken = [(x - 5, y - 5, x + 5, y + 5) for x, y in pixels]
    offsets = ((7, 0), (-7, 0), (0, 8), (0, -8), (6, 7), (6, -7), (-6, 7), (-6, -7))
    for (name, _), spot in zip(names, spots, strict=True):
        for across, up in offsets:
            text = axes.annotate(
                name,
                tuple(spot),
                xytext=(across, up),
                textcoords="offset points",
                ha="left" if across > 0 else "right" if across < 0 else "center",
                va="bottom" if up > 0 else "top" if up < 0 else "center",
                fontsize=size,
                color=INK,
                zorder=6,
                annotation_clip=False,
                bbox={"facecolor": "white", "alpha": 0.72, "edgecolor": "none", "pad": 0.8},
            )
            box = text.get_window_extent(renderer).extents
            if not any(_overlap(box, other) for other in taken):
                taken.append(tuple(box))
                break
            text.remove()


def _overlap(a: Sequence[float], b: Sequence[float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
