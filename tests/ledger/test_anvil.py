"""The embedded chain: started, stopped, killed, continued; its freebies are for local chains."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from tests.ledger.rpc_proxy import RpcProxy

from isochrone.ledger import anvil_install
from isochrone.ledger.anvil import (
    STATE_EVERY_S,
    Anvil,
    AnvilSpec,
    advance,
    ask,
    give_ether,
    keep_spare,
)
from isochrone.schema.errors import InvalidInput, Unavailable

ADDRESS = "0x" + "ab" * 20


def hashes(anvil: Anvil) -> list[str]:
    head = int(ask(anvil.url, "eth_blockNumber"), 16)
    blocks = (ask(anvil.url, "eth_getBlockByNumber", hex(n), False) for n in range(head + 1))
    return [block["hash"] for block in blocks]


def balance(anvil: Anvil) -> int:
    return int(ask(anvil.url, "eth_getBalance", ADDRESS, "latest"), 16)


def test_it_continues_the_same_chain(tmp_path: Path) -> None:
    spec = AnvilSpec(state=tmp_path / "chain" / "state.json", block_s=0, chain_id=4321)
    first = Anvil.start(spec)
    assert ask(first.url, "eth_accounts") == []
    give_ether(first.url, ADDRESS, 7)
    advance(first.url, 100, 4)
    before = hashes(first)
    first.stop()
    assert not first.running
    second = Anvil.start(spec)
    try:
        assert hashes(second) == before
        assert balance(second) == 7 * 10**18
        assert int(ask(second.url, "eth_chainId"), 16) == 4321
        advance(second.url, 0, 1)
        assert hashes(second)[:-1] == before
    finally:
        second.stop()


def test_a_clock_that_was_moved_ahead_does_not_fall_back(tmp_path: Path) -> None:
    spec = AnvilSpec(state=tmp_path / "state.json", block_s=0)
    anvil = Anvil.start(spec)
    advance(anvil.url, 100_000, 1)
    before = int(ask(anvil.url, "eth_getBlockByNumber", "latest", False)["timestamp"], 16)
    anvil.stop()
    again = Anvil.start(spec)
    try:
        advance(again.url, 0, 1)
        after = int(ask(again.url, "eth_getBlockByNumber", "latest", False)["timestamp"], 16)
        assert before <= after <= before + 10
    finally:
        again.stop()


def test_genesis_is_when_it_was_said(tmp_path: Path) -> None:
    spec = AnvilSpec(state=tmp_path / "state.json", block_s=0, genesis_unix_s=1_700_000_000)
    anvil = Anvil.start(spec)
    try:
        block = ask(anvil.url, "eth_getBlockByNumber", "0x0", False)
        assert int(block["timestamp"], 16) == 1_700_000_000
        advance(anvil.url, 3600, 1)
        head = ask(anvil.url, "eth_getBlockByNumber", "latest", False)
        assert 3600 <= int(head["timestamp"], 16) - 1_700_000_000 <= 3610
    finally:
        anvil.stop()


def test_blocks_come_by_themselves_and_become_final(tmp_path: Path) -> None:
    anvil = Anvil.start(AnvilSpec(state=tmp_path / "state.json", block_s=0.05))
    try:
        deadline = time.monotonic() + 5
        while int(ask(anvil.url, "eth_getBlockByNumber", "finalized", False)["number"], 16) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        anvil.stop()


@pytest.mark.slow
def test_a_crash_loses_seconds_not_the_chain(tmp_path: Path) -> None:
    spec = AnvilSpec(state=tmp_path / "state.json", block_s=0)
    anvil = Anvil.start(spec)
    give_ether(anvil.url, ADDRESS, 7)
    advance(anvil.url, 0, 1)
    genesis = hashes(anvil)[0]
    deadline = time.monotonic() + 3 * STATE_EVERY_S
    while not spec.state.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    anvil.kill()
    again = Anvil.start(spec)
    try:
        assert hashes(again)[0] == genesis
        assert balance(again) == 7 * 10**18
    finally:
        again.stop()


def test_a_state_cut_by_a_crash_gives_way_to_the_one_before(tmp_path: Path) -> None:
    spec = AnvilSpec(state=tmp_path / "state.json", block_s=0)
    for _ in range(2):
        anvil = Anvil.start(spec)
        give_ether(anvil.url, ADDRESS, 7)
        anvil.stop()
    whole = spec.state.read_bytes()
    spec.state.write_bytes(whole[: len(whole) // 2])
    anvil = Anvil.start(spec)
    assert balance(anvil) == 7 * 10**18
    anvil.stop()
    spec.state.write_bytes(b"{")
    spec.state.with_suffix(".previous").unlink()
    with pytest.raises(Unavailable, match="damaged") as refused:
        Anvil.start(spec)
    assert refused.value.code == "anvil_failed"


def test_a_port_in_use_is_told_with_its_words(anvil: Anvil, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="did not start") as refused:
        Anvil.start(AnvilSpec(state=tmp_path / "other.json", port=anvil.port, chain_id=99))
    assert refused.value.code == "anvil_failed"
    assert "in use" in refused.value.sentence()


def test_free_ether_and_time_are_for_local_chains(anvil: Anvil, proxy: RpcProxy) -> None:
    give_ether(proxy.url, ADDRESS, 1)
    proxy.faults["web3_clientVersion"] = lambda params, result: "Geth/v1.15"
    for free in (lambda: give_ether(proxy.url, ADDRESS), lambda: advance(proxy.url, 100)):
        with pytest.raises(InvalidInput) as refused:
            free()
        assert refused.value.code == "not_local"


def test_nobody_there(anvil: Anvil) -> None:
    anvil.stop()
    with pytest.raises(Unavailable) as refused:
        ask(anvil.url, "eth_chainId")
    assert refused.value.code == "chain_unreachable"


# --- where the binary is -----------------------------------------------------------------------


def test_the_order_of_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bin" / "anvil"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setattr(anvil_install, "install_folder", lambda: tmp_path / "nothing")
    monkeypatch.setenv("PATH", str(program.parent))
    monkeypatch.delenv(anvil_install.VARIABLE, raising=False)
    assert anvil_install.find() == program
    installed = tmp_path / "nothing/node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil"
    installed.parent.mkdir(parents=True)
    installed.write_text("")
    assert anvil_install.find() == installed
    monkeypatch.setenv(anvil_install.VARIABLE, str(program))
    assert anvil_install.find() == program
    monkeypatch.setenv(anvil_install.VARIABLE, str(tmp_path / "no such"))
    with pytest.raises(Unavailable, match=anvil_install.VARIABLE):
        anvil_install.find()


def test_a_missing_binary_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(anvil_install, "install_folder", lambda: tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv(anvil_install.VARIABLE, raising=False)
    with pytest.raises(Unavailable) as refused:
        anvil_install.find()
    assert refused.value.code == "anvil_missing"
    assert "python -m isochrone.ledger.anvil --install" in refused.value.sentence()


def test_what_is_installed_is_not_installed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = Path(anvil_install.__file__).parent / "anvil_lock" / "package-lock.json"
    program = tmp_path / "node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil"
    program.parent.mkdir(parents=True)
    program.write_text("")
    (tmp_path / "package-lock.json").write_bytes(lock.read_bytes())
    monkeypatch.setenv("PATH", str(tmp_path))
    assert anvil_install.install(tmp_path) == program


def test_an_installation_that_fails_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\necho the registry is away\nexit 1\n")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(Unavailable, match="the registry is away") as refused:
        anvil_install.install(tmp_path / "there")
    assert refused.value.code == "anvil_missing"


def test_the_lock_pins_hashes_and_names_no_place() -> None:
    folder = Path(anvil_install.__file__).parent / "anvil_lock"
    lock = (folder / "package-lock.json").read_text()
    assert lock.count('"integrity": "sha512-') == 6
    assert "resolved" not in lock
    assert "http" not in lock
    assert (folder / "node.txt").read_text().count("--hash=sha256:") >= 4


def test_a_dump_cut_by_a_crash_falls_back_to_the_spare(tmp_path: Path) -> None:
    spec = AnvilSpec(state=tmp_path / "state.json", block_s=0)
    anvil = Anvil.start(spec)
    give_ether(anvil.url, ADDRESS, 7)
    advance(anvil.url, 0, 1)
    genesis = hashes(anvil)[0]
    anvil.stop()
    assert keep_spare(spec.state)
    spec.state.write_bytes(spec.state.read_bytes()[:-20])
    assert not keep_spare(spec.state), "a cut one is no spare"
    again = Anvil.start(spec)
    try:
        assert hashes(again)[0] == genesis
        assert balance(again) == 7 * 10**18
    finally:
        again.stop()
