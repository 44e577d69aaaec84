"""The map of ``isochrone plan``: sites and isochrones over the world, with what they mean.

``.png`` is drawn here with matplotlib (the extra ``map``); ``.html`` by ``plan_page``, one file
that needs nothing else. Both show the same bands of round trip, access included, and beside
them the share of the audience in each band for the plan, the three usual regions and the twenty
central ones.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from isochrone.cli.plan_answer import BOUNDS_MS, Picture, PlanFacts
from isochrone.cli.plan_facts import Planner
from isochrone.cli.tables import usd
from isochrone.schema.errors import InvalidInput
from isochrone.schema.place import Place

if TYPE_CHECKING:
    from isochrone.cli.plan_ground import Floats

INCHES, DPI = (12.0, 7.9), 150

LABELLED_MAX = 40
"""More sites than this are dots without names."""


def require_map(image: Path) -> None:
    """Raises InvalidInput unless the file can be drawn: asked before anything is worked out."""
    if image.suffix.lower() not in (".png", ".html"):
        raise InvalidInput(
            f"{image} is neither a PNG nor an HTML file.",
            fix="Name one that ends in .png or .html.",
        )
    if not image.absolute().parent.is_dir():
        raise InvalidInput(f"There is no folder {image.parent}.", fix="Make it, or name another.")
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise InvalidInput(
            "Drawing a map needs matplotlib.", fix='Install it: pip install "isochrone[map]".'
        ) from error


def draw(facts: PlanFacts, planner: Planner, image: Path) -> None:
    """Write the map of a plan (of its ``what_if``, if there is one)."""
    from isochrone.cli.isochrones import field

    shown = facts.what_if or facts.chosen
    times_ms = field(places_of(shown), planner.round_trips, facts.access_ms)
    if image.suffix.lower() == ".html":
        from isochrone.cli.plan_page import write_page

        write_page(facts, planner, times_ms, image)
    else:
        _png(facts, shown, times_ms, image)


def places_of(picture: Picture) -> list[Place]:
    """Where the sites of a picture are."""
    return [
        Place(
            latitude=site.latitude,
            longitude=site.longitude,
            country=site.country,
            metro=site.metro,
        )
        for site in picture.sites
    ]


def headline(facts: PlanFacts, shown: Picture) -> str:
    """The figures of a plan in one line."""
    objective = facts.objective
    count = len(shown.sites)
    sites = "1 site" if count == 1 else f"{count} sites"
    price = shown.price_microusd_per_hour
    cost = f" for {usd(price)} an hour" if price is not None else ""
    return (
        f"{sites}{cost}; {shown.met_share:.1%} of the audience answered within "
        f"{objective.latency_ms:g} ms (p{objective.percentile:g})"
    )


def shares_by_band(picture: Picture) -> tuple[float, ...]:
    """The share of the audience in each band up to 50 ms, and beyond: four numbers."""
    upto = [picture.within[str(bound)] for bound in BOUNDS_MS]
    return upto[0], upto[1] - upto[0], upto[2] - upto[1], 1 - upto[2]


def _png(facts: PlanFacts, shown: Picture, times_ms: Floats, image: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from isochrone.cli.isochrones import draw_world, label_sites
    from isochrone.cli.place_land import INK, SOFT

    figure = Figure(figsize=INCHES, dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.015, 0.215, 0.97, 0.685))
    draw_world(axes, times_ms, places_of(shown), 34 if len(shown.sites) <= LABELLED_MAX else 14)
    if len(shown.sites) <= LABELLED_MAX:
        order = sorted(shown.sites, key=lambda site: (-site.serves, site.metro))
        named = dict(zip((site.metro for site in shown.sites), places_of(shown), strict=True))
        label_sites(axes, [(site.city, named[site.metro]) for site in order], 7.5)
    figure.text(0.025, 0.958, f"Where {facts.service} would run", fontsize=18, weight="bold",
                color=INK, va="center")  # fmt: skip
    figure.text(0.025, 0.917, headline(facts, shown), fontsize=11, color=INK, va="center")
    _legend(figure)
    _bars(figure, [p for p in (facts.chosen, facts.what_if, facts.usual, facts.central) if p])
    figure.text(
        0.025,
        0.018,
        f"Round trips to the nearest site by time, {facts.access_ms:g} ms of access included: "
        f"{facts.model_error}  Borders: Natural Earth. Equal Earth projection.",
        fontsize=6.8,
        color=SOFT,
        va="center",
        wrap=True,
    )
    figure.savefig(image)


def _legend(figure: Any) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    from isochrone.cli.isochrones import COLOURS, LABELS, MARK
    from isochrone.cli.place_land import BORDER, INK

    site = Line2D(
        [], [], marker="o", color=MARK, markeredgecolor="white", linestyle="", label="site"
    )
    bands = [
        Patch(facecolor=colour, edgecolor=BORDER, linewidth=0.4, label=label)
        for colour, label in zip(COLOURS, LABELS, strict=True)
    ]
    figure.legend(
        handles=[site, *bands],
        loc="upper right",
        bbox_to_anchor=(0.985, 0.985),
        ncols=6,
        frameon=False,
        fontsize=9,
        labelcolor=INK,
        handlelength=1.4,
        columnspacing=1.3,
    )


def _bars(figure: Any, pictures: list[Picture]) -> None:
    """A bar a picture: how the audience is spread over the bands, with the price."""
    from isochrone.cli.isochrones import COLOURS
    from isochrone.cli.place_land import BORDER, INK, LAND

    axes = figure.add_axes((0.165, 0.05, 0.70, 0.145))
    shades = (*COLOURS[:3], LAND)
    for row, picture in enumerate(pictures):
        left = 0.0
        for share, colour in zip(shares_by_band(picture), shades, strict=True):
            axes.barh(row, share, left=left, height=0.62, color=colour, edgecolor=BORDER,
                      linewidth=0.5)  # fmt: skip
            if share >= 0.045:
                dark = colour in COLOURS[:2]
                axes.text(left + share / 2, row, f"{share:.0%}", ha="center", va="center",
                          fontsize=8.5, color="white" if dark else INK)  # fmt: skip
            left += share
        price = picture.price_microusd_per_hour
        cost = f"{usd(price)[:-2]} / h" if price is not None else "no price known"
        axes.text(1.012, row, cost, va="center", fontsize=9, color=INK)
    names = [f"{picture.name} ({len(picture.sites)})" if picture.name in ("this plan", "what if")
             else picture.name for picture in pictures]  # fmt: skip
    axes.set_yticks(range(len(pictures)), names, fontsize=9, color=INK)
    axes.set(xlim=(0, 1), ylim=(len(pictures) - 0.5, -0.5), xticks=[])
    axes.tick_params(length=0)
    axes.set_title("Share of the audience by round trip (the last: above 50 ms)", fontsize=8.5,
                   color=INK, loc="left", pad=3)  # fmt: skip
    for side in axes.spines.values():
        side.set_visible(False)
