"""The node's signatures: what it signs once it signs for ever, on disk before it is said."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from isochrone.node.journal import Journal
from isochrone.node.tallies import Tallies
from isochrone.node.tallies_records import KEPT_EPOCHS_MIN, CopyBearer
from isochrone.node.tallies_signing import TallySigner
from isochrone.records.spool import Spool
from isochrone.rules.tallying import NOTHING, SKEW_MS_MAX, Drawn, Totals, accepted, begin, close
from isochrone.schema.deployment import Deployment
from isochrone.schema.errors import Unavailable
from isochrone.schema.frames import Control, Records
from isochrone.schema.identity import PrivateKey, recover
from isochrone.schema.record_batch import RecordBatch
from isochrone.schema.tally import (
    TallyAccepted,
    TallyChain,
    TallyProposal,
    TallyRefused,
    terms_digest,
    terms_of,
)
from isochrone.schema.typed_data import tally_head

from .acting_gateway import until
from .wanted import lease

KEY, GATEWAY = PrivateKey(b"\1" * 32), PrivateKey(b"\2" * 32)
TERMS = Deployment(chain_id=5, bonds="0x" + "b0" * 20, genesis_unix_s=1000, epoch_s=60)
LEASE = lease(node=KEY.address)
NOW_MS = 1_630_000  # in epoch 10


def totals(requests: int, live_ms: int = 0) -> Totals:
    return (requests, 0, 0, 0, 0, 0, 0, 0, 0, live_ms, *NOTHING[10:])


class Life:
    """One life of the node's process: what it counted, and what it said to whom."""

    def __init__(self, folder: Path, terms: Deployment = TERMS) -> None:
        self.said: list[tuple[str, Control]] = []
        self.now_ms = NOW_MS
        self.tallies = Tallies()
        self.tallies.learn([LEASE])
        self.spool = Spool.open(folder / "spool")
        self.journal = Journal(folder / "logs", "error", lambda lease, line: None)
        self.signer = TallySigner(
            key=KEY,
            deployment=terms,
            cell=lambda: "fra",
            tallies=self.tallies,
            spool=self.spool,
            send=self._say,
            journal=self.journal,
            now_unix_ms=lambda: self.now_ms,
        )
        self.signer.restore()
        self.deaf = False
        self._task = asyncio.get_running_loop().create_task(self.signer.run())

    def _say(self, gateway: str, message: Control) -> None:
        if not self.deaf:
            self.said.append((gateway, message))

    def work(self, count: int, audience: str = "") -> None:
        for _ in range(count):
            self.tallies.of(GATEWAY.address, "one", audience).counter.over(0, 1.0, 0, 0, 0, 0)

    async def propose(self, message: TallyProposal) -> TallyAccepted | TallyRefused:
        before = len(self.said)
        self.signer.proposed(GATEWAY.address, message)
        await until(lambda: len(self.said) > before, "an answer")
        gateway, answer = self.said[-1]
        assert gateway == GATEWAY.address
        assert isinstance(answer, TallyAccepted | TallyRefused)
        return answer

    async def end(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self.spool.close()
        self.journal.close()


Lives = Callable[..., Life]


@pytest.fixture
async def lives(tmp_path: Path) -> AsyncIterator[Lives]:
    made: list[Life] = []

    def make(terms: Deployment = TERMS) -> Life:
        made.append(Life(tmp_path, terms))
        return made[-1]

    yield make
    for life in made:
        await life.end()


def chain(**changes: Any) -> TallyChain:
    facts: dict[str, Any] = {
        "epoch": 10,
        "lease": "one",
        "terms": terms_digest(terms_of(LEASE)),
        "node": KEY.address,
        "gateway": GATEWAY.address,
        "audience": "fra",
        "session": "a" * 32,
    }
    return TallyChain(**{**facts, **changes})


def proposal(
    drawn: Drawn, key: PrivateKey = GATEWAY, terms: Deployment = TERMS, **changes: Any
) -> TallyProposal:
    link = drawn.pending
    assert link is not None
    digest = tally_head(terms.domain, drawn.id, link.position, link.head)
    facts: dict[str, Any] = {
        "chain": drawn.chain,
        "position": link.position,
        "previous": link.previous,
        "body": link.body,
        "signature": key.sign(digest),
    }
    return TallyProposal(**{**facts, **changes})


def drawn(requests: int, at_ms: int = NOW_MS, **changes: Any) -> Drawn:
    return close(begin(chain(**changes), NOTHING), totals(requests), at_ms)


async def test_what_agrees_is_kept_and_then_signed(lives: Lives) -> None:
    life = lives()
    life.work(3)
    first = drawn(3)
    answer = await life.propose(proposal(first))
    assert isinstance(answer, TallyAccepted)
    assert first.pending is not None
    digest = tally_head(TERMS.domain, first.id, 1, first.pending.head)
    assert recover(digest, answer.signature) == KEY.address
    assert [type(m) for m in life.signer.messages(10)] == [TallyProposal, TallyAccepted]
    assert await life.propose(proposal(first)) == answer  # repeated, word for word
    assert life.signer.counters == {"signed": 1, "repeated": 1}
    life.work(2)
    second = close(accepted(first, 1), totals(5), NOW_MS + 1)
    assert isinstance(await life.propose(proposal(second)), TallyAccepted)


async def test_a_node_that_dies_after_the_fsync_says_the_same_when_it_is_back(
    lives: Lives,
) -> None:
    life = lives()
    life.work(3)
    life.deaf = True  # it dies before the answer leaves
    first = drawn(3)
    life.signer.proposed(GATEWAY.address, proposal(first))
    await until(lambda: life.signer.counters["signed"], "a signature on disk")
    await life.end()

    again = lives()
    answer = await again.propose(proposal(first))
    assert isinstance(answer, TallyAccepted)
    other = close(begin(chain(), NOTHING), totals(4), NOW_MS)
    refused = await again.propose(proposal(other))
    assert isinstance(refused, TallyRefused)
    assert refused.code == "wrong_position"  # never two signatures for one position
    second = close(accepted(first, 1), totals(9), NOW_MS + 1)
    refused = await again.propose(proposal(second))
    assert isinstance(refused, TallyRefused)
    assert refused.code == "restarted"
    again.work(4)
    fresh = drawn(4, session="b" * 32)
    assert isinstance(await again.propose(proposal(fresh)), TallyAccepted)


@pytest.mark.parametrize(
    ("code", "wrong"),
    [
        ("not_ours", lambda: proposal(drawn(1, node="0x" + "0" * 40))),
        ("not_ours", lambda: proposal(drawn(1, gateway=KEY.address))),
        ("bad_link", lambda: proposal(drawn(1), body=b"short")),
        ("other_terms", lambda: proposal(drawn(1, terms="other"))),
        ("other_terms", lambda: proposal(drawn(1, lease="two"))),
        ("wrong_epoch", lambda: proposal(drawn(1, epoch=11))),
        ("wrong_epoch", lambda: proposal(drawn(1, at_ms=NOW_MS - 60_000))),
        ("bad_signature", lambda: proposal(drawn(1), key=KEY)),
        ("bad_signature", lambda: proposal(drawn(1), terms=Deployment(chain_id=6))),
        ("bad_signature", lambda: proposal(drawn(1), signature=b"")),
        ("wrong_position", lambda: proposal(close(accepted(drawn(1), 1), totals(2), NOW_MS))),
        ("too_much", lambda: proposal(drawn(500))),
    ],
)
async def test_what_is_not_signed(
    lives: Lives, code: str, wrong: Callable[[], TallyProposal]
) -> None:
    life = lives()
    life.work(2)
    answer = await life.propose(wrong())
    assert isinstance(answer, TallyRefused)
    assert answer.code == code
    assert not life.signer.signed
    assert life.spool.epochs() == ()
    if code == "bad_signature":
        assert "chain 5" in answer.message
    assert isinstance(await life.propose(proposal(drawn(2))), TallyAccepted)


async def test_a_skewed_clock_is_borne_up_to_a_limit(lives: Lives) -> None:
    life = lives()
    life.work(2)
    ahead = drawn(1, at_ms=NOW_MS, epoch=10)
    life.now_ms = NOW_MS - SKEW_MS_MAX - 1
    answer = await life.propose(proposal(ahead))
    assert isinstance(answer, TallyRefused)
    assert answer.code == "not_yet"
    life.now_ms += 1
    assert isinstance(await life.propose(proposal(ahead)), TallyAccepted)


async def test_a_disk_that_refuses_keeps_the_link_waiting(
    lives: Lives, monkeypatch: pytest.MonkeyPatch
) -> None:
    life = lives()
    life.work(2)

    async def full(epoch: int, records: list[bytes]) -> None:
        raise Unavailable("Full.", code="spool_full")

    with monkeypatch.context() as patch:
        patch.setattr(life.spool, "append", full)
        answer = await life.propose(proposal(drawn(2)))
    assert isinstance(answer, TallyRefused)
    assert answer.code == "spool_full"
    assert not life.signer.signed
    assert isinstance(await life.propose(proposal(drawn(2))), TallyAccepted)


async def test_a_gateway_that_leaves_work_unsigned_again_and_again_rests(lives: Lives) -> None:
    life = lives()
    tally = life.tallies.of(GATEWAY.address, "one", "")
    for number in range(3):
        life.work(1000)
        fresh = drawn(1, session=f"{number:032x}")
        assert isinstance(await life.propose(proposal(fresh)), TallyAccepted)
        rests = tally.rest_until_s > time.monotonic()
        assert rests == (number >= 1)


async def test_other_audiences_have_chains_of_their_own(lives: Lives) -> None:
    life = lives()
    life.work(2)
    life.work(100, audience="sin")
    assert isinstance(await life.propose(proposal(drawn(2))), TallyAccepted)
    told = await life.propose(proposal(drawn(100, audience="sin")))
    assert isinstance(told, TallyAccepted)
    told = await life.propose(proposal(drawn(100, audience="nyc")))
    assert isinstance(told, TallyRefused)


class Door:
    def __init__(self) -> None:
        self.closed = False
        self.brought: list[RecordBatch] = []

    def send_control(self, message: Control) -> bool:
        assert isinstance(message, Records)
        self.brought.append(msgspec.msgpack.decode(message.batch, type=RecordBatch))
        return False


async def test_copies_go_to_every_door_when_an_epoch_has_ended_and_again_when_one_is_back(
    lives: Lives,
) -> None:
    life = lives()
    life.work(3)
    first = drawn(3)
    await life.propose(proposal(first))
    doors = {"a": Door(), "b": Door()}
    bearer = CopyBearer(KEY.address, life.signer, doors, life.journal)
    await bearer.look(0.0)
    assert not doors["a"].brought  # the epoch still runs
    life.now_ms += 60_000
    await bearer.look(1.0)
    assert not doors["a"].brought  # its last links may be on their way
    await bearer.look(100.0)
    for door in doors.values():
        (batch,) = door.brought
        assert (batch.epoch, batch.source, batch.heads[0].position) == (10, KEY.address, 1)
    await bearer.look(101.0)
    assert len(doors["a"].brought) == 1
    bearer.connected("b")
    await bearer.look(102.0)
    assert (len(doors["a"].brought), len(doors["b"].brought)) == (1, 2)

    life.work(1)  # a late link of the same chain goes again
    second = close(accepted(first, 1), totals(4), NOW_MS + 1)
    assert isinstance(await life.propose(proposal(second)), TallyAccepted)
    await bearer.look(103.0)
    assert doors["a"].brought[-1].heads[0].position == 2

    bearer.final(99)  # said too early: kept for a while
    await bearer.look(104.0)
    assert life.spool.epochs() == (10,)
    life.now_ms += 60_000 * (KEPT_EPOCHS_MIN - 1)
    await bearer.look(105.0)
    assert life.spool.epochs() == ()
    assert not life.signer.signed
