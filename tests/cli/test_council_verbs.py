"""`isochrone dispute` and `isochrone council` against the contracts on a real local chain."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.ledger.worlds import DOLLAR, AnvilWorld, key

from isochrone.cli import main
from isochrone.ledger.anvil import Anvil, AnvilSpec
from isochrone.ledger.deploy import write_deployment
from isochrone.schema.deployment import Role
from isochrone.schema.identity import PrivateKey

pytestmark = pytest.mark.processes

JURORS = [key(f"juror {number}") for number in range(4)]
ACCUSED, TENANT = key("accused"), key("wronged tenant")
Verb = Callable[..., Any]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AnvilWorld]:
    """Four equal jurors (validators), an accused provider; their bonds vote."""
    folder = tmp_path_factory.mktemp("chain")
    anvil = Anvil.start(AnvilSpec(state=folder / "state.json", block_s=0))
    world = AnvilWorld(anvil.url)
    for juror in JURORS:
        world.bond(juror, "validator", 100)
    world.bond(ACCUSED, "provider", 1_000)
    world.pass_time(2 * world.deployment.epoch_s)
    write_deployment(folder / "chain.json", world.deployment)
    yield world
    anvil.stop()


@pytest.fixture
def verb(
    world: AnvilWorld,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Verb:
    """Run a verb as somebody; its JSON (``text=True``: its words; ``fails``: what it must say)."""
    write_deployment(tmp_path / "chain.json", world.deployment)
    monkeypatch.setenv("ISOCHRONE_CHAIN", world.url)
    monkeypatch.setenv("ISOCHRONE_DEPLOYMENT", str(tmp_path / "chain.json"))
    monkeypatch.setenv("ISOCHRONE_HOME", str(tmp_path))

    def run(
        who: PrivateKey, role: Role | str, *words: str, text: bool = False, fails: str = ""
    ) -> Any:
        file = tmp_path / f"{who.address}.key"
        file.write_text(who.secret.hex())
        options = ["--as", role, "--key", str(file), *([] if text else ["-o", "json"])]
        capsys.readouterr()
        try:
            main([*words, *options])
        except SystemExit as ended:
            status = ended.code
        else:
            status = 0
        said = capsys.readouterr()
        if fails or status:
            assert (status, bool(fails)) == (1, True), said.err
            assert fails in said.err
            return None
        return said.out if text else json.loads(said.out)

    return run


def test_a_dispute_from_the_accusation_to_the_verdict(
    world: AnvilWorld, verb: Verb, tmp_path: Path
) -> None:
    papers = tmp_path / "evidence.txt"
    papers.write_text("what the node logged")
    opened = verb(
        TENANT, "tenant", "dispute", "open", ACCUSED.address, "150", "--evidence", str(papers)
    )
    number = opened["dispute"][:10]
    assert opened["bond_microusd"] == 15 * DOLLAR

    (row,) = verb(TENANT, "tenant", "dispute")
    assert (row["state"], row["accused"], row["harmed"]) == (
        "waiting",
        ACCUSED.address,
        TENANT.address,
    )
    verb(JURORS[0], "validator", "dispute", "sign", number, "--guilty", fails="has no seat")
    verb(TENANT, "tenant", "dispute", "draw", number)
    (row,) = verb(TENANT, "tenant", "dispute")
    assert row["state"] == "judging"

    words = []
    for juror in JURORS[:3]:
        signed = verb(juror, "validator", "dispute", "sign", number, "--guilty")
        assert signed["seats"] == 64
        words.append(signed["signature"])
    verb(ACCUSED, "provider", "dispute", "sign", number, "--acquit", fails="has no seat")
    decide = ("dispute", "decide", number)
    verb(TENANT, "tenant", *decide, *words, "--acquit", fails="has not signed this")
    verb(TENANT, "tenant", *decide, "nonsense", "--guilty", fails="is not ADDRESS:HEX")
    verb(TENANT, "tenant", *decide, *words[:2], "--guilty", fails="too few seats")
    verb(TENANT, "tenant", *decide, *words, "--guilty")

    assert world.contracts.token.balance_of(TENANT.address) == (150 + 15) * DOLLAR
    assert world.contracts.bonds.stake_of(ACCUSED.address, "provider") == 700 * DOLLAR
    assert "guilty" in verb(TENANT, "tenant", "dispute", text=True)


def test_a_dispute_without_a_verdict_is_closed(world: AnvilWorld, verb: Verb) -> None:
    digest = "ab" * 32
    opened = verb(
        TENANT, "tenant", "dispute", "open", ACCUSED.address, "1", "--evidence", digest,
        "--harmed", key("somebody else").address,
    )  # fmt: skip
    assert opened["evidence"] == digest
    number = opened["dispute"]
    verb(TENANT, "tenant", "dispute", "close", number, fails="council: still open")
    world.mine(60)
    assert verb(TENANT, "tenant", "dispute")[0]["state"] == "expired"
    verb(TENANT, "tenant", "dispute", "draw", number, fails="too late to draw")
    assert verb(TENANT, "tenant", "dispute", "close", number)["verdict"] == "acquitted"
    assert verb(TENANT, "tenant", "dispute")[0]["state"] == "acquitted"


def test_what_is_no_dispute_is_said(verb: Verb) -> None:
    open_ = ("dispute", "open")
    verb(TENANT, "tenant", *open_, "me", "1", "--evidence", "ab" * 32, fails="not an address")
    verb(TENANT, "tenant", *open_, ACCUSED.address, "1", "--evidence", "abc", fails="SHA-256")
    verb(TENANT, "tenant", "dispute", "close", "ffff", fails="There is no dispute")


def test_a_parameter_from_the_proposal_to_the_change(world: AnvilWorld, verb: Verb) -> None:
    propose = ("council", "propose")
    verb(JURORS[0], "validator", *propose, "fee_bps", "201", fails="between 0 and 200")
    verb(JURORS[0], "validator", *propose, "fee_bsp", "20", fails="Did you mean fee_bps")
    number = verb(JURORS[0], "validator", *propose, "fee_bps", "150")["proposal"][:8]
    verb(TENANT, "provider", "council", "sign", number, fails="has no bond")
    world.bond(key("newcomer"), "operator", 5_000)
    verb(key("newcomer"), "operator", "council", "sign", number, fails="has no bond")

    signed = [
        verb(who, role, "council", "sign", number)["signature"]
        for who, role in ((ACCUSED, "provider"), (JURORS[0], "validator"))
    ]
    half = verb(JURORS[0], "validator", "council", "support", number, signed[1])
    assert not half["passed"]
    verb(JURORS[0], "validator", "council", "execute", number, fails="council: not passed")
    whole = verb(JURORS[0], "validator", "council", "support", number, *signed)
    assert whole["passed"]

    verb(JURORS[0], "validator", "council", "execute", number, fails="council: timelocked")
    shown = verb(JURORS[0], "validator", "council")
    assert shown["proposals"][0]["state"] == "timelocked"
    world.pass_time(world.contracts.council.timelock_s())
    assert verb(JURORS[0], "validator", "council")["proposals"][0]["state"] == "executable"
    done = verb(JURORS[0], "validator", "council", "execute", number)
    assert done["from_epoch"] == world.epoch() + 2
    fee = next(
        row
        for row in verb(JURORS[0], "validator", "council")["parameters"]
        if row["name"] == "fee_bps"
    )
    assert (fee["value"], fee["decided"]) == (200, 150)
    assert "executed" in verb(JURORS[0], "validator", "council", text=True)


def test_validators_pause(world: AnvilWorld, verb: Verb) -> None:
    words = [verb(one, "validator", "council", "pause")["signature"] for one in JURORS]
    pause = ("council", "pause")
    verb(JURORS[0], "validator", *pause, *words[:2], fails="council: no quorum")
    assert verb(JURORS[0], "validator", *pause, *words)["paused"]
    assert "Paused" in verb(JURORS[0], "validator", "council", text=True)
    assert world.contracts.council.paused()
