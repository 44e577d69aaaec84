"""The HTML map of ``isochrone plan``: one file, no network, no library.

The picture is an SVG in the page; forty lines of script tell, under the pointer, the nearest city
of the audience and its time, or the time of the land there (the grid travels as one byte a cell).
Everything that a declaration says is escaped before it becomes part of the page, and data is
embedded as JSON that cannot end the script.
"""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from isochrone.cli.isochrones import BANDS_MS, COLOURS, LABELS, MARK
from isochrone.cli.place_land import BORDER, INK, LAND, SEA, SOFT
from isochrone.cli.plan_answer import Picture, PlanFacts
from isochrone.cli.plan_facts import Planner
from isochrone.cli.plan_map import headline, places_of, shares_by_band
from isochrone.cli.plan_page_parts import SCRIPT, STYLE
from isochrone.cli.tables import usd
from isochrone.cli.world import GRID_DEGREES, SOUTH, grid, outline, project, shores

if TYPE_CHECKING:
    from isochrone.cli.plan_ground import Floats

WIDTH = 1400
"""Of the drawing in its own units; the page scales it."""

SNAP_DEGREES = 0.2
"""Simplification of land: half a unit of the drawing."""

CITIES_MAX = 400
"""Cities of the audience that the pointer finds, the heaviest."""

FAR_MS, NO_LAND = 254, 255
"""A cell is a byte: whole milliseconds, 254 for that and more, 255 where there is no land."""


class _Canvas:
    """From Equal Earth to units of the drawing: x to the right, y down."""

    def __init__(self) -> None:
        edge = outline()
        self.west, self.north = edge[:, 0].min(), edge[:, 1].max()
        self.scale = WIDTH / (edge[:, 0].max() - self.west)
        self.height = round((self.north - edge[:, 1].min()) * self.scale)

    def points(self, projected: Floats) -> Floats:
        """Rows of (x, y) in the drawing."""
        moved = (projected - [self.west, self.north]) * [self.scale, -self.scale]
        rounded: Floats = moved.round(1)
        return rounded

    def path(self, projected: Floats) -> str:
        """A closed line as SVG writes it; empty when it has no area left."""
        points = self.points(projected)
        kept = np.ones(len(points), dtype=np.bool_)
        kept[1:] = (np.diff(points, axis=0) != 0).any(axis=1)
        if kept.sum() < 3:
            return ""
        return "M" + "L".join(f"{x:g} {y:g}" for x, y in points[kept]) + "Z"


