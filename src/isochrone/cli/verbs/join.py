"""``isochrone join URL``: offer this machine to the cell behind a gateway's URL.

The node gets a key of its own; the provider's key signs a grant for it (place, prices, limits).
The node dials out over TLS to the cell's gateways, whose certificates are pinned by the
fingerprints that the URL's door tells, and opens no port. It runs in the foreground until it is
interrupted, or in the background with ``--detach``. More URLs offer more cells to be at home in;
the nearest wins.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import click

from isochrone.cli.context import home, load_key, public_admin, resolve_map
from isochrone.node.config import DoorAddress
from isochrone.node.enrol import enrol
from isochrone.schema.errors import Unavailable
from isochrone.schema.node import Offer

READY_S = 20.0


@click.command("join")
@click.argument("urls", nargs=-1, required=True, metavar="URL...")
@click.option(
    "--place",
    "city_name",
    required=True,
    metavar="CITY",
    help="Where this machine stands (a city of the atlas).",
)
@click.option("--name", default="node", show_default=True, help="Folder name of this node.")
@click.option(
    "--price-core",
    default=0.02,
    show_default=True,
    type=click.FloatRange(0, 1e4),
    help="US dollars per CPU core and hour.",
)
@click.option(
    "--price-gib",
    default=0.003,
    show_default=True,
    type=click.FloatRange(0, 1e4),
    help="US dollars per GiB of memory and hour.",
)
@click.option(
    "--price-gpu",
    default=0.5,
    show_default=True,
    type=click.FloatRange(0, 1e4),
    help="US dollars per GPU and hour.",
)
@click.option("--cpus", type=click.FloatRange(0.1, 4096), help="Offer at most so many cores.")
@click.option("--memory-mib", type=click.IntRange(64), help="Offer at most so much memory.")
@click.option("--detach", is_flag=True, help="Run in the background.")
@click.option("--key", metavar="FILE", help="The provider's key file.")
def command(
    urls: tuple[str, ...],
    city_name: str,
    name: str,
    price_core: float,
    price_gib: float,
    price_gpu: float,
    cpus: float | None,
    memory_mib: int | None,
    detach: bool,
    key: str | None,
) -> None:
    """Offer this machine to a cell as a node."""
    from isochrone.atlas.cities import city

    offer = Offer(
        cpu_core_microusd_per_hour=round(price_core * 1e6),
        memory_gib_microusd_per_hour=round(price_gib * 1e6),
        gpu_microusd_per_hour=round(price_gpu * 1e6),
    )
    folder = home() / "nodes" / name
    config_path = enrol(
        folder,
        provider=load_key("provider", key),
        place=city(city_name).place,
        offer=offer,
        doors=_doors(urls),
        cpu_milli_max=round(cpus * 1000) if cpus else None,
        memory_mib_max=memory_mib,
        resolve=resolve_map(),
    )
    arguments = [sys.executable, "-m", "isochrone.node", str(config_path)]
    if not detach:
        click.echo(f"Joining from {folder}; Ctrl-C leaves.", err=True)
        sys.stdout.flush()
        os.execv(sys.executable, arguments)
    _detach(arguments, folder)


def _doors(urls: tuple[str, ...]) -> tuple[DoorAddress, ...]:
    found = []
    for url in urls:
        with public_admin(url) as client:
            found += [
                DoorAddress(host=d.host, port=d.port, fingerprint=d.fingerprint)
                for d in client.door().doors
            ]
    return tuple(found)


def _detach(arguments: list[str], folder: Path) -> None:
    log = folder / "node.log"
    with log.open("ab") as file:
        child = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    deadline = time.monotonic() + READY_S
    while not (folder / "ready.json").exists():
        if child.poll() is not None or time.monotonic() > deadline:
            last = log.read_text(errors="replace").strip().splitlines()[-1:]
            raise Unavailable(
                f"The node did not get into a cell: {' '.join(last) or 'no word from it'}.",
                fix=f"See {log}.",
            )
        time.sleep(0.05)
    (folder / "pid").write_text(f"{child.pid}\n")
    click.echo(f"Node {folder.name} serves in the background (process {child.pid}, log {log}).")
