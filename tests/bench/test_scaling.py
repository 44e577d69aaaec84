"""The scaling benchmark's own parts: its fluid engine against its exact one, its arrivals, its
rivals. Engine figures here are made up; the benchmark reads measured ones."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from bench.scaling import Workload, only
from bench.scaling_arrivals import ALONE, Mix, drawn, rates, recorded
from bench.scaling_engine import WINDOW_S, Engine, Exact, Fluid
from bench.scaling_rivals import Fixed, Ours, TargetConcurrency, clairvoyant
from bench.scaling_run import run

from isochrone.rules.scaling.replicas import Observed
from isochrone.rules.scaling.speed import Speed

ENGINE = Engine((100.0, 1000.0), (0.05, 0.05), (1.0, 16.0), (0.02, 0.03))
OUTPUT = 100.0
FULL = Speed(slots=16, base_s=2.0, each_s=0.05 + 0.067, entry_s=0.05)


def poisson(rate: float, seconds: int, seed: int = 1) -> list[tuple[float, float, float]]:
    draws = random.Random(seed)
    now, found = 0.0, []
    while now < seconds:
        found.append((now, 500.0, max(1.0, draws.expovariate(1 / OUTPUT))))
        now += draws.expovariate(rate)
    return found


@pytest.mark.parametrize("replicas", [6, 7, 9])
def test_the_fluid_engine_tells_what_the_exact_one_does(replicas: int) -> None:
    """Below, near and above what is enough: late shares within a tenth, requests within a tenth."""
    trace = recorded("x", poisson(26.0, 900))
    assert trace.requests is not None
    exact = Exact(ENGINE, trace.requests)
    fluid = Fluid(ENGINE, trace.counts, 0.05, OUTPUT)
    inside = np.zeros((2, len(trace.counts)))
    for second in range(len(trace.counts)):
        for i, sim in enumerate((exact, fluid)):
            sim.advance(second, replicas)
            inside[i, second] = sim.in_service
    exact.finish()
    late = [sum(sim.late) / sum(trace.counts) for sim in (exact, fluid)]
    assert late[0] == pytest.approx(late[1], abs=0.1)
    assert inside[0, 100:].mean() == pytest.approx(inside[1, 100:].mean(), rel=0.1)


def test_the_exact_engine_by_hand() -> None:
    """Two requests, one replica: the second prompt waits for the first, tokens pause meanwhile."""
    exact = Exact(ENGINE, [(0.0, 500.0, 10.0), (0.02, 500.0, 10.0), (30.0, 500.0, 1.0)])
    exact.advance(0, 1)
    replica = exact.replicas[0]
    assert exact.ended_now == 2
    assert replica.ends == []
    # 0.05 + 0.05 s of prompts, then 10 iterations of two (0.02 + 0.01 / 15 s each)
    assert replica.now == pytest.approx(0.1 + 10 * (0.02 + 0.01 / 15), abs=1e-9)


def test_a_clone_goes_its_own_way() -> None:
    trace = recorded("x", poisson(20.0, 60))
    assert trace.requests is not None
    for sim in (Exact(ENGINE, trace.requests), Fluid(ENGINE, trace.counts, 0.05, OUTPUT)):
        for second in range(20):
            sim.advance(second, 4)
        before = sim.in_service, sim.waiting
        other = sim.clone()
        for second in range(20, 40):
            other.advance(second, 1)
        assert (sim.in_service, sim.waiting) == before
        assert other.waiting > sim.waiting


@pytest.mark.parametrize("weibull", [False, True])
@pytest.mark.parametrize("shape", [0.3, 1.0, 4.0])
def test_drawn_arrivals_keep_each_window_s_count(weibull: bool, shape: float) -> None:
    table = np.array([10.0, 30.0, 0.0, 5.0])
    mix = Mix(np.array([0.7, 0.3]), np.array([shape, 1.0]), np.array([weibull, False]))
    trace = drawn("x", table, [mix], same_week=False, steps=False, seed=1)
    windows = np.array(trace.counts).reshape(-1, WINDOW_S).sum(1)
    assert windows.tolist() == [6000, 18000, 10500, 3000]  # the gap is crossed ...
    assert trace.judged == [True, True, False, True]  # ... and not judged
    assert min(trace.counts) >= 0
    again = drawn("x", table, [mix], same_week=False, steps=False, seed=1)
    assert trace.counts == again.counts


def test_independent_users_scatter_as_they_should() -> None:
    trace = drawn("x", np.full(20, 50.0), None, same_week=False, steps=True, seed=1)
    seconds = np.array(trace.counts)
    assert seconds.var() / seconds.mean() == pytest.approx(1.0, abs=0.1)
    assert not ALONE.weibull.any()


def test_rates_are_read_and_missing_windows_are_gaps(tmp_path: Path) -> None:
    file = tmp_path / "rates.csv"
    file.write_text("model,t_s,req_per_s,active_clients\na,604800,2.5,3\na,606000,4,3\n")
    assert rates(file)["a"].tolist() == [2.5, 0.0, 4.0]


def test_target_concurrency_follows_the_published_rule() -> None:
    scaler = TargetConcurrency(10.0, 1)

    def report(concurrency: float, ready: int) -> Observed:
        return Observed(seconds=2, arrivals=0, busy_request_s=concurrency * 2, ready=ready)

    now = 0.0
    for _ in range(30):  # 21 of 10 x 70 %: three
        now += 2
        wanted = scaler.want(report(21.0, 3), now)
    assert wanted == 3
    for _ in range(3):  # six seconds of 49 ask for seven, more than twice what is ready: panic
        now += 2
        wanted = scaler.want(report(49.0, 3), now)
    assert wanted == 7
    for _ in range(10):  # nothing is let go in panic
        now += 2
        assert scaler.want(report(7.0, 7), now) == 7
    for _ in range(60):
        now += 2
        wanted = scaler.want(report(0.0, 7), now)
    assert wanted == 3  # at most halved


def test_hindsight_is_met_and_cheaper_and_ours_is_between() -> None:
    """An hour that swells and ebbs: everyone is judged by the same engine and the same bill."""
    table = np.array([20.0, 40.0, 60.0, 60.0, 40.0, 20.0])
    trace = drawn("x", table, None, same_week=False, steps=False, seed=2)

    def sim() -> Fluid:
        return Fluid(ENGINE, trace.counts, 0.05, OUTPUT)

    peak = run(sim(), Fixed(18), 18, trace.counts, trace.judged)
    ours = run(sim(), Ours(FULL, 99, 8), 8, trace.counts, trace.judged)
    best = clairvoyant(sim(), 8, trace.counts, trace.judged, FULL)
    assert peak.attainment == best.attainment == 1.0
    assert ours.on_time_share > 0.99
    assert best.replica_hours < ours.replica_hours < peak.replica_hours


def test_a_trace_that_there_is_not_is_no_empty_result(capsys: pytest.CaptureFixture[str]) -> None:
    sizes = poisson(1.0, 20)
    found = [Workload(recorded(name, sizes), ENGINE, sizes) for name in ("code", "chat")]
    assert only(found, []) == found
    assert only(found, ["chat"]) == found[1:]
    with pytest.raises(SystemExit) as ended:
        only(found, ["chat", "unknown"])
    assert ended.value.code == 2
    assert capsys.readouterr().err == "There is no trace unknown; there are: code, chat.\n"
