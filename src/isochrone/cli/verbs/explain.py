"""``isochrone explain SERVICE``: the latest decisions of a service, in words.

``isochrone explain --node NODE``: for a provider, what became of its node in every decision that
looked at it, and what would have won. The recorded inputs are fetched, checked against their
digest, and the rule is run again on them here: nothing is taken on the gateway's word.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from isochrone.cli.context import any_admin, gateway_option, output_option, require_service
from isochrone.cli.tables import heaviest, print_json
from isochrone.client.admin import AdminClient
from isochrone.schema.decision import Decision, PlacementInputs
from isochrone.schema.digests import decode, sha256_hex
from isochrone.schema.errors import InvalidInput, NotFound, TheirFault

if TYPE_CHECKING:
    from isochrone.rules.fates import Fate


@click.command("explain")
@click.argument("service", required=False)
@click.option("--node", metavar="ADDRESS", help="This node's fate (a prefix will do).")
@gateway_option
@output_option
def command(
    service: str | None, node: str | None, gateway: str | None, key: str | None, output: str
) -> None:
    """Say why a service runs where it runs, or what became of a node and what would have won."""
    if node is not None:
        _explain_node(service, node, gateway, key, output)
        return
    if service is None:
        raise InvalidInput("Explain what?", fix="Name a service, or a node with --node.")
    with any_admin(gateway, key, "tenant") as client:
        warm = require_service(client, service).warm
        decisions = _latest(client.decisions(service))
        standbys = [one for one in client.replicas(service) if one.state == "standby"]
    if output == "json":
        print_json(decisions)
        return
    for number, decision in enumerate(decisions):
        if number:
            click.echo("")
        for line in _whole(decision):
            click.echo(line)
    for one in standbys:
        click.echo(f"standby: {one.node} ({one.metro}) keeps the model for the next replica")
    if len(standbys) < warm:
        click.echo(f"standbys: {len(standbys)} of {warm}; no node is ready for the others")


def _explain_node(
    service: str | None, node: str, gateway: str | None, key: str | None, output: str
) -> None:
    from isochrone.rules.explaining import tell

    start = node.lower() if node.lower().startswith("0x") else f"0x{node.lower()}"
    with any_admin(gateway, key, "tenant" if service else "provider") as client:
        decisions = [d for d in client.considered(start) if _is_about(d, service)]
        told = [fate for decision in decisions for fate in _fates(client, decision, start)]
    if not told:
        raise NotFound(
            f"No node {node[:42]} of yours was among those considered.",
            fix="See `isochrone nodes`; a node that joins later is considered in a later decision.",
        )
    if output == "json":
        print_json(told)
        return
    for number, fate in enumerate(told):
        if number:
            click.echo("")
        for line in tell(fate):
            click.echo(line)


def _is_about(decision: Decision, service: str | None) -> bool:
    return service in (None, decision.service, decision.service.partition(".")[2])


def _fates(client: AdminClient, decision: Decision, start: str) -> list[Fate]:
    """The fates of the decision's nodes that begin so, by its own inputs."""
    from isochrone.rules.fates import fates

    content = client.inputs(decision.inputs)
    if sha256_hex(content) != decision.inputs:
        raise TheirFault(
            "The gateway's copy of the inputs does not match their digest.",
            fix="Ask another gateway of the cell, and keep this one's answer as evidence.",
        )
    nodes = [row.node for row in decision.candidates if row.node.startswith(start)]
    return fates(decision, decode(content, PlacementInputs, "placement inputs"), nodes)


def _latest(decisions: list[Decision]) -> list[Decision]:
    """The newest decision of each kind and cell."""
    newest: dict[tuple[str, str], Decision] = {}
    for decision in decisions:
        newest[(decision.kind, decision.cell)] = decision
    return [newest[key] for key in sorted(newest, reverse=True)]


def _whole(decision: Decision) -> Iterator[str]:
    """All of it; of the audience the heaviest countries, and of a fit none (sites has them)."""
    import msgspec

    from isochrone.rules.explaining import explain

    shown, rest = heaviest(decision.coverage if decision.kind == "sites" else ())
    for line in explain(msgspec.structs.replace(decision, coverage=shown)):
        if rest and line.startswith("not met: "):
            yield f"  {rest}"
            rest = ""
        yield line
    if rest:
        yield f"  {rest}"
