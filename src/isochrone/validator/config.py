"""A validator process's configuration: one JSON file, read once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from isochrone.schema.deployment import Deployment
from isochrone.schema.digests import decode
from isochrone.schema.errors import InvalidInput
from isochrone.schema.place import Place
from isochrone.wire.resolving import resolved

Port = Annotated[int, Meta(ge=0, le=65535)]


class ValidatorConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which deployment it settles, how it reaches chain and fabric, where it keeps and serves.

    ``key_path``: the key that votes for the bond. ``wallet_path``: the key whose ether pays for
    transactions (empty: the voting key). ``chain_urls``: JSON-RPC servers; what several are asked
    must agree. ``cell``: the one whose fabric it joins; records come from all cells that this one
    sees. ``public_url``: where others read its store (empty: as bound). ``stores``: other
    validators' stores, besides those that are heard of.

    ``grace_s``: from an epoch's end to its cut-off; gateways need two periods (10 s) for the last
    links. ``exchange_s``: from the cut-off to the first round: what one of us has, all get.
    ``round_s``: a proposer's turn; above the time to redeem, to be final, and to recompute.
    ``patience_s``: how long a controller that does not answer for vouchers is waited for.
    ``poll_s``: how often the chain is looked at.

    ``place``: where it stands, to measure where others are (absent: it measures nobody).
    ``channel_host``, ``channel_port``: where nodes keep channels to it; ``probe_host``,
    ``probe_port``: plain connections of whoever it measures (ports 0: any). ``announce_host``,
    ``announce_channel_port``, ``announce_probe_port``: where these are dialled (empty, 0: as
    bound). ``resolve``: "host:port" as announced by others → as reached from here.
    ``remeasure_s``: between two bursts of one subject.
    """

    key_path: str
    wallet_path: str = ""
    cell: str
    state_dir: str
    fabric_servers: tuple[str, ...]
    fabric_domain: str | None = None
    ledger: Deployment
    chain_urls: Annotated[tuple[str, ...], Meta(min_length=1)]
    http_host: str = "127.0.0.1"
    http_port: Annotated[int, Meta(ge=0, le=65535)] = 0
    public_url: str = ""
    stores: tuple[str, ...] = ()
    grace_s: Annotated[float, Meta(ge=0)] = 20.0
    exchange_s: Annotated[float, Meta(ge=0)] = 5.0
    round_s: Annotated[float, Meta(gt=0)] = 120.0
    patience_s: Annotated[float, Meta(ge=0)] = 900.0
    poll_s: Annotated[float, Meta(gt=0)] = 5.0
    place: Place | None = None
    channel_host: str = "127.0.0.1"
    channel_port: Port = 0
    probe_host: str = "127.0.0.1"
    probe_port: Port = 0
    announce_host: str = ""
    announce_channel_port: Port = 0
    announce_probe_port: Port = 0
    resolve: dict[str, str] = {}
    remeasure_s: Annotated[float, Meta(gt=0)] = 60.0
    ready_file: str = ""
    log_level: str = "INFO"

    def dial_address(self, host: str, port: int) -> tuple[str, int]:
        """Where an announced address is really dialled."""
        return resolved(self.resolve, host, port)


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """What the ready file holds. ``url``: of its store and ``/healthz``. Ports and fingerprint as
    bound, 0 and empty where it is no vantage."""

    pid: int
    validator: str
    cell: str
    url: str
    channel_host: str = ""
    channel_port: int = 0
    fingerprint: str = ""
    probe_host: str = ""
    probe_port: int = 0


def load_config(path: Path) -> ValidatorConfig:
    """Read a configuration file; raises InvalidInput with the field that is wrong."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InvalidInput(
            f"The configuration {path} cannot be read: {error.strerror}.",
            fix="Give the path of a validator's configuration file.",
        ) from error
    return decode(data, ValidatorConfig, f"configuration {path}")
