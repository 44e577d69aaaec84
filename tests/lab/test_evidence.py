"""The demonstration's figures: what is missing is null, what went wrong is counted."""

from __future__ import annotations

import msgspec
import pytest

from isochrone.lab.demo import problems
from isochrone.lab.evidence import FailedTry, Seen, figures
from isochrone.lab.faults import Freeze, Kill, Replacement
from isochrone.lab.records import Record
from isochrone.lab.settling import Settled
from isochrone.lab.sleeping import Woken
from isochrone.lab.trials import Cut, Slowed

FROZEN_AT_S = 1000.0


def record(**changes: object) -> Record:
    fields: dict[str, object] = {
        "target": "isochrone",
        "phase": "calm",
        "city": "paris",
        "service": "s",
        "request_id": "r1",
        "sent_unix_s": 900.0,
        "latency_ms": 10.0,
        "correct": True,
        "node": "0xa",
        "cell": "fra",
        "overhead_ms": 1.0,
    }
    return Record(**{**fields, **changes})  # type: ignore[arg-type]


def seen(
    records: list[Record], tries: list[FailedTry], *, unreplaced: tuple[str, ...] = ()
) -> Seen:
    return Seen(
        records=records,
        tries=tries,
        slowed=Slowed(
            site="a", service="s", before_ms=1, now_ms=81, share_before=1.0, share_after=0.0
        ),
        killed=Kill(
            node="0xdead",
            site="dead",
            at_unix_s=950.0,
            in_flight=1,
            replacements=(Replacement(service="s", metro="paris", node="0xb", after_ms=400.0),),
            unreplaced=unreplaced,
        ),
        frozen=Freeze(node="0xf", site="f", at_unix_s=FROZEN_AT_S, seconds=6.0, in_flight=1),
        cut=Cut(cell="sin", from_unix_s=1000.0, until_unix_s=1010.0, gateway_knew=True),
    )


def lost(request: str, reason: str, after_s: float, node: str = "0xf") -> FailedTry:
    return FailedTry(
        request=request, node=node, reason=reason, sent_unix_ms=(FROZEN_AT_S + after_s) * 1e3
    )


SETTLED = Settled(
    epochs_settled=3,
    claim_paid=500,
    credit_paid=200,
    credit_for_killed=40,
    watches_opened=3,
    audit_agrees=True,
    epochs_behind=0,
)


WOKEN = Woken(woken_callers=8, woken_answered=8, woken_ms=900.0, slept_again=True)


def result(one: Seen, **changes: object) -> dict[str, object]:
    made = figures(one, nodes=3, services=1, violations=0, identical=True)
    asleep, books = msgspec.structs.asdict(WOKEN), msgspec.structs.asdict(SETTLED)
    return {**made, "nodes_proven": 4, **asleep, **books, **changes}


GOOD = seen(
    [record(reroute_ms=0.2), record(node="0xf", sent_unix_s=FROZEN_AT_S + 0.1)],
    [lost("r2", "silent", 0.4)],
)


def test_a_good_run_has_no_problems() -> None:
    assert problems(result(GOOD)) == []
    assert result(GOOD)["detect_hang_ms"] == 400.0
    assert result(GOOD)["replace_ms"] == 400.0
    assert result(GOOD)["reroute_ms"] == 0.2


def test_a_request_answered_late_by_the_frozen_node_was_sent_to_it_too() -> None:
    answered = record(node="0xf", sent_unix_s=FROZEN_AT_S + 3.0)
    assert seen([answered], [lost("r2", "silent", 0.4)]).last_sent_ms == 3000.0


def test_what_was_sent_before_or_after_the_freeze_does_not_count() -> None:
    tries = [lost("r1", "silent", -1.0), lost("r2", "silent", 7.0), lost("r3", "x", 1.0, "0xg")]
    assert seen([], tries).last_sent_ms is None


def test_what_was_not_measured_is_null_and_no_zero() -> None:
    empty = result(seen([record()], []))
    assert empty["detect_hang_ms"] is None
    assert empty["reroute_ms"] is None
    assert problems(empty) == []


def test_a_replica_that_was_not_replaced_is_a_problem() -> None:
    missing = result(seen(GOOD.records, GOOD.tries, unreplaced=("t",)))
    assert missing["replace_ms"] is None
    assert [p for p in problems(missing) if "not replaced" in p]


def test_failures_violations_and_differing_replays_are_problems() -> None:
    failed = result(seen([record(correct=False), *GOOD.records], GOOD.tries))
    assert failed["failed"] == 1
    assert len(problems(failed)) == 1
    assert len(problems(result(GOOD, residency_violations=2))) == 1
    assert len(problems(result(GOOD, replayed_identical=False))) == 1
    assert len(problems(result(GOOD, slow_link_share=0.5))) == 1


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("woken_answered", 7),
        ("slept_again", False),
        ("nodes_proven", 0),
        ("watches_opened", 0),
        ("epochs_settled", 0),
        ("claim_paid", 0),
        ("credit_paid", 0),
        ("credit_for_killed", 0),
        ("audit_agrees", False),
    ],
)
def test_what_a_run_did_not_show_is_a_problem(key: str, value: object) -> None:
    assert len(problems(result(GOOD, **{key: value}))) == 1


def test_overtaken_copies_are_not_counted_as_moved() -> None:
    one = seen([], [lost("r1", "silent", 0.1), lost("r2", "lost_race", 0.2)])
    assert (one.moved, one.overtaken) == (1, 1)


def test_only_answers_of_the_cut_cell_during_the_cut_count() -> None:
    rows = [
        record(cell="sin", sent_unix_s=1005.0),
        record(cell="sin", sent_unix_s=1011.0),
        record(cell="fra", sent_unix_s=1005.0),
        record(cell="sin", sent_unix_s=1005.0, correct=False),
    ]
    assert seen(rows, []).answered_during_cut == 1
