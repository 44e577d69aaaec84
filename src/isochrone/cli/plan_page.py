"""The HTML map of ``isochrone plan``: one file, no network, no library.

The picture is an SVG in the page; some script tells, under the pointer, the nearest city of the
audience and its time, or the time of the land there (the grid travels as one byte a cell).
Everything that a declaration says is escaped before it becomes part of the page, and data is
embedded as JSON that cannot end the script. Lines are written as steps of whole units from corner
to corner, a third of the bytes of places with decimals.
"""

from __future__ import annotations

import base64
import html
import json
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from isochrone.cli.isochrones import BANDS_MS, COLOURS, corners_of
from isochrone.cli.place_land import BORDER, LAND, SEA
from isochrone.cli.place_names import Point, places_of_names
from isochrone.cli.plan_answer import Picture, PlanFacts
from isochrone.cli.plan_facts import Planner
from isochrone.cli.plan_map import LABELLED_MAX, headline, note, places_of
from isochrone.cli.plan_page_parts import SCRIPT, STYLE
from isochrone.cli.plan_page_tables import bars, countries, further, legend, price_words, sites
from isochrone.cli.projection import Frame, outline, project
from isochrone.cli.world import grid, grid_degrees, shores

if TYPE_CHECKING:
    from isochrone.cli.plan_ground import Floats

WIDTH = 14_000
"""Of the drawing in its own units, ten to a pixel of a wide window; the page scales it."""

SNAP_DEGREES = 0.2
"""Simplification of the whole world's land: eight units of the drawing."""

ALLOWED = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
"""What a browser lets the page do: show itself. Whatever else came to stand in it loads nothing."""

CITIES_MAX = 400
"""Cities of the audience that the pointer finds, the heaviest."""

FAR_MS, NO_LAND = 254, 255
"""A cell is a byte: whole milliseconds, 254 for that and more, 255 where there is no land."""

NAME_HEIGHT, LETTER_WIDTH, SITE_RADIUS = 150.0, 76.0, 95.0
"""Of a site's name, of one letter of it in the mean, and what a site keeps free; in units."""


class _Canvas:
    """From Equal Earth to units of the drawing: x to the right, y down."""

    def __init__(self, shown: Frame) -> None:
        self.shown = shown
        self.scale = WIDTH / shown.width
        self.height = round(shown.height * self.scale)

    def points(self, projected: Floats) -> Floats:
        """Rows of (x, y) in the drawing, whole units."""
        moved = (projected - [self.shown.west, self.shown.north]) * [self.scale, -self.scale]
        rounded: Floats = moved.round()
        return rounded

    def line(self, corners: Floats) -> str:
        """A closed line of degrees as SVG writes it."""
        return self.path(project(corners, self.shown.middle))

    def path(self, projected: Floats) -> str:
        """A closed line as SVG writes it; empty when it has no area left, or is out of sight."""
        if not self.shown.touches(projected):
            return ""
        points = self.points(projected).astype(np.int64)
        kept = np.ones(len(points), dtype=np.bool_)
        kept[1:] = (np.diff(points, axis=0) != 0).any(axis=1)
        if kept.sum() < 3:
            return ""
        corners = points[kept]
        steps = np.diff(corners, axis=0).tolist()
        first = f"M{corners[0, 0]} {corners[0, 1]}l"
        return first + " ".join(f"{x} {y}" if y >= 0 else f"{x}{y}" for x, y in steps) + "z"


def write_page(
    facts: PlanFacts, planner: Planner, times_ms: Floats, view: Frame, page: Path
) -> None:
    """Write the page of a plan; ``times_ms``: ``isochrones.field`` of the sites shown, in view."""
    shown = facts.what_if or facts.chosen
    canvas, lattice = _Canvas(view), grid(view)
    data = {
        "cities": _cities(facts, planner, shown, canvas),
        "sites": _sites(shown, canvas),
        "grid": base64.b64encode(_bytes(times_ms)).decode(),
        "columns": times_ms.shape[1],
        "edge": [float(lattice.longitudes[0]), float(lattice.latitudes[0])],
        "step": grid_degrees(view),
        "scale": canvas.scale,
        "west": view.west,
        "north": view.north,
        "middle": view.middle,
    }
    page.write_text(
        "\n".join(
            (
                "<!doctype html>",
                '<html lang="en"><head><meta charset="utf-8">',
                f'<meta http-equiv="Content-Security-Policy" content="{ALLOWED}">',
                '<meta name="viewport" content="width=device-width, initial-scale=1">',
                f"<title>Where {html.escape(facts.service)} would run</title>",
                f"<style>{STYLE}</style></head><body>",
                f"<h1>Where {html.escape(facts.service)} would run</h1>",
                f"<p class=head>{html.escape(headline(facts, shown))}</p>",
                legend(),
                _drawing(canvas, times_ms, shown),
                "<div id=tip hidden></div>",
                bars([p for p in (facts.chosen, facts.what_if, facts.usual, facts.central) if p]),
                sites(shown),
                countries(shown),
                further(facts.further),
                f"<p class=note>{html.escape(note(facts, view))} {html.escape(facts.prices)}</p>",
                f"<script>const DATA = {_embedded(data)};\n{SCRIPT}</script>",
                "</body></html>\n",
            )
        ),
        encoding="utf-8",
    )


