"""How each part of a cell is run: its folder, its configuration file, its command.

Everything a part is told stands in one JSON file (the fabric server's in NATS's own format), so a
part can be started by hand with the same line: ``python -m isochrone.gateway FOLDER/config.json``.
"""

from __future__ import annotations

import secrets
import sys
from pathlib import Path

import msgspec

from isochrone.cell.child import ChildSpec
from isochrone.cell.config import CellConfig
from isochrone.cell.ports import Ports
from isochrone.controller.config import ControllerConfig
from isochrone.fabric.server import (
    Credentials,
    HubSpec,
    ServerSpec,
    client_url,
    guest_url,
    hub_config,
    server_binary,
    server_config,
)
from isochrone.gateway.config import GatewayConfig
from isochrone.node.config import DoorAddress
from isochrone.node.enrol import enrol
from isochrone.schema.identity import PrivateKey
from isochrone.validator.config import ValidatorConfig

LOOPBACK = "127.0.0.1"
"""Fabric servers listen here only: everything inside a cell of this kind is one machine."""


EVERYWHERE = "0.0.0.0"
"""All addresses of the machine: parts connect by loopback, guests by whichever reaches it."""


class FabricParts(msgspec.Struct, frozen=True, kw_only=True):
    """The cell's fabric servers in the order of their start, the URL that parts use, and the one
    that other people's validators use (empty: they may not)."""

    specs: tuple[ChildSpec, ...]
    url: str
    guest_url: str = ""


def fabric_parts(config: CellConfig, ports: Ports) -> FabricParts:
    """The fabric server, behind a hub when the cell has neighbours. Writes their configuration."""
    credentials = _credentials(config)
    specs: list[ChildSpec] = []
    leaf_of = 0
    if config.hub is not None:
        leaf_of = ports.take("hub leaf", LOOPBACK)
        hub = HubSpec(
            cell=config.name,
            folder=str(config.folder / "hub"),
            credentials=credentials,
            others=config.hub.peers,
            host=LOOPBACK,
            port=ports.take("hub", LOOPBACK),
            leaf_port=leaf_of,
            gateway_port=ports.take("hub gateway", config.hub.host, config.hub.port),
        )
        specs.append(_nats(config, "hub", hub_config(hub)))
    port = ports.take("fabric", LOOPBACK, config.fabric_port)
    guests = config.guest_host
    server = ServerSpec(
        cell=config.name,
        folder=str(config.folder / "fabric"),
        credentials=credentials if guests else msgspec.structs.replace(credentials, guest=""),
        host=EVERYWHERE if guests not in ("", LOOPBACK) else LOOPBACK,
        port=port,
        leaf_of=leaf_of,
        guarded=(*gateway_keys(config), *own_validators(config)),
    )
    specs.append(_nats(config, "fabric", server_config(server)))
    return FabricParts(
        specs=tuple(specs),
        url=client_url(LOOPBACK, port, credentials),
        guest_url=guest_url(guests, port, credentials) if guests else "",
    )


def controller_part(config: CellConfig, number: int, fabric_url: str) -> ChildSpec:
    """Controller ``number`` (from 1)."""
    name = f"controller-{number}"
    folder = config.folder / name
    told = ControllerConfig(
        key_path=str(folder / "controller.key"),
        cell=config.name,
        state_dir=str(folder / "state"),
        fabric_servers=(fabric_url,),
        fabric_domain=config.name,
        ledger=config.ledger,
        spending_key_path=str(spending_key_path(config)),
        validators=believed(config),
        allow_operators=gateway_keys(config),
        accounts=accounts(config),
        attested_valid_ms=config.attested_valid_ms,
        ready_file=str(folder / "ready.json"),
        log_level=config.log_level,
    )
    return python_part(name, folder, "isochrone.controller", told)


def spending_key_path(config: CellConfig) -> Path:
    """The key that signs tenants' vouchers: one for all controllers of the cell."""
    return config.folder / "spending.key"


def controller_key(config: CellConfig, number: int) -> PrivateKey:
    """The key of controller ``number`` (from 1); made when it does not exist."""
    return PrivateKey.load_or_create(config.folder / f"controller-{number}" / "controller.key")


