"""``isochrone appeal NODE --kind KIND``: ask all validators to measure a barred node again.

NODE is the name of a node that ``join`` started on this machine, whose key signs; or ``--key``
names the key's file. An appeal counts in the epoch after the verdict's: until that epoch is over,
what the verdict would take only waits (``isochrone earnings``). All validators then measure the
node in the next watch; unless two thirds of their bond find it failed once more, the bar ends.
"""

from __future__ import annotations

import time
from typing import get_args

import click

from isochrone.cli.context import gateway_option, gateway_url, load_key, output_option, resolve_map
from isochrone.cli.joined import node_folder
from isochrone.cli.tables import print_json
from isochrone.client.admin import AdminClient
from isochrone.schema.proof import Appeal, Kind


@click.command("appeal")
@click.argument("node")
@click.option("--kind", type=click.Choice(get_args(Kind)), required=True,
              help="What the verdict is about.")  # fmt: skip
@click.option("--epoch", type=click.IntRange(0), help="In whose records; default: the current one.")
@gateway_option
@output_option
def command(
    node: str,
    kind: Kind,
    epoch: int | None,
    gateway: str | None,
    key: str | None,
    output: str,
) -> None:
    """Appeal against a verdict on a node of yours."""
    signer = load_key("node", key or str(node_folder(node) / "node.key"))
    with AdminClient(gateway_url(gateway), signer, resolve=resolve_map()) as client:
        if epoch is None:
            epoch = client.ledger().deployment.epoch_at(time.time_ns() // 1_000_000)
        asked = Appeal(node=signer.address, kind=kind, epoch=epoch)
        taken = client.appeal(asked)
    if output == "json":
        print_json(taken)
        return
    click.echo(f"{signer.address} appeals in epoch {epoch}: {taken.validator} has it on its disk.")
    click.echo("It counts if the verdict was given in the epoch before; all then measure again.")
