"""A watch in real validators: drawn by a block, held, put into the records, settled, bound for the
next one; and a node measured over its channel."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest
from tests.validator.test_watch_checking import words_of_another_watch
from tests.validator.town import FRANKFURT, OFFER, Town, key, until
from tests.validator.watched import DEPLOYMENT
from tests.validator.work_town import Guest

from isochrone.fabric.attestations import place_attestation
from isochrone.ledger.anvil import advance
from isochrone.records.manifest import content, fetch
from isochrone.rules.watching import moments, near_moment, phases
from isochrone.schema.documents import NODE_GRANT, pack, seal
from isochrone.schema.errors import IsochroneError
from isochrone.schema.frames import Control
from isochrone.schema.node import NodeGrant
from isochrone.schema.probing import ProbeEnd, ProbeOrder
from isochrone.schema.proof import WATCH_COMMITMENT, WatchCommitment, WatchOpening
from isochrone.schema.record_batch import RecordBatch
from isochrone.validator.checking import check
from isochrone.validator.holdings import Holdings
from isochrone.validator.validator import Validator
from isochrone.validator.watch_papers import COMMITMENTS_KEPT, read_watch
from isochrone.validator.watch_under import Under
from isochrone.wire.channel import ChannelLimits
from isochrone.wire.greeting import dial
from isochrone.wire.probing_prover import Prover

pytestmark = pytest.mark.processes


@pytest.fixture
async def town(tmp_path: Path) -> AsyncIterator[Town]:
    made = Town(tmp_path)
    await made.start("v1", "v2")
    try:
        yield made
    finally:
        await made.stop()


async def to(town: Town, at_ms: int) -> None:
    """Every clock to a moment, and the chain to a final block of then."""
    missing_ms = max(0, at_ms - town.unix_ms())
    town.offset_ms += missing_ms
    with contextlib.suppress(IsochroneError):
        await asyncio.to_thread(advance, town.anvil.url, missing_ms // 1000 + 1, 3)


def said(validator: Validator, watch: int) -> int:
    return len(validator.holdings.watches(watch))


def drawn(validator: Validator, watch: int) -> bool:
    watching = validator._watching
    under = watching._under.get(watch) if watching is not None else None
    return under is not None and under.scene is not None


async def watched(town: Town, validators: list[Validator], watch: int) -> None:
    clock = phases(town.deployment, watch)
    await to(town, clock.block_ms + 1_000)
    await until(lambda: all(drawn(one, watch) for one in validators), why="the first block")
    await to(town, clock.commit_ms + 1_000)
    await until(lambda: all(said(one, watch) == 2 for one in validators), why="commitments")
    await to(town, clock.open_ms + 1_000)
    await until(lambda: all(said(one, watch) == 4 for one in validators), why="openings")


async def test_a_watch_is_settled_and_binds_the_next_one(town: Town) -> None:
    validators = [await town.validator(name, place=FRANKFURT) for name in ("v1", "v2")]
    voters = {key(name).address for name in ("v1", "v2")}
    await watched(town, validators, 3)
    await watched(town, validators, 4)
    await to(town, town.deployment.start_unix_ms(5) + 1_000)
    await until(lambda: town.settled() >= 4, 40.0, "epoch 4 is settled")
    await until(lambda: all(one._kept and one._kept.books.epoch == 4 for one in validators))
    for one in validators:
        assert one._kept is not None
        assert set(one._kept.books.watch_secrets) == voters
        status = one.status().watch
        assert status is not None
        assert status.watch in (4, 5)
    store, look = validators[0].store, validators[0]._look
    assert look is not None
    manifest = fetch(store, next(root.manifest for root in look.roots if root.epoch == 4))
    inputs = check(manifest, lambda file: content(store, file))
    assert {one.validator for one in inputs.watches} == voters
    assert all(one.opened and one.secret_ok for one in inputs.watches)
    assert inputs.chain.watch.block_hash
    assert [file.rows for file in manifest.files if file.kind == "watches"] == [4]


class Answering(Guest):
    """A bonded node's end of the channel: it answers bursts, and declines everything else."""

    def __init__(self, unix_ms: Callable[[], int]) -> None:
        super().__init__()
        self.key = key("node")
        self._prover = Prover(self.key, lambda host, port: (host, port), unix_ms)
        self._tasks: set[asyncio.Task[None]] = set()

    def on_control(self, message: Control) -> None:
        if isinstance(message, ProbeOrder | ProbeEnd):
            task = asyncio.get_running_loop().create_task(self._answer(message))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _answer(self, message: ProbeOrder | ProbeEnd) -> None:
        said = await self._prover.answer(self.channel.peer.address, message)
        self.channel.send_control(said)

    async def close(self) -> None:
        await super().close()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._prover.close()