def validator_key(config: CellConfig, number: int) -> PrivateKey:
    """The key of validator ``number`` (from 1), which votes for its bond; made when missing."""
    return PrivateKey.load_or_create(config.folder / f"validator-{number}" / "validator.key")


def believed(config: CellConfig) -> tuple[str, ...]:
    """The validators whose news this cell believes: its own and those it names."""
    return (*own_validators(config), *config.validator_keys)


def own_validators(config: CellConfig) -> tuple[str, ...]:
    """The keys of the validators that run in this cell."""
    return tuple(validator_key(config, number + 1).address for number in range(config.validators))


def validator_port(config: CellConfig, number: int, ports: Ports) -> int:
    """Where validator ``number`` serves its records."""
    return ports.take(f"validator-{number} HTTP", config.http_host)


def validator_part(config: CellConfig, number: int, fabric_url: str, ports: Ports) -> ChildSpec:
    """Validator ``number`` (from 1)."""
    name = f"validator-{number}"
    folder = config.folder / name
    validator_key(config, number)
    told = ValidatorConfig(
        key_path=str(folder / "validator.key"),
        cell=config.name,
        state_dir=str(folder / "state"),
        fabric_servers=(fabric_url,),
        fabric_domain=config.name,
        ledger=config.ledger,
        chain_urls=(config.chain_url,),
        http_host=config.http_host,
        http_port=validator_port(config, number, ports),
        grace_s=config.pace.grace_s,
        exchange_s=config.pace.exchange_s,
        round_s=config.pace.round_s,
        patience_s=config.pace.patience_s,
        poll_s=config.pace.poll_s,
        place=config.place,
        channel_host=config.channel_host,
        channel_port=ports.take(
            f"{name} channels", config.channel_host, _nth(config.watch_port, number)
        ),
        probe_host=config.channel_host,
        probe_port=ports.take(
            f"{name} probes", config.channel_host, _nth(config.watch_probe_port, number)
        ),
        announce_host=config.announce.rpartition(":")[0],
        resolve=config.validator_resolve or config.resolve,
        ready_file=str(folder / "ready.json"),
        log_level=config.log_level,
    )
    return python_part(name, folder, "isochrone.validator", told)


def gateway_key(config: CellConfig, number: int) -> PrivateKey:
    """The key of gateway ``number`` (from 1); made when it does not exist."""
    return PrivateKey.load_or_create(config.folder / f"gateway-{number}" / "gateway.key")


def operator_account(config: CellConfig) -> str:
    """The bonded account that the cell's gateways work for; empty: none is known."""
    if config.account or config.own_chain is None:
        return config.account
    path = config.own_chain.operator_key or str(config.folder / "operator.key")
    return PrivateKey.load_or_create(Path(path)).address


def gateway_keys(config: CellConfig) -> tuple[str, ...]:
    """The gateways that this cell knows: its own and those of other cells that it names."""
    own = (gateway_key(config, number + 1).address for number in range(config.gateways))
    return tuple(dict.fromkeys((*own, *config.operators)))


def accounts(config: CellConfig) -> dict[str, str]:
    """Key → the account that it counts under: as told, and the operator's for all of the cell's own
    gateways and validators. Whoever runs the machine is one voice, however many bonds it has (of an
    operator whose account is unknown: the first validator's)."""
    account = operator_account(config)
    gateways = [gateway_key(config, number + 1).address for number in range(config.gateways)]
    validators = own_validators(config)
    known = dict.fromkeys(gateways, account) if account else {}
    known |= dict.fromkeys(validators, account or validators[0] if validators else "")
    return known | config.accounts


