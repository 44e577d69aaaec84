"""Deployments: at the addresses that were predicted, and verified by strangers."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from tests.ledger.rpc_proxy import RpcProxy
from tests.ledger.worlds import EPOCH_S, AnvilWorld, TwinWorld, key

from isochrone.ledger.contracts import Contracts
from isochrone.ledger.deploy import (
    Periods,
    created_address,
    deploy,
    read_deployment,
    verify,
    write_deployment,
)
from isochrone.ledger.errors import ChainUnreachable, WrongChain
from isochrone.ledger.evm import EvmChain
from isochrone.schema.deployment import Deployment
from isochrone.schema.errors import InvalidInput


def test_addresses_are_known_beforehand() -> None:
    """The first two are the textbook's; nonces of one, two and three bytes."""
    deployer = "0x6ac7ea33f8831ea9dcc53393aaa88b25a785dbf0"
    assert created_address(deployer, 0) == "0xcd234a471b72ba2f1ccf0a70fcaba648a5eecd8d"
    assert created_address(deployer, 1) == "0x343c43a37d37dff08ae8c4a11544c718abb4fcf8"
    assert len({created_address(deployer, nonce) for nonce in (0x7F, 0x80, 0xFF, 0x100)}) == 4


def test_a_deployment_verifies(world: AnvilWorld) -> None:
    assert verify(world.chain, world.deployment) == Periods.short(EPOCH_S)
    assert verify(TwinWorld().chain, TwinWorld().deployment).epoch_s == EPOCH_S


def test_a_second_one_of_the_same_deployer_with_its_own_token(world: AnvilWorld) -> None:
    token = world.deployment.token
    second = deploy(world.chain, key("deployer"), token=token, genesis_unix_s=1_700_000_000)
    assert second.token == token
    assert second.bonds != world.deployment.bonds
    assert verify(world.chain, second) == Periods()
    assert Contracts(world.chain, second).bonds.min_bond() == 100_000_000
    assert Contracts(world.chain, second).council.parameter("fee_bps") == 200


@pytest.mark.parametrize(
    "change",
    [
        {"chain_id": 1},
        {"bonds": "0x" + "11" * 20},
        {"genesis_unix_s": 5},
        {"epoch_s": 7},
        {"token": "0x" + "22" * 20},
    ],
)
def test_what_is_not_as_it_says_is_named(world: AnvilWorld, change: dict[str, object]) -> None:
    with pytest.raises(WrongChain):
        verify(world.chain, msgspec.structs.replace(world.deployment, **change))


def test_contracts_of_two_deployments_do_not_mix(world: AnvilWorld) -> None:
    second = deploy(world.chain, key("deployer"), periods=Periods.short(EPOCH_S))
    for field in ("bonds", "vault", "council"):
        mixed = msgspec.structs.replace(world.deployment, **{field: getattr(second, field)})
        with pytest.raises(WrongChain):
            verify(world.chain, mixed)


def test_code_that_is_not_ours(world: AnvilWorld, proxy: RpcProxy) -> None:
    chain = world.connect(proxy.url)
    last: list[str] = []

    def one_bit(params: list[str], code: str) -> str:
        last.append(code)
        return code[:100] + f"{int(code[100], 16) ^ 1:x}" + code[101:]

    proxy.faults["eth_getCode"] = one_bit
    with pytest.raises(WrongChain, match="another contract"):
        verify(chain, world.deployment)
    proxy.faults["eth_getCode"] = lambda params, code: code[:-64] + "5a" * 32
    with pytest.raises(WrongChain, match="built in"):
        verify(chain, world.deployment)


def test_the_file(tmp_path: Path, world: AnvilWorld) -> None:
    path = tmp_path / "deep" / "chain.json"
    write_deployment(path, world.deployment)
    assert read_deployment(path) == world.deployment
    path.write_text('{"chain_id": "one"}')
    with pytest.raises(InvalidInput, match=r"chain\.json"):
        read_deployment(path)
    assert Deployment().settles is False


def test_a_url_that_leads_elsewhere(world: AnvilWorld) -> None:
    with pytest.raises(WrongChain):
        EvmChain([world.url], chain_id=1)
    with pytest.raises(ChainUnreachable):
        EvmChain(["http://127.0.0.1:9"], deadline_s=0.1)
