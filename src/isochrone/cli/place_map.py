"""The map of ``isochrone place``: discs of round trips over land and borders, as a PNG.

Drawn in degrees, stretched so that shapes are true in the middle; discs are great-circle circles.
The picture is cropped to what decides: the claimed place and the smallest disc of each of the
accounts that count; larger discs run out of it. Needs matplotlib (the extra ``map``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from isochrone.atlas.borders import Bounds
from isochrone.atlas.provable import moved
from isochrone.cli.place_facts import Disc, PlaceFacts
from isochrone.cli.place_land import BORDER, INK, SEA, SOFT, draw_land
from isochrone.cli.place_text import PROVES, describe
from isochrone.cli.tables import count, short
from isochrone.rules.location import ACCOUNTS_MIN
from isochrone.schema.errors import InvalidInput
from isochrone.schema.place import Place

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

COLOURS = ("#0b6e99", "#c4501b", "#5b4b9a", "#1f7a4d", "#a3195b", "#8a6d00", "#37516b", "#7a3b1d")
"""Of discs, smallest first: dark enough on land and sea, told apart in grey by their labels too."""

CIRCLE_POINTS = 181
MARGIN = 0.18
"""Of the cropped region on each side."""

SPAN_MIN_DEGREES = 4.0
"""Some 450 km: a smaller region shows no neighbours, and the map's simplification."""

DISCS_MAX = 8
"""Drawn and listed; the table has all."""

INCHES, DPI = 9.0, 160
LEFT, WIDTH = 0.03, 0.94
"""Of the picture's width: where the map begins and what it takes."""

ABOVE_INCHES, BELOW_INCHES = 0.78, 0.98
"""Room for the title, and for what it means."""


def require_matplotlib(image: Path) -> None:
    """Raises InvalidInput with the command that installs it, or when the file cannot be a PNG."""
    if image.suffix.lower() != ".png":
        raise InvalidInput(f"{image} is no PNG file.", fix="Name one that ends in .png.")
    if not image.absolute().parent.is_dir():
        raise InvalidInput(f"There is no folder {image.parent}.", fix="Make it, or name another.")
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise InvalidInput(
            "Drawing a map needs matplotlib.", fix='Install it: pip install "isochrone[map]".'
        ) from error


def draw(facts: PlaceFacts, image: Path) -> None:
    """Write the map of a node's evidence."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    facts = around(facts)
    shown = _shown(facts)
    crop = region(facts)
    stretch = 1 / math.cos(math.radians((crop.south + crop.north) / 2))
    shape = (crop.north - crop.south) * stretch / (crop.east - crop.west)
    height = INCHES * WIDTH * shape + ABOVE_INCHES + BELOW_INCHES
    figure = Figure(figsize=(INCHES, height), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    box = (LEFT, BELOW_INCHES / height, WIDTH, INCHES * WIDTH * shape / height)
    axes = figure.add_axes(box)
    draw_land(axes, crop, facts.view.place.country)
    for disc, colour in reversed(list(zip(shown, COLOURS, strict=False))):
        _disc(axes, disc, colour)
    for name, place in _settlers(facts):
        _mark(axes, place, "none", SOFT, f"would settle it: {name}")
    _claim(axes, facts.view.place)
    axes.set(xlim=(crop.west, crop.east), ylim=(crop.south, crop.north), xticks=[], yticks=[])
    axes.set_aspect(stretch)
    axes.set_facecolor(SEA)
    for side in axes.spines.values():
        side.set_edgecolor(BORDER)
    _scale(axes, crop)
    _words(figure, axes, facts)
    figure.savefig(image)


def around(facts: PlaceFacts) -> PlaceFacts:
    """The same with every longitude within 180° of the claimed place's, so that nothing is cut."""
    centre = facts.view.place.longitude

    def near(place: Place) -> Place:
        turned = centre + (place.longitude - centre + 180) % 360 - 180
        return msgspec.structs.replace(place, longitude=turned)

    replace = msgspec.structs.replace
    return replace(
        facts,
        discs=tuple(
            replace(disc, bound=replace(disc.bound, place=near(disc.bound.place)))
            for disc in facts.discs
        ),
        jurisdictions=tuple(
            row
            if (found := row.settling) is None
            else replace(
                row,
                settling=replace(
                    found,
                    candidate=replace(found.candidate, place=near(found.candidate.place)),
                ),
            )
            for row in facts.jurisdictions
        ),
    )


def region(facts: PlaceFacts) -> Bounds:
    """The part of the world to draw; beyond ±180° where ``around`` put something there."""
    rings = [circle(disc.bound.place, disc.radius_km) for disc in _deciding(_shown(facts))]
    corners = [facts.view.place, *(disc.bound.place for disc in _deciding(_shown(facts)))]
    east = [place.longitude for place in corners] + [x for ring in rings for x in ring[:, 0]]
    north = [place.latitude for place in corners] + [y for ring in rings for y in ring[:, 1]]
    middle = (min(north) + max(north)) / 2, (min(east) + max(east)) / 2
    tall = max(max(north) - min(north), SPAN_MIN_DEGREES) * (0.5 + MARGIN)
    stretch = 1 / math.cos(math.radians(min(75.0, abs(middle[0]))))
    wide = max(max(east) - min(east), SPAN_MIN_DEGREES * stretch) * (0.5 + MARGIN)
    tall, wide = max(tall, 0.62 * wide / stretch), max(wide, 0.9 * tall * stretch)
    return Bounds(
        south=max(-85.0, middle[0] - tall),
        north=min(85.0, middle[0] + tall),
        west=middle[1] - min(180.0, wide),
        east=middle[1] + min(180.0, wide),
    )


