"""The pictures of ``docs/evidence.md``: two world maps, a curve, a chart of prices.

Maps are the planner's own (``cli.isochrones``), without access delay. Needs matplotlib.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from isochrone.atlas.roundtrips import matrix
from isochrone.atlas.sites import central_regions
from isochrone.cli.isochrones import COLOURS, LABELS, MARK, draw_world, field
from isochrone.cli.place_land import BORDER, INK, SOFT
from isochrone.schema.place import Place

Facts = Mapping[str, Any]

DPI = 110
COLOURS_KEPT = 96
"""Colours of a saved picture: it shrinks to a third, and nobody sees it."""

BOUNDS = {"10": COLOURS[0], "25": COLOURS[1], "50": COLOURS[2]}
INDEPENDENT = "#e4572e"
NUDGE = {"10": 0, "25": -4, "50": 4}
"""Points by which the curves' names are moved apart: the upper two end at nearly everybody."""


def draw(reach: Facts, folder: Path) -> None:
    """All pictures into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    central = [region.place for region in central_regions()]
    chosen = [
        Place(latitude=latitude, longitude=longitude, country=country, metro=metro)
        for metro, latitude, longitude, country in reach["sites"]
    ]
    title = "Twenty central GPU regions"
    world(central, title, _shares(reach, "central20"), 40, folder / "central20.png")
    title = "Two hundred chosen sites"
    world(chosen, title, _shares(reach, "200"), 11, folder / "chosen200.png")
    curve(reach, folder / "curve.png")
    prices(reach, folder / "prices.png")


def _shares(reach: Facts, key: str) -> str:
    told = ", ".join(
        f"{100 * reach[f'share_within_{ms}ms'][key]:.1f} % within {ms} ms" for ms in (10, 25, 50)
    )
    return f"People by round trip to the nearest site, no access delay: {told}"


def world(sites: Sequence[Place], title: str, subtitle: str, mark_size: float, image: Path) -> None:
    """One map with its legend."""
    figure = Figure(figsize=(11, 6.15), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.01, 0.085, 0.98, 0.775))
    draw_world(axes, field(sites, matrix, 0.0), sites, mark_size)
    figure.text(0.02, 0.945, title, fontsize=17, weight="bold", color=INK, va="center")
    figure.text(0.02, 0.888, subtitle, fontsize=10.5, color=INK, va="center")
    site = Line2D([], [], marker="o", color=MARK, markeredgecolor="white", linestyle="")
    bands = [Patch(facecolor=c, edgecolor=BORDER, linewidth=0.4) for c in COLOURS]
    figure.legend(
        [site, *bands],
        ["site", *LABELS],
        loc="lower center",
        ncols=6,
        frameon=False,
        fontsize=9.5,
        labelcolor=INK,
        bbox_to_anchor=(0.5, 0.022),
    )
    figure.text(
        0.02,
        0.015,
        "Measured and modelled round trips. Borders: Natural Earth. Equal Earth projection.",
        fontsize=7,
        color=SOFT,
    )
    _save(figure, image)


def curve(reach: Facts, image: Path) -> None:
    """People within reach over the number of chosen sites; the central set as a dashed line."""
    figure = Figure(figsize=(9, 5), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.085, 0.115, 0.885, 0.745))
    counts = [row[0] for row in reach["curve"]]
    for column, (bound, colour) in enumerate(BOUNDS.items(), start=1):
        shares = [100 * row[column] for row in reach["curve"]]
        axes.plot(counts, shares, color=colour, linewidth=2.4, marker="o", markersize=3.5)
        axes.annotate(
            f"{bound} ms",
            (counts[-1], shares[-1]),
            xytext=(7, NUDGE[bound]),
            color=colour,
            textcoords="offset points",
            va="center",
            fontsize=10,
            weight="bold",
        )
        central = 100 * reach[f"share_within_{bound}ms"]["central20"]
        axes.plot(20, central, marker="D", color=colour, markersize=8, markeredgecolor="white")
    axes.plot([], [], marker="D", color=SOFT, linestyle="", label="20 central GPU regions")
    axes.plot([], [], marker="o", color=SOFT, markersize=3.5, label="chosen sites")
    axes.legend(loc="upper left", frameon=False, labelcolor=INK, fontsize=9.5)
    axes.set(xscale="log", xlim=(1, counts[-1] * 1.45), ylim=(0, 101))
    ticks = [count for count in (1, 5, 20, 50, 200, 1000) if count <= counts[-1]]
    axes.set_xticks(ticks, [f"{count:,}" for count in ticks])
    axes.minorticks_off()
    axes.set_xlabel("sites", color=INK)
    axes.set_ylabel("% of people", color=INK)
    axes.grid(color="#e7ebee", linewidth=0.8)
    axes.set_axisbelow(True)
    _frame(axes)
    figure.text(
        0.02,
        0.945,
        "People within a round trip of the nearest site",
        fontsize=15,
        weight="bold",
        color=INK,
        va="center",
    )
    figure.text(
        0.02, 0.892, "Server to server, no access delay", fontsize=9.5, color=SOFT, va="center"
    )
    _save(figure, image)


def prices(reach: Facts, image: Path) -> None:
    """Hyperscaler, independent and marketplace medians by GPU, dearest first."""
    told = reach["prices"]
    names = sorted(told, key=lambda gpu: told[gpu]["hyperscaler"]["usd_per_hour"])
    figure = Figure(figsize=(9, 0.9 + 0.52 * len(names)), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    height = figure.get_figheight()
    axes = figure.add_axes((0.09, 0.5 / height, 0.88, 1 - 1.45 / height))
    marks = (
        ("hyperscaler", COLOURS[0], "o"),
        ("independent", INDEPENDENT, "o"),
        ("marketplace", INDEPENDENT, "|"),
    )
    for row, gpu in enumerate(names):
        ends = [told[gpu][kind]["usd_per_hour"] for kind in ("independent", "hyperscaler")]
        axes.plot(ends, [row, row], color="#c9d1d6", linewidth=3, zorder=1)
        for kind, colour, marker in marks:
            if kind in told[gpu]:
                axes.plot(
                    told[gpu][kind]["usd_per_hour"],
                    row,
                    marker=marker,
                    color=colour,
                    markersize=11 if marker == "|" else 9,
                    markeredgewidth=2,
                    zorder=2,
                )
        ratio = reach["cost_ratio_hyperscaler"][gpu]
        axes.annotate(
            f"{ratio:.1f}×",
            (ends[1], row),
            xytext=(11, 0),
            color=INK,
            textcoords="offset points",
            va="center",
            fontsize=9.5,
        )
    axes.set_yticks(range(len(names)), names, color=INK)
    axes.set(ylim=(-0.6, len(names) - 0.4), xlim=(0, None))
    axes.margins(x=0.1)
    axes.set_xlabel("US dollars per GPU-hour, on demand", color=INK)
    axes.grid(axis="x", color="#e7ebee", linewidth=0.8)
    axes.set_axisbelow(True)
    _frame(axes)
    lines = [
        Line2D(
            [],
            [],
            marker=marker,
            color=colour,
            linestyle="",
            markeredgewidth=2,
            label=f"median {kind}" if kind != "marketplace" else "marketplace (cheapest offers)",
        )
        for kind, colour, marker in marks
    ]
    axes.legend(handles=lines, loc="lower right", frameon=False, labelcolor=INK, fontsize=9)
    figure.text(
        0.02,
        1 - 0.32 / height,
        "What a GPU costs",
        fontsize=15,
        weight="bold",
        color=INK,
        va="center",
    )
    figure.text(
        0.02,
        1 - 0.62 / height,
        "How many times dearer the median hyperscaler is than "
        "the median independent provider stands at the right of each line",
        fontsize=9,
        color=SOFT,
        va="center",
    )
    _save(figure, image)


def _frame(axes: Any) -> None:
    for name, side in axes.spines.items():
        side.set_visible(name in ("left", "bottom"))
        side.set_color(BORDER)
    axes.tick_params(colors=INK, length=3)


def _save(figure: Any, image: Path) -> None:
    """Save with few colours, without a date: the same figures give the same bytes."""
    from io import BytesIO

    from PIL import Image

    raw = BytesIO()
    figure.savefig(raw, format="png", metadata={"Software": None})
    raw.seek(0)
    few = Image.open(raw).convert("RGB").quantize(COLOURS_KEPT, dither=Image.Dither.NONE)
    few.save(image, optimize=True)
