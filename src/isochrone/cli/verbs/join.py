"""``isochrone join URL``: offer this machine to the cell behind a gateway's URL.

The node gets a key of its own; the provider's key signs a grant for it (place, prices, limits).
The node dials out over TLS to the cell's gateways, whose certificates are pinned by the
fingerprints that the URL's door tells, and opens no port. It runs in the foreground until it is
interrupted, or in the background with ``--detach``; ``isochrone down --node NAME`` ends either.
More URLs offer more cells to be at home in; the nearest wins.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import click

from isochrone.cell.running import Running, end, running
from isochrone.cli.context import load_key, output_option, public_admin, resolve_map
from isochrone.cli.joined import JOIN_GRACE_S, joined, node_folder, remember
from isochrone.cli.tables import print_json
from isochrone.node.config import DoorAddress
from isochrone.node.enrol import enrol
from isochrone.schema.deployment import Deployment
from isochrone.schema.errors import Conflict, InvalidInput, Unavailable
from isochrone.schema.node import Offer
from isochrone.schema.service import NAME

READY_S = 20.0
POLL_S = 0.02


@click.command("join")
@click.argument("urls", nargs=-1, required=True, metavar="URL...")
@click.option(
    "--place",
    "place_name",
    required=True,
    metavar="CITY|LAT,LON",
    help="Where this machine stands: a city of the atlas, or LATITUDE,LONGITUDE.",
)
@click.option("--name", default="node", show_default=True, help="This node's name on this machine.")
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
@click.option(
    "--work-memory-mib",
    default=256,
    show_default=True,
    type=click.IntRange(0, 1 << 20),
    help="Idle memory that validators may fill to see what the machine can do; 0: none. More "
    "proves more; several nodes of one machine look like one device sold several times.",
)
@click.option("--detach", is_flag=True, help="Run in the background.")
@click.option("--key", metavar="FILE", help="The provider's key file.")
@output_option
def command(
    urls: tuple[str, ...],
    place_name: str,
    name: str,
    price_core: float,
    price_gib: float,
    price_gpu: float,
    cpus: float | None,
    memory_mib: int | None,
    work_memory_mib: int,
    detach: bool,
    key: str | None,
    output: str,
) -> None:
    """Offer this machine to a cell as a node."""
    from isochrone.atlas.cities import place_named

    offer = Offer(
        cpu_core_microusd_per_hour=round(price_core * 1e6),
        memory_gib_microusd_per_hour=round(price_gib * 1e6),
        gpu_microusd_per_hour=round(price_gpu * 1e6),
    )
    if output == "json" and not detach:
        raise click.UsageError("-o json goes with --detach: in the foreground the node logs.")
    _check_name(name)
    folder = node_folder(name)
    config_path = enrol(
        folder,
        provider=load_key("provider", key),
        place=place_named(place_name),
        offer=offer,
        doors=_doors(urls),
        ledger=_ledger(urls),
        cpu_milli_max=round(cpus * 1000) if cpus else None,
        memory_mib_max=memory_mib,
        work_memory_mib_max=work_memory_mib,
        resolve=resolve_map(),
    )
    arguments = [sys.executable, "-m", "isochrone.node", str(config_path)]
    if detach:
        _detach(arguments, name, as_json=output == "json")
        return
    click.echo(f"Joining from {folder}; Ctrl-C leaves.", err=True)
    itself = running(os.getpid())  # stays the same process when it becomes the node
    if itself is not None:
        remember(name, itself)
    os.execv(sys.executable, arguments)


def _check_name(name: str) -> None:
    if not NAME.fullmatch(name):
        raise InvalidInput(
            f"{name[:80]!r} is no name for a node.",
            fix="Use 1-63 lower-case letters, digits and inner hyphens.",
        )
    if name in joined():
        raise Conflict(
            f"The node {name} runs already (process {joined()[name].pid}).",
            fix=f"End it with `isochrone down --node {name}`, or give this one another --name.",
        )


def _doors(urls: tuple[str, ...]) -> tuple[DoorAddress, ...]:
    found = []
    for url in urls:
        with public_admin(url) as client:
            found += [
                DoorAddress(host=d.host, port=d.port, fingerprint=d.fingerprint)
                for d in client.door().doors
            ]
    return tuple(found)


def _ledger(urls: tuple[str, ...]) -> Deployment:
    """The deployment that the cells settle on; raises InvalidInput when they differ."""
    found = {}
    for url in urls:
        with public_admin(url) as client:
            found[client.ledger().deployment] = url
    if len(found) > 1:
        raise InvalidInput(
            f"The cells behind {' and '.join(found.values())} do not settle on the same contracts.",
            fix="A node signs its tallies for one deployment: join those of one.",
        )
    return next(iter(found))


def _detach(arguments: list[str], name: str, *, as_json: bool) -> None:
    log = node_folder(name) / "node.log"
    with log.open("wb") as file:
        child = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    process = running(child.pid)
    try:
        _wait_ready(child, name, log)
    except BaseException:
        if process is not None:
            end(process, JOIN_GRACE_S)
        child.wait()
        raise
    remember(name, process or Running(child.pid, 0.0))
    if as_json:
        print_json({"node": name, "pid": child.pid, "log": str(log)})
        return
    click.echo(f"Node {name} serves in the background (process {child.pid}, log {log}).")
    click.echo(f"Next:  isochrone nodes\n       isochrone down --node {name}")


def _wait_ready(child: subprocess.Popen[bytes], name: str, log: Path) -> None:
    deadline = time.monotonic() + READY_S
    while not (node_folder(name) / "ready.json").exists():
        if child.poll() is not None or time.monotonic() > deadline:
            last = log.read_text(errors="replace").strip().splitlines()[-1:]
            raise Unavailable(
                f"The node {name} did not get into a cell. {' '.join(last)}".strip(),
                fix=f"See {log} and {log.parent / 'state' / 'logs'}.",
            )
        time.sleep(POLL_S)
