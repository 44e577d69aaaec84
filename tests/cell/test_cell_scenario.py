"""A whole cell of real processes: up, found, kept up, down, and nothing left behind."""

from __future__ import annotations

import asyncio
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import psutil
import pytest

from isochrone.atlas.cities import city
from isochrone.cell import background
from isochrone.cell.cell import Cell
from isochrone.cell.config import CellConfig, LocalNode, load_config
from isochrone.cell.record import CellRecord, is_up, read_record
from isochrone.cell.running import is_running
from isochrone.schema.errors import Conflict, InvalidInput, Unavailable

pytestmark = pytest.mark.processes


def config(tmp_path: Path, **changes: object) -> CellConfig:
    fields: dict[str, object] = {
        "name": "home",
        "place": city("frankfurt").place,
        "data_dir": str(tmp_path / "cell"),
        **changes,
    }
    return CellConfig(**fields)  # type: ignore[arg-type]


def until(condition: Callable[[], bool], within_s: float = 15.0) -> None:
    deadline_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline_s, "the condition did not come true in time"
        time.sleep(0.02)


def status_of(url: str, path: str = "/livez") -> int:
    host, _, port = url.removeprefix("http://").rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


def gone(record: CellRecord) -> bool:
    processes = [record.supervisor, *(part.process for part in record.parts if part.process)]
    return not any(is_running(process) for process in processes)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cell"


def test_up_serves_and_down_leaves_nothing(tmp_path: Path, folder: Path) -> None:
    record = background.start(config(tmp_path, node=LocalNode()))
    try:
        assert [part.name for part in record.parts] == [
            "fabric",
            "controller-1",
            "gateway-1",
            "node-1",
        ]
        assert status_of(record.http_urls[0]) == 200
        assert is_up(read_record(folder))
        with pytest.raises(Conflict, match="already runs"):
            background.start(config(tmp_path))
        assert (folder / "controller-1" / "config.json").stat().st_mode & 0o077 == 0
    finally:
        assert background.stop(folder)
    assert gone(record)
    assert read_record(folder) is None
    assert not background.stop(folder)

    again = background.start(config(tmp_path))
    try:
        assert again.http_urls == record.http_urls, "found where it was"
    finally:
        background.stop(folder)


def test_a_part_that_dies_comes_back_where_it_was(tmp_path: Path, folder: Path) -> None:
    record = background.start(config(tmp_path))
    try:
        pids = {part.name: part.process.pid for part in record.parts if part.process}
        os.kill(pids["gateway-1"], signal.SIGKILL)
        os.kill(pids["fabric"], signal.SIGKILL)

        def all_back() -> bool:
            now = read_record(folder)
            restarts = {part.name: part.restarts for part in now.parts} if now else {}
            return restarts == {"fabric": 1, "controller-1": 0, "gateway-1": 1}

        until(all_back)
        until(lambda: status_of(record.http_urls[0]) == 200)
    finally:
        background.stop(folder)


def test_a_port_in_use_is_one_sentence_and_leaves_nothing(tmp_path: Path, folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Unavailable) as caught:
            background.start(config(tmp_path, http_port=port))
    assert f"Port {port} on 127.0.0.1 is in use" in caught.value.message
    assert "choose another port" in caught.value.message
    record = read_record(folder)
    assert record is not None
    assert record.state == "failed"
    assert gone(record)
    assert not background.stop(folder)


def test_what_a_killed_supervisor_left_is_ended_by_down(tmp_path: Path, folder: Path) -> None:
    record = background.start(config(tmp_path))
    os.kill(record.supervisor.pid, signal.SIGKILL)
    until(lambda: not is_running(record.supervisor))
    left = read_record(folder)
    assert left is not None
    assert not gone(left)
    assert background.stop(folder)
    assert gone(left)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("when", ["at once", "ready"])
def test_a_signal_ends_it_in_order(
    tmp_path: Path, folder: Path, number: signal.Signals, when: str
) -> None:
    folder.mkdir()
    (folder / "config.json").write_bytes(msgspec.json.encode(config(tmp_path)))
    process = subprocess.Popen(
        [sys.executable, "-m", "isochrone.cell", str(folder / "config.json")],
        start_new_session=True,
        stderr=subprocess.PIPE,
    )
    try:
        until(lambda: read_record(folder) is not None)
        if when == "ready":
            until(lambda: (record := read_record(folder)) is not None and record.state == "ready")
        process.send_signal(number)
        _, said = process.communicate(timeout=20)
    finally:
        process.kill()
    assert (process.returncode, said) == (0, b"")
    assert read_record(folder) is None
    assert not _sessions_of(folder)


def _sessions_of(folder: Path) -> list[psutil.Process]:
    """Processes that were given a file of this cell on their command line."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if any(str(folder) in word for word in process.info["cmdline"] or ()):
            found.append(process)
    return found


async def test_two_of_each_in_one_event_loop(tmp_path: Path) -> None:
    cell = Cell(config(tmp_path, controllers=2, gateways=2))
    keys = cell.gateway_keys
    try:
        await cell.start()
        assert tuple(ready.gateway for ready in cell.gateways) == keys
        assert len(set(cell.http_urls)) == 2
        for url in cell.http_urls:
            assert await asyncio.to_thread(status_of, url) == 200
        fabric = cell.parts["fabric"]
        await fabric.stop()
        assert await asyncio.to_thread(status_of, cell.http_urls[0]) == 200, "serves without it"
        await fabric.start()
    finally:
        await cell.stop()
    assert all(child.pid is None for child in cell.parts.values())


async def test_a_gateway_that_cannot_start_ends_the_rest(tmp_path: Path) -> None:
    bad = config(tmp_path, resolve={"a:1": "nonsense"})
    cell = Cell(msgspec.structs.replace(bad, http_host="203.0.113.7"))
    with pytest.raises(Unavailable):
        await cell.start()
    assert all(child.pid is None for child in cell.parts.values())


def test_a_wrong_configuration_names_the_field(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    with pytest.raises(InvalidInput, match="cannot be read"):
        load_config(path)
    path.write_text('{"name": "UPPER"}')
    with pytest.raises(InvalidInput, match="name"):
        load_config(path)
    done = subprocess.run(
        [sys.executable, "-m", "isochrone.cell", str(path)], capture_output=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.count(b"\n") == 1
