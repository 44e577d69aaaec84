"""``isochrone explain SERVICE``: the latest decisions of a service, in words."""

from __future__ import annotations

import click

from isochrone.cli.context import any_admin, gateway_option, output_option
from isochrone.cli.tables import print_json
from isochrone.schema.decision import Decision
from isochrone.schema.errors import NotFound


@click.command("explain")
@click.argument("service")
@click.option("--node", metavar="ADDRESS", help="Only this node's fate (a prefix will do).")
@gateway_option
@output_option
def command(
    service: str, node: str | None, gateway: str | None, key: str | None, output: str
) -> None:
    """Say why a service runs where it runs, or why a node was not chosen."""
    with any_admin(gateway, key) as client:
        decisions = _latest(client.decisions(service))
    if not decisions:
        raise NotFound(
            f"No decision about {service!r} is recorded here yet.",
            fix="Ask the gateway of its home cell, or wait a moment after `apply`.",
        )
    if output == "json":
        print_json(decisions)
        return
    from isochrone.rules.explaining import explain

    for decision in decisions:
        for line in explain(decision):
            if node is None or node in line or not line.startswith(" "):
                click.echo(line)


def _latest(decisions: list[Decision]) -> list[Decision]:
    """The newest decision of each kind and cell."""
    newest: dict[tuple[str, str], Decision] = {}
    for decision in decisions:
        newest[(decision.kind, decision.cell)] = decision
    return [newest[key] for key in sorted(newest, reverse=True)]
