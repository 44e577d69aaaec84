"""The chain's process: ready, killed hard, started again on the same chain, ended whole."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psutil
import pytest

from isochrone.cell.chain import ChainConfig, Ready
from isochrone.cell.ports import Ports
from isochrone.cell.running import is_running
from isochrone.ledger.anvil import ask

pytestmark = pytest.mark.processes


class Keeper:
    """Starts the process as a cell does, without keeping it up."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ready = folder / "ready.json"
        self._path = folder / "config.json"
        config = ChainConfig(
            state=str(folder / "state.json"),
            port=Ports(folder).take("chain", "127.0.0.1"),
            block_s=0.5,
            genesis_unix_s=0,
            ready_file=str(self._ready),
        )
        self._path.write_bytes(msgspec.json.encode(config))
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Ready:
        self._ready.unlink(missing_ok=True)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "isochrone.cell.chain", str(self._path)], start_new_session=True
        )
        deadline_s = time.monotonic() + 20.0
        while not self._ready.exists():
            assert self.process.poll() is None
            assert time.monotonic() < deadline_s
            time.sleep(0.01)
        return msgspec.json.decode(self._ready.read_bytes(), type=Ready)

    def end(self, how: signal.Signals) -> int:
        assert self.process is not None
        self.process.send_signal(how)
        return self.process.wait(15.0)


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[Keeper]:
    made = Keeper(tmp_path)
    yield made
    if made.process is not None and made.process.poll() is None:
        made.end(signal.SIGTERM)


def test_a_killed_keeper_finds_its_chain_again(keeper: Keeper) -> None:
    first = keeper.start()
    genesis = ask(first.url, "eth_getBlockByNumber", "0x0", False)["hash"]
    assert int(ask(first.url, "eth_chainId"), 16) == 31337
    keeper.end(signal.SIGKILL)
    assert is_running(first.anvil), "what it started goes on without it"
    second = keeper.start()
    assert not is_running(first.anvil), "and is ended before another one is started"
    assert second.url == first.url
    assert ask(second.url, "eth_getBlockByNumber", "0x0", False)["hash"] == genesis
    assert keeper.end(signal.SIGTERM) == 0
    assert not is_running(second.anvil)


def test_it_ends_when_its_chain_does(keeper: Keeper) -> None:
    ready = keeper.start()
    psutil.Process(ready.anvil.pid).kill()
    assert keeper.process is not None
    assert keeper.process.wait(10.0) == 0
