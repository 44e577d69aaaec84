"""When a node signs a link and when it does not, by the limits of what may honestly differ."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from isochrone.rules import tallying
from isochrone.rules.tallying import (
    CALLER,
    CUT,
    NOTHING,
    OK,
    REFUSED,
    REPLICA,
    SLACK_LIVE_MS,
    SLACK_REQUESTS,
    WORDS,
    Counter,
    Drawn,
    Link,
    Verdict,
    Watched,
    accepted,
    begin,
    close,
    judge,
    outcome_of,
    rest_s,
    since,
    unsigned_since,
)
from isochrone.schema.tally import (
    COUNTS,
    LATENCY_BOUNDS_MS,
    LINK,
    LINK_BYTES,
    LINK_WORDS,
    TallyChain,
    next_head,
)

CHAIN = TallyChain(
    epoch=7, lease="l", terms="t", node="n", gateway="g", audience="fra", session="a" * 32
)


def totals(**counts: int) -> tuple[int, ...]:
    return (*(counts.pop(name, 0) for name in COUNTS), *(0,) * (WORDS - len(COUNTS)))


def seen(abandoned: int = 0, losses: int = 0, **counts: int) -> tuple[int, ...]:
    return (*totals(**counts), abandoned, losses)


def linked(drawn: Drawn, counts: tuple[int, ...], at: int = 1) -> Link:
    link = close(drawn, counts, at).pending
    assert link is not None
    return link


def first(counts: tuple[int, ...], own: tuple[int, ...], in_flight: int = 0) -> Verdict:
    return judge(Watched(), CHAIN, linked(begin(CHAIN, NOTHING), counts), own, in_flight)


def test_a_link_has_the_layout_that_settlement_reads() -> None:
    counter = Counter()
    counter.over(OK, 7.0, 1, 2, 30, 40)
    counter.over(CALLER, 1.0, 0, 0, 1, 1)
    counter.over(REPLICA, -1, 0, 0, 1, 0)
    counter.over(CUT, 9.0, 0, 0, 1, 5)
    counter.over(REFUSED, -1, 0, 0, 1, 0)
    counter.lived(1.5)
    counter.lived(tallying.GAP_S_MAX + 0.1)  # silence
    link = linked(begin(CHAIN, NOTHING), counter.totals(), 123)
    import numpy as np

    row = np.frombuffer(link.body, dtype=LINK)[0]
    assert len(link.body) == LINK_BYTES == LINK.itemsize
    assert (row["position"], row["at_unix_ms"], row["requests"]) == (1, 123, 5)
    errors = [int(row[name]) for name in COUNTS[1:5]]
    assert errors == [1, 1, 1, 1]
    assert (row["tokens_in"], row["tokens_out"], row["live_ms"]) == (1, 2, 1500)
    assert (row["bytes_in"], row["bytes_out"]) == (34, 46)
    assert list(np.flatnonzero(row["latency"])) == [LATENCY_BOUNDS_MS.index(7)]


@pytest.mark.parametrize(
    ("status", "code", "outcome"),
    [
        (200, "", OK),
        (302, "", OK),
        (422, "", CALLER),
        (503, "", REPLICA),
        (503, "overloaded", REFUSED),
        (409, "stale", REFUSED),
        (503, "unsigned_work", REFUSED),
        (503, "engine_down", REPLICA),
        (413, "too_large", CALLER),
    ],
)
def test_outcomes(status: int, code: str, outcome: int) -> None:
    assert outcome_of(status, code) == outcome


def test_the_last_bucket_has_no_bound() -> None:
    counter = Counter()
    counter.over(OK, 0.0, 0, 0, 0, 0)
    counter.over(OK, 1e9, 0, 0, 0, 0)
    assert (counter.latency[0], counter.latency[-1]) == (1, 1)


def test_what_is_pending_never_changes() -> None:
    drawn = close(begin(CHAIN, NOTHING), totals(requests=1), 5)
    assert close(drawn, totals(requests=9), 6) is drawn
    assert accepted(drawn, 2) is drawn
    after = accepted(drawn, 1)
    assert (after.position, after.pending, after.signed[0]) == (1, None, 1)
    assert accepted(after, 1) is after


def test_a_chain_counts_from_its_base() -> None:
    drawn = begin(CHAIN, totals(requests=10, live_ms=50))
    link = linked(drawn, totals(requests=12, live_ms=80))
    assert LINK_WORDS.unpack(link.body)[2:] == totals(requests=2, live_ms=30)
    assert accepted(close(drawn, totals(requests=12, live_ms=80), 1), 1).signed[0] == 12


@pytest.mark.parametrize(
    ("field", "most"),
    [
        ("requests", 100 + SLACK_REQUESTS),
        ("refused", SLACK_REQUESTS),
        ("tokens_out", 1024),
        ("bytes_out", 1024 * 1024),
        ("live_ms", SLACK_LIVE_MS),
    ],
)
def test_the_most_that_is_signed(field: str, most: int) -> None:
    own = seen(requests=100)
    asked = {"requests": 100}
    assert first(totals(**{**asked, field: most}), own).code == ""
    wrong = first(totals(**{**asked, field: most + 1 + most // 100}), own)
    assert wrong.code == "too_much"
    assert field in wrong.message


def test_what_is_in_flight_or_in_doubt_may_be_told() -> None:
    claim = totals(requests=SLACK_REQUESTS + 7)
    assert first(claim, seen(), in_flight=6).code == "too_much"
    assert first(claim, seen(), in_flight=7).code == ""
    faults = totals(requests=100, errors_replica=60, errors_cut=10)
    assert first(faults, seen(requests=100)).code == "too_much"
    assert first(faults, seen(requests=100, abandoned=3)).code == ""
    assert first(faults, seen(requests=100, errors_cut=6)).code == ""


def test_live_time_may_differ_more_after_a_loss() -> None:
    claim = totals(live_ms=2 * SLACK_LIVE_MS)
    assert first(claim, seen()).code == "too_much"
    assert first(claim, seen(losses=1)).code == ""


def second(
    counts: tuple[int, ...], own_before: tuple[int, ...], own_now: tuple[int, ...]
) -> Verdict:
    """The second link of a chain whose first told what the node had then."""
    drawn = close(begin(CHAIN, NOTHING), own_before[:WORDS], 1)
    assert drawn.pending is not None
    watched = judge(Watched(), CHAIN, drawn.pending, own_before, 0).watched
    link = linked(accepted(drawn, 1), counts, 2)
    return judge(watched, CHAIN, link, own_now, 0)


def test_what_the_node_had_counted_before_must_be_there() -> None:
    before = seen(requests=5000, live_ms=1_000_000)
    # The base is what the first link told, so nothing of these may be missing from the second.
    assert second(totals(requests=5000, live_ms=1_000_000), before, before).code == ""
    less = totals(requests=5000, live_ms=999_999)
    assert second(less, before, before).code == "bad_link"  # it fell
    drawn = close(begin(CHAIN, NOTHING), totals(requests=10), 1)
    assert drawn.pending is not None
    watched = judge(Watched(), CHAIN, drawn.pending, seen(requests=10), 0).watched
    watched = msgspec.structs.replace(watched, mark=seen(requests=1000, live_ms=100_000))
    link = linked(accepted(drawn, 1), totals(requests=1000 - 70, live_ms=100_000), 2)
    missing = judge(watched, CHAIN, link, seen(requests=1000, live_ms=100_000), 0)
    assert (missing.code, "930 requests" in missing.message) == ("too_little", True)
    link = linked(accepted(drawn, 1), totals(requests=1000, live_ms=90_000), 2)
    missing = judge(watched, CHAIN, link, seen(requests=1000, live_ms=100_000), 0)
    assert (missing.code, "live_ms" in missing.message) == ("too_little", True)


def changed(link: Link, **fields: Any) -> Link:
    return msgspec.structs.replace(link, **fields)


def test_links_out_of_place_are_not_signed() -> None:
    drawn = close(begin(CHAIN, NOTHING), totals(requests=1), 10)
    link = drawn.pending
    assert link is not None
    own = seen(requests=9)

    def code(watched: Watched, link: Link, chain: TallyChain = CHAIN) -> str:
        return judge(watched, chain, link, own, 0).code

    assert code(Watched(), changed(link, body=link.body[1:])) == "bad_link"
    assert code(Watched(), changed(link, position=2)) == "bad_link"
    assert code(Watched(), changed(link, head=bytes(32))) == "bad_link"
    assert code(Watched(), changed(link, previous=bytes(32))) == "wrong_previous"
    watched = judge(Watched(), CHAIN, link, own, 0).watched
    assert code(watched, link) == "wrong_position"
    later = linked(accepted(drawn, 1), totals(requests=2), 9)
    assert code(watched, later) == "bad_link"  # older than the one before
    good = linked(accepted(drawn, 1), totals(requests=2), 10)
    assert code(watched, good) == ""
    other = msgspec.structs.replace(CHAIN, epoch=8)
    assert code(watched, good, other) == "wrong_position"
    restarted = msgspec.structs.replace(watched, restored=True)
    assert code(restarted, good) == "restarted"


def test_counts_that_contradict_themselves_are_not_signed() -> None:
    own = seen(requests=100, errors_caller=100)
    assert first(totals(requests=1, errors_caller=1, refused=1), own).code == "bad_link"
    many = totals(requests=1)
    many = (*many[:-1], 2)
    assert first(many, own).code == "bad_link"


def test_the_next_epochs_chain_begins_where_the_last_one_stopped() -> None:
    drawn = close(begin(CHAIN, NOTHING), totals(requests=100), 1)
    assert drawn.pending is not None
    watched = judge(Watched(), CHAIN, drawn.pending, seen(requests=103), 0).watched
    following = msgspec.structs.replace(CHAIN, epoch=8)
    link = linked(begin(following, NOTHING), totals(requests=53), 1)
    verdict = judge(watched, following, link, seen(requests=156), 0)
    assert verdict.code == ""
    assert since(verdict.watched.mark, verdict.watched.base)[0] == 53
    assert verdict.written_off == 0


def test_a_new_session_writes_off_what_the_old_one_left_unsigned() -> None:
    drawn = close(begin(CHAIN, NOTHING), totals(requests=100), 1)
    assert drawn.pending is not None
    watched = judge(Watched(), CHAIN, drawn.pending, seen(requests=100), 0).watched
    other = msgspec.structs.replace(CHAIN, session="b" * 32)
    link = linked(begin(other, NOTHING), totals(requests=10), 1)
    verdict = judge(watched, other, link, seen(requests=1110), 0)
    assert verdict.code == ""
    assert verdict.written_off == 1000 - SLACK_REQUESTS
    assert since(verdict.watched.mark, verdict.watched.base)[0] == 10


def test_rests_grow_and_the_first_is_free() -> None:
    assert [rest_s(n) for n in (0, 1, 2, 3, 4, 50)] == [0, 0, 10, 20, 40, 600]


def test_since_when_work_is_unsigned() -> None:
    assert unsigned_since(5.0, 3, 3, 9.0) == 0.0
    assert unsigned_since(0.0, 4, 3, 9.0) == 9.0
    assert unsigned_since(5.0, 4, 3, 9.0) == 5.0


def test_heads_hang_together() -> None:
    link = linked(begin(CHAIN, NOTHING), totals(requests=1))
    assert link.previous == CHAIN.id
    assert link.head == next_head(CHAIN.id, link.body)
