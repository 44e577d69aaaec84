"""A plan made before anything is bought, as people read it."""

from __future__ import annotations

from collections.abc import Sequence

import click

from isochrone.cli.plan_answer import BOUNDS_MS, Further, Picture, PlanFacts
from isochrone.cli.tables import heaviest, ms, print_table, usd

FURTHER_ROWS = 8
"""Further sites shown to people; JSON has up to 200."""

SITE_ROWS = 24
"""Chosen sites shown to people; JSON has all."""


TIMES_NOTE = "Times are of answers: round trip, platform and the model's own time."
"""Of the times by country."""


def worth_telling(further: Sequence[Further]) -> list[Further]:
    """The first sites that would add something, or be nearer for somebody."""
    return [row for row in further if row.adds_bps or row.nearer][:FURTHER_ROWS]


def print_facts(facts: PlanFacts) -> None:
    """Sites, times by country, the comparison, what is next, and what all of it rests on."""
    objective = facts.objective
    click.echo(
        f"Plan for {facts.service}: {objective.percentile:g} % within {objective.latency_ms:g} ms, "
        f"access {facts.access_ms:g} ms (rule {facts.rule}, {_ground(facts)})"
    )
    _print_sites(facts.chosen)
    if facts.chosen.sites:
        click.echo("")
        _print_countries(facts.chosen)
        click.echo("")
        _print_pictures([p for p in (facts.chosen, facts.what_if) if p], facts)
        click.echo("")
        _print_further(facts.further)
    click.echo("")
    for picture in (facts.usual, facts.central):
        if picture.left_out:
            click.echo(f"{picture.name}: outside the residency: {', '.join(picture.left_out)}.")
    for reason in facts.unmet:
        click.echo(f"Not met: {reason}")
    if facts.follows_demand is not None:
        least, most = facts.follows_demand
        idle = "; with nobody calling none runs, and none is paid" if least == 0 else ""
        click.echo(f"Replicas follow demand, {least} to {most}: prices are of these sites{idle}.")
    if facts.model_absent:
        click.echo(f"{facts.model_absent} Planned without its size: a large model takes longer.")
    limit = facts.max_price_microusd_per_hour
    if limit is not None:
        click.echo(f"Budget: {usd(limit)} per hour.")
    click.echo(f"Round trips: {facts.model_error}")
    click.echo(facts.prices)


def _ground(facts: PlanFacts) -> str:
    if facts.live:
        return "the nodes that are there"
    return f"{facts.candidates} candidate sites"


def _print_sites(picture: Picture) -> None:
    rows = sorted(picture.sites, key=lambda site: (-site.serves, site.metro))
    print_table(
        ("SITE", "COUNTRY", "PROVIDER", "PRICE/H", "SERVES"),
        [
            (
                site.city,
                site.country,
                site.provider,
                usd(site.price_microusd_per_hour),
                f"{site.serves:.1%}",
            )
            for site in rows[:SITE_ROWS]
        ],
        "No site can take it.",
    )
    if len(rows) > SITE_ROWS:
        click.echo(f"and {len(rows) - SITE_ROWS} more sites: -o json shows all")


def _print_countries(picture: Picture) -> None:
    shown, rest = heaviest(picture.countries)
    print_table(
        ("AUDIENCE", "WEIGHT", "P50 MS", "P95 MS", "IN OBJECTIVE"),
        [
            (
                row.country,
                f"{row.weight:.1%}",
                ms(row.p50_ms),
                ms(row.p95_ms),
                f"{row.met_share:.0%}",
            )
            for row in shown
        ],
        "Nobody of the audience can be reached.",
    )
    if rest:
        click.echo(rest)
    click.echo(TIMES_NOTE)


def _print_pictures(pictures: Sequence[Picture], facts: PlanFacts) -> None:
    rows = [*pictures, facts.usual, facts.central]
    print_table(
        (
            "",
            "SITES",
            "PRICE/H",
            "IN OBJECTIVE",
            *(f"<= {bound} MS" for bound in BOUNDS_MS),
            "P50 MS",
            "P95 MS",
        ),
        [
            (
                row.name,
                str(len(row.sites)),
                usd(row.price_microusd_per_hour),
                f"{row.met_share:.1%}",
                *(f"{row.within[str(bound)]:.1%}" for bound in BOUNDS_MS),
                ms(row.round_trip_p50_ms),
                ms(row.round_trip_p95_ms),
            )
            for row in rows
        ],
        "",
    )
    click.echo("Shares of the audience; the bounds and the last two columns are round trips alone.")


def _print_further(further: Sequence[Further]) -> None:
    print_table(
        ("A FURTHER SITE", "COUNTRY", "PRICE/H", "ADDS", "NEARER FOR"),
        [
            (
                row.city,
                row.country,
                usd(row.price_microusd_per_hour),
                f"{row.adds_bps / 100:.2f}%",
                f"{row.nearer:.1%}",
            )
            for row in worth_telling(further)
        ],
        "No further site would bring anything to anybody." if further else "No site is left.",
    )
    if worth_telling(further) and not further[0].adds_bps:
        click.echo("No further site brings anybody inside the objective who is not inside already.")
