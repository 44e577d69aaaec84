"""A controller process's configuration: one JSON file, read once."""

from __future__ import annotations

from pathlib import Path

import msgspec

from isochrone.controller.defragmenting import LOOK_EVERY_S
from isochrone.controller.disturbance import MOVES_PER_HOUR
from isochrone.controller.liveness import SETTLE_S
from isochrone.fabric.attested import VALID_MS
from isochrone.rules.fairness_preemption import NOTICE_S
from isochrone.schema.deployment import NO_CHAIN, Deployment
from isochrone.schema.digests import decode
from isochrone.schema.errors import InvalidInput


class ControllerConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which cell it controls, how it reaches the fabric, and where it keeps its documents.

    ``key_path``: the controller's own key (made when missing); two controllers of a cell have two
    keys and two directories. ``tick_s``: how often it looks when nothing tells it to look sooner.
    ``settle_s``: see ``liveness.SETTLE_S``. ``warm_s``: how long a new leader waits for the other
    cells' offers (one a second) before it decides where anything goes. ``ready_file``: written
    once it stands by or leads (JSON: pid, controller, cell). ``ledger``: where money is settled;
    without a chain neither vouchers are signed nor leases put on record. ``spending_key_path``:
    the key that signs vouchers, shared by a cell's controllers (empty: one in ``state_dir``).
    ``validators``: keys of those whose word on final epochs is believed, and whose requests for
    vouchers and records are (none named: anybody's requests, nobody's word on final epochs).
    ``allow_operators``: keys of gateways; those and the validators are believed about where others
    are, nobody else (``fabric.attested``). ``accounts``: key → the bonded account that it works
    for, as the chain says (absent: as it says itself). ``attested_valid_ms``: how long what they
    measured holds. ``notice_s``: how long a replica serves on that must make room for a tenant.
    ``moves_per_hour``: how many running replicas are moved at most, make before break, for others'
    sake (``disturbance``); ``defragment_every_s``: how often it looks whether one should while
    nobody waits.
    """

    key_path: str
    cell: str
    state_dir: str
    fabric_servers: tuple[str, ...]
    fabric_domain: str | None = None
    tick_s: float = 0.1
    settle_s: float = SETTLE_S
    warm_s: float = 1.5
    ledger: Deployment = NO_CHAIN
    spending_key_path: str = ""
    validators: tuple[str, ...] = ()
    allow_operators: tuple[str, ...] = ()
    accounts: dict[str, str] = {}
    attested_valid_ms: int = VALID_MS
    notice_s: float = NOTICE_S
    moves_per_hour: int = MOVES_PER_HOUR
    defragment_every_s: float = LOOK_EVERY_S
    ready_file: str = ""
    log_level: str = "INFO"


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """What the ready file holds."""

    pid: int
    controller: str
    cell: str


def load_config(path: Path) -> ControllerConfig:
    """Read a configuration file; raises InvalidInput with the field that is wrong."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InvalidInput(
            f"The configuration {path} cannot be read: {error.strerror}.",
            fix="Give the path of a controller's configuration file.",
        ) from error
    return decode(data, ControllerConfig, f"configuration {path}")
