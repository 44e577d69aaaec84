"""What parts are told: whose word about money a cell believes."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from isochrone.cell import parts
from isochrone.cell.config import CellConfig, OwnChain
from isochrone.cell.ports import Ports
from isochrone.controller.config import ControllerConfig
from isochrone.gateway.config import GatewayConfig
from isochrone.schema.deployment import Deployment
from isochrone.schema.identity import PrivateKey
from isochrone.schema.place import Place
from isochrone.validator.config import ValidatorConfig

PLACE = Place(latitude=50.11, longitude=8.68, country="DE", metro="frankfurt")
CHAIN = Deployment(chain_id=31337, bonds="0x" + "b" * 40, genesis_unix_s=1)
ELSEWHERE = ("0x" + "aa" * 20, "0x" + "bb" * 20)


@pytest.mark.parametrize("own", [0, 2])
@pytest.mark.parametrize("elsewhere", [(), ELSEWHERE])
def test_controllers_and_gateways_believe_the_same_validators(
    tmp_path: Path, own: int, elsewhere: tuple[str, ...]
) -> None:
    config = CellConfig(
        name="fra",
        place=PLACE,
        data_dir=str(tmp_path),
        controllers=2,
        gateways=2,
        ledger=CHAIN,
        validators=own,
        validator_keys=elsewhere,
    )
    ports = Ports(tmp_path)
    fabric = parts.FabricParts(specs=(), url="nats://nowhere")
    expected = [parts.validator_key(config, n + 1).address for n in range(own)] + list(elsewhere)
    for number in (1, 2):
        parts.controller_part(config, number, "nats://nowhere")
        parts.gateway_part(config, number, fabric, ports)
        for name, kind in (("controller", ControllerConfig), ("gateway", GatewayConfig)):
            data = (tmp_path / f"{name}-{number}" / "config.json").read_bytes()
            assert list(msgspec.json.decode(data, type=kind).validators) == expected


def test_gateways_and_validators_are_told_where_they_are_measured_and_for_whom(
    tmp_path: Path,
) -> None:
    config = CellConfig(
        name="fra",
        place=PLACE,
        data_dir=str(tmp_path),
        gateways=2,
        validators=2,
        ledger=CHAIN,
        chain_url="http://nowhere",
        own_chain=OwnChain(),
        announce="cell.example:443",
        resolve={"a:1": "b:2"},
    )
    ports = Ports(tmp_path)
    fabric = parts.FabricParts(specs=(), url="nats://nowhere")
    account = PrivateKey.load_or_create(tmp_path / "operator.key").address
    seen = set()
    for number in (1, 2):
        parts.gateway_part(config, number, fabric, ports)
        told = (tmp_path / f"gateway-{number}" / "config.json").read_bytes()
        gateway = msgspec.json.decode(told, type=GatewayConfig)
        parts.validator_part(config, number, "nats://nowhere", ports)
        told = (tmp_path / f"validator-{number}" / "config.json").read_bytes()
        validator = msgspec.json.decode(told, type=ValidatorConfig)
        assert gateway.account == account
        assert (validator.place, validator.announce_host) == (PLACE, "cell.example")
        assert validator.dial_address("a", 1) == ("b", 2)
        seen |= {gateway.probe_port, validator.probe_port, validator.channel_port}
    assert len(seen) == 6


@pytest.mark.parametrize("account", ["", "0x" + "cc" * 20])
def test_whoever_runs_the_machine_is_one_voice(tmp_path: Path, account: str) -> None:
    """Three validators of one's own must not prove where one's own node is."""
    config = CellConfig(
        name="fra",
        place=PLACE,
        data_dir=str(tmp_path),
        account=account,
        gateways=2,
        validators=3,
        ledger=CHAIN,
        chain_url="http://nowhere",
    )
    validators = parts.own_validators(config)
    gateways = [parts.gateway_key(config, n).address for n in (1, 2)]
    told = parts.accounts(config)
    assert {told[key] for key in validators} == {account or validators[0]}
    assert {told.get(key) for key in gateways} == {account or None}
    other = {validators[1]: ELSEWHERE[0]}
    told = parts.accounts(msgspec.structs.replace(config, accounts=other))
    assert told[validators[1]] == ELSEWHERE[0]
