"""A plan and what came of it, as people read them."""

from __future__ import annotations

from collections.abc import Sequence

import click

from isochrone.cli.tables import heaviest, ms, print_table, short, usd
from isochrone.schema.admin import ReplicaView
from isochrone.schema.decision import Coverage
from isochrone.schema.plans import Plan


def print_plan(plan: Plan) -> None:
    """Where, how fast for whom, how much, and what could not be met."""
    click.echo(f"Plan for {plan.name} (home cell {plan.home_cell}, rule {plan.rule})")
    print_table(
        ("CELL", "METRO", "COUNTRY", "PROVIDER", "NODE", "PRICE/H", "PLACE"),
        [
            (
                s.cell,
                s.metro,
                s.country,
                short(s.provider),
                short(s.node),
                usd(s.price_microusd_per_hour),
                s.evidence + (" (kept)" if s.kept else ""),
            )
            for s in plan.sites
        ],
        "No node can take it.",
    )
    if plan.sites:
        click.echo("")
        _print_audience(plan.coverage)
        limit = plan.max_price_microusd_per_hour
        limited = f" (limit {usd(limit)})" if limit is not None else ""
        click.echo(
            f"\nPrice per hour: {usd(plan.price_microusd_per_hour)}{limited}; "
            f"audience inside the objective: {plan.met_share:.0%}"
        )
    for reason in plan.unmet:
        click.echo(f"Not met: {reason}")
    if plan.sites:
        click.echo(plan.evidence_note)


def _print_audience(coverage: Sequence[Coverage]) -> None:
    shown, rest = heaviest(coverage)
    print_table(
        ("AUDIENCE", "WEIGHT", "P50 MS", "P95 MS", "IN OBJECTIVE", "BASE URL"),
        [
            (
                c.country,
                f"{c.weight:.1%}",
                ms(c.p50_ms),
                ms(c.p95_ms),
                f"{c.met_share:.0%}",
                c.gateway_url,
            )
            for c in shown
        ],
        "Nobody of the audience can be reached.",
    )
    if rest:
        click.echo(rest)


def print_cold_starts(replicas: Sequence[ReplicaView]) -> None:
    """How long each replica took from nothing: fetch, load, first answer."""
    print_table(
        ("METRO", "NODE", "FETCH MS", "LOAD MS", "FIRST ANSWER MS"),
        [
            (r.metro, short(r.node), ms(r.fetch_ms), ms(r.load_ms), ms(r.first_answer_ms))
            for r in replicas
        ],
        "No replica serves yet.",
    )
