"""A cell with a chain of its own: epochs settle, a provider is paid, and the chain may vanish."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cli.own_cell import Home

from isochrone.cell.record import read_record
from isochrone.ledger.contracts import Contracts
from isochrone.ledger.deploy import read_deployment
from isochrone.ledger.evm import EvmChain
from isochrone.schema.identity import PrivateKey
from isochrone.schema.settling import ValidatorStatus

pytestmark = [pytest.mark.processes, pytest.mark.slow, pytest.mark.timeout(300)]

EPOCH_S = 10
SERVICE = "first-service"
BODY = json.dumps(
    {"inputs": [{"name": "features", "datatype": "FP32", "shape": [1, 8], "data": [0] * 8}]}
)


def until(what: Callable[[], Any], within_s: float, why: str) -> None:
    deadline_s = time.monotonic() + within_s
    while not what():
        assert time.monotonic() < deadline_s, f"not within {within_s} s: {why}"
        time.sleep(0.1)


class Load:
    """Calls the service all the time; ``failures``: answers that were not 200."""

    def __init__(self, home: Home) -> None:
        self._address = home.address
        self._key = home.good("keys", "create", "--service", SERVICE).strip()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.answers = 0
        self.failures: list[object] = []

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join(10)

    def _run(self) -> None:
        connection = http.client.HTTPConnection(self._address, timeout=10)
        headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}
        while not self._ending.wait(0.05):
            try:
                connection.request("POST", f"/v2/models/{SERVICE}/infer", BODY, headers)
                answer = connection.getresponse()
                answer.read()
            except OSError as error:
                self.failures.append(error)
                connection.close()
                continue
            self.answers += 1
            if answer.status != 200:
                self.failures.append(answer.status)
        connection.close()


CAUGHT_UP_S = 120.0
"""Eight seconds are usual until all is settled."""


class Cell:
    """What the test looks at behind the person's back."""

    def __init__(self, home: Home) -> None:
        self.folder = home.folder / "cell"

    def contracts(self) -> Contracts:
        url = json.loads((self.folder / "chain" / "ready.json").read_text())["url"]
        return Contracts(
            EvmChain((url,), deadline_s=2.0), read_deployment(self.folder / "chain" / "chain.json")
        )

    def account(self, home: Home, role: str) -> str:
        return PrivateKey.load_or_create(home.folder / "keys" / f"{role}.key").address

    def status(self, number: int = 1) -> ValidatorStatus | None:
        import msgspec

        url = json.loads((self.folder / f"validator-{number}" / "ready.json").read_text())["url"]
        connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=5)
        try:
            connection.request("GET", "/healthz")
            return msgspec.json.decode(connection.getresponse().read(), type=ValidatorStatus)
        except OSError:
            return None
        finally:
            connection.close()

    def process(self, part: str) -> int:
        record = read_record(self.folder)
        assert record is not None
        found = next(row for row in record.parts if row.name == part).process
        assert found is not None
        return found.pid


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    made = Home(tmp_path / "home")
    try:
        yield made
    finally:
        made.run("down")
        assert made.processes() == []


def up(home: Home, *more: str) -> subprocess.CompletedProcess[str]:
    done = home.run("up", "--place", "frankfurt", "--port", "0", *more)
    assert done.returncode == 0, done.stderr
    return done


