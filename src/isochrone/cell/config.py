"""What a cell is made of, and where its files lie: one struct, written as one JSON file.

Layout of ``data_dir``: ``cell.json`` (what runs: see ``record.py``), ``config.json``, and one
folder per part (``fabric``, ``hub``, ``chain``, ``controller-1``, ``gateway-1``, ``validator-1``,
``node-1``) with its key, configuration, ready file, state and ``.log``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from isochrone.fabric.attested import VALID_MS
from isochrone.gateway.config import GatewayLimits, StaticPeer
from isochrone.schema.deployment import NO_CHAIN, Deployment
from isochrone.schema.digests import decode
from isochrone.schema.errors import InvalidInput
from isochrone.schema.node import Offer
from isochrone.schema.place import Place

Port = Annotated[int, Meta(ge=0, le=65535)]
"""0 lets the system choose; the part keeps that port when it is started again."""


class HubConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The cell's hub, which joins it with other cells' fabrics; a cell alone needs none.

    ``port``: where other hubs reach this one, on ``host``. ``peers``: cell → ``host:port`` of its
    hub as reached from here. Every hub must know every other, unknown ones are refused, and all
    share ``password``.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=1, le=65535)]
    password: Annotated[str, Meta(min_length=16)]
    peers: dict[str, str] = {}


class LocalNode(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A node of this machine that runs with the cell. ``provider_key``: path of the key that owns
    it (made when missing); empty: a key in the cell's folder."""

    provider_key: str = ""
    offer: Offer = Offer(cpu_core_microusd_per_hour=20_000, memory_gib_microusd_per_hour=2_000)
    cpu_milli_max: int | None = None
    memory_mib_max: int | None = None


class ValidatorPace(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long the cell's validators wait for what; ``validator.config`` says more of each.

    The defaults suit epochs of an hour; an epoch of seconds needs all of it shorter.
    """

    grace_s: float = 20.0
    exchange_s: float = 5.0
    round_s: float = 120.0
    patience_s: float = 900.0
    poll_s: float = 5.0

    @classmethod
    def short(cls, epoch_s: int) -> ValidatorPace:
        """For epochs of seconds or minutes: gateways still need ten seconds for the last links."""
        return cls(
            grace_s=min(20.0, max(1.0, epoch_s / 3)),
            exchange_s=2.0,
            round_s=max(5.0, epoch_s / 4),
            patience_s=float(epoch_s),
            poll_s=1.0,
        )


class OwnChain(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A chain that runs with the cell, for one machine: its money is worth nothing.

    ``operator_key``: path of the key of the operator's account (made when missing); empty: a key in
    the cell's folder. ``epoch_s``: of the contracts, for ever. ``block_s``: between blocks without
    transactions; two blocks later a block is final. ``port``: 0 lets the system choose.
    """

    operator_key: str = ""
    epoch_s: Annotated[int, Meta(ge=1)] = 3600
    block_s: Annotated[float, Meta(gt=0)] = 12.0
    port: Port = 0


class CellConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One cell on one machine.

    ``http_port`` and ``channel_port``: of the first gateway; further ones take the next ports
    (or any, when 0). ``announce``: "host:port" that nodes and gateways dial for the first
    gateway's channels (empty: as bound). ``resolve``: announced "host:port" of others → as
    reached from here. ``operators``: gateway keys of other cells that may open channels.
    ``probe_port``: of the first gateway, for who is measured; ``watch_port`` and
    ``watch_probe_port``: of the first validator, for nodes' channels and for who is measured;
    further ones take the next ports. They are bound on ``channel_host`` and dialled at the host of
    ``announce``. ``validator_resolve``: as ``resolve``, for the validators (empty: the same).
    ``account``: the operator's bonded account (empty: of the own chain, or none). ``accounts``: of
    other keys that are believed (a gateway's or validator's → its account, as the chain says;
    absent: as it says itself; the cell's own count under the operator's, unless told here).
    ``attested_valid_ms``: how long what vantages measured holds. ``fabric_port``: of the cell's
    fabric server. ``guest_host``: where other people's validators reach it (empty: it listens on
    loopback only and knows no guests). ``ledger``: where money is settled (default: nowhere),
    reached at ``chain_url``; ``own_chain`` makes both at the start, on a chain that runs with the
    cell. ``validators``: so many run here, each on its own bond; ``validator_keys``: addresses of
    others whose news is believed. ``paid_only``: services whose deposit is low are refused.
    """

    name: Annotated[str, Meta(pattern="^[a-z0-9](-?[a-z0-9]){0,30}$")]
    place: Place
    data_dir: str
    http_host: str = "127.0.0.1"
    http_port: Port = 0
    public_url: str = ""
    channel_host: str = "127.0.0.1"
    channel_port: Port = 0
    probe_port: Port = 0
    watch_port: Port = 0
    watch_probe_port: Port = 0
    announce: str = ""
    fabric_port: Port = 0
    guest_host: str = ""
    controllers: Annotated[int, Meta(ge=1, le=3)] = 1
    gateways: Annotated[int, Meta(ge=1, le=16)] = 1
    hub: HubConfig | None = None
    resolve: dict[str, str] = {}
    validator_resolve: dict[str, str] = {}
    account: str = ""
    accounts: dict[str, str] = {}
    attested_valid_ms: Annotated[int, Meta(ge=1000)] = VALID_MS
    operators: tuple[str, ...] = ()
    peers: tuple[StaticPeer, ...] = ()
    admins: tuple[str, ...] = ()
    tenants: tuple[str, ...] = ()
    limits: GatewayLimits = GatewayLimits()
    node: LocalNode | None = None
    ledger: Deployment = NO_CHAIN
    chain_url: str = ""
    own_chain: OwnChain | None = None
    validators: Annotated[int, Meta(ge=0, le=4)] = 0
    validator_keys: tuple[str, ...] = ()
    pace: ValidatorPace = ValidatorPace()
    paid_only: bool = False
    log_level: str = "INFO"

    @property
    def folder(self) -> Path:
        """The data directory."""
        return Path(self.data_dir)


def load_config(path: Path) -> CellConfig:
    """Read a configuration file; raises InvalidInput with the field that is wrong."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InvalidInput(
            f"The configuration {path} cannot be read: {error.strerror}.",
            fix="Start a cell with `isochrone up`.",
        ) from error
    return decode(data, CellConfig, f"configuration {path}")
