"""A gateway process's configuration: one JSON file, read once."""

from __future__ import annotations

from pathlib import Path

import msgspec

from isochrone.fabric.attested import VALID_MS
from isochrone.rules.answers import SHARE_MAX
from isochrone.schema.deployment import NO_CHAIN, Deployment
from isochrone.schema.digests import decode
from isochrone.schema.errors import InvalidInput
from isochrone.schema.place import Place

MIB = 1024 * 1024


class GatewayLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a gateway grants. Each bound says what it protects.

    ``body_bytes_max``: one request's body. ``replay_bytes_max``: up to here a body is kept until
    the first byte of the answer, so that it can be sent again; larger ones stream and are tried
    once. ``buffered_bytes_max``: all kept bodies together. ``in_flight_max``: requests at once
    (beyond it 503), ``in_flight_per_key_max``: of one API key (beyond it 429), so that one tenant
    cannot take them all. ``attempts_max``: replicas tried for one request. ``deadline_ms``: to the
    answer's first byte; a caller may ask for less with ``isochrone-timeout-ms``. ``hold_ms``: how
    long a request waits for a replica when none is usable (a replacement takes seconds);
    ``held_max`` of them, ``held_per_service_max`` of one service, with ``held_bytes_max`` of
    bodies; a service that starts from zero has its own time (``scaling.hold``).
    ``stream_idle_ms``: silence inside a started answer before it is cut.
    ``store_bytes_max``: model files on disk. ``blob_bytes_max``: one model file.
    ``answer_checks_share``: of a consenting service's requests that are asked again, at most.
    """

    body_bytes_max: int = 64 * MIB
    replay_bytes_max: int = 8 * MIB
    buffered_bytes_max: int = 256 * MIB
    in_flight_max: int = 8192
    in_flight_per_key_max: int = 2048
    attempts_max: int = 3
    deadline_ms: int = 30_000
    hold_ms: int = 2_000
    held_max: int = 1024
    held_per_service_max: int = 256
    held_bytes_max: int = 64 * MIB
    stream_idle_ms: int = 60_000
    connections_max: int = 20_000
    channels_max: int = 2_000
    answer_checks_share: float = SHARE_MAX
    blob_bytes_max: int = 64 * 1024 * MIB
    store_bytes_max: int = 256 * 1024 * MIB


class StaticPeer(msgspec.Struct, frozen=True, kw_only=True):
    """Another gateway that is dialled though no presence told of it."""

    gateway: str
    cell: str
    place: Place
    http_url: str
    host: str
    port: int
    fingerprint: str


class GatewayConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a gateway is, whom it knows, and where it keeps things.

    ``public_url``: what clients are told (empty: ``http://http_host:port``). ``announce_host`` and
    ``announce_port``: where nodes and gateways dial its channel door (empty, 0: as bound).
    ``probe_host``, ``probe_port``: plain connections of whoever this gateway measures;
    ``announce_probe_port``: where they dial it, on ``announce_host`` (0: as bound).
    ``account``: the bonded account that this gateway's key works for, as its words on places say
    (empty: none, and they prove nothing). ``remeasure_s``: between two bursts of one subject.
    ``resolve``: "host:port" as announced by others → "host:port" as reached from here.
    ``allow_operators``: gateway keys that may open gateway channels. ``admins``: accounts that see
    every tenant's services. ``tenants``: accounts that may declare services (empty: any).
    ``ledger``: where money is settled. ``chain_url``, ``spending_key`` (an address),
    ``records_urls`` and ``guest_fabric_url`` are only told to whoever asks
    (``GET /isochrone/v1/ledger``). ``validators``: keys whose news of funds and final epochs is
    believed, whose wishes for records are (empty: whoever signs on the fabric, but nobody about
    final epochs), and whose words on places are, beside those of ``allow_operators`` (none named:
    nobody's; ``fabric.attested``). ``accounts``: key → the bonded account that it works for, as the
    chain says (absent: as it says itself). ``attested_valid_ms``: how long such words hold.
    ``paid_only``: a service whose deposit they call low is answered 402.
    """

    key_path: str
    cell: str
    place: Place
    state_dir: str
    http_host: str = "127.0.0.1"
    http_port: int = 0
    public_url: str = ""
    channel_host: str = "127.0.0.1"
    channel_port: int = 0
    announce_host: str = ""
    announce_port: int = 0
    probe_host: str = "127.0.0.1"
    probe_port: int = 0
    announce_probe_port: int = 0
    account: str = ""
    remeasure_s: float = 60.0
    fabric_servers: tuple[str, ...] = ()
    fabric_domain: str | None = None
    resolve: dict[str, str] = {}
    peers: tuple[StaticPeer, ...] = ()
    allow_operators: tuple[str, ...] = ()
    admins: tuple[str, ...] = ()
    tenants: tuple[str, ...] = ()
    limits: GatewayLimits = GatewayLimits()
    ledger: Deployment = NO_CHAIN
    chain_url: str = ""
    spending_key: str = ""
    records_urls: tuple[str, ...] = ()
    guest_fabric_url: str = ""
    validators: tuple[str, ...] = ()
    accounts: dict[str, str] = {}
    attested_valid_ms: int = VALID_MS
    paid_only: bool = False
    ready_file: str = ""
    log_level: str = "INFO"


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """What the ready file holds once the process serves."""

    pid: int
    gateway: str
    cell: str
    http_host: str
    http_port: int
    channel_host: str
    channel_port: int
    fingerprint: str
    probe_host: str = ""
    probe_port: int = 0


def load_config(path: Path) -> GatewayConfig:
    """Read a configuration file; raises InvalidInput with the field that is wrong."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InvalidInput(
            f"The configuration {path} cannot be read: {error.strerror}.",
            fix="Give the path of a gateway's configuration file.",
        ) from error
    return decode(data, GatewayConfig, f"configuration {path}")
