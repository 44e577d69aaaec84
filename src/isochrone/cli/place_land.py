"""Land and borders on the map of ``isochrone place``, with countries' codes where there is room."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from isochrone.atlas.borders import Bounds, outlines

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

SEA, LAND, HOME, BORDER, INK, SOFT = (
    "#dfe9ef",
    "#f7f4ec",
    "#e6ecd8",
    "#a9a396",
    "#22303a",
    "#5d6b75",
)

LABEL_SHARE = 0.004
"""A country is named where it fills at least this share of the map."""

NO_LABEL = (0.0, 0.0, 0.0)


def draw_land(axes: Any, crop: Bounds, country: str) -> None:
    """Fill the land in a box of degrees, ``country`` in a colour of its own, and name it."""
    widest: dict[str, tuple[float, float, float]] = {}
    for ring in outlines(crop):
        colour = HOME if ring.country == country else LAND
        axes.fill(*ring.corners.T, facecolor=colour, edgecolor=BORDER, linewidth=0.7, zorder=1)
        widest[ring.country] = max(widest.get(ring.country, NO_LABEL), _middle(ring.corners, crop))
    whole = (crop.north - crop.south) * (crop.east - crop.west)
    for code, (area, east, north) in widest.items():
        if area >= LABEL_SHARE * whole:
            axes.text(
                *(east, north, code),
                color=BORDER,
                fontsize=10,
                weight="bold",
                ha="center",
                va="center",
                zorder=2,
            )


def _middle(corners: Floats, crop: Bounds) -> tuple[float, float, float]:
    """(area, longitude, latitude of the centroid) of what the map shows of a ring, in degrees."""
    import numpy as np
    from matplotlib.path import Path as Line
    from matplotlib.transforms import Bbox

    box = Bbox.from_extents(crop.west, crop.south, crop.east, crop.north)
    x, y = np.asarray(Line(corners, closed=True).clip_to_bbox(box).vertices, dtype=float).T
    if len(x) < 3:
        return NO_LABEL
    x0, y0 = x[0], y[0]  # near the origin the sums keep their digits
    x, y = x - x0, y - y0
    cross = x[:-1] * y[1:] - x[1:] * y[:-1]
    area = cross.sum() / 2
    if area == 0:
        return NO_LABEL
    east = ((x[:-1] + x[1:]) * cross).sum() / (6 * area)
    north = ((y[:-1] + y[1:]) * cross).sum() / (6 * area)
    return abs(float(area)), float(east + x0), float(north + y0)