def gateway_part(config: CellConfig, number: int, fabric: FabricParts, ports: Ports) -> ChildSpec:
    """Gateway ``number`` (from 1)."""
    name = f"gateway-{number}"
    folder = config.folder / name
    validators = range(1, config.validators + 1)
    announced = config.announce if number == 1 else ""
    announce_host, _, announce_port = announced.rpartition(":")
    told = GatewayConfig(
        key_path=str(folder / "gateway.key"),
        cell=config.name,
        place=config.place,
        state_dir=str(folder / "state"),
        http_host=config.http_host,
        http_port=ports.take(f"{name} HTTP", config.http_host, _nth(config.http_port, number)),
        public_url=config.public_url if number == 1 else "",
        channel_host=config.channel_host,
        channel_port=ports.take(
            f"{name} channels", config.channel_host, _nth(config.channel_port, number)
        ),
        announce_host=announce_host,
        announce_port=int(announce_port or 0),
        probe_host=config.channel_host,
        probe_port=ports.take(
            f"{name} probes", config.channel_host, _nth(config.probe_port, number)
        ),
        account=operator_account(config),
        fabric_servers=(fabric.url,),
        fabric_domain=config.name,
        resolve=config.resolve,
        peers=config.peers,
        allow_operators=gateway_keys(config),
        admins=config.admins,
        tenants=config.tenants,
        limits=config.limits,
        ledger=config.ledger,
        chain_url=config.chain_url,
        spending_key=PrivateKey.load_or_create(spending_key_path(config)).address
        if config.ledger.settles
        else "",
        records_urls=tuple(
            f"http://{config.http_host}:{validator_port(config, one, ports)}" for one in validators
        ),
        guest_fabric_url=fabric.guest_url,
        validators=believed(config),
        accounts=accounts(config),
        attested_valid_ms=config.attested_valid_ms,
        paid_only=config.paid_only,
        ready_file=str(folder / "ready.json"),
        log_level=config.log_level,
    )
    return python_part(name, folder, "isochrone.gateway", told)


def node_part(config: CellConfig, door: DoorAddress) -> ChildSpec:
    """The local node, enrolled by its provider's key; ``config.node`` must be there."""
    local = config.node
    assert local is not None
    name = "node-1"
    folder = config.folder / name
    provider = Path(local.provider_key) if local.provider_key else config.folder / "provider.key"
    path = enrol(
        folder,
        provider=PrivateKey.load_or_create(provider),
        place=config.place,
        offer=local.offer,
        doors=(door,),
        cpu_milli_max=local.cpu_milli_max,
        memory_mib_max=local.memory_mib_max,
        resolve=config.resolve,
        ledger=config.ledger,
    )
    return ChildSpec(
        name=name,
        argv=(sys.executable, "-m", "isochrone.node", str(path)),
        log_path=folder / f"{name}.log",
        ready_file=folder / "ready.json",
    )


def _nth(first_port: int, number: int) -> int:
    return first_port + number - 1 if first_port else 0


def python_part(name: str, folder: Path, module: str, told: msgspec.Struct) -> ChildSpec:
    """A part that is one of our modules, told everything by a JSON file that is written here."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "config.json"
    path.touch(mode=0o600)  # it holds the fabric's password
    path.write_bytes(msgspec.json.format(msgspec.json.encode(told), indent=2) + b"\n")
    return ChildSpec(
        name=name,
        argv=(sys.executable, "-m", module, str(path)),
        log_path=folder / f"{name}.log",
        ready_file=folder / "ready.json",
    )


def _nats(config: CellConfig, name: str, text: str) -> ChildSpec:
    folder = config.folder / name
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "nats.conf"
    path.touch(mode=0o600)
    path.write_text(text)
    return ChildSpec(
        name=name,
        argv=(server_binary(), "-c", str(path)),
        log_path=folder / "nats.log",
        ready_file=folder / "nats-server_*.ports",
        word="[FTL]",
    )


def _credentials(config: CellConfig) -> Credentials:
    """The fabric's passwords: drawn once, kept beside its data."""
    path = config.folder / "credentials.json"
    try:
        kept = msgspec.json.decode(path.read_bytes(), type=Credentials)
    except (OSError, msgspec.DecodeError):
        kept = Credentials(
            client=secrets.token_hex(16),
            system=secrets.token_hex(16),
            guest=secrets.token_hex(16),
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_bytes(msgspec.json.encode(kept))
    gateway = config.hub.password if config.hub else ""
    return msgspec.structs.replace(kept, gateway=gateway)
