"""The validator as a process: its configuration, its ready file, its one lock, its end."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from isochrone.schema.deployment import Deployment
from isochrone.schema.settling import ValidatorStatus
from isochrone.validator.config import Ready, ValidatorConfig

pytestmark = pytest.mark.processes


def configured(folder: Path, **changes: Any) -> Path:
    fields: dict[str, Any] = {
        "key_path": str(folder / "key"),
        "cell": "fra",
        "state_dir": str(folder / "state"),
        "fabric_servers": ("nats://127.0.0.1:1",),
        "ledger": Deployment(chain_id=31337, bonds="0x" + "b" * 40, genesis_unix_s=1),
        "chain_urls": ("http://127.0.0.1:1",),
        "ready_file": str(folder / "ready.json"),
        **changes,
    }
    path = folder / "config.json"
    path.write_bytes(msgspec.json.encode(ValidatorConfig(**fields)))
    return path


def begun(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "isochrone.validator", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_it_serves_without_chain_and_fabric_and_ends_at_once(tmp_path: Path) -> None:
    config = configured(tmp_path)
    process = begun("--config", str(config))
    try:
        deadline_s = time.monotonic() + 20.0
        while not (tmp_path / "ready.json").exists():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline_s
            time.sleep(0.02)
        ready = msgspec.json.decode((tmp_path / "ready.json").read_bytes(), type=Ready)
        assert (ready.pid, ready.cell) == (process.pid, "fra")
        connection = http.client.HTTPConnection(ready.url.removeprefix("http://"), timeout=5)
        connection.request("GET", "/healthz")
        status = msgspec.json.decode(connection.getresponse().read(), type=ValidatorStatus)
        connection.close()
        assert status.validator == ready.validator
        assert status.behind > 400_000, "every hour since 1970"
        assert status.notes

        second = begun(str(config))
        _, words = second.communicate(timeout=20.0)
        assert second.returncode == 1
        assert "Another validator runs from" in words

        began_s = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(10.0) == 0
        assert time.monotonic() - began_s < 6.0, "whatever the chain's threads wait for"
    finally:
        process.kill()
        process.communicate()


def test_a_wrong_configuration_is_one_sentence(tmp_path: Path) -> None:
    config = configured(tmp_path)
    config.write_bytes(config.read_bytes().replace(b'"cell"', b'"sell"'))
    process = begun(str(config))
    _, words = process.communicate(timeout=20.0)
    assert process.returncode == 1
    assert "sell" in words
    assert "Traceback" not in words
    nothing = begun(str(tmp_path / "none.json"))
    _, words = nothing.communicate(timeout=20.0)
    assert nothing.returncode == 1
    assert "cannot be read" in words


def test_numpy_gets_one_thread() -> None:
    """More would wait for each other on a busy machine, and hold up the loop for seconds."""
    code = (
        "import isochrone.validator.__main__, numpy, threadpoolctl\n"
        "print({pool['num_threads'] for pool in threadpoolctl.threadpool_info()})"
    )
    outer = {name: value for name, value in os.environ.items() if "_NUM_THREADS" not in name}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=outer, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert done.stdout.strip() == "{1}"
