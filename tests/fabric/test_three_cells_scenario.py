"""Three cells on six real servers: messages cross once, stores stay apart, links are obeyed."""

from __future__ import annotations

import asyncio
import collections
import os
import signal

import psutil
import pytest
from tests.fabric.cells import ThreeCells, until

from isochrone.fabric.connection import Fabric
from isochrone.fabric.stream import RouteStream
from isochrone.schema.errors import Unavailable

pytestmark = pytest.mark.processes


class Listening:
    """Parts in all cells that publish presence and count what they hear of whom."""

    def __init__(self, parts: dict[str, Fabric]) -> None:
        self.parts = parts
        self.heard: dict[str, list[tuple[str, bytes]]] = {cell: [] for cell in parts}

    async def start(self) -> None:
        for cell, fabric in self.parts.items():
            here = self.heard[cell]
            await fabric.subscribe(
                "iso.*.presence.*",
                lambda subject, data, here=here: here.append((subject, data)),  # type: ignore[misc]
            )

    def publish(self, data: bytes) -> None:
        for cell, fabric in self.parts.items():
            fabric.publish(f"iso.{cell}.presence.g", data)

    def sources(self, cell: str) -> collections.Counter[str]:
        return collections.Counter(subject.split(".")[1] for subject, _ in self.heard[cell])

    async def until_heard(self, *pairs: tuple[str, str], within_s: float = 20.0) -> None:
        """Publish until each (source, listener) pair has been crossed."""
        for heard in self.heard.values():
            heard.clear()
        async with asyncio.timeout(within_s):
            while not all(source in self.sources(there) for source, there in pairs):
                self.publish(b"?")
                await asyncio.sleep(0.02)


@pytest.fixture
async def listening(three_cells: ThreeCells):  # type: ignore[no-untyped-def]
    parts = {cell: await three_cells.connect(cell) for cell in three_cells.NAMES}
    everybody = Listening(parts)
    await everybody.start()
    await everybody.until_heard(*((a, b) for a in parts for b in parts))
    yield everybody
    for fabric in parts.values():
        await fabric.close()


async def test_messages_cross_cells_exactly_once(listening: Listening) -> None:
    for n in range(100):
        listening.publish(b"n%d" % n)
    wanted = sorted(
        (f"iso.{cell}.presence.g", b"n%d" % n) for cell in listening.parts for n in range(100)
    )

    def numbered(cell: str) -> list[tuple[str, bytes]]:
        return sorted(one for one in listening.heard[cell] if one[1] != b"?")

    await until(lambda: all(len(numbered(cell)) >= 300 for cell in listening.parts))
    # A second copy, by whatever detour, would be there before a request has gone round.
    await listening.parts["fra"].respond("iso.fra.round", _echo)
    async with asyncio.timeout(10):
        for cell in ("iad", "sin"):
            await _ask(listening.parts[cell], "iso.fra.round")
    for cell in listening.parts:
        assert numbered(cell) == wanted


async def _echo(data: bytes) -> bytes:
    return data


async def _ask(fabric: Fabric, subject: str) -> bytes:
    """Ask until somebody answers: interest in a new subject travels for a moment."""
    while True:
        try:
            return await fabric.request(subject, b"2", 2.0)
        except Unavailable:
            await asyncio.sleep(0.02)


async def test_stores_stay_small_and_in_their_cells(
    three_cells: ThreeCells, listening: Listening
) -> None:
    tables = {
        cell: await fabric.table("services", bytes, raw=True, compare_every_s=0.1)
        for cell, fabric in listening.parts.items()
    }
    for cell, table in tables.items():
        await table.put("0xabc.same", cell.encode(), revision=None)
    for cell, fabric in listening.parts.items():
        look = await fabric.line().bucket("services").look()
        assert [(one.key, one.revision) for one in look.stored] == [("0xabc.same", 1)]
        assert tables[cell].entries["0xabc.same"].value == cell.encode()
    for server in (*three_cells.hubs.values(), *three_cells.stores.values()):
        assert psutil.Process(server.pid).memory_info().rss < 60e6


async def test_requests_and_routes_cross_cells(listening: Listening) -> None:
    fra, sin = listening.parts["fra"], listening.parts["sin"]

    async def grant(data: bytes) -> bytes:
        return b"granted " + data

    await sin.respond("iso.sin.quota", grant)
    async with asyncio.timeout(10):
        assert await _ask(fra, "iso.sin.quota") == b"granted 2"

    heard: list[tuple[str, bytes]] = []
    await RouteStream(fra).follow(lambda cell, data: heard.append((cell, data)))
    there = RouteStream(sin)
    async with asyncio.timeout(10):
        while not heard:
            await there.publish(b"table")
            await asyncio.sleep(0.02)
    assert set(heard) == {("sin", b"table")}
    assert await RouteStream(fra).latest() is None  # kept in its own cell only
    assert await there.latest() == b"table"


async def test_traffic_takes_only_the_configured_way(
    three_cells: ThreeCells, listening: Listening
) -> None:
    """Hubs learn from each other how they reach third hubs; that way must stay closed."""
    links = [three_cells.relays["fra", "iad"], three_cells.relays["iad", "fra"]]
    for link in links:
        await link.cut()
    await listening.until_heard(("fra", "sin"), ("sin", "fra"), ("iad", "sin"), ("sin", "iad"))
    for heard in listening.heard.values():
        heard.clear()
    for _ in range(250):  # a hub tries again every second; the way by a third one's link is near
        listening.publish(b"?")
        await asyncio.sleep(0.01)
    assert "iad" not in listening.sources("fra")
    assert "fra" not in listening.sources("iad")
    assert listening.sources("sin").keys() == {"fra", "iad", "sin"}
    carried = [link.carried for link in links]
    for link in links:
        await link.start()
    await listening.until_heard(("fra", "iad"), ("iad", "fra"))
    assert all(link.carried > before for link, before in zip(links, carried, strict=True))


async def test_a_cell_that_died_comes_back(three_cells: ThreeCells, listening: Listening) -> None:
    table = await listening.parts["sin"].table("services", bytes, raw=True)
    await table.put("a", b"1", revision=None)
    for server in (three_cells.hubs["sin"], three_cells.stores["sin"]):
        os.kill(server.pid, signal.SIGKILL)
        await server.stop()
    await until(lambda: not listening.parts["sin"].connected)
    await listening.until_heard(("fra", "iad"), ("iad", "fra"))
    await three_cells.start_cell("sin")
    await listening.until_heard(*((a, b) for a in listening.parts for b in listening.parts))
    assert table.entries["a"].value == b"1"
    assert table.trustworthy


async def test_without_its_hub_a_cell_goes_on_alone(
    three_cells: ThreeCells, listening: Listening
) -> None:
    await three_cells.hubs["fra"].stop()
    fra = listening.parts["fra"]
    table = await fra.table("services", bytes, raw=True)
    await table.put("a", b"1", revision=None)
    assert fra.connected
    await listening.until_heard(("fra", "fra"))
