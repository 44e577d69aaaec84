"""``isochrone validate URL``: be a validator of the network that a gateway's cell settles on.

One command: it posts the bond if there is none yet (``--bond``), joins the cell's fabric as a guest
(the operator allows it with ``up --guests HOST``), follows the chain, keeps and checks records,
signs roots, and, with ``--place``, is a vantage that measures nodes. No GPU is needed. It runs in
the foreground until it is interrupted, or in the background with ``--detach``;
``isochrone down --validator`` ends it. What it earns, ``isochrone earnings --role validator`` says.

A cell believes what validators say about places only of those that its operator names
(``up --validator-key ADDRESS``); for books and pay every bonded validator counts.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import click
import msgspec

from isochrone.cell.running import Running, end, running
from isochrone.cli.chain_context import DOLLARS, Money, dollars
from isochrone.cli.context import key_path, output_option, resolve_map
from isochrone.cli.tables import print_json
from isochrone.cli.validating import STOP_GRACE_S, folder, remember, running_validator
from isochrone.schema.errors import Conflict, InvalidInput, Unavailable
from isochrone.schema.identity import PrivateKey
from isochrone.schema.settling import LedgerView

READY_S = 30.0
POLL_S = 0.05


@click.command("validate")
@click.argument("url")
@click.option(
    "--place",
    "place_name",
    metavar="LAT,LON|CITY",
    help="Where this machine stands, to a kilometre: measure nodes from here.",
)
@click.option("--bond", type=DOLLARS, metavar="USD", help="Bond so much if there is no bond yet.")
@click.option("--chain", "chain_urls", metavar="URL", multiple=True, help="JSON-RPC of the chain.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address that others reach.")
@click.option("--detach", is_flag=True, help="Run in the background.")
@output_option
def command(
    url: str,
    place_name: str | None,
    bond: int | None,
    chain_urls: tuple[str, ...],
    host: str,
    detach: bool,
    output: str,
) -> None:
    """Measure nodes, check the books and sign them, for pay."""
    if output == "json" and not detach:
        raise click.UsageError("-o json goes with --detach: in the foreground it logs.")
    known = running_validator()
    if known is not None:
        raise Conflict(
            f"A validator of this home runs already (process {known.pid}).",
            fix="End it with `isochrone down --validator`.",
        )
    money = Money(url, chain_urls, None)
    key = PrivateKey.load_or_create(key_path("validator"))
    path = _configure(money, place_name, host)  # whatever is wrong there costs no bond
    _see_to_bond(money, key, bond)
    arguments = [sys.executable, "-m", "isochrone.validator", str(path)]
    if detach:
        _detach(arguments, key.address, as_json=output == "json")
        return
    click.echo(f"Validating as {key.address} from {folder()}; Ctrl-C leaves.", err=True)
    itself = running(os.getpid())  # stays the same process when it becomes the validator
    if itself is not None:
        remember(itself)
    os.execv(sys.executable, arguments)


def _see_to_bond(money: Money, key: PrivateKey, bond: int | None) -> None:
    bonds = money.contracts.bonds
    if bonds.voting_key(key.address, "validator"):
        money.fuel(key)
        return
    if bond is None:
        raise InvalidInput(
            f"{key.address} has no bond as a validator.",
            fix="Say how much it bonds: --bond 100 (the least, unless the contracts say more).",
            code="no_bond",
        )
    money.fuel(key, bond)
    bonds.register(key, "validator", bond)
    click.echo(
        f"Bonded {dollars(bond)} as validator {key.address}; it votes from the second epoch on.",
        err=True,
    )


def _configure(money: Money, place_name: str | None, host: str) -> Path:
    """Write the process's configuration; raises InvalidInput where guests are not let in."""
    from isochrone.atlas.cities import place_named
    from isochrone.cell.config import ValidatorPace
    from isochrone.validator.config import ValidatorConfig

    view: LedgerView = money.view
    if not view.fabric_url:
        raise InvalidInput(
            f"The cell {view.cell} lets no other people's validators join its fabric.",
            fix="Its operator allows it with `isochrone up --guests HOST`.",
            code="no_guests",
        )
    epoch_s = money.deployment.epoch_s
    pace = ValidatorPace() if epoch_s >= 600 else ValidatorPace.short(epoch_s)
    told = ValidatorConfig(
        key_path=str(key_path("validator")),
        cell=view.cell,
        state_dir=str(folder() / "state"),
        fabric_servers=(view.fabric_url,),
        ledger=money.deployment,
        chain_urls=money.urls,
        http_host=host,
        place=place_named(place_name) if place_name else None,
        channel_host=host,
        probe_host=host,
        resolve=resolve_map(),
        stores=view.records_urls,
        ready_file=str(folder() / "ready.json"),
        **msgspec.structs.asdict(pace),
    )
    folder().mkdir(parents=True, exist_ok=True)
    (folder() / "ready.json").unlink(missing_ok=True)
    path = folder() / "config.json"
    path.touch(mode=0o600)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(told), indent=2) + b"\n")
    return path


def _detach(arguments: list[str], address: str, *, as_json: bool) -> None:
    log = folder() / "validator.log"
    with log.open("wb") as file:
        child = subprocess.Popen(
            arguments, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
        )
    process = running(child.pid) or Running(child.pid, 0.0)
    deadline_s = time.monotonic() + READY_S
    while not (folder() / "ready.json").exists():
        if child.poll() is not None or time.monotonic() > deadline_s:
            last = log.read_text(errors="replace").strip().splitlines()[-1:]
            end(process, STOP_GRACE_S)
            child.wait()
            raise Unavailable(
                f"The validator did not start. {' '.join(last)}".strip(), fix=f"{log}"
            )
        time.sleep(POLL_S)
    remember(process)
    if as_json:
        print_json({"validator": address, "pid": child.pid, "log": str(log)})
        return
    click.echo(f"Validating as {address} in the background (process {child.pid}, log {log}).")
    click.echo("Next:  isochrone settle\n       isochrone earnings --role validator")
