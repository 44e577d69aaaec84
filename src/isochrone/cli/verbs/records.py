"""``isochrone records EPOCH``: an epoch's public records in DuckDB.

Downloads the files under the epoch's manifest, checks their digests and opens them as tables
(``heads``, ``links``, ``leases``, ``standby``, ``vouchers``, ``chain``, ``books`` and their lists).
``--sql`` answers one query; without it, on a terminal, it asks and answers until ``exit``.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from pathlib import Path
from typing import Any

import click

from isochrone.cli.chain_context import Money, chain_options, records_option
from isochrone.cli.context import gateway_option, output_option
from isochrone.cli.tables import print_json, print_table


@click.command("records")
@click.argument("epoch", type=click.IntRange(0), metavar="EPOCH")
@click.option("--sql", metavar="QUERY", help="Answer this query and end.")
@click.option("--folder", type=click.Path(file_okay=False, path_type=Path),
              help="Keep the files here (default: a folder that is removed after).")  # fmt: skip
@records_option
@chain_options
@gateway_option
@output_option
def command(
    epoch: int,
    sql: str | None,
    folder: Path | None,
    records_url: str,
    chain_urls: tuple[str, ...],
    deployment: str | None,
    gateway: str | None,
    key: str | None,
    output: str,
) -> None:
    """Open an epoch's records in DuckDB."""
    from isochrone.records.opening import open_epoch, prompt

    money = Money(gateway, chain_urls, deployment, records_url)
    with contextlib.ExitStack() as stack:
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="isochrone-")))
        opened = stack.enter_context(open_epoch(money.records_url, epoch, folder))
        if sql is not None:
            _show(opened.ask(sql), output)
            return
        click.echo(f"Epoch {epoch}: {', '.join(opened.views)}.")
        if sys.stdin.isatty():
            click.echo("Ask in SQL; `exit` ends.")
            prompt(opened, _line, lambda found: _show(found, output))


def _line() -> str | None:
    try:
        return input("records> ")
    except EOFError:
        return None


def _show(found: Any, output: str) -> None:
    """An answer as a table or JSON; a sentence as it is."""
    if isinstance(found, str):
        click.echo(found, err=True)
        return
    if output == "json":
        print_json([dict(zip(found.columns, map(_plain, row), strict=True)) for row in found.rows])
        return
    rows = [[str(_plain(cell)) for cell in row] for row in found.rows]
    print_table(found.columns, rows, "No rows.")
    if found.more:
        click.echo("… and more rows; use LIMIT or count them.")


def _plain(cell: Any) -> Any:
    """Bytes as hex, all else as DuckDB gave it."""
    if isinstance(cell, bytes):
        return cell.hex()
    if isinstance(cell, dict):
        return {str(name): _plain(value) for name, value in cell.items()}
    if isinstance(cell, list | tuple):
        return [_plain(value) for value in cell]
    return cell
