"""The scalers that ``bench.scaling`` compares: a peak, target concurrency, ours, and hindsight.

``TargetConcurrency`` is the rule of the Knative pod autoscaler, which KServe uses, with its
published settings: a stable window of 60 s, a panic window of a tenth that starts when it alone
asks for twice what is ready, 70 % of the target used, at most doubling down at a time, a decision
every two seconds; requests that wait count.

``clairvoyant`` knows every arrival and what each schedule would do. It is no proof of the optimum
but hard to beat: for each ten minutes in order it takes the cheapest of a constant
number of replicas and numbers in proportion to each minute's arrivals, then removes replicas from
single minutes as long as 95 % still begin within a second and the bill (cold starts included)
falls.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

from bench.scaling_engine import LATE_MAX, WAIT_S, WINDOW_S, Simulator
from bench.scaling_run import START_S, Outcome, verdict

from isochrone.rules.scaling import replicas as rule
from isochrone.rules.scaling.speed import Speed

MINUTE_S = 60


class Fixed:
    """Always the same number."""

    every_s = 60

    def __init__(self, replicas: int):
        self.replicas = replicas

    def want(self, observed: rule.Observed, now: float) -> int:
        """The number."""
        return self.replicas


class TargetConcurrency:
    """Knative's rule for a target of requests per replica."""

    every_s = 2
    utilisation = 0.7
    stable_s, panic_s, panic_at, down_at_most = 60, 6, 2.0, 2.0

    def __init__(self, target: float, first: int):
        self.target = max(0.01, target * self.utilisation)
        self.stable: deque[float] = deque(maxlen=self.stable_s // self.every_s)
        self.sum = 0.0
        self.panic_since: float | None = None
        self.panic_most = first

    def want(self, observed: rule.Observed, now: float) -> int:
        """The number wanted."""
        concurrency = observed.busy_request_s / observed.seconds + observed.waiting
        if len(self.stable) == self.stable.maxlen:
            self.sum -= self.stable[0]
        self.stable.append(concurrency)
        self.sum += concurrency
        ready = max(1, observed.ready)
        lowest = math.floor(ready / self.down_at_most)
        stable = max(lowest, math.ceil(self.sum / len(self.stable) / self.target))
        last = [self.stable[-1 - i] for i in range(min(len(self.stable), 3))]
        panic = max(lowest, math.ceil(sum(last) / len(last) / self.target))
        if panic / ready >= self.panic_at:
            self.panic_since = now
        elif self.panic_since is not None and now - self.panic_since >= self.stable_s:
            self.panic_since = None
            self.panic_most = 0
        if self.panic_since is not None:
            self.panic_most = max(self.panic_most, panic, ready)
            return max(1, self.panic_most)
        self.panic_most = 0
        return max(1, stable)


class Ours:
    """The shipped rule, with nothing but its own settings."""

    every_s = 5

    def __init__(self, prior: Speed, most: int, first: int, least: int = 1):
        self.policy = rule.Policy(
            least=least,
            most=most,
            prior=prior,
            wait_s=WAIT_S,
            late_max=LATE_MAX,
            start_s=START_S,
            warm_start_s=START_S,
        )
        self.state = rule.begin(self.policy, 0.0, first)

    def want(self, observed: rule.Observed, now: float) -> int:
        """One step of the rule."""
        self.state, target = rule.step(self.policy, self.state, observed, now)
        return target.replicas


def clairvoyant(
    sim: Simulator, first: int, arrivals: Sequence[int], judged: Sequence[bool], work: Speed
) -> Outcome:
    """The schedule of whoever knows it all, and what it costs."""
    paid, before = 0.0, first
    windows = -(-sim.seconds // WINDOW_S)
    most = 0
    for window in range(windows):
        start, end = window * WINDOW_S, min((window + 1) * WINDOW_S, sim.seconds)
        minutes = [
            sum(arrivals[t : min(t + MINUTE_S, end)]) / work.requests_per_s / MINUTE_S
            for t in range(start, end, MINUTE_S)
        ]
        levels = _best(sim, before, start, end, minutes, sum(arrivals[start:end]))
        cost, before = _play(sim, before, start, end, levels)
        if judged[window]:
            paid += cost
        most = max(most, *levels)
    return verdict(sim, arrivals, judged, paid, most)


def _play(
    sim: Simulator, ready: int, start: int, end: int, levels: Sequence[int]
) -> tuple[float, int]:
    """Run a window; its bill (starts and drains too) and the replicas at its end."""
    paid = 0.0
    for minute, level in enumerate(levels):
        if level < ready:
            paid += (ready - level) * sim.retire(ready - level, ready)
        else:
            paid += (level - ready) * START_S
        ready = level
        first = start + minute * MINUTE_S
        last = min(first + MINUTE_S, end)
        for second in range(first, last):
            sim.advance(second, level)
        paid += level * (last - first)
    return paid, ready


def _tried(
    sim: Simulator, ready: int, start: int, end: int, levels: Sequence[int], came: int
) -> tuple[bool, float]:
    """Whether a window would meet the objective (and leave no queue that takes longer than its
    wait), and its bill."""
    trial = sim.clone()
    paid, _ = _play(trial, ready, start, end, levels)
    met = trial.late[start // WINDOW_S] + trial.waiting <= LATE_MAX * came
    return met, paid


def _best(
    sim: Simulator, ready: int, start: int, end: int, minutes: Sequence[float], came: int
) -> list[int]:
    peak = max(1.0, *minutes)
    shapes = [[1.0] * len(minutes), [max(m, 0.02 * peak) / peak for m in minutes]]
    found: list[tuple[float, list[int]]] = []
    for shape in shapes:
        low, high = 0.0, peak * 1.1 + 1
        while not _tried(sim, ready, start, end, _levels(shape, high), came)[0]:
            low, high = high, high * 1.5
            if high > 50 * peak + 50:
                break
        while high - low > max(0.5, 0.004 * high):
            middle = (low + high) / 2
            if _tried(sim, ready, start, end, _levels(shape, middle), came)[0]:
                high = middle
            else:
                low = middle
        levels = _levels(shape, high)
        found.append((_tried(sim, ready, start, end, levels, came)[1], levels))
    return _trimmed(sim, ready, start, end, *min(found), came)


def _levels(shape: Sequence[float], factor: float) -> list[int]:
    return [max(1, math.ceil(factor * part)) for part in shape]


def _trimmed(
    sim: Simulator, ready: int, start: int, end: int, cost: float, levels: list[int], came: int
) -> list[int]:
    """Take replicas out of single minutes as long as it saves and the objective is met."""
    by = max(1, max(levels) // 16)
    while by:
        improved = False
        for minute in sorted(range(len(levels)), key=levels.__getitem__, reverse=True):
            trial = levels.copy()
            trial[minute] = max(1, trial[minute] - by)
            if trial == levels:
                continue
            met, paid = _tried(sim, ready, start, end, trial, came)
            if met and paid < cost:
                levels, cost, improved = trial, paid, True
        if not improved:
            by //= 4
    return levels
