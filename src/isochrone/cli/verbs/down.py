"""``isochrone down``: end the cell that ``up`` started, a node of ``join``, a validator.

What they know stays on disk; the next ``up``, ``join`` or ``validate`` goes on from there.
"""

from __future__ import annotations

import click

from isochrone.cli.context import home, output_option
from isochrone.cli.joined import JOIN_GRACE_S, joined, node_folder
from isochrone.cli.tables import print_json


@click.command("down")
@click.option("--node", "name", metavar="NAME", help="End this node of `join` instead of the cell.")
@click.option("--validator", is_flag=True, help="End this home's validator instead.")
@output_option
def command(name: str | None, validator: bool, output: str) -> None:
    """End the cell that `up` started, or what `join` or `validate` started."""
    as_json = output == "json"
    if validator:
        _end_validator(as_json)
    elif name is None:
        _end_cell(as_json)
    else:
        _end_node(name, as_json)


def _end_cell(as_json: bool) -> None:
    from isochrone.cell.background import stop

    folder = home() / "cell"
    ran = stop(folder)
    if as_json:
        print_json({"ended": ran, "folder": str(folder), "nodes_running": list(joined())})
        return
    if ran:
        click.echo(f"The cell has ended; its data stays in {folder}.")
    else:
        click.echo(f"No cell runs from {folder}.")
    for name in joined():
        click.echo(f"The node {name} still runs; `isochrone down --node {name}` ends it.")


def _end_node(name: str, as_json: bool) -> None:
    from isochrone.cell.running import end
    from isochrone.schema.errors import NotFound, Timeout

    process = joined().get(name)
    if process is None:
        others = ", ".join(joined()) or "none"
        raise NotFound(
            f"No node {name!r} runs from {home() / 'nodes'}.", fix=f"Running there: {others}."
        )
    if not end(process, JOIN_GRACE_S):
        raise Timeout(f"The node's process {process.pid} does not end.", fix="End it by hand.")
    if as_json:
        print_json({"ended": True, "node": name, "folder": str(node_folder(name))})
        return
    click.echo(f"The node {name} has ended; its key and models stay in {node_folder(name)}.")


def _end_validator(as_json: bool) -> None:
    from isochrone.cli.validating import folder, stop

    ran = stop()
    if as_json:
        print_json({"ended": ran, "folder": str(folder())})
        return
    word = "The validator has ended" if ran else "No validator runs"
    click.echo(f"{word}; what it knows stays in {folder()}.")
