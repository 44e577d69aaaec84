"""The decision: within its range, replayable, in the right direction, and not restless."""

from __future__ import annotations

import random

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from isochrone.rules.scaling.replicas import Observed, Policy, State, Target, begin, step
from isochrone.rules.scaling.speed import Speed

PRIOR = Speed(slots=4, base_s=1.0, each_s=0.05)
POLICY = Policy(least=1, most=20, prior=PRIOR, start_s=60.0, warm_start_s=10.0)

reports = st.builds(
    Observed,
    seconds=st.just(5.0),
    arrivals=st.integers(0, 10_000),
    completed=st.integers(0, 10_000),
    busy_request_s=st.floats(0.0, 1e5),
    late=st.integers(0, 10_000),
    in_flight=st.integers(0, 200),
    waiting=st.integers(0, 10_000),
    ready=st.integers(0, 20),
    starting=st.integers(0, 20),
)


def steady(rate: float, ready: int, waiting: int = 0) -> Observed:
    busy = rate * PRIOR.service_s(rate / max(1, ready))
    return Observed(
        seconds=5.0,
        arrivals=round(rate * 5),
        completed=round(rate * 5),
        busy_request_s=busy * 5,
        in_flight=round(busy),
        waiting=waiting,
        ready=ready,
    )


def follow(policy: Policy, rates: list[float], replicas: int = 2) -> tuple[State, list[Target]]:
    state, targets = begin(policy, 0.0, replicas), []
    for i, rate in enumerate(rates, start=1):
        state, target = step(policy, state, steady(rate, state.replicas), i * 5.0)
        targets.append(target)
    return state, targets


@settings(max_examples=50)
@given(st.lists(reports, max_size=20), st.integers(0, 3))
def test_within_the_range_and_replayable(observed: list[Observed], least: int) -> None:
    policy = msgspec.structs.replace(POLICY, least=least)
    one, two = begin(policy, 0.0, 2), begin(policy, 0.0, 2)
    for i, report in enumerate(observed, start=1):
        one, target = step(policy, one, report, i * 5.0)
        two, again = step(policy, two, report, i * 5.0)
        assert target == again
        assert msgspec.json.encode(one) == msgspec.json.encode(two)
        assert least <= target.replicas <= policy.most
        busy = report.arrivals or report.in_flight or report.waiting
        assert not report.arrivals or target.replicas > 0
        assert busy or target.replicas >= least
        assert target.words.startswith(f"{target.replicas} replica")


@settings(max_examples=50)
@given(st.lists(reports, min_size=1, max_size=12))
def test_a_state_survives_being_written_down(observed: list[Observed]) -> None:
    state = begin(POLICY, 0.0, 2)
    for i, report in enumerate(observed, start=1):
        state = msgspec.json.decode(msgspec.json.encode(state), type=State)
        state, _ = step(POLICY, state, report, i * 5.0)
    kept = begin(POLICY, 0.0, 2)
    for i, report in enumerate(observed, start=1):
        kept, _ = step(POLICY, kept, report, i * 5.0)
    assert kept == state


@settings(max_examples=15)
@given(st.floats(1.0, 40.0), st.floats(1.05, 3.0))
def test_more_demand_never_needs_fewer(rate: float, more: float) -> None:
    few = follow(POLICY, [rate] * 200)[1][-1]
    many = follow(POLICY, [rate * more] * 200)[1][-1]
    assert many.replicas >= few.replicas


def test_a_steady_service_is_not_restless() -> None:
    _, targets = follow(POLICY, [20.0] * 1000)
    assert len({target.replicas for target in targets[500:]}) == 1
    assert targets[-1].replicas * PRIOR.requests_per_s > 20.0


def test_letting_go_waits_for_as_long_as_a_start() -> None:
    rates = [40.0] * 200 + [5.0] * 400
    _, targets = follow(POLICY, rates)
    high = targets[199].replicas
    assert all(target.replicas == high for target in targets[200 : 200 + 11])
    assert targets[-1].replicas < high
    assert any(target.reason == "held" for target in targets[200:])