def test_epochs_settle_claims_are_paid_and_a_lost_chain_stops_nothing(home: Home) -> None:
    up(home, "--epoch", str(EPOCH_S), "--validators", "3")
    home.good("apply", "-y", "--wait", "30", "-f", str(home.declare(SERVICE)))
    home.good("deposit", "5", "--service", SERVICE)
    cell = Cell(home)
    with Load(home) as load:
        contracts = cell.contracts()
        until(lambda: contracts.vault.pot_received() > 0, 60.0, "an epoch's use is paid")
        until(lambda: contracts.vault.final_epoch() is not None, 30.0, "a root is final")
        paid_from = contracts.vault.next_epoch()
        until(
            lambda: (contracts.vault.final_epoch() or 0) >= paid_from,
            4 * EPOCH_S,
            "the epoch that was paid is final",
        )
        home.good("claim")
        provider = cell.account(home, "provider")
        assert contracts.vault.claimed_of(provider) > 0
        assert contracts.token.balance_of(provider) == contracts.vault.claimed_of(provider)

        # The chain's process is stopped dead for two epochs; what it had is on its disk.
        anvil = json.loads((cell.folder / "chain" / "ready.json").read_text())["anvil"]["pid"]
        for pid in (cell.process("chain"), anvil):
            os.kill(pid, signal.SIGSTOP)
        answers = load.answers
        until(
            lambda: (status := cell.status()) is not None and status.behind >= 1 and status.notes,
            4 * EPOCH_S,
            "validators say that they are behind",
        )
        assert load.answers > answers + 20
        for pid in (cell.process("chain"), anvil):
            os.kill(pid, signal.SIGCONT)
        # And then it is killed, and started again by its keeper.
        os.kill(anvil, signal.SIGKILL)
        before = cell.status()
        assert before is not None
        until(
            lambda: (
                (status := cell.status()) is not None
                and status.behind == 0
                and status.settled > before.settled
            ),
            CAUGHT_UP_S,
            "settlement has caught up",
        )
    assert load.failures == [], "nobody noticed"


def test_a_service_from_before_the_chain_is_charged_once_it_is_applied_again(home: Home) -> None:
    up(home, "--no-chain")
    home.good("apply", "-y", "--wait", "30", "-f", str(home.declare(SERVICE)))
    home.good("down")
    up(home, "--epoch", str(EPOCH_S))
    told = home.run("deposit", "5", "--service", SERVICE)
    assert told.returncode == 0, told.stderr
    assert "until you apply it again" in told.stderr
    home.good("apply", "-y", "--wait", "30", "-f", str(home.declare(SERVICE)))
    again = home.run("deposit", "-o", "json")
    (row,) = json.loads(again.stdout)
    assert (row["apply_again"], again.stderr) == (False, "")
    contracts = Cell(home).contracts()
    with Load(home):
        until(lambda: contracts.vault.pot_received() > 0, 60.0, "an epoch's use is paid")


def test_a_stopped_cell_goes_on_with_the_same_chain(home: Home) -> None:
    up(home, "--epoch", "10", "--no-node")
    cell = Cell(home)
    first = read_deployment(cell.folder / "chain" / "chain.json")
    until(lambda: cell.contracts().vault.next_epoch() >= 3, 30.0, "the past's epochs are settled")
    home.good("down")
    up(home, "--no-node")
    assert read_deployment(cell.folder / "chain" / "chain.json") == first
    assert cell.contracts().vault.next_epoch() >= 3
    assert "0 nodes" in home.good("status")


def test_without_anvil_the_cell_serves_and_says_what_is_missing(home: Home) -> None:
    elsewhere = "0x" + "ab" * 20
    done = home.run(
        *("up", "--place", "frankfurt", "--port", "0", "--no-node"),
        *("--validator-key", elsewhere.upper().replace("0X", "0x")),
        ISOCHRONE_ANVIL="/no/such/anvil",
    )
    assert done.returncode == 0, done.stderr
    assert "Nothing is settled for now" in done.stderr
    assert "no program" in done.stderr
    assert "0 nodes" in home.good("status")
    told = json.loads((home.folder / "cell" / "gateway-1" / "config.json").read_text())
    assert len(told["validators"]) == 2, "nobody else's news is believed meanwhile"
    assert elsewhere in told["validators"]


def test_a_cell_can_do_without(home: Home) -> None:
    done = up(home, "--no-chain", "--no-node")
    assert "settled" not in done.stderr
    record = read_record(home.folder / "cell")
    assert record is not None
    assert [part.name for part in record.parts] == ["fabric", "controller-1", "gateway-1"]
    assert "exclude each other" in home.bad("up", "--place", "paris", "--no-chain", "--chain", "x")
    assert "belong together" in home.bad("up", "--place", "paris", "--chain", "http://127.0.0.1:1")
