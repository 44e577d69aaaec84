"""Watches of four validators over real NATS: honest ones, a silent one, liars, crashes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from tests.validator.town import key
from tests.validator.watched import NODES, Watchers, fresh_salt

from isochrone.rules.commitments import commitment, page_digest, secret_digest
from isochrone.rules.watching import moments, near_moment
from isochrone.schema.documents import pack, seal
from isochrone.schema.proof import (
    WATCH_COMMITMENT,
    WATCH_OPENING,
    NodeReport,
    WatchCommitment,
    WatchOpening,
)
from isochrone.schema.record_batch import RecordBatch
from isochrone.validator import watching
from isochrone.validator.watch_checking import LATE, TWICE, UNOPENED
from isochrone.validator.watch_journal import Sealed, WatchJournal
from isochrone.validator.watch_papers import lacking, read_watch, said_of

pytestmark = pytest.mark.processes
ALL = ("v1", "v2", "v3", "v4")
FIRST = 10


@pytest.fixture
async def watchers(tmp_path: Path) -> AsyncIterator[Watchers]:
    made = Watchers(tmp_path, ALL)
    made.now_ms = made.clock(FIRST).block_ms - 1
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


async def through(watchers: Watchers, watch: int) -> None:
    await watchers.through_commitments(watch, watchers.watching)
    await watchers.through_openings(watch, watchers.watching)


async def test_all_measure_commit_and_open_watch_after_watch(watchers: Watchers) -> None:
    await through(watchers, FIRST)
    records = watchers.records(FIRST, "v1")
    assert records == watchers.records(FIRST, "v4"), "all hold the same"
    first = watchers.checked(FIRST, records)
    assert [first[name].opened for name in ALL] == [True] * 4
    assert not any(first[name].secret_ok for name in ALL), "nobody was bound before"
    assert not any(first[name].faults for name in ALL)
    watchers.settle(FIRST, first)

    watchers.sights["v2"].silent.add("node-1")
    await through(watchers, FIRST + 1)
    second = watchers.checked(FIRST + 1, watchers.records(FIRST + 1, "v2"))
    clock = watchers.clock(FIRST + 1)
    for name in ALL:
        report = second[name]
        assert (report.opened, report.secret_ok, report.faults) == (True, True, ())
        assert [one.node for one in report.reports] == sorted(key(node).address for node in NODES)
        secret = bytes.fromhex(
            WatchJournal(watchers.folder / name / "watches").committed_secret(FIRST + 1)
        )
        for one in report.reports:
            planned = moments(secret, one.node, clock)
            asked = [
                at
                for at, node, kind in watchers.sights[name].asked
                if node == one.node and kind == "place" and at >= clock.measure_ms
            ]
            assert one.asked == len(asked) == len(planned)
            assert all(near_moment(at, planned, clock) for at in asked)
            away = name == "v2" and one.node == key("node-1").address
            assert one.answered == (0 if away else one.asked)
            assert len(one.evidence) == (0 if away else 1), "the fastest burst is enough"
    status = watchers.watching["v1"].status()
    assert status is not None
    assert (status.watch, status.assigned, status.measured) == (FIRST + 1, 2, 2)
    assert status.committed


async def test_who_copies_stays_silent_or_shows_something_else_is_seen(watchers: Watchers) -> None:
    """v4 never measures: first it commits what v1 has shown it, then it opens other reports."""
    await watchers.end("v4")
    await watchers.to(watchers.clock(FIRST).commit_ms)
    await watchers.to(watchers.clock(FIRST).commit_ms + 500)
    stolen = WatchJournal(watchers.folder / "v1" / "watches").sealed(FIRST)
    assert stolen is not None
    said, opening = _opened_as("v4", FIRST, stolen.pages)
    await _say(watchers, FIRST, said)
    await watchers.through_commitments(FIRST, ALL)
    await watchers.end("v3")  # committed, and never opens
    await watchers.through_openings(FIRST, ["v1", "v2"])
    documents = (*watchers.holdings["v1"].watches(FIRST), opening)
    records = _sound(watchers, FIRST, documents)
    found = watchers.checked(FIRST, records)
    assert found["v4"].opened
    assert not any(report.evidence for report in found["v4"].reports), (
        "none of it was signed for v4"
    )
    assert any("another validator's" in why for why in found["v4"].faults)
    assert (found["v3"].opened, found["v3"].faults) == (False, (UNOPENED,))
    assert found["v1"].opened

    _, other = _opened_as("v4", FIRST, ((),))
    records = _sound(watchers, FIRST, (*watchers.holdings["v1"].watches(FIRST), other))
    assert watchers.checked(FIRST, records)["v4"].faults == (UNOPENED,)
    assert other not in records, "what opens nothing is no record"


async def test_a_commitment_made_after_an_opening_does_not_count(watchers: Watchers) -> None:
    await watchers.end("v4")
    await through(watchers, FIRST)
    shown = next(
        paper
        for packed in watchers.holdings["v2"].watches(FIRST)
        if (paper := read_watch(packed)) is not None and paper.kind == WATCH_OPENING
    )
    assert isinstance(shown.word, WatchOpening)
    said, opening = _opened_as("v4", FIRST, (shown.word.reports,), everybody=watchers)
    await _say(watchers, FIRST, said, opening)
    found = watchers.checked(FIRST, watchers.records(FIRST, "v1"))
    assert (found["v4"].opened, found["v4"].faults) == (False, (LATE,))
    assert all(found[name].opened for name in ("v1", "v2", "v3"))

    again, _ = _opened_as("v4", FIRST, ((),))
    await _say(watchers, FIRST, again)
    found = watchers.checked(FIRST, watchers.records(FIRST, "v1"))
    assert found["v4"].faults == (TWICE,)


async def test_an_early_opening_gives_only_its_author_away(watchers: Watchers) -> None:
    await watchers.end("v4")
    await watchers.to(watchers.clock(FIRST).commit_ms - 1_000)
    said, opening = _opened_as("v4", FIRST, ((),))
    await _say(watchers, FIRST, said, opening)
    await through(watchers, FIRST)
    found = watchers.checked(FIRST, watchers.records(FIRST, "v1"))
    assert [found[name].opened for name in ALL] == [True] * 4


async def test_after_a_crash_the_same_is_committed_and_opened(watchers: Watchers) -> None:
    await watchers.through_commitments(FIRST, ALL)
    await watchers.end("v2")
    await watchers.to(watchers.now_ms + 1_000)
    await watchers.begin("v2")
    await watchers.through_openings(FIRST, ALL)
    await watchers.end("v2")
    await watchers.begin("v2")
    await watchers.to(watchers.now_ms + 1_000)
    found = watchers.checked(FIRST, watchers.records(FIRST, "v2"))
    assert [found[name].opened for name in ALL] == [True] * 4
    mine = [
        p
        for d in watchers.holdings["v2"].watches(FIRST)
        if (p := read_watch(d)) is not None and p.signer == key("v2").address
    ]
    assert sorted(paper.kind for paper in mine) == [WATCH_COMMITMENT, WATCH_OPENING]


async def test_a_restart_while_measuring_loses_only_what_was_not_measured(
    watchers: Watchers,
) -> None:
    clock = watchers.clock(FIRST)
    await watchers.to((clock.measure_ms + clock.commit_ms) // 2)
    await watchers.end("v2")
    before = [one for one in watchers.sights["v2"].asked if one[2] == "place"]
    await watchers.to(watchers.now_ms + 1_000)
    await watchers.begin("v2")
    await through(watchers, FIRST)
    found = watchers.checked(FIRST, watchers.records(FIRST, "v1"))
    after = [one for one in watchers.sights["v2"].asked if one[2] == "place"]
    assert len(after) > len(before)
    assert sum(report.asked for report in found["v2"].reports) == len(after)
    assert found["v2"].opened


def test_a_commitment_survives_kill_9(tmp_path: Path) -> None:
    """The process dies after it said its commitment: the next one finds it and nothing else."""
    script = """