def _embedded(data: object) -> str:
    """JSON inside a script: no character of it can end the script."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _bytes(times_ms: Floats) -> bytes:
    cells = np.where(np.isnan(times_ms), NO_LAND, np.minimum(np.ceil(times_ms), FAR_MS))
    return cells.astype(np.uint8).tobytes()


def _cities(facts: PlanFacts, planner: Planner, shown: Picture, canvas: _Canvas) -> list[list[Any]]:
    """The heaviest cities: name, x, y, ms, the site that is nearest by time, share in percent."""
    from isochrone.atlas.cities import city

    points = planner.audience[:CITIES_MAX]
    places = places_of(shown)
    times = planner.round_trips([point.place for point in points], places) + facts.access_ms
    corners = corners_of([point.place for point in points])
    at = canvas.points(canvas.shown.spots(corners)).astype(np.int64)
    return [
        [
            f"{city(point.place.metro).name}, {point.place.country}",
            *at[n].tolist(),
            round(float(times[n].min()), 1),
            shown.sites[int(times[n].argmin())].city,
            round(100 * point.weight, 2),
        ]
        for n, point in enumerate(points)
    ]


def _sites(shown: Picture, canvas: _Canvas) -> list[list[Any]]:
    return [
        [f"{site.city}, {site.country}", x, y, price_words(site.price_microusd_per_hour)]
        for site, (x, y) in zip(shown.sites, _spots(shown, canvas), strict=True)
    ]


def _spots(shown: Picture, canvas: _Canvas) -> list[Point]:
    """Where the sites are in the drawing."""
    corners = corners_of(places_of(shown))
    spots: list[Point] = canvas.points(canvas.shown.spots(corners)).astype(np.int64).tolist()
    return spots


def _drawing(canvas: _Canvas, times_ms: Floats, shown: Picture) -> str:
    land = "".join(canvas.line(shore.corners) for shore in shores(canvas.shown, SNAP_DEGREES))
    globe = canvas.path(outline())
    marks = "".join(f'<circle class=site cx="{x}" cy="{y}"/>' for x, y in _spots(shown, canvas))
    return (
        f'<svg id=map viewBox="0 0 {WIDTH} {canvas.height}" role="img" '
        f'aria-label="Map of round trips to the nearest site">'
        f'<defs><clipPath id=globe><path d="{globe}"/></clipPath>'
        f'<clipPath id=land><path id=shores d="{land}" clip-rule="evenodd"/></clipPath></defs>'
        f'<path d="{globe}" fill="{SEA}"/>'
        f'<g clip-path="url(#globe)"><use href="#shores" fill="{LAND}" fill-rule="evenodd"/>'
        f'<g clip-path="url(#land)">{_bands(canvas, times_ms)}</g>'
        f'<use href="#shores" fill="none" stroke="{BORDER}" stroke-width="7"/></g>'
        f"<g id=cities></g>{marks}{_names(canvas, shown)}"
        f'<path d="{globe}" fill="none" stroke="{BORDER}" stroke-width="10"/></svg>'
    )


def _names(canvas: _Canvas, shown: Picture) -> str:
    """Names beside sites, where there is room; those that serve most first."""
    if len(shown.sites) > LABELLED_MAX:
        return ""
    order = sorted(
        zip(shown.sites, _spots(shown, canvas), strict=True),
        key=lambda pair: (-pair[0].serves, pair[0].metro),
    )
    sizes = [(LETTER_WIDTH * len(site.city), NAME_HEIGHT) for site, _ in order]
    middles = places_of_names([spot for _, spot in order], sizes, SITE_RADIUS)
    return "".join(
        _name(site.city, spot, middle, width / 2)
        for (site, spot), middle, (width, _) in zip(order, middles, sizes, strict=True)
        if middle is not None
    )


def _name(name: str, dot: Point, middle: Point, half: float) -> str:
    """Set from its dot outwards, since the width of its letters is only guessed."""
    side = (middle[0] > dot[0]) - (middle[0] < dot[0])
    anchor = ("end", "middle", "start")[side + 1]
    return (
        f'<text class=name x="{middle[0] - side * half:.0f}" y="{middle[1]:.0f}" '
        f"text-anchor={anchor}>{html.escape(name)}</text>"
    )


def _bands(canvas: _Canvas, times_ms: Floats) -> str:
    """The bands of time as filled outlines, nearest first."""
    from contourpy import FillType, contour_generator

    lattice = grid(canvas.shown)
    x, y = np.meshgrid(lattice.longitudes, lattice.latitudes)
    filled = contour_generator(x, y, np.ma.masked_invalid(times_ms), fill_type=FillType.OuterOffset)
    parts = []
    for low, high, colour in zip((0.0, *BANDS_MS), (*BANDS_MS, 1e9), COLOURS, strict=True):
        found: Any = filled.filled(low, high)  # outlines, and where their holes begin
        rings = (
            points[start:end]
            for points, cuts in zip(*found, strict=True)
            for start, end in pairwise(cuts)
        )
        shape = "".join(canvas.line(ring) for ring in rings)
        parts.append(f'<path d="{shape}" fill="{colour}" fill-rule="evenodd"/>')
    return "".join(parts)
