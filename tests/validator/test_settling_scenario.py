"""Several validators on a real chain: epochs settled, whoever of them lies, sleeps or dies."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.validator.town import (
    DOLLAR,
    PRICE,
    PURPOSE,
    SERVICE_ID,
    Town,
    batch,
    key,
    until,
)

from isochrone.ledger.facts import PostedRoot
from isochrone.rules.merkle import AccountTree
from isochrone.rules.roots import signing_digest
from isochrone.schema import typed_data
from isochrone.schema.documents import FINAL_NEWS, FUNDS_NEWS, unpack, unseal
from isochrone.schema.record_batch import RecordBatch
from isochrone.schema.settlement import RootStatement
from isochrone.schema.settling import S_FINAL, S_FUNDS, S_ROOT, FinalNews, FundsNews, SignedRoot
from isochrone.validator import vouchers
from isochrone.validator.agreeing import proposer_of
from isochrone.validator.proposing import Proposer
from isochrone.validator.recomputing import Computed
from isochrone.validator.validator import Validator

pytestmark = pytest.mark.processes

USE = PRICE * (3_600_000 - 1) // 3_600_000
"""An hour's work, promised from its first millisecond on."""
RELAY = 200 * 200 // 1000
FEE = -(-USE * 200 // 10_000)


@pytest.fixture
async def town(tmp_path: Path) -> AsyncIterator[Town]:
    made = Town(tmp_path)
    try:
        yield made
    finally:
        await made.stop()


async def opened(town: Town, *names: str, bonded: tuple[str, ...] = ()) -> list[Validator]:
    await town.start(*(bonded or names))
    return [await town.validator(name) for name in names]


async def settled(town: Town, epoch: int, within_s: float = 20.0) -> None:
    await until(lambda: town.settled() >= epoch, within_s, f"epoch {epoch} has a root")
    await until(
        lambda: all(v.status().settled >= epoch for v in town.validators.values()),
        why="all validators have its books",
    )


def accounts(town: Town, epoch: int) -> dict[str, int]:
    """The newest books, which every validator must have alike."""
    books = [v._kept.books for v in town.validators.values() if v._kept]
    assert len(books) == len(town.validators)
    assert all(one == books[0] for one in books)
    assert books[0].epoch == epoch
    return books[0].accounts


async def test_an_epoch_is_settled_paid_and_claimed(town: Town) -> None:
    validators = await opened(town, "v1", "v2", "v3")
    news: list[int] = []
    await town.fabric.subscribe(
        S_FINAL,
        lambda _subject, data: news.append(unseal(unpack(data), FINAL_NEWS, FinalNews)[0].epoch),
    )
    await town.work(2)
    await town.to_epoch(3)
    await settled(town, 2)
    vault, tenant = town.contracts.vault, key("tenant").address
    assert vault.redeemed_of(tenant, PURPOSE) == USE + RELAY + FEE
    assert vault.pot_received() == USE + RELAY + FEE
    book = accounts(town, 2)
    provider = key("provider").address
    assert 0 < book[provider] <= USE, "a part is held back"
    assert book[key("operator").address] == RELAY
    await town.to_epoch(5)
    await until(lambda: vault.final_epoch() == 2, why="its challenge is over")
    owed, proof = AccountTree.of(book).claim(provider)
    vault.claim(key("provider"), provider, owed, proof)
    assert vault.claimed_of(provider) == owed
    await settled(town, 4)
    await town.to_epoch(7)
    await until(lambda: max(news, default=0) >= 2, why="the epoch is told as final")
    await settled(town, 6)
    assert [v.status().behind for v in validators] == [0, 0, 0]
    assert validators[0].status().account == key("v1 account").address


async def test_a_validator_that_never_comes_costs_rounds_and_nothing_else(town: Town) -> None:
    await opened(town, "v1", "v2", "v3", bonded=("v1", "v2", "v3", "v4"))
    await town.work(2)
    await town.to_epoch(3)
    await settled(town, 2, 30.0)
    assert accounts(town, 2)[key("provider").address] > 0


async def test_what_one_validator_heard_counts_for_all(town: Town) -> None:
    names = ("v1", "v2", "v3")
    await town.start(*names)
    v1, v2, _v3 = [await town.validator(name, exchange_s=2.0) for name in names]
    start_ms = town.deployment.start_unix_ms(2)
    made = batch(town.deployment.domain, 2, start_ms)
    ack = await v2.holdings.on_batch(msgspec.msgpack.encode(made))
    assert ack is not None
    assert v1.holdings.chains == 0
    await town.to_epoch(3)
    await settled(town, 2)
    assert accounts(town, 2)[key("provider").address] > 0
    assert v1.holdings.chains == 1


def make_lying(validator: Validator, how: str) -> None:
    """Its proposals leave records out, name an invented root, let payees go short by asking for no
    voucher, or by settling with a block from before the vouchers."""
    honest = validator._agreement._hands.propose
    desk, holdings = validator._desk, validator.holdings
    assert desk is not None
    old = desk.look().block
    sound, snapshot = holdings.sound, desk.snapshot

    async def no_vouchers(*_: Any, **__: Any) -> tuple[Any, ...]:
        return ()

    async def propose(epoch: int, round_: int) -> Computed:
        with pytest.MonkeyPatch.context() as patch:
            if how == "withholds":
                patch.setattr(holdings, "sound", lambda *given: _emptied(sound(*given)))
            elif how == "starves":
                patch.setattr(Proposer, "_vouchers", no_vouchers)
            elif how == "backdates":
                patch.setattr(desk, "snapshot", lambda of, block=None: snapshot(of, block or old))
            computed = await honest(epoch, round_)
        if how == "invents":
            false = msgspec.structs.replace(computed.statement, root="ab" * 32)
            computed = msgspec.structs.replace(computed, statement=false)
        return computed

    validator._agreement._hands = msgspec.structs.replace(
        validator._agreement._hands, propose=propose
    )


def _standing_epoch(validator: Validator) -> int | None:
    standing = validator._agreement.state.standing
    return None if standing is None else standing.epoch


def _emptied(sound: Any) -> Any:
    return type(sound)(heads=(), links=(), leases=sound.leases, standby=(), refused=())


@pytest.mark.parametrize("how", ["withholds", "invents", "starves", "backdates"])
async def test_a_lying_proposer_gets_no_signature(
    town: Town, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    validators = await opened(town, "v1", "v2", "v3", "v4")
    await town.work(2)
    await settled(town, 1)
    await until(lambda: _standing_epoch(validators[0]) == 2)
    standing = validators[0]._agreement.state.standing
    assert standing is not None
    first = proposer_of(standing, standing.min_round)
    make_lying(next(v for v in validators if v.key.address == first), how)
    await town.to_epoch(3)
    await settled(town, 2)
    refusals = [r.getMessage() for r in caplog.records if "is not signed" in r.getMessage()]
    assert len(refusals) == 3, "all others saw it"
    assert newest(town).round > standing.min_round
    assert newest(town).root != "ab" * 32
    assert accounts(town, 2)[key("provider").address] > 0


def newest(town: Town) -> PostedRoot:
    """The newest root of which v1 has the books."""
    look = town.validators["v1"]._look
    assert look is not None
    return look.roots[-1]


async def test_two_signatures_in_one_round_cost_the_bond(town: Town) -> None:
    await opened(town, "v1", "v2", "v3", bonded=("v1", "v2", "v3", "v4"))
    hostile = key("v4")
    await until(lambda: town.validators["v1"]._agreement.state.standing is not None)
    standing = town.validators["v1"]._agreement.state.standing
    assert standing is not None
    said = [
        RootStatement(
            epoch=standing.epoch,
            round=standing.min_round + 1,
            root=word * 32,
            total_microusd=0,
            manifest="cd" * 32,
            rules="ef" * 32,
        )
        for word in ("aa", "bb")
    ]
    for statement in said:
        signature = hostile.sign(signing_digest(town.deployment, statement))
        signed = SignedRoot(statement=statement, signature=signature, url="http://127.0.0.1:1")
        town.fabric.publish(S_ROOT, msgspec.json.encode(signed))
    account = key("v4 account").address
    await until(
        lambda: town.contracts.bonds.stake_of(account, "validator") == 0, why="v4 is slashed"
    )


async def test_a_chain_that_was_away_is_caught_up_with(
    town: Town, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    validators = await opened(town, "v1", "v2", "v3")
    await town.work(2)
    await town.to_epoch(3)
    await settled(town, 2)
    await asyncio.to_thread(town.kill_chain)
    for epoch in (3, 4, 5):
        await town.work(epoch)
        await town.to_epoch(epoch + 1)
    await until(lambda: all(v.status().behind == 3 for v in validators), why="they say so")
    await until(lambda: all(v.status().notes for v in validators), why="and why")
    assert any("behind by epochs: 3" in record.getMessage() for record in caplog.records)
    await asyncio.to_thread(town.restart_chain)
    await settled(town, 5, 30.0)
    assert town.contracts.vault.redeemed_of(key("tenant").address, PURPOSE) == 4 * (
        USE + RELAY + FEE
    )


async def test_a_validator_restarts_and_a_new_one_recomputes_everything(town: Town) -> None:
    await opened(town, "v1", "v2", "v3", bonded=("v1", "v2", "v3", "v4"))
    await town.work(2)
    await town.to_epoch(3)
    await settled(town, 2, 30.0)
    await town.validators["v1"].close()
    await town.work(3)
    v1 = await town.validator("v1")
    await until(lambda: v1._kept is not None, why="v1 reads its books from its disk")
    v4 = await town.validator("v4", stores=(town.validators["v2"].url,))
    await until(lambda: v4._kept is not None, why="v4 recomputes them from v2's records")
    await town.to_epoch(4)
    await settled(town, 3, 30.0)
    assert accounts(town, 3)[key("provider").address] > 0


async def test_payees_wait_for_a_silent_controller_but_not_for_ever(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vouchers, "ANSWER_WITHIN_S", 0.3)
    await town.start("v1", "v2", "v3")
    for name in ("v1", "v2", "v3"):
        await town.validator(name, patience_s=2.0, round_s=1.5)
    await town.work(2)
    town.controller_answers = False
    await town.to_epoch(3)
    await until(
        lambda: any(
            "No controller" in note for v in town.validators.values() for note in v.status().notes
        ),
        why="they wait for the controller",
    )
    assert town.settled() < 2
    town.controller_answers = True
    await settled(town, 2)
    assert town.contracts.vault.pot_received() == USE + RELAY + FEE
    town.controller_answers = False
    await town.work(3)
    await town.to_epoch(4)
    await settled(town, 3, 30.0)
    assert town.contracts.vault.pot_received() == USE + RELAY + FEE, "nothing more was moved"


async def test_a_deposit_under_one_epochs_use_is_told(town: Town) -> None:
    await opened(town, "v1", "v2", "v3")
    low: list[tuple[str, ...]] = []
    await town.fabric.subscribe(
        S_FUNDS,
        lambda _subject, data: low.append(unseal(unpack(data), FUNDS_NEWS, FundsNews)[0].low),
    )
    await town.work(2)
    await town.to_epoch(3)
    await settled(town, 2)
    low.clear()
    await until(lambda: low and low[-1] == ())
    vault, tenant = town.contracts.vault, key("tenant")
    vault.thaw_deposit(tenant, PURPOSE, 500 * DOLLAR - 2 * USE)
    await until(lambda: low[-1] == (SERVICE_ID,), why="what is announced does not count")
    vault.thaw_deposit(tenant, PURPOSE, 0)
    await until(lambda: low[-1] == (), why="it was taken back")
    vault.thaw_deposit(tenant, PURPOSE, 500 * DOLLAR - 2 * USE)
    await town.to_epoch(7)
    vault.withdraw_deposit(tenant, PURPOSE)
    await town.work(7)
    await town.to_epoch(8)
    await settled(town, 7, 30.0)
    await until(lambda: bool(low) and low[-1] == (SERVICE_ID,), why="the service is named")


async def test_a_vetoed_epoch_is_proposed_again_in_a_higher_round(town: Town) -> None:
    await opened(town, "v1", "v2", "v3")
    await town.work(2)
    await town.to_epoch(3)
    await settled(town, 2)
    vault = town.contracts.vault
    root = newest(town)
    digest = typed_data.veto(town.deployment.domain, 2, root.round, bytes.fromhex(root.root))
    signature = key("provider").sign(digest)
    vault.veto(key("provider"), 2, root.round, root.root, [signature])
    assert town.settled() == 1
    await until(lambda: town.settled() == 2, 30.0, "settled again")
    await until(lambda: newest(town).epoch == 2 and newest(town).round > root.round)
    await town.to_epoch(4)
    await settled(town, 3)


async def test_records_of_a_settled_epoch_are_acknowledged_and_late_ones_counted(
    town: Town,
) -> None:
    await opened(town, "v1", "v2", "v3")
    await town.work(2, links=2)
    await town.to_epoch(3)
    await settled(town, 2)
    assert 0 < town.contracts.vault.pot_received() < USE, "half of it"
    await town.work(2, links=4)  # the same chain, two links more
    await town.to_epoch(4)
    await settled(town, 3)
    assert town.contracts.vault.pot_received() == USE + RELAY + FEE, "the whole epoch, once"
    await town.to_epoch(5)
    await settled(town, 4)
    old: RecordBatch = batch(town.deployment.domain, 1, 0, links=9)
    await town.hand_over(old)
    assert town.validators["v1"].holdings.chains == 1


async def test_a_root_that_its_records_do_not_give_is_never_adopted(town: Town) -> None:
    (v1,) = await opened(town, "v1", bonded=("v1", "v2", "v3"))
    await until(lambda: v1._look is not None, why="v1 has seen the chain")
    computed = await v1._propose(0, 0)
    false = msgspec.structs.replace(computed.statement, root="ab" * 32)
    digest = signing_digest(town.deployment, false)
    signatures = [key(name).sign(digest) for name in ("v1", "v2", "v3")]
    town.contracts.vault.post_root(key("deployer"), false, signatures)
    await until(
        lambda: any("its records give" in note for note in v1.status().notes), why="v1 says so"
    )
    assert v1.status().settled == -1
    assert v1._kept is None
    await asyncio.sleep(1.0)
    assert town.settled() == 0, "and goes on with nothing that is built on it"