import sys, time
from pathlib import Path
from isochrone.validator.watch_journal import Sealed, WatchJournal
journal = WatchJournal(Path(sys.argv[1]))
secret = journal.secret(8)
made = journal.seal(Sealed(watch=7, commitment=b"first", salt="", secret="", pages=()))
print(secret, made.commitment.decode(), flush=True)
time.sleep(60)
"""
    child = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "watches")],
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        assert child.stdout is not None
        secret, committed = child.stdout.readline().decode().split()
        os.kill(child.pid, signal.SIGKILL)
    finally:
        child.kill()
        child.wait()
        child.stdout.close()  # type: ignore[union-attr]
    journal = WatchJournal(tmp_path / "watches")
    assert committed == "first"
    assert journal.secret(8) == journal.committed_secret(8) == secret
    other = Sealed(watch=7, commitment=b"second", salt="", secret="", pages=())
    assert journal.seal(other).commitment == b"first"


def test_what_was_held_in_time_must_not_be_left_out(watched_words: tuple[bytes, ...]) -> None:
    said = said_of(p for d in watched_words if (p := read_watch(d)) is not None)
    signer = key("v1").address
    assert lacking(watched_words, watched_words) == ()
    assert lacking((), watched_words) == (signer,)
    assert lacking((said[signer].commitments[0].packed,), watched_words) == (signer,)
    twice = (said[signer].commitments[0].packed, _opened_as("v1", FIRST, ((),))[0])
    assert lacking(twice, watched_words) == (), "two prove enough"


@pytest.fixture
def watched_words() -> tuple[bytes, ...]:
    return _opened_as("v1", FIRST, ((),))


def _opened_as(
    name: str,
    watch: int,
    pages: tuple[tuple[NodeReport, ...], ...],
    everybody: Watchers | None = None,
) -> tuple[bytes, bytes]:
    """A commitment and an opening of one page, as somebody writes them by hand."""
    salt = fresh_salt()
    names = tuple(page_digest(page) for page in pages)
    word = WatchCommitment(
        watch=watch,
        reports=commitment(key(name).address, watch, salt, names),
        next_secret=secret_digest("11" * 32),
    )
    said = pack(seal(WATCH_COMMITMENT, word, key(name)))
    seen = {}
    if everybody is not None:
        seen = {key(name).address: read_watch(said).about}  # type: ignore[union-attr]
    opening = WatchOpening(
        watch=watch, salt=salt, secret="", seen=seen, pages=names, page=0, reports=pages[0]
    )
    return said, pack(seal(WATCH_OPENING, opening, key(name)))


async def _say(watchers: Watchers, watch: int, *documents: bytes) -> None:
    """Hand documents to everybody, as whoever is on the fabric can."""
    for holdings in watchers.holdings.values():
        batch = RecordBatch(epoch=watch, source="", documents=documents)
        assert await holdings.on_batch(msgspec.msgpack.encode(batch)) is not None


def _sound(watchers: Watchers, watch: int, documents: tuple[bytes, ...]) -> tuple[bytes, ...]:
    from isochrone.validator.watch_papers import sound_watches

    return sound_watches(watch, documents, watchers.snapshot(), watchers.books)


async def test_a_flood_of_strangers_words_costs_a_bounded_number_of_checks(
    watchers: Watchers, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = 0

    def counted(data: bytes) -> None:
        nonlocal looked
        looked += 1

    monkeypatch.setattr(watching, "read_watch", counted)
    began_s = time.monotonic()
    for number in range(20_000):
        watchers.watching["v1"]._on_said("", number.to_bytes(8, "big"))
    took_s = time.monotonic() - began_s
    assert 0 < looked <= (1 + took_s) * watching.CHECKS_PER_S + 1
