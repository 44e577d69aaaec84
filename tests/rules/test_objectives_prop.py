"""Objectives: only what the counts prove is held against a provider."""

from bisect import bisect_left
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from isochrone.rules.metering import Sample
from isochrone.rules.objectives import (
    LIVE_GRACE_MS,
    availability_bps,
    consistency_x100,
    credit_bps,
    judged,
    latency_bps,
    live,
    live_bps,
)
from isochrone.schema.deployment import Terms
from isochrone.schema.service import Objective
from isochrone.schema.settlement import Window
from isochrone.schema.tally import BUCKETS, LATENCY_BOUNDS_MS

answers = st.lists(st.floats(0.01, 30_000), min_size=1, max_size=200)
objectives = st.builds(
    Objective,
    latency_ms=st.floats(0.5, 20_000),
    percentile=st.sampled_from((50.0, 90.0, 95.0, 99.0, 99.9)),
)
terms = Terms(samples_min=1)


def histogram(latencies_ms: list[float]) -> tuple[int, ...]:
    counts = [0] * BUCKETS
    for latency in latencies_ms:
        counts[bisect_left(LATENCY_BOUNDS_MS, latency)] += 1
    return tuple(counts)


@given(answers, objectives)
def test_a_kept_percentile_is_never_credited(latencies: list[float], objective: Objective) -> None:
    within = sum(latency <= objective.latency_ms for latency in latencies)
    if Fraction(within, len(latencies)) >= Fraction(round(objective.percentile * 10), 1000):
        assert latency_bps(histogram(latencies), objective) == 10_000


@given(answers, objectives)
def test_a_percentile_missed_by_a_bucket_is_noticed(
    latencies: list[float], objective: Objective
) -> None:
    beyond = sum(
        not (latency <= objective.latency_ms or latency <= _bound(objective.latency_ms))
        for latency in latencies
    )
    share = Fraction(len(latencies) - beyond, len(latencies))
    promised = Fraction(round(objective.percentile * 10), 1000)
    assert latency_bps(histogram(latencies), objective) == min(
        10_000, int(10_000 * share / promised)
    )


def _bound(latency_ms: float) -> float:
    return next((bound for bound in LATENCY_BOUNDS_MS if bound >= latency_ms), float("inf"))


@given(answers)
def test_the_ratio_is_never_overstated(latencies: list[float]) -> None:
    ranked = sorted(latencies)
    p50 = ranked[-(-len(ranked) * 50 // 100) - 1]
    p99 = ranked[-(-len(ranked) * 99 // 100) - 1]
    assert consistency_x100(histogram(latencies)) <= 100 * p99 / p50


@given(st.integers(1, 10**6), st.integers(0, 10**6), st.integers(0, 10**6))
def test_more_faults_never_cost_less(requests: int, one: int, other: int) -> None:
    few, many = sorted((min(one, requests), min(other, requests)))

    def credit(faults: int) -> int:
        sample = Sample(requests=requests, faults=faults)
        return credit_bps(availability_bps(sample), terms.availability)

    assert credit(few) <= credit(many)


@given(st.integers(1, 10**8), st.integers(0, 10**8), st.integers(0, 10**12))
def test_live_time_costs_at_most_what_it_was_promised_for(
    promised: int, seen: int, base: int
) -> None:
    found = live(promised, min(seen, promised), base, terms)
    if seen + LIVE_GRACE_MS >= promised:
        assert found is None
    assert found is None or 0 < found.credit_microusd <= base
    assert live_bps(seen, promised) <= live_bps(seen + 1, promised)


@given(answers, st.integers(0, 50), st.integers(0, 10**9), objectives)
def test_a_window_is_credited_at_most_its_use(
    latencies: list[float], faults: int, use: int, objective: Objective
) -> None:
    window = Window(
        lease="l",
        audience="fra",
        since_epoch=1,
        requests=len(latencies) + faults,
        faults=faults,
        latency=histogram(latencies),
        use_microusd=use,
    )
    found = judged(window, objective, terms)
    assert found is None or 0 < found.credit_microusd <= use
    few = Terms(samples_min=len(latencies) + faults + 1)
    assert judged(window, objective, few) is None
