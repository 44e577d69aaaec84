"""``isochrone down``: end the cell that ``up`` started, or a node that ``join`` started.

What they know stays on disk; the next ``up`` or ``join`` goes on from there.
"""

from __future__ import annotations

import click

from isochrone.cli.context import home
from isochrone.cli.joined import JOIN_GRACE_S, joined, node_folder


@click.command("down")
@click.option("--node", "name", metavar="NAME", help="End this node of `join` instead of the cell.")
def command(name: str | None) -> None:
    """End the cell that `up` started, or with --node a node that `join` started."""
    if name is None:
        _end_cell()
    else:
        _end_node(name)


def _end_cell() -> None:
    from isochrone.cell.background import stop

    folder = home() / "cell"
    if stop(folder):
        click.echo(f"The cell has ended; its data stays in {folder}.")
    else:
        click.echo(f"No cell runs from {folder}.")
    for name in joined():
        click.echo(f"The node {name} still runs; `isochrone down --node {name}` ends it.")


def _end_node(name: str) -> None:
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
    click.echo(f"The node {name} has ended; its key and models stay in {node_folder(name)}.")
