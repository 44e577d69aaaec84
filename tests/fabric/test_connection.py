"""The connection itself: what it imports, a frozen server, handlers that fail, nothing left."""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.fabric.cells import CREDENTIALS, connect, store_spec, until

from isochrone.fabric.connection import ANSWERING_MAX, Fabric
from isochrone.fabric.nats_line import OUTGOING_BYTES_MAX, dial
from isochrone.fabric.server import NatsServer, client_url
from isochrone.lab.twins.fabric import MemoryCells, MemoryFabric
from isochrone.schema.errors import Timeout

FABRIC_MB_MAX = 40
"""A process that does nothing but follow a table; a gateway has 80 MB for everything."""

PROBE = """
import asyncio, json, sys
import psutil
from pathlib import Path
from isochrone.fabric.connection import Fabric

async def main():
    fabric = await Fabric.connect([sys.argv[1]], "fra", "probe", Path(sys.argv[2]))
    table = await fabric.table("things", bytes, raw=True)
    await table.put("a", b"1", revision=None)
    used = psutil.Process().memory_info().rss
    await fabric.close()
    print(json.dumps({
        "aiohttp": sys.modules.get("aiohttp") is not None,
        "heavy": [m for m in ("numpy", "cryptography", "onnxruntime") if m in sys.modules],
        "used_mb": used / 1e6,
    }))

asyncio.run(main())
"""


@pytest.mark.processes
async def test_a_process_on_the_fabric_stays_small_and_without_aiohttp(tmp_path: Path) -> None:
    importlib.metadata.version("aiohttp")  # blocked where it is installed, or nothing is tested
    server = await NatsServer.start(store_spec(tmp_path))
    url = client_url(server.host, server.port, CREDENTIALS)
    probe = await asyncio.create_subprocess_exec(
        sys.executable,
        "-W",
        "error",
        "-c",
        PROBE,
        url,
        str(tmp_path / "probe"),
        stdout=subprocess.PIPE,
    )
    out, _ = await probe.communicate()
    assert probe.returncode == 0
    told = json.loads(out)
    assert told["aiohttp"] is False
    assert told["heavy"] == []
    assert told["used_mb"] < FABRIC_MB_MAX
    await server.stop()


@pytest.mark.processes
async def test_a_frozen_server_is_noticed_and_met_again(tmp_path: Path) -> None:
    server = await NatsServer.start(store_spec(tmp_path))
    fabric = await connect(server, tmp_path / "one")
    table = await fabric.table("things", bytes, raw=True)
    os.kill(server.pid, signal.SIGSTOP)
    await until(lambda: not fabric.connected)
    os.kill(server.pid, signal.SIGCONT)
    await until(lambda: fabric.connected and fabric.generation == 2)
    await until(lambda: table._bucket is not None)
    await table.put("a", b"1", revision=None)
    await fabric.close()
    await server.stop()


@pytest.mark.processes
async def test_a_stalled_server_makes_publishing_drop_not_wait(tmp_path: Path) -> None:
    server = await NatsServer.start(store_spec(tmp_path))
    fabric = await connect(server, tmp_path / "one")
    os.kill(server.pid, signal.SIGSTOP)
    message = bytes(1_000_000)
    sent = 0
    while fabric.publish("iso.fra.x", message):
        sent += 1
        assert sent < 200
    assert sent >= OUTGOING_BYTES_MAX // len(message)
    assert fabric.dropped == 1
    os.kill(server.pid, signal.SIGCONT)
    await fabric.close()
    await server.stop()


@pytest.mark.processes
async def test_what_was_published_before_closing_is_sent(tmp_path: Path) -> None:
    server = await NatsServer.start(store_spec(tmp_path))
    one, two = await connect(server, tmp_path / "one"), await connect(server, tmp_path / "two")
    heard: list[bytes] = []
    await two.subscribe("iso.fra.x", lambda _, data: heard.append(data))
    one.publish("iso.fra.x", b"last words")
    await one.close()
    await until(lambda: heard == [b"last words"])
    await two.close()
    await server.stop()


@pytest.mark.processes
async def test_nothing_is_left_after_closing(tmp_path: Path) -> None:
    server = await NatsServer.start(store_spec(tmp_path))
    before = asyncio.all_tasks()
    for _ in range(3):
        fabric = await connect(server, tmp_path / "one")
        await fabric.table("things", bytes, raw=True)
        await fabric.subscribe("iso.>", lambda *_: None)
        await fabric.close()
        assert not fabric.connected
    await until(lambda: asyncio.all_tasks() == before)
    await server.stop()


async def test_a_table_opened_twice_is_one_table(tmp_path: Path) -> None:
    fabric = await MemoryFabric.join(MemoryCells().store("fra"), "one", tmp_path)
    first = await fabric.table("things", bytes, raw=True)
    assert await fabric.table("things", bytes, raw=True) is first
    await fabric.close()


async def test_a_handler_that_fails_answers_nobody_and_harms_nobody(tmp_path: Path) -> None:
    fabric = await MemoryFabric.join(MemoryCells().store("fra"), "one", tmp_path)

    async def handle(data: bytes) -> bytes:
        if data == b"bad":
            raise RuntimeError("a handler's mistake")
        return data

    await fabric.respond("iso.fra.plan", handle)
    with pytest.raises(Timeout):
        await fabric.request("iso.fra.plan", b"bad", 0.05)
    assert await fabric.request("iso.fra.plan", b"good", 5.0) == b"good"
    await fabric.close()


async def test_answers_under_way_are_bounded(tmp_path: Path) -> None:
    fabric = await MemoryFabric.join(MemoryCells().store("fra"), "one", tmp_path)
    go = asyncio.Event()

    async def wait(data: bytes) -> bytes:
        await go.wait()
        return data

    await fabric.respond("iso.fra.plan", wait)
    asked = [
        asyncio.create_task(fabric.request("iso.fra.plan", b"", 5.0)) for _ in range(ANSWERING_MAX)
    ]
    await until(lambda: fabric._answering == ANSWERING_MAX)
    with pytest.raises(Timeout):
        await fabric.request("iso.fra.plan", b"one too many", 0.05)
    assert fabric.dropped == 1
    go.set()
    assert await asyncio.gather(*asked) == [b""] * ANSWERING_MAX
    await fabric.close()


async def test_no_server_is_no_reason_to_wait(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    before_s = loop.time()
    fabric = await Fabric.connect(["nats://127.0.0.1:9"], "fra", "alone", tmp_path, wait_s=0.1)
    table = await fabric.table("things", bytes, raw=True)
    assert not table.entries
    await fabric.close()
    assert loop.time() - before_s < 1.5


async def test_a_subscription_is_with_the_server_when_subscribe_returns() -> None:
    """nats-py's flush overtakes its own buffer: a message sent right after was lost sometimes."""
    commands: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"server_id":"x","version":"2.15.1","max_payload":1000,"proto":1}\r\n')
        while line := await reader.readline():
            commands.append(line.split()[0])
            if line.startswith(b"PING"):
                writer.write(b"PONG\r\n")
        writer.close()

    recorder = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = recorder.sockets[0].getsockname()[1]
    line = await dial([f"nats://127.0.0.1:{port}"], "test", "fra")
    del commands[:]
    await line.subscribe("iso.fra.x", lambda *_: None)
    assert b"PING" in commands[commands.index(b"SUB") :]
    await line.close()
    recorder.close()
    await recorder.wait_closed()
