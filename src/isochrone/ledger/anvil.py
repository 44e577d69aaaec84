"""The embedded chain: an ``anvil`` process of one's own, for a laptop, the lab and tests.

It is a real EVM chain of one machine: blocks come with every transaction and every ``block_s``,
two blocks later they are final, the state is kept in a file, and a start on that file continues
the same chain. Its ether has no worth: ``give_ether`` makes it. Whoever holds the URL can do that
and can move the clock (``advance``), so it listens on loopback only and carries no real money.

``python -m isochrone.ledger.anvil --install`` installs the binary (``anvil_install``).

What it does not do: keep old states (a read of a block more than a few hundred blocks back is
answered from logs, as with any non-archive node), or survive SIGKILL without losing the last
``STATE_EVERY_S`` seconds; a kill in the middle of a dump loses what came after the last spare.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Final

import msgspec

from isochrone.ledger.anvil_install import find, install
from isochrone.schema.errors import InvalidInput, Unavailable

LOCAL_CHAIN_ID: Final = 31337
"""The number by which wallets know a development chain."""

BLOCK_S: Final = 12.0
"""Ethereum's own rhythm. A block without transactions costs 1.7 KB of state: 12 MB a day."""

STATE_EVERY_S: Final = 2
"""Between two dumps of the state: what a crash may lose. A day's 12 MB take 25 ms to write."""

HARDFORK: Final = "cancun"
"""The EVM that the contracts are compiled for."""

READY_S: Final = 10.0
"""It answers after 20 ms; 20,000 blocks of state take 0.15 s to load."""

STOP_S: Final = 10.0
"""Between SIGTERM and SIGKILL: a state of 34 MB is written in 0.07 s."""

TRIES: Final = 3
"""Free ports that are tried: somebody may take one between our look and anvil's."""

WEI: Final = 10**18


class AnvilSpec(msgspec.Struct, frozen=True, kw_only=True):
    """How to run it. ``state``: its file, made at the first start. ``port`` 0: any free one.

    ``block_s``: seconds between blocks without transactions (fractions are allowed); 0: blocks come
    with transactions only, and nothing becomes final until two more were made.
    ``genesis_unix_s``: the first block's time (0: now); means nothing for a chain that exists.
    """

    state: Path
    port: int = 0
    chain_id: int = LOCAL_CHAIN_ID
    block_s: float = BLOCK_S
    genesis_unix_s: int = 0