def circle(centre: Place, km: float) -> Floats:
    """(longitude, latitude) rows of the great-circle circle, without jumps at the antimeridian."""
    import numpy as np

    points = [
        moved(centre, km, 2 * math.pi * step / (CIRCLE_POINTS - 1)) for step in range(CIRCLE_POINTS)
    ]
    rows = np.array([(point.longitude, point.latitude) for point in points])
    rows[:, 0] = np.unwrap(rows[:, 0], period=360)
    rows[:, 0] += 360 * round((centre.longitude - rows[:, 0].mean()) / 360)
    return rows


def _deciding(discs: Sequence[Disc]) -> list[Disc]:
    """The smallest disc of each of the first accounts that count, else the smallest of all."""
    best: dict[str, Disc] = {}
    for disc in discs:
        if disc.counts and len(best) < ACCOUNTS_MIN:
            best.setdefault(disc.bound.account, disc)
    return list(best.values()) or list(discs[:1])


def _shown(facts: PlaceFacts) -> list[Disc]:
    return [disc for disc in facts.discs if disc.bounded][:DISCS_MAX]


def _settlers(facts: PlaceFacts) -> list[tuple[str, Place]]:
    """Vantages that exist and would settle a jurisdiction, by name; each once."""
    found = {
        settling.candidate.name: settling.candidate.place
        for settling in (row.settling for row in facts.jurisdictions)
        if settling is not None and settling.candidate.account
    }
    return [(f"{short(name)}  {place.metro}", place) for name, place in sorted(found.items())]


def _disc(axes: Any, disc: Disc, colour: str) -> None:
    ring = circle(disc.bound.place, disc.radius_km)
    style = "-" if disc.counts else (0, (4, 3))
    axes.fill(*ring.T, facecolor=colour, alpha=0.10, zorder=3)
    axes.plot(
        *ring.T,
        color=colour,
        linewidth=1.8,
        linestyle=style,
        zorder=4,
        label=(
            f"{short(disc.bound.vantage)}  {disc.bound.place.metro}  "
            f"{disc.bound.rtt_us / 1000:.3f} ms, {disc.radius_km:.0f} km"
            f"{'' if disc.counts else '  (its own)'}"
        ),
    )
    _mark(axes, disc.bound.place, colour, "white", "_vantage")


def _mark(axes: Any, place: Place, colour: str, edge: str, label: str) -> None:
    axes.plot(
        place.longitude,
        place.latitude,
        marker="^",
        markersize=8,
        markerfacecolor=colour,
        markeredgecolor=edge,
        markeredgewidth=1.2,
        linestyle="",
        zorder=6,
        label=label,
    )


def _claim(axes: Any, place: Place) -> None:
    axes.plot(
        place.longitude,
        place.latitude,
        marker="*",
        markersize=17,
        color=INK,
        markeredgecolor="white",
        markeredgewidth=1.1,
        linestyle="",
        zorder=7,
        label=f"claimed: {place.metro}, {place.country}",
    )


def _scale(axes: Any, crop: Bounds) -> None:
    """A bar of round kilometres, bottom left."""
    height = crop.north - crop.south
    latitude = crop.south + 0.045 * height
    degree_km = 111.2 * math.cos(math.radians(latitude))
    room_km = (crop.east - crop.west) * degree_km * 0.22
    power = 10 ** math.floor(math.log10(room_km))
    km = max(step * power for step in (1, 2, 5) if step * power <= room_km)
    west = crop.west + 0.03 * (crop.east - crop.west)
    ends = (west, west + km / degree_km)
    axes.plot(ends, (latitude, latitude), color=INK, linewidth=2.4, solid_capstyle="butt", zorder=8)
    axes.text(west, latitude + 0.012 * height, f"{km:g} km", color=INK, fontsize=8.5, zorder=8)


def _words(figure: Any, axes: Any, facts: PlaceFacts) -> None:
    from matplotlib.lines import Line2D

    height = figure.get_figheight()
    view = facts.view
    figure.text(
        0.03,
        1 - 0.32 / height,
        f"Where {short(view.node)} answers",
        fontsize=16,
        weight="bold",
        color=INK,
        va="center",
    )
    figure.text(0.03, 1 - 0.58 / height, PROVES, fontsize=9.5, color=SOFT, va="center")
    for row, jurisdiction in enumerate(facts.jurisdictions):
        figure.text(
            0.03,
            (0.72 - 0.26 * row) / height,
            describe(jurisdiction),
            fontsize=9.5,
            color=INK,
            va="center",
        )
    left_out = len(facts.discs) - len(_shown(facts))
    more = f" Left out: {count(left_out, 'larger disc')}." if left_out > 0 else ""
    figure.text(
        0.03,
        0.18 / height,
        f"Borders: Natural Earth. Light bounds each disc: 149.9 km per ms of round trip.{more}",
        fontsize=7.5,
        color=SOFT,
        va="center",
    )
    handles, labels = axes.get_legend_handles_labels()
    vantage = Line2D([], [], marker="^", color=SOFT, linestyle="", markersize=7)
    rows = list(zip(handles, labels, strict=True))
    drawn, rest = rows[: len(_shown(facts))], rows[len(_shown(facts)) :]
    title = [(vantage, "vantages, and their discs:")] if drawn else []
    rows = [rest[-1], *title, *reversed(drawn), *rest[:-1]]
    axes.legend(
        *zip(*rows, strict=True),
        loc="upper right",
        fontsize=8.5,
        framealpha=0.92,
        edgecolor=BORDER,
        labelcolor=INK,
        borderpad=0.8,
    ).set_zorder(9)
