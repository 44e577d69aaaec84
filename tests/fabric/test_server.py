"""A real nats-server: starts on any port, says why when it cannot, stops, stays small."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import msgspec
import psutil
import pytest
from tests.fabric.cells import connect, store_spec

from isochrone.fabric import server as server_module
from isochrone.fabric.connection import Fabric
from isochrone.fabric.server import NatsServer, server_binary
from isochrone.schema.errors import Unavailable

pytestmark = pytest.mark.processes

MEMORY_MB_MAX = 60


async def test_it_starts_on_any_port_and_stops(tmp_path: Path) -> None:
    first = await NatsServer.start(store_spec(tmp_path / "1"))
    second = await NatsServer.start(store_spec(tmp_path / "2"))
    assert first.port != second.port
    assert os.getpgid(first.pid) == first.pid  # its own session: no signal meant for us
    for server in (first, second):
        assert server.running
        await server.stop()
        assert not server.running
        await server.stop()
        assert not psutil.pid_exists(server.pid)


async def test_a_password_is_needed_and_kept_from_others(tmp_path: Path) -> None:
    server = await NatsServer.start(store_spec(tmp_path))
    wrong = msgspec.structs.replace(store_spec(tmp_path).credentials, client="wrong")
    url = server_module.client_url(server.host, server.port, wrong)
    fabric = await Fabric.connect([url], "fra", "intruder", tmp_path / "state", wait_s=0.5)
    assert not fabric.connected
    await fabric.close()
    config = tmp_path / "fra-store" / "nats.conf"
    assert config.stat().st_mode & 0o077 == 0
    await server.stop()


async def test_a_port_in_use_is_said(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(Unavailable, match="address already in use") as refused:
            await NatsServer.start(store_spec(tmp_path, taken.getsockname()[1]))
    assert "port" in refused.value.fix


async def test_a_folder_that_cannot_be_used_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "fra-store"
    folder.mkdir()
    (folder / "jetstream").write_text("a file where a folder should be")
    with pytest.raises(Unavailable, match="storage directory"):
        await NatsServer.start(store_spec(tmp_path))


async def test_a_stopped_server_that_does_not_listen_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "STOP_S", 0.2)
    server = await NatsServer.start(store_spec(tmp_path))
    os.kill(server.pid, signal.SIGSTOP)
    await server.stop()
    assert not psutil.pid_exists(server.pid)


async def test_it_stays_small_under_a_cells_work(tmp_path: Path) -> None:
    server = await NatsServer.start(store_spec(tmp_path))
    fabric = await connect(server, tmp_path / "writer")
    for name in ("services", "nodes", "leases", "quotas", "decisions", "inputs"):
        table = await fabric.table(name, bytes, raw=True)
        for key in range(50):
            revision = await table.put(f"k{key}", bytes(2000), revision=None)
            await table.put(f"k{key}", bytes(2000), revision=revision)
    used_mb = psutil.Process(server.pid).memory_info().rss / 1e6
    assert used_mb < MEMORY_MB_MAX
    await fabric.close()
    await server.stop()


def test_the_binary_lies_beside_python() -> None:
    assert Path(server_binary()).name == "nats-server"
