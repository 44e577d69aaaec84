"""The verbs about money, as a person types them, on a real chain with real validators."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.cli.own_cell import Done, Home
from tests.validator.town import DOLLAR, PRICE, Town, key, until

from isochrone.ledger.deploy import write_deployment

pytestmark = [pytest.mark.processes, pytest.mark.slow]

WORKED_MS = 4 * 15 * 60_000
USE = PRICE * (WORKED_MS - 1) // 3_600_000  # it began to serve a millisecond late


class Person:
    """Someone with keys of the town's, the chain's URL and a validator's store."""

    def __init__(self, town: Town, folder: Path, **keys: str) -> None:
        self.home = Home(folder)
        (folder / "keys").mkdir(parents=True)
        for role, name in keys.items():
            (folder / "keys" / f"{role}.key").write_text(key(name).secret.hex())
        write_deployment(folder / "chain.json", town.deployment)
        self._more = {
            "ISOCHRONE_GATEWAY": "http://127.0.0.1:9",
            "ISOCHRONE_CHAIN": town.anvil.url,
            "ISOCHRONE_DEPLOYMENT": str(folder / "chain.json"),
        }
        if town.validators:
            first = next(iter(town.validators.values()))
            self._more["ISOCHRONE_RECORDS"] = first.url

    async def run(self, *arguments: str) -> Done:
        return await asyncio.to_thread(self.home.run, *arguments, **self._more)

    async def good(self, *arguments: str) -> str:
        done = await self.run(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    async def bad(self, *arguments: str) -> str:
        done = await self.run(*arguments)
        assert done.returncode == 1, (done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        return done.stderr.strip()


@pytest.fixture
async def town(tmp_path: Path) -> AsyncIterator[Town]:
    made = Town(tmp_path)
    try:
        yield made
    finally:
        await made.stop()


async def settled_town(town: Town) -> None:
    """Epoch 2 has work and a root."""
    names = ("v1", "v2", "v3")
    await town.start(*names)
    for name in names:
        await town.validator(name)
    await town.work(2, live_ms=WORKED_MS // 4)
    await town.to_epoch(3)
    await until(lambda: town.settled() >= 2, 30.0, "epoch 2 has a root")
    first = town.validators["v1"]
    await until(lambda: first.status().settled >= 2, 15.0, "the first validator has its books")


async def test_an_epoch_is_looked_at_audited_and_claimed(town: Town, tmp_path: Path) -> None:
    await settled_town(town)
    provider = Person(town, tmp_path / "provider", provider="provider")
    stranger = Person(town, tmp_path / "stranger")
    earned, rows, audited, early = await asyncio.gather(
        provider.good("earnings", "-o", "json"),
        stranger.good("records", "2", "--sql", "SELECT lease, node FROM leases", "-o", "json"),
        stranger.good("audit", "2", "--from", "0"),
        provider.bad("claim"),
    )
    report = json.loads(earned)
    amounts = {row["why"]: row["amount_microusd"] for row in report["earnings"]["sources"]}
    assert amounts["use"] == USE
    assert amounts["held"] == -(USE * 3 // 4), "a newcomer leaves three quarters behind"
    assert report["claimed_microusd"] == 0
    assert json.loads(rows) == [{"lease": "lease-1", "node": key("node").address}]
    assert "The audit agrees." in audited
    assert "No epoch is final yet" in early

    await town.to_epoch(5)
    vault = town.contracts.vault
    await until(lambda: (vault.final_epoch() or 0) >= 2, 20.0, "epoch 2 is final")
    owed = report["claimable_microusd"]
    assert f"Paid ${owed / DOLLAR:.6f}" in await provider.good("claim")
    assert vault.claimed_of(key("provider").address) == owed
    assert "Nothing to claim" in await provider.good("claim")
    nobody = Person(town, tmp_path / "nobody", tenant="nobody")
    assert "owe" in await nobody.good("claim", "--role", "tenant")
    progress = json.loads(await stranger.good("settle", "-o", "json"))
    assert progress["pot_paid_microusd"] == owed
    assert [row["final"] for row in progress["roots"] if row["epoch"] == 2] == [True]


async def test_an_audit_names_what_differs_and_fails(town: Town, tmp_path: Path) -> None:
    await settled_town(town)
    store = tmp_path / "v1" / "state" / "store"
    entry = json.loads((store / "epochs" / "2.json").read_text())
    manifest = json.loads((store / "sha256" / entry["statement"]["manifest"]).read_bytes())
    heads = next(file for file in manifest["files"] if file["kind"] == "heads")
    path = store / "sha256" / heads["sha256"]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    stranger = Person(town, tmp_path / "stranger")
    said = await stranger.bad("audit", "2")
    assert "DIFFERS" in said
    assert heads["sha256"] in said
    assert "no root for epoch 9" in await stranger.bad("audit", "9")


async def test_a_bond_is_posted_signed_for_and_thawed(town: Town, tmp_path: Path) -> None:
    await town.start()
    someone = Person(town, tmp_path / "someone", provider="newcomer")
    account, bonds = key("newcomer").address, town.contracts.bonds
    machine = tmp_path / "machine.key"
    machine.write_text(key("machine").secret.hex())

    assert "None of your keys has a bond" in await someone.good("stake")
    done = await someone.run("stake", "post", "120.5", "--role", "provider")
    assert done.returncode == 0, done.stderr
    assert "Local chain: made $120.500000 of test dollars" in done.stderr
    assert bonds.stake_of(account, "provider") == 120_500_000
    word = (await someone.good("stake", "consent", str(machine), "--account", account)).strip()
    await someone.good("stake", "keys", "--consent", word)
    assert bonds.account_of("provider", key("machine").address) == account
    await someone.good("stake", "post", "0.5")
    assert "too little left" in await someone.bad("stake", "thaw", "30")
    await someone.good("stake", "thaw", "3")
    (row,) = json.loads(await someone.good("stake", "-o", "json"))
    assert (row["stake_microusd"], row["thawing_microusd"]) == (121_000_000, 3_000_000)
    early = await someone.bad("stake", "withdraw")
    assert early.startswith("isochrone: ")
    assert bonds.stake_of(account, "provider") == 121_000_000


@pytest.mark.parametrize("amount", ["-1", "0", "nan", "inf", "1e99", "0.0000001", "ten", ""])
def test_amounts_are_dollars_with_six_decimals(tmp_path: Path, amount: str) -> None:
    done = Home(tmp_path).run("stake", "post", "--", amount)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_without_a_ledger_it_says_where_to_look(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.good("keys", "init", "provider")
    said = home.bad("stake", ISOCHRONE_GATEWAY="http://127.0.0.1:9")
    assert "127.0.0.1:9" in said
