"""A validator process's configuration: one JSON file, read once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from isochrone.schema.digests import decode
from isochrone.schema.errors import InvalidInput
from isochrone.schema.settlement import Deployment


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
    ready_file: str = ""
    log_level: str = "INFO"


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """What the ready file holds. ``url``: of its store and ``/healthz``."""

    pid: int
    validator: str
    cell: str
    url: str


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
