"""Legend, bars and tables of the HTML map of ``isochrone plan``; all that is said is escaped."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from isochrone.cli.isochrones import COLOURS, LABELS, MARK
from isochrone.cli.place_land import INK, LAND
from isochrone.cli.plan_answer import Further, Picture
from isochrone.cli.plan_map import shares_by_band
from isochrone.cli.plan_text import TIMES_NOTE, worth_telling
from isochrone.cli.tables import heaviest, ms, usd, usd_short

TOLD_SHARE = 0.04
"""Narrower bars have no figure."""


def price_words(microusd: int | None) -> str:
    """Of a site or a picture, by the hour."""
    return "no price known" if microusd is None else f"{usd_short(microusd)} an hour"


def legend() -> str:
    """What the colours of the map mean."""
    bands = "".join(
        f'<span><i style="background:{colour}"></i>{html.escape(label)}</span>'
        for colour, label in zip(COLOURS, LABELS, strict=True)
    )
    site = f'<span><i class=dot style="background:{MARK}"></i>site</span>'
    return f"<p class=legend>{site}{bands}<span>round trip to the nearest site</span></p>"


def bars(pictures: Sequence[Picture]) -> str:
    """A bar a picture: how the audience is spread over the bands."""
    shades = (*COLOURS[:3], LAND)
    rows = []
    for picture in pictures:
        parts = "".join(
            f'<i style="width:{share:.2%};background:{colour};'
            f'color:{"white" if colour in COLOURS[:2] else INK}">'
            f"{f'{share:.0%}' if share >= TOLD_SHARE else ''}</i>"
            for share, colour in zip(shares_by_band(picture), shades, strict=True)
        )
        count = f"{len(picture.sites)} site{'' if len(picture.sites) == 1 else 's'}"
        rows.append(
            f"<tr><th>{html.escape(picture.name)}</th><td>{count}</td>"
            f"<td class=bar>{parts}</td>"
            f"<td>{price_words(picture.price_microusd_per_hour)}</td></tr>"
        )
    return (
        "<h2>Share of the audience by round trip</h2>"
        f"<table class=bars>{''.join(rows)}</table>"
        "<p class=note>Bands as on the map; the last is above 50 ms.</p>"
    )


def sites(shown: Picture) -> str:
    """Who serves how much of the audience."""
    return _table(
        "Sites",
        ("Site", "Provider", "Price an hour", "Serves"),
        (
            (
                f"{site.city}, {site.country}",
                site.provider,
                usd(site.price_microusd_per_hour),
                f"{site.serves:.1%}",
            )
            for site in sorted(shown.sites, key=lambda site: (-site.serves, site.metro))
        ),
    )


def countries(shown: Picture) -> str:
    """What the audience can expect, by country."""
    rows, rest = heaviest(shown.countries)
    table = _table(
        "Times by country",
        ("Country", "Weight", "p50 ms", "p95 ms", "In the objective"),
        (
            (
                row.country,
                f"{row.weight:.1%}",
                ms(row.p50_ms),
                ms(row.p95_ms),
                f"{row.met_share:.0%}",
            )
            for row in rows
        ),
    )
    more = f" {rest.capitalize()}." if rest else ""
    return f"{table}<p class=note>{html.escape(TIMES_NOTE + more)}</p>"


def further(rows: Sequence[Further]) -> str:
    """What each further site would add; nothing when there is none."""
    told = worth_telling(rows)
    if not told:
        return ""
    return _table(
        "What a further site would add",
        ("Site", "Price an hour", "Newly in the objective", "Nearer for"),
        (
            (
                f"{row.city}, {row.country}",
                usd(row.price_microusd_per_hour),
                f"{row.adds_bps / 100:.2f}%",
                f"{row.nearer:.1%}",
            )
            for row in told
        ),
    )


def _table(title: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    named = "".join(f"<th>{html.escape(word)}</th>" for word in head)
    body = "".join(
        f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows
    )
    return f"<h2>{title}</h2><div class=wide><table><tr>{named}</tr>{body}</table></div>"