async def come(validator: Validator, node: Answering) -> None:
    posts = validator.posts
    assert posts is not None
    grant = NodeGrant(node=node.key.address, place=FRANKFURT, offer=OFFER, revision=1)
    packed = pack(seal(NODE_GRANT, grant, key("provider")))
    node.channel = await dial(
        "127.0.0.1", posts.channel_port, posts.fingerprint, node.key, "node", packed,
        node.opened, ChannelLimits(),
    )  # fmt: skip
    await until(lambda: node.key.address in validator.vantage.door.nodes)


def _bursts(under: Under) -> int:
    return sum(one.kind == "place" for one in under.taken)


async def test_a_node_is_measured_at_the_secret_hours_and_nobody_else_knows_them(
    town: Town,
) -> None:
    """Over its real channel and a real plain connection; what is found stands in the records."""
    validator = await town.validator("v1", place=FRANKFURT, remeasure_s=3600.0)
    node = Answering(town.unix_ms)
    await until(lambda: validator._look is not None)
    await come(validator, node)
    try:
        clock = phases(town.deployment, 3)
        await to(town, clock.block_ms + 1_000)
        await until(lambda: drawn(validator, 3), why="the first block")
        watching = validator._watching
        assert watching is not None
        under = watching._under[3]
        await until(lambda: under.due, why="what is to be done")
        planned = moments(bytes.fromhex(under.secret), node.key.address, clock)
        for number, at_ms in enumerate(planned, 1):
            await to(town, at_ms + 100)
            await until(lambda number=number: _bursts(under) == number, why="a burst")  # type: ignore[misc]
        await to(town, (clock.commit_ms + clock.open_ms) // 2 + 1_000)  # answers are waited for
        await until(lambda: said(validator, 3) == 1)
        await to(town, clock.open_ms + 1_000)
        await until(lambda: said(validator, 3) == 2)
    finally:
        await node.close()
    opening = next(
        paper.word
        for packed in validator.holdings.watches(3)
        if (paper := read_watch(packed)) is not None and isinstance(paper.word, WatchOpening)
    )
    (report,) = opening.reports
    assert report.node == node.key.address
    assert (report.asked, report.answered) == (len(planned), len(planned))
    (evidence,) = report.evidence
    found = place_attestation(evidence)
    assert near_moment(found.burst_at_unix_ms, planned, clock)
    assert 0 < found.rtt_us < 50_000


async def test_strangers_and_floods_of_commitments_fill_nothing(tmp_path: Path) -> None:
    now_ms = DEPLOYMENT.start_unix_ms(11)
    holdings = Holdings.open(DEPLOYMENT, tmp_path, "0xme", lambda: now_ms)
    voter = key("v1").address
    try:
        await holdings.admit({}, {}, {voter: "0xaccount"}, {"0xaccount": 5}, ())
        stranger = pack(
            seal(
                WATCH_COMMITMENT,
                WatchCommitment(watch=11, reports="00" * 32, next_secret="00" * 32),
                key("stranger"),
            )
        )
        assert not await holdings.take(RecordBatch(epoch=11, source="", documents=(stranger,)))
        assert holdings.watches(11) == []
        for number in range(5):
            word = WatchCommitment(watch=11, reports=f"{number:064x}", next_secret="00" * 32)
            packed = pack(seal(WATCH_COMMITMENT, word, key("v1")))
            await holdings.take(RecordBatch(epoch=11, source="", documents=(packed,)))
        assert len(holdings.watches(11)) == COMMITMENTS_KEPT
        kept = holdings.watches(11)
        other = RecordBatch(epoch=12, source="", documents=(words_of_another_watch(),))
        await holdings.on_batch(msgspec.msgpack.encode(other))
        assert holdings.watches(11) == kept, "each epoch has its own"
    finally:
        holdings.close()
    again = Holdings.open(DEPLOYMENT, tmp_path, "0xme", lambda: now_ms)
    try:
        assert len(again.watches(11)) == COMMITMENTS_KEPT, "they lie on the disk"
        await again.admit({}, {}, {}, {}, ())
        assert again.watches(11) == [], "its bond is gone"
        _, mark = again.file(11)
        assert mark.papers == frozenset()
    finally:
        again.close()
