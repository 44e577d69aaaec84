"""Summaries of what callers saw."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from isochrone.lab.records import Record, city_rows, percentile, share_by_node
from isochrone.schema.service import Objective


def record(**changes: object) -> Record:
    fields: dict[str, object] = {
        "target": "isochrone",
        "phase": "calm",
        "city": "paris",
        "service": "s",
        "request_id": "1",
        "sent_unix_s": 0.0,
        "latency_ms": 10.0,
        "correct": True,
        "node": "0xa",
        "place": "paris",
    }
    return Record(**{**fields, **changes})  # type: ignore[arg-type]


def test_a_wrong_slow_or_broken_answer_has_failed() -> None:
    assert not record().failed
    assert record(correct=False).failed
    assert record(latency_ms=2500.1).failed
    assert record(error="TimeoutError: ").failed


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0, 100))
def test_prop_a_percentile_is_one_of_the_values_and_grows(values: list[float], p: float) -> None:
    assert percentile(values, p) in values
    assert percentile(values, 0) <= percentile(values, p) <= percentile(values, 100)
    assert percentile(values, 100) == max(values)


def test_no_values_have_no_percentile() -> None:
    assert math.isnan(percentile([], 50))


def test_rows_stand_beside_the_centralised_region() -> None:
    records = [
        record(latency_ms=10.0),
        record(latency_ms=60.0, place="madrid"),
        record(error="x"),
        record(target="central", phase="central", latency_ms=90.0),
        record(target="central", phase="central-warm", latency_ms=500.0),
    ]
    (row,) = city_rows(records, frozenset({"calm"}), {"s": Objective(latency_ms=50.0)})
    assert (row.requests, row.failed) == (3, 1)
    assert row.met_share == 0.5
    assert not row.met
    assert row.central_p50_ms == 90.0
    assert dict(row.replicas) == {"paris": 1, "madrid": 1}


def test_shares_of_nodes_sum_to_one() -> None:
    shares = share_by_node([record(), record(), record(node="0xb"), record(node="")])
    assert shares == {"0xa": 2 / 3, "0xb": 1 / 3}
