"""``isochrone up``: one small cell on this machine, in the background, for real use.

One fabric server, one controller, one gateway and (unless ``--no-node``) this machine as its first
node. Money is settled on a chain of one's own that runs with the cell (test dollars, worth nothing;
``--no-chain`` leaves it out), or on any other chain: ``--chain URL`` with the file that names its
contracts. Everything lies in one folder of the person's home; ``isochrone down`` ends it and keeps
it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click

from isochrone.cli.chain_context import read_address
from isochrone.cli.context import Settings, home, key_path, output_option, save_settings
from isochrone.cli.tables import print_json
from isochrone.schema.deployment import Deployment
from isochrone.schema.digests import decode
from isochrone.schema.errors import InvalidInput
from isochrone.schema.identity import PrivateKey

DEFAULT_HTTP_PORT = 8080
CELL_NAME = re.compile(r"[a-z0-9](-?[a-z0-9]){0,30}")


@click.command("up")
@click.option("--name", default="home", show_default=True, help="The cell's name.")
@click.option(
    "--place",
    "place_name",
    required=True,
    metavar="CITY|LAT,LON",
    help="Where this machine stands: a city of the atlas, or better LATITUDE,LONGITUDE.",
)
@click.option(
    "--port",
    default=DEFAULT_HTTP_PORT,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="HTTP port of the gateway; 0 takes a free one.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--no-node", is_flag=True, help="Start no node on this machine.")
@click.option("--no-chain", is_flag=True, help="Serve without settling anything.")
@click.option("--chain", "chain_url", metavar="URL", help="Settle on this chain (JSON-RPC).")
@click.option("--deployment", metavar="FILE", help="The contracts' addresses on --chain.")
@click.option(
    "--validators",
    type=click.IntRange(0, 4),
    help="So many validators here.  [default: 1 with a chain of one's own, else 0]",
)
@click.option(
    "--validator-key",
    "validator_keys",
    multiple=True,
    metavar="ADDRESS",
    help="A validator elsewhere whose word is believed here; repeat it for each.",
)
@click.option(
    "--epoch",
    "epoch_s",
    default=3600,
    show_default=True,
    type=click.IntRange(10, 43_200),
    help="Seconds of an epoch on a new chain of one's own.",
)
@click.option(
    "--guests",
    "guest_host",
    default="",
    metavar="HOST",
    help="Let other people's validators join the fabric at this address of the machine.",
)
@click.option("--paid-only", is_flag=True, help="Refuse services whose deposit is low.")
@output_option
def command(
    name: str,
    place_name: str,
    port: int,
    host: str,
    no_node: bool,
    no_chain: bool,
    chain_url: str | None,
    deployment: str | None,
    validators: int | None,
    validator_keys: tuple[str, ...],
    epoch_s: int,
    guest_host: str,
    paid_only: bool,
    output: str,
) -> None:
    """Start a small cell on this machine."""
    from isochrone.atlas.cities import place_named
    from isochrone.cell.background import start
    from isochrone.cell.config import CellConfig, LocalNode

    if not CELL_NAME.fullmatch(name):
        raise InvalidInput(
            f"{name[:80]!r} is no name for a cell.",
            fix="Use 1-31 lower-case letters, digits and inner hyphens.",
        )
    place = place_named(place_name)
    operator = PrivateKey.load_or_create(key_path("operator"))
    for role in ("tenant", "provider"):
        PrivateKey.load_or_create(key_path(role))
    config = CellConfig(
        name=name,
        place=place,
        data_dir=str(home() / "cell"),
        http_host=host,
        http_port=port,
        channel_host=host,
        admins=(operator.address,),
        guest_host=guest_host,
        paid_only=paid_only,
        validator_keys=_keys(validator_keys),
        **_ledger(no_chain, chain_url, deployment, validators, epoch_s),
        node=None if no_node else LocalNode(provider_key=str(key_path("provider"))),
    )
    record = start(config)
    url = record.http_urls[0]
    save_settings(Settings(gateway=url))
    if output == "json":
        told = {"cell": name, "url": url, "place": place, "data_dir": config.data_dir}
        print_json({**told, "notes": record.notes})
        return
    click.echo(f"Cell {name} serves at {url} (its place is declared: {place_name}).")
    for note in record.notes:
        click.echo(note, err=True)
    click.echo("Next:  isochrone status")
    click.echo("       isochrone apply -f examples/first-service.yaml")
    click.echo("       isochrone down")


def _ledger(
    no_chain: bool,
    chain_url: str | None,
    deployment: str | None,
    validators: int | None,
    epoch_s: int,
) -> dict[str, Any]:
    """The cell's settings about money, from the options; raises InvalidInput."""
    from isochrone.cell.config import OwnChain, ValidatorPace
    from isochrone.cell.own_chain import known_deployment

    if no_chain and (chain_url or deployment):
        raise InvalidInput("--no-chain and --chain exclude each other.", fix="Leave one out.")
    if bool(chain_url) != bool(deployment):
        raise InvalidInput(
            "--chain and --deployment belong together.",
            fix="Give the chain's URL and the file with its contracts' addresses.",
        )
    if chain_url and deployment:
        return {
            "ledger": _read_deployment(Path(deployment)),
            "chain_url": chain_url,
            "validators": validators or 0,
        }
    if no_chain:
        return {}
    known = known_deployment(home() / "cell")
    if known.settles:  # a chain's epochs are as long as they were made
        epoch_s = known.epoch_s
    return {
        "own_chain": OwnChain(
            operator_key=str(key_path("operator")),
            epoch_s=epoch_s,
            block_s=min(12.0, epoch_s / 20),
        ),
        "validators": 1 if validators is None else validators,
        "pace": ValidatorPace() if epoch_s >= 600 else ValidatorPace.short(epoch_s),
    }


def _keys(addresses: tuple[str, ...]) -> tuple[str, ...]:
    """Each once, as keys are compared; raises InvalidInput for what is no address."""
    return tuple(dict.fromkeys(read_address(address) for address in addresses))


def _read_deployment(path: Path) -> Deployment:
    try:
        return decode(path.read_bytes(), Deployment, f"deployment {path}")
    except OSError as error:
        raise InvalidInput(
            f"The deployment {path} cannot be read: {error.strerror}.",
            fix="Name the file with the contracts' addresses.",
        ) from error
