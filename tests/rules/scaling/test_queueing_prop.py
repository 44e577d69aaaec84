"""The queue's formula against exact chances, against a simulation, and its directions."""

from __future__ import annotations

import heapq
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isochrone.rules.scaling.queueing import Load, late_share, replicas_needed
from isochrone.rules.scaling.speed import Speed

rates = st.floats(0.01, 500.0)
speeds = st.builds(
    Speed,
    slots=st.integers(1, 64),
    base_s=st.floats(0.01, 10.0),
    each_s=st.floats(0.0, 0.3),
    entry_s=st.floats(0.0, 0.3),
)


def erlang_c(servers: int, busy: float) -> float:
    """The exact chance to wait with exponential times (Erlang, 1917)."""
    blocked = 1.0
    for n in range(1, servers + 1):
        blocked = busy * blocked / (n + busy * blocked)
    return blocked / (1 - busy / servers * (1 - blocked))


@pytest.mark.parametrize("servers", [1, 2, 5, 20, 100, 1000])
@pytest.mark.parametrize("used", [0.5, 0.8, 0.95])
def test_waiting_is_near_the_exact_chance(servers: int, used: float) -> None:
    busy = servers * used
    found = late_share(Load(per_s=busy), Speed(slots=1, base_s=1.0), servers, 0.0)
    assert found == pytest.approx(erlang_c(servers, busy), abs=0.06)


@pytest.mark.parametrize("spread", [1.0, 4.0])
def test_what_is_needed_holds_in_a_simulation(spread: float) -> None:
    """Gamma gaps of a squared coefficient of 1 and 4, exponential service, first come first."""
    speed, rate = Speed(slots=8, base_s=2.0), 30.0
    load = Load(per_s=rate, arrival_cv2=spread)
    needed = replicas_needed(load, speed, 0.5, 0.05, 99)
    assert _late(needed * 8, rate, 2.0, spread) <= 0.05 + 0.015
    assert _late((needed - 2) * 8, rate, 2.0, spread) > 0.05


def _late(servers: int, rate: float, service_s: float, spread: float) -> float:
    draws = random.Random(5)
    free = [0.0] * servers
    now, late, count = 0.0, 0, 30_000
    for _ in range(count):
        now += draws.gammavariate(1 / spread, spread / rate)
        begun = max(now, heapq.heappop(free))
        late += begun - now > 0.5
        heapq.heappush(free, begun + draws.expovariate(1 / service_s))
    return late / count


@given(rates, speeds, st.integers(1, 500), st.floats(0.0, 5.0))
def test_more_replicas_and_less_load_are_never_worse(
    rate: float, speed: Speed, replicas: int, wait_s: float
) -> None:
    late = late_share(Load(per_s=rate), speed, replicas, wait_s)
    assert 0.0 <= late <= 1.0
    assert late_share(Load(per_s=rate), speed, replicas + 1, wait_s) <= late + 1e-12
    assert late_share(Load(per_s=rate * 1.1), speed, replicas, wait_s) >= late - 1e-12


@given(rates, speeds)
def test_the_fewest_are_found(rate: float, speed: Speed) -> None:
    needed = replicas_needed(Load(per_s=rate), speed, 1.0, 0.05, 100_000)
    assert needed * speed.requests_per_s > rate
    assert late_share(Load(per_s=rate), speed, needed, 1.0) <= 0.05
    assert needed == 1 or late_share(Load(per_s=rate), speed, needed - 1, 1.0) > 0.05


def test_without_load_none_are_needed_and_never_more_than_the_most() -> None:
    speed = Speed(slots=1, base_s=1.0)
    assert replicas_needed(Load(per_s=0.0), speed, 1.0, 0.05, 9) == 0
    assert replicas_needed(Load(per_s=1e6), speed, 1.0, 0.05, 9) == 9
    assert math.isclose(late_share(Load(per_s=1.0), speed, 0, 1.0), 1.0)
