"""``isochrone explain SERVICE``: the latest decisions of a service, in words."""

from __future__ import annotations

from collections.abc import Iterator

import click
import msgspec

from isochrone.cli.context import any_admin, gateway_option, output_option, require_service
from isochrone.cli.tables import count, heaviest, print_json
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
    with any_admin(gateway, key, "tenant") as client:
        require_service(client, service)
        decisions = _latest(client.decisions(service))
    if node is not None:
        decisions = _of_node(decisions, node)
    if output == "json":
        print_json(decisions)
        return
    for number, decision in enumerate(decisions):
        if number:
            click.echo("")
        for line in _one_node(decision) if node is not None else _whole(decision):
            click.echo(line)


def _latest(decisions: list[Decision]) -> list[Decision]:
    """The newest decision of each kind and cell."""
    newest: dict[tuple[str, str], Decision] = {}
    for decision in decisions:
        newest[(decision.kind, decision.cell)] = decision
    return [newest[key] for key in sorted(newest, reverse=True)]


def _of_node(decisions: list[Decision], prefix: str) -> list[Decision]:
    """The decisions that considered the node, each with its candidates alone."""
    start = prefix.lower() if prefix.lower().startswith("0x") else f"0x{prefix.lower()}"
    found = []
    for decision in decisions:
        mine = tuple(row for row in decision.candidates if row.node.startswith(start))
        if mine:
            found.append(msgspec.structs.replace(decision, candidates=mine))
    if not found:
        known = count(len({row.node for d in decisions for row in d.candidates}), "node")
        raise NotFound(
            f"No node {prefix[:42]} was among the {known} considered.",
            fix="See `isochrone nodes`; a node that joins later is considered in a later decision.",
        )
    return found


def _one_node(decision: Decision) -> Iterator[str]:
    """What the decision was, and each shown candidate's line under what became of it."""
    from isochrone.rules.explaining import explain

    shown = {row.node for row in decision.candidates}
    winners = tuple(node for node in decision.winners if node in shown)
    lines = explain(msgspec.structs.replace(decision, winners=winners, coverage=(), unmet=()))
    yield lines[0]
    heading = ""
    for line in lines[1:]:
        if not line.startswith(" "):
            heading = "chosen:" if " were chosen, " in line or " was chosen, " in line else line
        elif heading:
            yield heading
            heading = ""
        if line.startswith(" "):
            yield line


def _whole(decision: Decision) -> Iterator[str]:
    """All of it; of the audience the heaviest countries, and of a fit none (sites has them)."""
    from isochrone.rules.explaining import explain

    shown, rest = heaviest(decision.coverage if decision.kind == "sites" else ())
    for line in explain(msgspec.structs.replace(decision, coverage=shown)):
        if rest and line.startswith("not met: "):
            yield f"  {rest}"
            rest = ""
        yield line
    if rest:
        yield f"  {rest}"