def test_to_zero_only_after_the_idle_time_and_back_with_the_first_request() -> None:
    policy = msgspec.structs.replace(POLICY, least=0, idle_s=120.0)
    state, targets = follow(policy, [10.0] * 100 + [0.0] * 40)
    _, always = follow(POLICY, [10.0] * 100)
    assert [target.replicas for target in targets[:100]] == [one.replicas for one in always]
    assert targets[99].replicas > 1
    last = 100 + 120 // 5
    assert all(target.replicas >= 1 for target in targets[: last - 1])
    assert targets[last].replicas == 0
    assert targets[last].reason == "idle"
    waits = Observed(seconds=5.0, arrivals=1, waiting=1)
    state, target = step(policy, state, waits, 141 * 5.0)
    assert target.replicas >= 1


def test_requests_that_wait_are_believed_rather_than_the_model() -> None:
    state, calm = follow(POLICY, [8.0] * 200)
    for i in range(201, 225):
        late = msgspec.structs.replace(steady(8.0, state.replicas, waiting=40), late=40, starting=0)
        state, target = step(POLICY, state, late, i * 5.0)
    assert target.care > 1.0
    assert target.replicas > calm[-1].replicas


def test_room_is_lean_until_a_part_of_what_may_be_late_is_spent() -> None:
    """The same scattering demand; one of two services had one request in fifty late."""
    draws = random.Random(5)
    rates = [8 * draws.gammavariate(4, 1 / 4) for _ in range(400)]
    uppers = []
    for late in (0, 1, 2):
        state = begin(POLICY, 0.0, 4)
        for i, rate in enumerate(rates, start=1):
            report = msgspec.structs.replace(steady(rate, 4), late=late if i % 2 else 0)
            state, target = step(POLICY, state, report, i * 5.0)
        uppers.append((target.late_share, target.upper_per_s))
    assert uppers[0][0] == 0.0
    assert 0.01 < uppers[1][0] < uppers[2][0]
    assert uppers[0][1] < uppers[1][1] == uppers[2][1]


def test_missed_windows_leave_room_behind_and_met_ones_take_it_back_slowly() -> None:
    state = begin(POLICY, 0.0, 4)
    more = []
    for i in range(1, 5 * 120 + 2):
        late = 10 if 120 < i <= 240 else 0
        report = msgspec.structs.replace(steady(8.0, 4), late=late)
        state, target = step(POLICY, state, report, i * 5.0)
        more.append(state.more)
    assert more[119] == more[239] == 0.0
    assert more[240] > 0.009, "the second window was missed"
    assert 0.9 * more[240] < more[-1] < more[240]
    assert target.upper_per_s > target.expected_per_s * (1.05 + 0.9 * more[-1])


def test_a_line_that_has_formed_is_worked_off_though_nothing_began_late_yet() -> None:
    state, calm = follow(POLICY, [8.0] * 200)
    line = msgspec.structs.replace(steady(8.0, state.replicas), waiting=1200)
    _, target = step(POLICY, state, line, 201 * 5.0)
    assert target.late_share == 0.0
    assert target.needed > calm[-1].needed, "20 a second more for the length of a start"


def test_what_is_in_flight_is_not_let_go() -> None:
    state = begin(POLICY, 0.0, 5)
    busy = Observed(seconds=5.0, arrivals=0, in_flight=18, ready=5)
    for i in range(1, 200):
        state, target = step(POLICY, state, busy, i * 5.0)
    assert target.replicas == 5
    assert target.reason == "in_flight"


def test_warm_nodes_shorten_the_look_ahead() -> None:
    warm = msgspec.structs.replace(POLICY, warm=1)
    cold_state, _ = follow(POLICY, [10.0] * 50)
    warm_state, targets = follow(warm, [10.0] * 50)
    assert warm_state.demand.pending[-1].due - 250.0 == 10.0
    assert cold_state.demand.pending[-1].due - 250.0 == 60.0
    assert targets[-1].warm == 1
