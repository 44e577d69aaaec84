"""Who comes in at a validator's channel door."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.node.test_hardware import grant
from tests.wire.probed import HOST, until

from isochrone.schema.documents import NODE_GRANT, pack, seal
from isochrone.schema.errors import IsochroneError
from isochrone.schema.frames import Beat, Control, Introduce
from isochrone.schema.identity import PrivateKey
from isochrone.schema.node import Capacity
from isochrone.schema.place import Place
from isochrone.validator.door import WatchDoor
from isochrone.wire.certificate import make_certificate
from isochrone.wire.channel import Channel, ChannelLimits
from isochrone.wire.greeting import dial

CAPACITY = Capacity(cpu_milli=2000, memory_mib=1024)


class Handler:
    def on_open(self, *_: Any) -> Any:
        raise AssertionError("nobody opens streams here")

    def on_control(self, message: Control) -> None: ...

    def on_lost(self, error: IsochroneError) -> None: ...


class Doorway:
    """A door, and nodes that dial it."""

    def __init__(self) -> None:
        self.changed: list[str] = []
        self.door = WatchDoor("0xvalidator", "fra", self.changed.append)
        self.provider = PrivateKey.generate()
        self.port = 0
        self.fingerprint = ""

    async def open(self, folder: Path) -> None:
        certificate = make_certificate(folder)
        self.fingerprint = certificate.fingerprint
        self.port = await self.door.open(HOST, 0, certificate)

    async def dial(self, key: PrivateKey, *, role: Any = "node", **other: Any) -> Channel:
        said = msgspec.structs.replace(grant(), **{"node": key.address, **other})
        papers = pack(seal(NODE_GRANT, said, self.provider))
        return await dial(
            HOST, self.port, self.fingerprint, key, role, papers, lambda _: Handler(),
            ChannelLimits(),
        )  # fmt: skip


@pytest.fixture
async def doorway(tmp_path: Path) -> AsyncIterator[Doorway]:
    made = Doorway()
    await made.open(tmp_path)
    yield made
    await made.door.close()


async def test_a_node_is_known_by_its_grant_and_what_it_introduces(doorway: Doorway) -> None:
    key, lost = PrivateKey.generate(), list[str]()
    doorway.door.on_lost.append(lost.append)
    channel = await doorway.dial(key)
    channel.send_control(Introduce(capacity=CAPACITY, home=False))
    await until(lambda: len(doorway.changed) == 2, "it came and introduced itself")
    node = doorway.door.nodes[key.address]
    assert (node.provider, node.place) == (doorway.provider.address, grant().place)
    assert node.capacity == CAPACITY
    channel.close("going_away")
    await until(lambda: not doorway.door.nodes, "it went")
    assert doorway.changed == [key.address] * 3
    assert lost == [key.address]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"node": "0x" + "ab" * 20}, "forbidden"),
        ({"place": Place(latitude=95.0, longitude=0.0, country="DE", metro="x")}, "invalid_input"),
        ({"place": Place(latitude=5.0, longitude=0.0, country="ZZ", metro="x")}, "forbidden"),
        ({"role": "gateway"}, "forbidden"),
    ],
)
async def test_who_shows_other_papers_stays_outside(
    doorway: Doorway, change: dict[str, Any], code: str
) -> None:
    with pytest.raises(IsochroneError) as caught:
        await doorway.dial(PrivateKey.generate(), **change)
    assert caught.value.code == code
    assert doorway.door.nodes == {}


async def test_an_older_grant_than_one_that_was_seen_is_refused(doorway: Doorway) -> None:
    key = PrivateKey.generate()
    channel = await doorway.dial(key, revision=3)
    channel.close("going_away")
    await until(lambda: not doorway.door.nodes, "it went")
    with pytest.raises(IsochroneError) as caught:
        await doorway.dial(key, revision=2)
    assert caught.value.code == "stale"


async def test_the_newest_channel_of_a_node_counts(doorway: Doorway) -> None:
    key = PrivateKey.generate()
    first = await doorway.dial(key)
    second = await doorway.dial(key)
    await until(lambda: first.closed, "the first is closed")
    assert not second.closed
    assert list(doorway.door.nodes) == [key.address]


async def test_what_a_validator_does_not_ask_for_is_counted(doorway: Doorway) -> None:
    channel = await doorway.dial(PrivateKey.generate())
    channel.send_control(Beat(sequence=1, in_flight=0, cpu_percent=0.0, leases=()))
    await until(lambda: doorway.door.counters["unexpected_control"] == 1, "the beat is counted")
    assert not channel.closed
