"""Cold starts: the prior, what is nearest to the case, the slow ones; and what may be promised."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isochrone.rules.scaling.coldstart import KEPT, Start, Starts, remember, start_times
from isochrone.rules.scaling.retry import LONGEST_S, retry_after_s

GIB = 2**30


def start(load_ms: float, node_class: str = "a100", model: str = "m", mb: int = 0) -> Start:
    return Start(
        node_class=node_class,
        model=model,
        fetched_bytes=mb * 10**6,
        fetch_ms=1000.0 if mb else 0.0,
        load_ms=load_ms,
        first_answer_ms=500.0,
    )


def test_without_any_start_the_prior_grows_with_the_model() -> None:
    small, large = (start_times(Starts(), "a100", "m", size) for size in (GIB, 10 * GIB))
    assert small.measured == 0
    assert small.warm_s < small.cold_s < large.cold_s


def test_the_same_model_on_the_same_class_is_believed_first() -> None:
    starts = Starts()
    for ms, node_class in ((9500.0, "a100"), (19500.0, "t4")):
        starts = remember(starts, start(ms, node_class))
    assert start_times(starts, "a100", "m", 0).warm_s == 10.0
    assert start_times(starts, "t4", "m", 0).warm_s == 20.0
    assert start_times(starts, "new", "m", 0).warm_s == 20.0  # the slower of both elsewhere


def test_another_models_starts_say_nothing_of_this_one() -> None:
    starts = remember(Starts(), start(90_000.0, model="huge"))
    assert start_times(starts, "a100", "m", GIB) == start_times(Starts(), "a100", "m", GIB)


def test_nine_of_ten_are_no_slower() -> None:
    starts = Starts()
    for second in range(1, 21):
        starts = remember(starts, start(second * 1000.0 - 500.0))
    assert start_times(starts, "a100", "m", 0).warm_s == 18.0


def test_a_fetch_at_the_class_s_measured_rate_comes_on_top() -> None:
    starts = remember(Starts(), start(1500.0, mb=100))  # 100 MB/s
    found = start_times(starts, "a100", "m", 1_000_000_000)
    assert found.cold_s == pytest.approx(found.warm_s + 10.0)


def test_the_oldest_falls_out_and_nonsense_never_comes_in() -> None:
    starts = Starts()
    for second in range(KEPT + 5):
        starts = remember(starts, start(second * 1000.0))
    assert len(starts.kept) == KEPT
    assert starts.kept[0].load_ms == 5000.0
    for wrong in (-1.0, math.nan, math.inf):
        assert remember(starts, start(wrong)) == starts


def test_retry_after_counts_down_and_then_says_less_often() -> None:
    measured = [40.0, 50.0, 60.0]
    assert [retry_after_s(measured, 55.0, t) for t in (0.0, 45.0, 59.5)] == [60, 15, 1]
    assert [retry_after_s(measured, 55.0, t) for t in (70.0, 90.0, 120.0)] == [10, 30, 60]


@given(st.lists(st.floats(0.0, 1e5), max_size=10), st.floats(0.0, 1e5), st.floats(-10.0, 1e6))
def test_retry_after_is_a_whole_number_of_seconds_a_client_can_use(
    measured: list[float], expected_s: float, elapsed_s: float
) -> None:
    assert 1 <= retry_after_s(measured, expected_s, elapsed_s) <= LONGEST_S


@given(st.lists(st.floats(1.0, 3000.0), min_size=1, max_size=10))
def test_retry_after_covers_nine_of_ten_starts(measured: list[float]) -> None:
    promised = retry_after_s(measured, 1.0, 0.0)
    assert sum(m > promised for m in measured) <= 0.1 * len(measured)
