"""``isochrone down``: end the cell that ``up`` started; its data stays."""

from __future__ import annotations

import click

from isochrone.cli.context import home


@click.command("down")
def command() -> None:
    """End the cell that `up` started."""
    from isochrone.cell.background import stop

    folder = home() / "cell"
    if stop(folder):
        click.echo(f"The cell has ended; its data stays in {folder}.")
    else:
        click.echo(f"No cell runs from {folder}.")
