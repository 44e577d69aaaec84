"""Forecasts learn from the past alone: level, trend, the time of day, and their own errors."""

from __future__ import annotations

import math
import random

from hypothesis import given
from hypothesis import strategies as st

from isochrone.rules.scaling.demand import DAY_S, Demand, expected, first_demand, observe

LEAD_S, MEMORY_S, REPORT_S = 60.0, 10.0, 5.0


def follow(counts: list[int], every_s: float = REPORT_S) -> list[Demand]:
    states = [first_demand(0.0)]
    for i, count in enumerate(counts, start=1):
        states.append(observe(states[-1], count, every_s, i * every_s, LEAD_S, MEMORY_S))
    return states[1:]


@given(st.lists(st.integers(0, 10**7), min_size=1, max_size=60))
def test_whatever_comes_the_forecast_is_a_sane_number(counts: list[int]) -> None:
    for state in follow(counts):
        ahead = expected(state, 0.02)
        assert 0 <= ahead.per_s <= ahead.upper_per_s < math.inf
        assert ahead.upper_per_s <= 4 * (max(counts) / REPORT_S + 1)


@given(st.lists(st.integers(0, 1000), min_size=2, max_size=40), st.integers(1, 39))
def test_the_future_says_nothing_about_the_past(counts: list[int], cut: int) -> None:
    assert follow(counts)[: min(cut, len(counts))] == follow(counts[:cut])


def test_a_steady_rate_is_expected_with_ever_less_room() -> None:
    states = follow([500] * 2000)
    early, late = expected(states[100], 0.02), expected(states[-1], 0.02)
    assert abs(late.per_s - 100) < 1
    assert late.upper_per_s < early.upper_per_s < 200
    assert late.upper_per_s < 106.1, "the least room"


def test_a_ramp_is_seen_coming() -> None:
    """20 % of the start more every minute: after ten minutes there are 298 % of it, and one and a
    half starts ahead 328 %."""
    ramp = [round(500 * (1 + 0.2 * i * REPORT_S / 60)) for i in range(120)]
    state = follow([500] * 600 + ramp)[-1]
    ahead = expected(state, 0.02)
    assert ahead.guess == "trend"
    assert 0.98 < ahead.per_s / 328 < 1.02


def test_a_dip_is_not_followed_to_its_bottom_but_a_fall_is() -> None:
    """Two minutes of half the demand are a dip; ten minutes are the new demand."""
    dip = follow([500] * 600 + [250] * 24)[-1]
    assert expected(dip, 0.02).per_s > 95
    assert expected(dip, 0.02).guess == "held"
    fall = follow([500] * 600 + [250] * 120)[-1]
    assert expected(fall, 0.02).per_s < 55


def test_an_outage_that_ends_does_not_call_for_more_than_ever_came() -> None:
    """When nothing was expected everything is a surprise: its size says nothing of the next one."""
    back = follow([500] * 600 + [1] * 240 + [500] * 60)[-1]
    ahead = expected(back, 0.002)
    assert 100 < ahead.upper_per_s <= max(1.25 * ahead.per_s, 110)


def test_what_is_held_is_measured_in_starts() -> None:
    """With a start of six seconds there is no reason to hold for minutes."""
    state = first_demand(0.0)
    for i, count in enumerate([100] * 600 + [50] * 60, start=1):
        state = observe(state, count, 1.0, float(i), 6.0, 5.0)
    assert state.pending[-1].guesses[0] < 51
    assert len(state.lately) <= 60


def test_the_upper_end_is_exceeded_about_as_often_as_said() -> None:
    """Scattering demand, judged on the second half against what was forecast a start before."""
    draws = random.Random(3)
    counts = [round(draws.gammavariate(8, 500 / 8)) for _ in range(6000)]
    states = follow(counts)
    ahead = int(LEAD_S / REPORT_S)
    over = [
        states[i].smooth > expected(states[i - ahead], 0.05).upper_per_s for i in range(3000, 6000)
    ]
    assert 0.01 < sum(over) / len(over) < 0.10


def test_one_burst_calls_nobody() -> None:
    quiet = [500, 510, 490, 505, 495] * 100
    before = expected(follow(quiet)[-1], 0.02)
    after = expected(follow([*quiet, 50_000])[-1], 0.02)
    assert after.per_s < 1.1 * before.per_s


def test_the_time_of_day_is_learnt() -> None:
    """Each day at noon the rate doubles within a quarter of an hour: the third day it is known."""
    every_s = 30.0
    day = [
        1000 + round(1000 * min(1.0, max(0.0, (i * every_s - 43_200) / 900)))
        for i in range(int(DAY_S / every_s))
    ]
    states = follow([*day, *day, *day[: int(43_200 / every_s)]], every_s)
    steady = follow(day[: int(43_200 / every_s)], every_s)
    assert states[-1].pending[-1].guesses[2] > 1.02 * steady[-1].pending[-1].guesses[2]
