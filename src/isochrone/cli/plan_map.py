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
from isochrone.cli.tables import count, usd_short
from isochrone.schema.errors import InvalidInput
from isochrone.schema.place import Place

if TYPE_CHECKING:
    from isochrone.cli.plan_ground import Floats
    from isochrone.cli.projection import Frame

INCHES, DPI = (12.0, 7.9), 150

OUTLYING = 0.005
"""The view may leave out this share of the audience on each side, and sites that serve less."""

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
    if image.is_dir():
        raise InvalidInput(f"{image} is a folder.", fix="Name a file in it.")
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise InvalidInput(
            "Drawing a map needs matplotlib.", fix='Install it: pip install "isochrone[map]".'
        ) from error


def draw(facts: PlanFacts, planner: Planner, image: Path) -> None:
    """Write the map of a plan (of its ``what_if``, if there is one).

    Raises InvalidInput when the file cannot be written.
    """
    from isochrone.cli.isochrones import field

    shown = facts.what_if or facts.chosen
    view = view_of(planner, shown)
    times_ms = field(places_of(shown), planner.round_trips, facts.access_ms, view)
    try:
        if image.suffix.lower() == ".html":
            from isochrone.cli.plan_page import write_page

            write_page(facts, planner, times_ms, view, image)
        else:
            _png(facts, shown, times_ms, view, image)
    except OSError as error:
        raise InvalidInput(
            f"{image} cannot be written: {error.strerror or error}.",
            fix="Name another file with --map, on a disk with room.",
        ) from error


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


def view_of(planner: Planner, shown: Picture) -> Frame:
    """The part of the world where the audience is, and the sites that serve it."""
    import numpy as np

    from isochrone.cli.isochrones import corners_of
    from isochrone.cli.projection import frame_around, middle_of, moved, project

    people = corners_of([point.place for point in planner.audience])
    weights = np.array([point.weight for point in planner.audience])
    middle = middle_of(people[:, 0], weights)
    at = project(moved(people, middle), middle)
    ends = np.empty((2, 2))
    for axis in (0, 1):
        order = np.argsort(at[:, axis], kind="stable")
        reached = np.cumsum(weights[order]) / weights.sum()
        ends[:, axis] = at[order, axis][np.searchsorted(reached, (OUTLYING, 1 - OUTLYING))]
    places = zip(places_of(shown), shown.sites, strict=True)
    serving = corners_of([place for place, site in places if site.serves > OUTLYING])
    return frame_around(np.concatenate([ends, project(moved(serving, middle), middle)]), middle)


def note(facts: PlanFacts, view: Frame) -> str:
    """What the times on a map are, how wrong they may be, and what the map leaves out."""
    from isochrone.cli.isochrones import corners_of

    shown = facts.what_if or facts.chosen
    outside = int((~view.holds(view.spots(corners_of(places_of(shown))))).sum())
    unseen = f"Not in the picture: {count(outside, 'site')}. " if outside else ""
    return (
        f"Round trips to the nearest site by time, {facts.access_ms:g} ms of access included: "
        f"{facts.model_error} {unseen}Borders: Natural Earth. Equal Earth projection."
    )


def headline(facts: PlanFacts, shown: Picture) -> str:
    """The figures of a plan in one line."""
    objective = facts.objective
    asked = shown.price_microusd_per_hour
    cost = f" for {usd_short(asked)} an hour" if asked is not None else ""
    return (
        f"{count(len(shown.sites), 'site')}{cost}; {shown.met_share:.1%} of the audience answered "
        f"within {objective.latency_ms:g} ms (p{objective.percentile:g})"
    )


def shares_by_band(picture: Picture) -> tuple[float, ...]:
    """The share of the audience in each band up to 50 ms, and beyond: four numbers."""
    upto = [picture.within[str(bound)] for bound in BOUNDS_MS]
    return upto[0], upto[1] - upto[0], upto[2] - upto[1], 1 - upto[2]


def _png(facts: PlanFacts, shown: Picture, times_ms: Floats, view: Frame, image: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from isochrone.cli.isochrones import draw_world
    from isochrone.cli.place_land import INK, SOFT

    figure = Figure(figsize=INCHES, dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.015, 0.215, 0.97, 0.685))
    few = len(shown.sites) <= LABELLED_MAX
    draw_world(axes, times_ms, places_of(shown), 34 if few else 14, view)
    if few:
        _name_sites(axes, shown, view)
    title = figure.text(0.025, 0.958, f"Where {facts.service} would run", fontsize=18,
                        weight="bold", color=INK, va="center")  # fmt: skip
    widest = 0.95 * figure.bbox.width / title.get_window_extent().width
    title.set_fontsize(18 * min(1.0, widest))
    figure.text(0.025, 0.917, headline(facts, shown), fontsize=11, color=INK, va="center")
    _legend(axes)
    _bars(figure, [p for p in (facts.chosen, facts.what_if, facts.usual, facts.central) if p])
    figure.text(
        0.025,
        0.02,
        note(facts, view),
        fontsize=6.8,
        color=SOFT,
        va="center",
        wrap=True,
    )
    figure.savefig(image)


def _name_sites(axes: Any, shown: Picture, view: Frame) -> None:
    """Names of the sites in view, those that serve most first."""
    from isochrone.cli.isochrones import corners_of, label_sites

    places = places_of(shown)
    seen = view.holds(view.spots(corners_of(places)))
    named = [
        (site, place)
        for site, place, inside in zip(shown.sites, places, seen, strict=True)
        if inside
    ]
    named.sort(key=lambda pair: (-pair[0].serves, pair[0].metro))
    label_sites(axes, [(site.city, place) for site, place in named], 7.5, view)


def _legend(axes: Any) -> None:
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
    legend = axes.legend(
        handles=[site, *bands],
        loc="lower left",
        fontsize=9,
        labelcolor=INK,
        handlelength=1.4,
        facecolor="white",
        edgecolor="none",
        framealpha=0.85,
    )
    legend.set_zorder(7)


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
        asked = picture.price_microusd_per_hour
        cost = f"{usd_short(asked)} / h" if asked is not None else "no price known"
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
