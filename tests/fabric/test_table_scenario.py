"""Tables on a real nats-server: writes compare, views survive, vanished keys are not believed."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest

from isochrone.fabric.connection import Fabric
from isochrone.fabric.server import Credentials, NatsServer, ServerSpec, client_url
from isochrone.schema.errors import Conflict, Unavailable

pytestmark = pytest.mark.processes
CREDENTIALS = Credentials(client="c" * 16, system="s" * 16)


class Thing(msgspec.Struct, frozen=True):
    size: int


async def until(condition: Callable[[], bool], within_s: float = 15.0) -> None:
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.02)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    started = await NatsServer.start(_spec(tmp_path))
    yield started
    await started.stop()


def _spec(folder: Path, port: int = 0) -> ServerSpec:
    return ServerSpec(cell="fra", folder=str(folder / "nats"), credentials=CREDENTIALS, port=port)


async def _open(server: NatsServer, state: Path, name: str = "test") -> Fabric:
    url = client_url(server.host, server.port, CREDENTIALS)
    return await Fabric.connect([url], "fra", name, state)


async def test_writes_compare_and_readers_follow(server: NatsServer, tmp_path: Path) -> None:
    one = await _open(server, tmp_path / "one")
    two = await _open(server, tmp_path / "two")
    mine = await one.table("things", Thing)
    theirs = await two.table("things", Thing)
    revision = await mine.put("0xabc.name", Thing(1), revision=None)
    await until(lambda: "0xabc.name" in theirs.entries)
    with pytest.raises(Conflict):
        await theirs.put("0xabc.name", Thing(9), revision=None)
    with pytest.raises(Conflict):
        await theirs.put("0xabc.name", Thing(9), revision=revision + 5)
    newer = await theirs.put("0xabc.name", Thing(2), revision=revision)
    await until(lambda: mine.entries["0xabc.name"].value == Thing(2))
    with pytest.raises(Conflict):
        await mine.delete("0xabc.name", revision=revision)
    await mine.delete("0xabc.name", revision=newer)
    await until(lambda: not theirs.entries)
    assert theirs.trustworthy
    again = await theirs.put("0xabc.name", Thing(3), revision=None)
    assert again > newer
    await one.close()
    await two.close()


async def test_update_retries_lost_races(server: NatsServer, tmp_path: Path) -> None:
    fabric = await _open(server, tmp_path / "one")
    table = await fabric.table("counters", Thing)

    def add(old: Thing | None) -> Thing:
        return Thing((old.size if old else 0) + 1)

    for _ in range(3):
        await asyncio.gather(*(table.update("n", add) for _ in range(3)))
    assert table.entries["n"].value == Thing(9)
    await fabric.close()


async def test_a_restart_of_the_server_resynchronises(server: NatsServer, tmp_path: Path) -> None:
    fabric = await _open(server, tmp_path / "one")
    table = await fabric.table("things", Thing)
    await table.put("a", Thing(1), revision=None)
    os.kill(server.pid, signal.SIGKILL)
    await until(lambda: not fabric.connected)
    assert table.entries["a"].value == Thing(1)
    with pytest.raises(Unavailable):
        await table.put("b", Thing(2), revision=None)
    assert not fabric.publish("iso.fra.x", b"")
    again = await NatsServer.start(_spec(tmp_path, server.port))
    try:
        await until(lambda: fabric.connected)
        other = await _open(again, tmp_path / "two", "other")
        theirs = await other.table("things", Thing)
        assert theirs.entries["a"].value == Thing(1)
        await theirs.put("b", Thing(2), revision=None)
        await until(lambda: "b" in table.entries)
        assert table.trustworthy
        await other.close()
        await fabric.close()
    finally:
        await again.stop()


async def test_deleted_data_is_not_believed_until_reseeded(
    server: NatsServer, tmp_path: Path
) -> None:
    fabric = await _open(server, tmp_path / "one")
    table = await fabric.table("things", Thing)
    for name in ("a", "b", "c"):
        await table.put(name, Thing(1), revision=None)
    await server.stop()
    shutil.rmtree(tmp_path / "nats" / "jetstream")
    again = await NatsServer.start(_spec(tmp_path, server.port))
    try:
        await until(lambda: not table.trustworthy)
        assert set(table.entries) == {"a", "b", "c"}
        await table.reseed()
        assert table.trustworthy
        other = await _open(again, tmp_path / "two", "other")
        assert set((await other.table("things", Thing)).entries) == {"a", "b", "c"}
        await other.close()
        await fabric.close()
    finally:
        await again.stop()


async def test_without_a_server_entries_come_from_disk(server: NatsServer, tmp_path: Path) -> None:
    fabric = await _open(server, tmp_path / "one")
    table = await fabric.table("things", Thing)
    await table.put("a", Thing(7), revision=None)
    await fabric.close()
    await server.stop()
    url = client_url(server.host, server.port, CREDENTIALS)
    alone = await Fabric.connect([url], "fra", "test", tmp_path / "one", wait_s=0.3)
    assert not alone.connected
    assert (await alone.table("things", Thing)).entries["a"].value == Thing(7)
    assert alone.silent_for_s() > 0
    with pytest.raises(Unavailable):
        await alone.request("iso.fra.plan", b"", 1.0)
    await alone.close()


async def test_a_corrupt_value_is_refused_and_the_old_one_stays(
    server: NatsServer, tmp_path: Path
) -> None:
    fabric = await _open(server, tmp_path / "one")
    table = await fabric.table("things", Thing)
    await table.put("a", Thing(1), revision=None)
    bucket = fabric.line().bucket("things")
    await bucket.write("a", b"garbage that no checksum matches", table.entries["a"].revision)
    await until(lambda: table.refused > 0)
    assert table.entries["a"].value == Thing(1)
    await fabric.close()


async def test_requests_are_answered_and_absence_is_said(
    server: NatsServer, tmp_path: Path
) -> None:
    fabric = await _open(server, tmp_path / "one")

    async def double(data: bytes) -> bytes:
        return data * 2

    await fabric.respond("iso.fra.double", double)
    assert await fabric.request("iso.fra.double", b"ab", 5.0) == b"abab"
    with pytest.raises(Unavailable, match="Nobody answers"):
        await fabric.request("iso.fra.nobody", b"", 1.0)
    await fabric.close()
