"""The channels a node keeps to validators: whom it dials, what they may say, when it leaves."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from isochrone.node import watchers as module
from isochrone.node.config import DoorAddress, NodeConfig, Papers
from isochrone.node.journal import Journal
from isochrone.node.questions import Questions
from isochrone.node.watchers import WATCHERS_MAX, Watching
from isochrone.schema.documents import NODE_GRANT, pack, seal
from isochrone.schema.frames import Orders, Watchers
from isochrone.schema.identity import PrivateKey
from isochrone.schema.node import Capacity
from isochrone.schema.place import Place
from isochrone.schema.probing import ProbeEnd, ProbeSigned, VantageDoor, VantageNews
from isochrone.validator.door import WatchDoor
from isochrone.wire.certificate import make_certificate

from .acting_gateway import until
from .test_hardware import grant

HERE = Place(latitude=50.11, longitude=8.68, country="DE", metro="frankfurt")
HOST = "127.0.0.1"
CAPACITY = Capacity(cpu_milli=2000, memory_mib=1024, engines=("onnx",))


class ActingValidator:
    """A validator's door, and what it was told."""

    def __init__(self, folder: Path) -> None:
        self.key = PrivateKey.generate()
        self.folder = folder
        self.changed: list[str] = []
        self.heard: list[Any] = []
        self.fingerprint, self.port = "", 0
        self.door = WatchDoor(self.key.address, "fra", self.changed.append)

    async def open(self, port: int = 0) -> None:
        certificate = make_certificate(self.folder)
        self.fingerprint = certificate.fingerprint
        self.door = WatchDoor(self.key.address, "fra", self.changed.append)
        self.door.on(ProbeSigned, lambda node, message: self.heard.append((node, message)))
        self.port = await self.door.open(HOST, port, certificate)

    @property
    def news(self) -> VantageNews:
        return VantageNews(
            vantage=self.key.address, account="", role="validator", cell="fra", place=HERE,
            probe_host=HOST, probe_port=1, at_unix_ms=0,
            door=VantageDoor(host=HOST, port=self.port, fingerprint=self.fingerprint),
        )  # fmt: skip


@pytest.fixture
async def validators(tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    async with contextlib.AsyncExitStack() as ending:

        async def make() -> ActingValidator:
            made = ActingValidator(tmp_path / f"validator-{PrivateKey.generate().address}")
            await made.open()
            ending.push_async_callback(lambda: made.door.close())
            return made

        yield make


@pytest.fixture
async def watching(tmp_path: Path) -> AsyncIterator[Watching]:
    key, provider = PrivateKey.generate(), PrivateKey.generate()
    granted = msgspec.structs.replace(grant(), node=key.address)
    papers = Papers(
        grant=granted,
        provider=provider.address,
        packed=pack(seal(NODE_GRANT, granted, provider)),
    )
    config = NodeConfig(
        key_path="", grant_path="", state_dir="",
        doors=(DoorAddress(host=HOST, port=1, fingerprint="0" * 64),), seed=1,
    )  # fmt: skip
    journal = Journal(tmp_path / "logs", "debug", lambda lease, line: None)
    questions = Questions()
    questions.on(
        ProbeEnd,
        lambda asker, end, say: say(ProbeSigned(burst=end.burst, transcript=asker.encode())),
        of=("watcher",),
    )
    made = Watching(config, key, papers, CAPACITY, questions, journal)
    yield made
    await made.close()
    journal.close()


def named(*validators: ActingValidator) -> Watchers:
    return Watchers(vantages=tuple(one.news for one in validators))


async def test_a_validator_that_is_named_gets_a_channel_an_introduction_and_answers(
    watching: Watching, validators: Callable[..., Any]
) -> None:
    validator = await validators()
    watching.named(named(validator))
    watching.named(named(validator))  # repeated, as gateways do
    await until(lambda: [n for n in validator.door.nodes.values() if n.capacity], "it is met")
    (node,) = validator.door.nodes.values()
    assert node.capacity == CAPACITY
    node.channel.send_control(ProbeEnd(burst=b"b"))
    await until(lambda: validator.heard, "an answer")
    signed = ProbeSigned(burst=b"b", transcript=validator.key.address.encode())
    assert validator.heard == [(node.address, signed)]


async def test_a_validator_may_not_order_leases_nor_open_streams(
    watching: Watching, validators: Callable[..., Any]
) -> None:
    validator = await validators()
    watching.named(named(validator))
    await until(lambda: validator.door.nodes, "it is met")
    (node,) = validator.door.nodes.values()
    node.channel.send_control(Orders(cell="fra", epoch=1, leases=()))
    resets: list[str] = []

    class Sink:
        def on_head(self, header: bytes) -> None: ...
        def on_data(self, data: bytes) -> None: ...
        def on_end(self, trailer: bytes) -> None: ...
        def on_writable(self) -> None: ...
        def on_reset(self, code: str, message: str) -> None:
            resets.append(code)

    node.channel.open(b"{}", b"", sink=Sink())
    await until(lambda: resets, "the stream is refused")
    assert resets == ["forbidden"]
    await until(lambda: watching._questions.counters["watcher:Orders"], "the order is ignored")
    assert not node.channel.closed


async def test_a_validator_that_comes_back_elsewhere_is_dialled_there(
    watching: Watching, validators: Callable[..., Any]
) -> None:
    validator = await validators()
    watching.named(named(validator))
    await until(lambda: validator.door.nodes, "it is met")
    await validator.door.close()
    await until(lambda: not watching.channels, "it is lost")
    await validator.open()
    watching.named(named(validator))
    await until(lambda: validator.door.nodes, "it is met again")


async def test_a_door_with_another_certificate_or_another_validator_is_left(
    watching: Watching, validators: Callable[..., Any]
) -> None:
    one, two = await validators(), await validators()
    wrong_pin = msgspec.structs.replace(one.news.door, fingerprint="0" * 64)
    wrong_name = msgspec.structs.replace(two.news, vantage="0x" + "ab" * 20)
    watching.named(
        Watchers(vantages=(msgspec.structs.replace(one.news, door=wrong_pin), wrong_name))
    )
    await until(lambda: two.changed[1:], "the stranger was visited and left")
    assert watching.channels == {}
    assert one.door.nodes == {}


async def test_gateways_and_more_validators_than_there_is_room_for_are_not_dialled(
    watching: Watching, validators: Callable[..., Any]
) -> None:
    validator = await validators()
    gateway = msgspec.structs.replace(validator.news, role="gateway")
    doorless = msgspec.structs.replace(validator.news, door=None)
    watching.named(Watchers(vantages=(gateway, doorless)))
    assert watching._keepers == {}
    many = [
        msgspec.structs.replace(validator.news, vantage=f"0x{n:040x}")
        for n in range(2 * WATCHERS_MAX)
    ]
    watching.named(Watchers(vantages=tuple(many)))
    assert len(watching._keepers) == WATCHERS_MAX


async def test_a_validator_that_nobody_names_any_more_is_left(
    watching: Watching, validators: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = await validators(), await validators()
    watching.named(named(one, two))
    await until(lambda: one.door.nodes and two.door.nodes, "both are met")
    monkeypatch.setattr(module, "FORGET_S", 0.0)
    watching.named(named(two))
    await until(lambda: not one.door.nodes, "the first is left")
