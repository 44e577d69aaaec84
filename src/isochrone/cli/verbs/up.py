"""``isochrone up``: one small cell on this machine, in the background, for real use.

One fabric server, one controller, one gateway and (unless ``--no-node``) this machine as its first
node. Everything lies in one folder of the person's home; ``isochrone down`` ends it and keeps it.
"""

from __future__ import annotations

import re

import click

from isochrone.cli.context import Settings, home, key_path, output_option, save_settings
from isochrone.cli.tables import print_json
from isochrone.schema.errors import InvalidInput
from isochrone.schema.identity import PrivateKey

DEFAULT_HTTP_PORT = 8080
CELL_NAME = re.compile(r"[a-z0-9](-?[a-z0-9]){0,30}")


@click.command("up")
@click.option("--name", default="home", show_default=True, help="The cell's name.")
@click.option(
    "--place",
    "city_name",
    required=True,
    metavar="CITY",
    help="Where this machine stands (a city of the atlas).",
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
@output_option
def command(name: str, city_name: str, port: int, host: str, no_node: bool, output: str) -> None:
    """Start a small cell on this machine."""
    from isochrone.atlas.cities import city
    from isochrone.cell.background import start
    from isochrone.cell.config import CellConfig, LocalNode

    if not CELL_NAME.fullmatch(name):
        raise InvalidInput(
            f"{name[:80]!r} is no name for a cell.",
            fix="Use 1-31 lower-case letters, digits and inner hyphens.",
        )
    place = city(city_name).place
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
        node=None if no_node else LocalNode(provider_key=str(key_path("provider"))),
    )
    record = start(config)
    url = record.http_urls[0]
    save_settings(Settings(gateway=url))
    if output == "json":
        print_json({"cell": name, "url": url, "place": place, "data_dir": config.data_dir})
        return
    click.echo(f"Cell {name} serves at {url} (its place is declared: {city_name}).")
    click.echo("Next:  isochrone status")
    click.echo("       isochrone apply -f examples/first-service.yaml")
    click.echo("       isochrone down")
