"""A guest of the fabric: another person's validator may speak about the ledger, nothing else."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from tests.fabric.cells import connect, store_spec, until

from isochrone.fabric.connection import Fabric
from isochrone.fabric.server import NatsServer, guest_url
from isochrone.schema.errors import IsochroneError

pytestmark = pytest.mark.processes

WITHIN_S = 5.0


class House:
    """A server with a guest's password, somebody of the house, and a guest."""

    def __init__(self, owner: Fabric, guest: Fabric) -> None:
        self.owner = owner
        self.guest = guest
        self.heard: list[tuple[str, bytes]] = []

    async def listen(self, who: Fabric, subject: str) -> None:
        await who.subscribe(subject, lambda name, data, *_: self.heard.append((name, data)))

    async def until_heard(self, subject: str) -> None:
        await until(lambda: any(name == subject for name, _ in self.heard), WITHIN_S)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    spec = store_spec(tmp_path)
    credentials = msgspec.structs.replace(spec.credentials, guest="open-to-all-who-ask")
    server = await NatsServer.start(
        msgspec.structs.replace(spec, credentials=credentials, guarded=("0xgateway",))
    )
    owner = await connect(server, tmp_path / "owner")
    url = guest_url(server.host, server.port, credentials)
    guest = await Fabric.connect([url], "fra", "guest", tmp_path / "guest", wait_s=5.0)
    assert guest.connected
    yield House(owner, guest)
    await guest.close()
    await owner.close()
    await server.stop()


async def test_a_guest_speaks_and_hears_about_the_ledger(house: House) -> None:
    await house.listen(house.owner, "iso.ledger.root")
    assert house.guest.publish("iso.ledger.root", b"mine")
    await house.until_heard("iso.ledger.root")
    await house.listen(house.guest, "iso.ledger.held")
    house.owner.publish("iso.ledger.held", b"yours")
    await house.until_heard("iso.ledger.held")


async def test_a_guest_asks_and_is_asked(house: House) -> None:
    async def answer(data: bytes) -> bytes:
        return b"to " + data

    await house.owner.respond("iso.fra.voucher", answer)
    assert await house.guest.request("iso.fra.voucher", b"guest", WITHIN_S) == b"to guest"
    await house.guest.respond("iso.probe.0xguest", answer)
    assert await house.owner.request("iso.probe.0xguest", b"owner", WITHIN_S) == b"to owner"


async def test_a_guest_does_not_hear_what_gateways_are_asked(house: House) -> None:
    """It could answer before them; it asks them itself all the same."""

    async def answer(_data: bytes) -> bytes:
        return b"the gateway"

    async def pretend(_data: bytes) -> bytes:
        house.heard.append(("overheard", b""))
        return b"the guest"

    await house.guest.respond("iso.probe.>", pretend)
    assert await house.owner.request("iso.probe.0xother", b"burst", WITHIN_S) == b"the guest"
    with contextlib.suppress(IsochroneError):
        await house.guest.respond("iso.probe.0xgateway", pretend)
    house.heard.clear()
    await house.owner.respond("iso.probe.0xgateway", answer)
    for who in (house.owner, house.guest):
        for _ in range(20):
            said = await who.request("iso.probe.0xgateway", b"burst", WITHIN_S)
            assert said == b"the gateway"
    assert house.heard == []


async def test_a_guest_reaches_nothing_else(house: House) -> None:
    """Neither the tables, nor others' answers, nor what cells tell each other."""
    await house.listen(house.owner, "iso.fra.routes")
    await house.listen(house.owner, "iso.ledger.root")
    await house.listen(house.owner, "iso.house.attested")
    house.guest.publish("iso.fra.routes", b"forged")
    house.guest.publish("iso.house.attested", b"flood")
    house.guest.publish("iso.ledger.root", b"after it")
    await house.until_heard("iso.ledger.root")
    assert [name for name, _ in house.heard] == ["iso.ledger.root"]
    with pytest.raises(IsochroneError):
        await house.guest.request("iso.fra.plan", b"?", 0.3)
    with pytest.raises(IsochroneError):
        await house.guest.line().latest("routes", "iso.fra.routes")
