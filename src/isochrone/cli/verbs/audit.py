"""``isochrone audit EPOCH``: recompute an epoch's books from public records, and compare.

Needs two URLs and nothing else: the chain's and a store of records. Everything downloaded is
verified (digests, link hashes, signatures, papers), the settlement is computed again, and the first
field that differs is named. Exit status 1 on any difference.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from isochrone.cli.chain_context import Money, chain_options, dollars, records_option
from isochrone.cli.context import gateway_option, output_option
from isochrone.cli.tables import count, print_json

if TYPE_CHECKING:
    from isochrone.validator.audit import Audit


@click.command("audit")
@click.argument("epoch", type=click.IntRange(0), metavar="EPOCH")
@click.option("--from", "first", type=click.IntRange(0), metavar="EPOCH",
              help="Recompute every settled epoch from this one on.")  # fmt: skip
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep what is downloaded here (default: an empty folder, removed after).",
)
@records_option
@chain_options
@gateway_option
@output_option
def command(
    epoch: int,
    first: int | None,
    folder: Path | None,
    records_url: str,
    chain_urls: tuple[str, ...],
    deployment: str | None,
    gateway: str | None,
    key: str | None,
    output: str,
) -> None:
    """Recompute an epoch from public records; exit status 1 when anything differs."""
    from isochrone.validator.audit_chain import audit_urls

    money = Money(gateway, chain_urls, deployment, records_url)
    meant = money.deployment if deployment or not (chain_urls and records_url) else None
    with contextlib.ExitStack() as stack:
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="isochrone-")))
        result = audit_urls(
            money.urls, money.records_url, epoch, folder, first=first, deployment=meant
        )
    if output == "json":
        print_json(result)
    else:
        _show(result)
    sys.exit(result.exit_status)


def _show(result: Audit) -> None:
    for one in result.epochs:
        click.echo(
            f"epoch {one.epoch}: {count(one.chains, 'tally chain')}, {count(one.links, 'link')}, "
            f"{count(one.lines, 'movement')} recomputed; root {one.root[:16]}… and total "
            f"{dollars(one.total_microusd)} agree"
        )
    if result.assumed:
        click.echo(f"Assumed: {result.assumed} (--from 0 assumes nothing)")
    if result.difference is None:
        click.echo("The audit agrees.")
        return
    found = result.difference
    click.echo(f"epoch {found.epoch}: {found.where} DIFFERS", err=True)
    click.echo(f"  published:  {found.published}", err=True)
    click.echo(f"  recomputed: {found.recomputed}", err=True)