def write_page(facts: PlanFacts, planner: Planner, times_ms: Floats, page: Path) -> None:
    """Write the page of a plan; ``times_ms``: ``isochrones.field`` of the sites shown."""
    shown = facts.what_if or facts.chosen
    canvas = _Canvas()
    data = {
        "cities": _cities(facts, planner, shown, canvas),
        "sites": _sites(shown, canvas),
        "grid": base64.b64encode(_bytes(times_ms)).decode(),
        "columns": times_ms.shape[1],
        "south": SOUTH,
        "step": GRID_DEGREES,
        "scale": canvas.scale,
        "west": canvas.west,
        "north": canvas.north,
    }
    page.write_text(
        "\n".join(
            (
                "<!doctype html>",
                '<html lang="en"><head><meta charset="utf-8">',
                '<meta name="viewport" content="width=device-width, initial-scale=1">',
                f"<title>Where {html.escape(facts.service)} would run</title>",
                f"<style>{STYLE}</style></head><body>",
                f"<h1>Where {html.escape(facts.service)} would run</h1>",
                f"<p class=head>{html.escape(headline(facts, shown))}</p>",
                _legend(),
                _drawing(canvas, times_ms, shown),
                "<div id=tip hidden></div>",
                _bars([p for p in (facts.chosen, facts.what_if, facts.usual, facts.central) if p]),
                _table(shown),
                f"<p class=note>{html.escape(_note(facts))}</p>",
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
    corners = np.array([(point.place.longitude, point.place.latitude) for point in points])
    at = canvas.points(project(corners))
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
    corners = np.array([(site.longitude, site.latitude) for site in shown.sites]).reshape(-1, 2)
    at = canvas.points(project(corners))
    return [
        [f"{site.city}, {site.country}", *at[n].tolist(), _price(site.price_microusd_per_hour)]
        for n, site in enumerate(shown.sites)
    ]


def _price(price: int | None) -> str:
    return "no price known" if price is None else f"{usd(price)} an hour"


def _drawing(canvas: _Canvas, times_ms: Floats, shown: Picture) -> str:
    lines = [canvas.path(project(shore.corners)) for shore in shores(SNAP_DEGREES)]
    land = "".join(lines)
    globe = canvas.path(outline())
    marks = "".join(
        f'<circle class=site cx="{x:g}" cy="{y:g}" r="6"/>' for _, x, y, _ in _sites(shown, canvas)
    )
    return (
        f'<svg id=map viewBox="0 0 {WIDTH} {canvas.height}" role="img" '
        f'aria-label="World map of round trips to the nearest site">'
        f'<defs><clipPath id=globe><path d="{globe}"/></clipPath>'
        f'<clipPath id=land><path id=shores d="{land}" clip-rule="evenodd"/></clipPath></defs>'
        f'<path d="{globe}" fill="{SEA}"/>'
        f'<g clip-path="url(#globe)"><use href="#shores" fill="{LAND}" fill-rule="evenodd"/>'
        f'<g clip-path="url(#land)">{_bands(canvas, times_ms)}</g>'
        f'<use href="#shores" fill="none" stroke="{BORDER}" stroke-width="0.6"/></g>'
        f"<g id=cities></g>{marks}"
        f'<path d="{globe}" fill="none" stroke="{BORDER}"/></svg>'
    )


def _bands(canvas: _Canvas, times_ms: Floats) -> str:
    """The bands of time as filled outlines, nearest first."""
    from contourpy import FillType, contour_generator

    lattice = grid()
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
        shape = "".join(canvas.path(project(ring)) for ring in rings)
        parts.append(f'<path d="{shape}" fill="{colour}" fill-rule="evenodd"/>')
    return "".join(parts)


def _legend() -> str:
    bands = "".join(
        f'<span><i style="background:{colour}"></i>{html.escape(label)}</span>'
        for colour, label in zip(COLOURS, LABELS, strict=True)
    )
    site = f'<span><i class=dot style="background:{MARK}"></i>site</span>'
    return f"<p class=legend>{site}{bands}<span>round trip to the nearest site</span></p>"


def _bars(pictures: Sequence[Picture]) -> str:
    shades = (*COLOURS[:3], LAND)
    rows = []
    for picture in pictures:
        parts = "".join(
            f'<i style="width:{share:.2%};background:{colour};'
            f'color:{"white" if colour in COLOURS[:2] else INK}">'
            f"{f'{share:.0%}' if share >= 0.04 else ''}</i>"
            for share, colour in zip(shares_by_band(picture), shades, strict=True)
        )
        count = f"{len(picture.sites)} site{'' if len(picture.sites) == 1 else 's'}"
        rows.append(
            f"<tr><th>{html.escape(picture.name)}</th><td>{count}</td>"
            f"<td class=bar>{parts}</td><td>{_price(picture.price_microusd_per_hour)}</td></tr>"
        )
    return (
        "<h2>Share of the audience by round trip</h2>"
        f"<table class=bars>{''.join(rows)}</table>"
        f'<p class=note style="color:{SOFT}">Bands as on the map; the last is above 50 ms.</p>'
    )


def _table(shown: Picture) -> str:
    rows = "".join(
        f"<tr><td>{html.escape(site.city)}, {html.escape(site.country)}</td>"
        f"<td>{html.escape(site.provider)}</td><td>{_price(site.price_microusd_per_hour)}</td>"
        f"<td>{site.serves:.1%}</td></tr>"
        for site in sorted(shown.sites, key=lambda site: (-site.serves, site.metro))
    )
    head = "<tr><th>Site</th><th>Provider</th><th>Price</th><th>Serves</th></tr>"
    return f"<h2>Sites</h2><table>{head}{rows}</table>"


def _note(facts: PlanFacts) -> str:
    return (
        f"Round trips include {facts.access_ms:g} ms of access: {facts.model_error} "
        f"{facts.prices} Borders: Natural Earth. Equal Earth projection."
    )
