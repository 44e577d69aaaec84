"""What a node is told when it starts: one JSON file, checked whole before anything happens.

``isochrone join`` writes it. Everything else a node needs it detects (``hardware``) or is ordered
(``leases``). Paths are used as written; relative ones are relative to the working directory.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from isochrone.rules.work_budget import GAP_S
from isochrone.schema.deployment import NO_CHAIN, Deployment
from isochrone.schema.documents import NODE_GRANT, unpack, unseal
from isochrone.schema.errors import InvalidInput, IsochroneError
from isochrone.schema.identity import PrivateKey
from isochrone.schema.node import NodeGrant
from isochrone.wire.resolving import resolved

Port = Annotated[int, Meta(ge=1, le=65535)]


class DoorAddress(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A gateway's channel door, pinned by its certificate's fingerprint (SHA-256 hex)."""

    host: str
    port: Port
    fingerprint: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]

    @property
    def address(self) -> str:
        """``host:port``, the key of the resolve map."""
        return f"{self.host}:{self.port}"


class UpstreamServer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An inference server that the provider already runs and offers under a name of its own.

    A declaration chooses one by its option ``upstream``; it can never bring a URL, so that no
    tenant makes a node reach into its provider's network.
    """

    base_url: str
    api: Literal["openai", "oip"] = "openai"
    api_key: str = ""


class NodeConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One node process.

    ``grant_path``: the packed signed ``NodeGrant`` of the provider. ``state_dir``: model cache and
    logs; one process at a time. ``doors``: at least one door of every cell that may become home.
    ``cells``: the cells allowed as home (empty: any that lets the node in). ``resolve``:
    announced ``host:port`` → the ``host:port`` to dial instead (NAT, hairpins).
    ``cpu_milli_max`` and ``memory_mib_max`` cut what is offered. ``engines``: those to offer,
    where they can run. ``upstreams``: servers of the provider, by name. ``spare_workers``: idle
    engine workers kept started for fast cold starts, from the first ONNX lease on (0 or 1).
    ``work_memory_mib_max``: memory that validators may have filled, between leases, to see what the
    machine can do (0: none; the node stays unmeasured). ``work_mflops_max``: claims no more speed
    than this (0: as measured at the start); where one machine runs several nodes each must claim
    its share. ``work_gap_s``: between two such works for one validator.
    ``ledger``: where money is settled; tallies are signed for it and for no other deployment.
    ``ready_file``: written, whole, when the node is connected to its home. ``seed``: of the jitter
    of reconnects; none: the operating system's randomness.
    """

    key_path: str
    grant_path: str
    state_dir: str
    doors: Annotated[tuple[DoorAddress, ...], Meta(min_length=1, max_length=256)]
    cells: tuple[str, ...] = ()
    resolve: dict[str, str] = {}
    cache_quota_bytes: Annotated[int, Meta(ge=0)] = 20 * 1024**3
    cpu_milli_max: Annotated[int, Meta(ge=100)] | None = None
    memory_mib_max: Annotated[int, Meta(ge=64)] | None = None
    engines: tuple[Literal["onnx", "llamacpp", "upstream"], ...] = ("onnx", "llamacpp", "upstream")
    upstreams: dict[str, UpstreamServer] = {}
    spare_workers: Annotated[int, Meta(ge=0, le=1)] = 1
    work_memory_mib_max: Annotated[int, Meta(ge=0)] = 0
    work_mflops_max: Annotated[int, Meta(ge=0)] = 0
    work_gap_s: Annotated[float, Meta(ge=0)] = GAP_S
    ledger: Deployment = NO_CHAIN
    ready_file: str = ""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    seed: int | None = None

    def dial_address(self, host: str, port: int) -> tuple[str, int]:
        """Where an announced door is really dialled: through the resolve map when it is there."""
        return resolved(self.resolve, host, port)


class Papers(msgspec.Struct, frozen=True, kw_only=True):
    """A node's identity, checked: its grant, the provider who signed it, and the packed bytes."""

    grant: NodeGrant
    provider: str
    packed: bytes


def read_config(path: Path) -> NodeConfig:
    """The checked configuration. Raises InvalidInput with the field that is wrong."""
    try:
        config = msgspec.json.decode(path.read_bytes(), type=NodeConfig)
    except OSError as error:
        raise InvalidInput(
            f"The node's configuration {path} cannot be read: {error.strerror}.",
            fix="Make one with `isochrone join`.",
        ) from error
    except msgspec.DecodeError as error:
        raise InvalidInput(f"The node's configuration {path} is wrong: {error}.") from error
    for announced, target in config.resolve.items():
        if not target.rpartition(":")[2].isdigit() or ":" not in announced:
            raise InvalidInput(
                f"resolve: {announced!r} → {target!r} is not a pair of addresses.",
                fix='Write "host:port": "host:port".',
            )
    return config


def read_key(config: NodeConfig) -> PrivateKey:
    """The node's key. Raises InvalidInput when the file is missing or holds something else."""
    path = Path(config.key_path)
    if not path.exists():
        raise InvalidInput(f"The node's key {path} does not exist.", fix="Run `isochrone join`.")
    return PrivateKey.load_or_create(path)


def read_papers(config: NodeConfig, key: PrivateKey) -> Papers:
    """The grant beside the key. Raises InvalidInput or Unauthorized, with what to do."""
    fix = "Run `isochrone join` again with the provider's key."
    try:
        packed = Path(config.grant_path).read_bytes()
    except OSError as error:
        raise InvalidInput(
            f"The node's grant {config.grant_path} cannot be read: {error.strerror}.", fix=fix
        ) from error
    try:
        grant, provider = unseal(unpack(packed), NODE_GRANT, NodeGrant)
    except IsochroneError as error:
        error.fix = error.fix or fix
        raise
    if grant.node != key.address:
        raise InvalidInput(
            f"The grant {config.grant_path} is for node {grant.node}, this key is {key.address}.",
            fix=fix,
        )
    return Papers(grant=grant, provider=provider, packed=packed)
