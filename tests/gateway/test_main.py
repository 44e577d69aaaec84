"""The process: ready file, signals, what it says when it cannot start, what it imports."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from isochrone.gateway.config import Ready

from .http_calls import call
from .town import FRANKFURT, Town, until

SOURCE = Path(__file__).parents[2] / "src"

pytestmark = pytest.mark.processes


def start(town: Town, *arguments: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-m", "isochrone.gateway", *arguments],
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )

    def close() -> None:
        if process.poll() is None:
            process.kill()
        process.communicate()

    town.closers.append(close)
    return process


def write_config(town: Town, **settings: Any) -> Path:
    config = town.config("proc", FRANKFURT, **settings)
    path = town.folder / "proc.json"
    path.write_bytes(msgspec.json.encode(config))
    return path


def last_words(process: subprocess.Popen[bytes]) -> str:
    _, errors = process.communicate(timeout=20)
    return errors.decode().strip()


async def test_it_says_that_it_is_ready_and_ends_on_a_signal(town: Town) -> None:
    ready_file = town.folder / "ready.json"
    process = start(town, str(write_config(town, ready_file=str(ready_file))))
    await until(ready_file.exists, 20)
    ready = msgspec.json.decode(ready_file.read_bytes(), type=Ready)
    assert ready.pid == process.pid
    assert ready.gateway == town.keys["proc"].address
    assert (await call(ready.http_port, "GET", "/livez")).status == 200
    process.send_signal(signal.SIGTERM)
    await until(lambda: process.poll() is not None, 10)
    assert process.returncode == 0


@pytest.mark.parametrize("setting", ["http_port", "channel_port"])
async def test_a_port_in_use_is_one_sentence(town: Town, setting: str) -> None:
    assert town.server is not None
    taken = {setting: town.server.port}
    process = start(town, str(write_config(town, log_level="ERROR", **taken)))
    words = last_words(process)
    assert process.returncode == 1
    assert str(town.server.port) in words.splitlines()[-1]
    assert "Traceback" not in words


async def test_a_wrong_configuration_is_one_sentence(town: Town) -> None:
    for text, told in ((b"{", "configuration"), (b'{"cell": 1}', "cell"), (None, "No such file")):
        path = town.folder / "wrong.json"
        path.unlink(missing_ok=True)
        if text is not None:
            path.write_bytes(text)
        process = start(town, str(path))
        words = last_words(process)
        assert process.returncode == 1
        assert told in words
        assert "Traceback" not in words
    process = start(town)
    assert "Usage" in last_words(process)
    assert process.returncode == 2


def test_the_process_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['x']\n"
        "import isochrone.gateway.__main__ as m, isochrone.gateway.process\n"
        "heavy = ('aiohttp', 'numpy', 'onnxruntime', 'tokenizers', 'rich', 'openai', 'click')\n"
        "print([name for name in heavy if sys.modules.get(name) is not None])\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        capture_output=True,
        check=True,
        text=True,
    )
    assert found.stdout.strip() == "[]"
