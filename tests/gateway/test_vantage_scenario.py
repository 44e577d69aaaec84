"""A gateway, a validator and a node process on a real fabric: all of them are measured."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.node.node_process import NodeProcess
from tests.wire.probed import HOST, Relay

from isochrone.fabric.attestations import place_attestation
from isochrone.gateway.process import Gateway
from isochrone.gateway.vantage import WATCHERS_MAX, watchers_of
from isochrone.node.config import DoorAddress
from isochrone.schema.deployment import NO_CHAIN
from isochrone.schema.frames import Watchers
from isochrone.schema.identity import PrivateKey
from isochrone.schema.probing import (
    S_HOUSE_ATTESTED,
    Attested,
    PlaceAttestation,
    VantageDoor,
    VantageNews,
)
from isochrone.validator.config import ValidatorConfig
from isochrone.validator.vantage import ValidatorVantage

from .town import FRANKFURT, Town, door_of, until


class Heard:
    """What the fabric was told: the newest attestation of each pair."""

    def __init__(self) -> None:
        self.newest: dict[tuple[str, str], PlaceAttestation] = {}

    def take(self, _subject: str, data: bytes) -> None:
        for packed in msgspec.msgpack.decode(data, type=Attested).documents:
            said = place_attestation(packed)
            self.newest[said.vantage, said.subject] = said

    def rtt_us(self, vantage: str, subject: str) -> int:
        said = self.newest.get((vantage, subject))
        return said.rtt_us if said is not None else 0


@contextlib.asynccontextmanager
async def validator(
    town: Town, folder: Path, key: PrivateKey, gateways: dict[str, str], **settings: Any
) -> AsyncIterator[ValidatorVantage]:
    """A validator's vantage, as the chain would tell it who is who."""
    config = ValidatorConfig(
        key_path="", cell="fra", state_dir=str(folder), fabric_servers=(), ledger=NO_CHAIN,
        chain_urls=("http://nowhere",), place=FRANKFURT, remeasure_s=0.2, **settings,
    )  # fmt: skip
    made = ValidatorVantage(config, key, await town.fabric_of("fra"))
    await made.open(FRANKFURT)
    running = asyncio.get_running_loop().create_task(made.run())
    made.bonded({key.address: "0xvalidator"}, gateways)
    try:
        yield made
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await made.close()


@pytest.fixture
async def relay() -> AsyncIterator[Relay]:
    made = Relay()
    await made.open()
    yield made
    await made.close()


@pytest.fixture
async def started(tmp_path: Path) -> AsyncIterator[Callable[..., NodeProcess]]:
    """Starts node processes, which end with the test."""
    with contextlib.ExitStack() as ending:

        def start(gateway: Gateway, resolve: dict[str, str]) -> NodeProcess:
            door = door_of(gateway)
            address = DoorAddress(host=door.host, port=door.port, fingerprint=door.fingerprint)
            node = NodeProcess(tmp_path / "node", [address], resolve=resolve)
            node.start()
            ending.callback(node.close)
            return node

        yield start


async def test_a_node_is_measured_by_its_gateway_and_by_the_validators_it_learns_of(
    town: Town, tmp_path: Path, relay: Relay, started: Callable[..., NodeProcess]
) -> None:
    key, heard = PrivateKey.generate(), Heard()
    await (await town.fabric_of("fra")).subscribe(S_HOUSE_ATTESTED, heard.take)
    gateway = await town.gateway(
        "gw", validators=(key.address,), account="0xoperator", remeasure_s=0.2
    )
    at = gateway.key.address
    async with validator(town, tmp_path / "v", key, {at: "0xoperator"}) as watcher:
        relay.target = watcher.vantage.standing.probe_port
        announced = f"{HOST}:{relay.target}"
        node = started(gateway, {announced: f"{HOST}:{relay.port}"})
        expected = [
            (at, node.address), (key.address, node.address), (at, key.address), (key.address, at)
        ]  # fmt: skip
        await until(lambda: all(heard.rtt_us(*pair) for pair in expected), 20)
        found = {pair: heard.newest[pair] for pair in expected}
        assert found[at, node.address].account == "0xoperator"
        assert found[key.address, node.address].account == "0xvalidator"
        assert {said.place for said in found.values()} == {FRANKFURT}
        assert watcher.door.nodes[node.address].provider == node.provider.address

        relay.delay_s = 0.005  # nobody is told: only the validator's way became longer
        await until(lambda: heard.rtt_us(key.address, node.address) > 8_000)
        assert heard.rtt_us(at, node.address) < 8_000

        assert await watcher.measure(node.address) is not None
        node.close()
        await until(lambda: node.address not in watcher.door.nodes)
        assert await watcher.measure(node.address) is None
        await until(lambda: node.address not in gateway.vantage.vantage.subjects)


async def test_nodes_are_told_of_the_validators_that_are_named_and_of_nobody_else(
    town: Town, tmp_path: Path
) -> None:
    named, stranger = PrivateKey.generate(), PrivateKey.generate()
    gateway = await town.gateway("gw", validators=(named.address,))
    node = await town.node(at=gateway)

    def told() -> list[str]:
        news = [message.vantages for message in node.controls if isinstance(message, Watchers)]
        return [one.vantage for one in news[-1]] if news else []

    async with (
        validator(town, tmp_path / "s", stranger, {}),
        validator(town, tmp_path / "v", named, {}),
    ):
        await until(lambda: told() == [named.address])
        late = await town.node(at=gateway)
        await until(lambda: any(isinstance(one, Watchers) for one in late.controls))
        assert gateway.vantage.post.known.counters["not_believed"] > 0


def test_of_too_many_validators_each_node_has_its_own_choice() -> None:
    door = VantageDoor(host="a", port=1, fingerprint="")
    news = [
        VantageNews(
            vantage=f"0x{number:040x}", account="", role="validator", cell="fra", place=FRANKFURT,
            probe_host="a", probe_port=1, door=door, at_unix_ms=0,
        )
        for number in range(3 * WATCHERS_MAX)
    ]  # fmt: skip
    chosen = {node: watchers_of(node, news) for node in ("0xa", "0xb")}
    assert all(len(some) == WATCHERS_MAX for some in chosen.values())
    assert chosen["0xa"] == watchers_of("0xa", reversed(news))
    assert set(chosen["0xa"]) != set(chosen["0xb"])
    assert watchers_of("0xa", [msgspec.structs.replace(news[0], door=None)]) == ()