class Anvil:
    """One running anvil: its own session, ended by its process id only. ``url``: its JSON-RPC."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self._process = process
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    def __repr__(self) -> str:
        return f"Anvil({self.url}, {'running' if self.running else 'ended'})"

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process is still there."""
        return self._process.poll() is None

    @classmethod
    def start(cls, spec: AnvilSpec) -> Anvil:
        """Start it and wait until it answers; raises Unavailable with its last words."""
        binary = find()
        spec.state.parent.mkdir(parents=True, exist_ok=True)
        ahead_s = _kept_time_s(spec.state)
        log_path = spec.state.with_suffix(".log")
        for _ in range(1 if spec.port else TRIES):
            port = spec.port or _free_port()
            with log_path.open("wb") as log:
                process = subprocess.Popen(
                    [str(binary), *arguments(spec, port, ahead_s)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            anvil = cls(process, port)
            if anvil._answers(spec.chain_id):
                return anvil
            anvil.stop()
        words = log_path.read_text(errors="replace").strip().splitlines()[-3:]
        raise Unavailable(
            f"The local chain did not start: {' / '.join(words) or 'it said nothing'}.",
            fix=f"Is the port in use, or {spec.state} damaged? See {log_path}.",
            code="anvil_failed",
        )

    def _answers(self, chain_id: int) -> bool:
        deadline = time.monotonic() + READY_S
        while self.running and time.monotonic() < deadline:
            with contextlib.suppress(Unavailable):
                return int(ask(self.url, "eth_chainId"), 16) == chain_id
            time.sleep(0.01)
        return False

    def stop(self) -> None:
        """SIGTERM (it writes its state), SIGKILL after ``STOP_S``; waits for the end."""
        if self.running:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()

    def kill(self) -> None:
        """SIGKILL, as in a crash; waits for the end."""
        self._process.kill()
        self._process.wait()


def arguments(spec: AnvilSpec, port: int, head_unix_s: int = 0) -> tuple[str, ...]:
    """Anvil's arguments. No accounts of its own (their keys are public), and no log per call.

    ``head_unix_s``: time of the kept chain's newest block (0: none is kept). A chain whose clock
    was moved ahead goes on from there; anvil itself would fall back to the machine's time.
    """
    from_s = spec.genesis_unix_s
    if head_unix_s:
        from_s = head_unix_s if head_unix_s > time.time() else 0
    blocks = ("--mixed-mining", "--block-time", f"{spec.block_s:g}") if spec.block_s else ()
    clock = ("--timestamp", str(from_s)) if from_s else ()
    return (
        "--host", "127.0.0.1", "--port", str(port), "--chain-id", str(spec.chain_id),
        "--hardfork", HARDFORK, "--accounts", "0", "--quiet", "--no-cors",
        "--slots-in-an-epoch", "1", "--state", str(spec.state),
        "--state-interval", str(STATE_EVERY_S), *blocks, *clock,
    )  # fmt: skip


def ask(url: str, method: str, *params: object) -> Any:
    """One JSON-RPC call without web3; raises Unavailable when there is no answer or an error."""
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    request = urllib.request.Request(url, body, {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=READY_S) as reply:
            answer = json.load(reply)
    except (OSError, ValueError) as error:
        raise Unavailable(
            f"The chain at {url} does not answer: {error}.", code="chain_unreachable", retry="here"
        ) from error
    if "error" in answer:
        raise Unavailable(f"The chain refused {method}: {answer['error'].get('message')}.")
    return answer.get("result")


def is_local(url: str) -> bool:
    """Whether an anvil answers there, where ether and time are free."""
    return str(ask(url, "web3_clientVersion")).startswith("anvil/")


def give_ether(url: str, address: str, ether: int = 100) -> None:
    """Set an address's ether, for gas. Local chains only: raises InvalidInput elsewhere."""
    _only_local(url)
    ask(url, "anvil_setBalance", address, hex(ether * WEI))


def advance(url: str, seconds: int, blocks: int = 3) -> None:
    """Move the clock forward and make ``blocks`` (three: all before the last two are final).

    Local chains only: raises InvalidInput elsewhere.
    """
    _only_local(url)
    if seconds:
        ask(url, "evm_increaseTime", seconds)
    for _ in range(blocks):
        ask(url, "evm_mine")


def _only_local(url: str) -> None:
    if not is_local(url):
        raise InvalidInput(
            f"{url} is not a local chain: its ether and its clock are not ours to change.",
            fix="Fund the account with real ether; wait for real time.",
            code="not_local",
        )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _kept_time_s(state: Path) -> int:
    """The time of the kept chain's newest block, 0 when none is kept.

    A dump cut by a crash is replaced by the last whole one, and a whole one is kept beside it.
    """
    spare = state.with_suffix(".previous")
    if not state.exists():
        return 0
    try:
        time_s = _newest_time_s(state)
    except (ValueError, LookupError, TypeError) as error:
        if not spare.exists():
            raise Unavailable(
                f"The local chain's state {state} is damaged, and there is no older one.",
                fix="Move it away; the chain then begins anew, and so do all accounts.",
                code="anvil_failed",
            ) from error
        state.write_bytes(spare.read_bytes())
        return _newest_time_s(state)
    _copy(state, spare)
    return time_s


def keep_spare(state: Path) -> bool:
    """Copy a running chain's last dump beside it; whether it was whole.

    Anvil writes its dumps in place, so a crash in the middle of one leaves a cut file: whoever
    keeps the process calls this now and then, and the next start falls back to the copy.
    """
    try:
        _newest_time_s(state)
    except (OSError, ValueError, LookupError, TypeError):
        return False
    _copy(state, state.with_suffix(".previous"))
    return True


def _copy(state: Path, spare: Path) -> None:
    copy = spare.with_suffix(".new")
    copy.write_bytes(state.read_bytes())
    os.replace(copy, spare)


def _newest_time_s(state: Path) -> int:
    with state.open("rb") as file:
        return int(json.load(file)["block"]["timestamp"], 16)


if __name__ == "__main__":
    if sys.argv[1:] != ["--install"]:
        raise SystemExit("usage: python -m isochrone.ledger.anvil --install")
    try:
        sys.stdout.write(f"{install()}\n")
    except Unavailable as failure:
        raise SystemExit(failure.sentence()) from failure
