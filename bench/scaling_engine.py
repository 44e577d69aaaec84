"""The simulated engines of ``bench.scaling``: one exact, request by request, and one fluid.

An engine batches continuously: a request enters when it has a slot, its prompt then has the GPU for
itself (the others pause), then it makes its output's tokens together with all others of the batch,
one iteration a token. "Begins to be served" is the start of the prompt. Prompts do not gain from
being batched (the measurements say so), nothing is cached.

Both have ``advance(second, replicas)``, ``clone()``, and count late requests by the window of their
arrival. The fluid one holds only sums: its requests have the mean size, and leave at the mean rate.
"""

from __future__ import annotations

import csv
import heapq
from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import msgspec

WINDOW_S = 600
"""The objective is judged by ten minutes ..."""

WAIT_S = 1.0
"""... of which 95 % must begin within a second."""

LATE_MAX = 0.05

MODEL, HARDWARE, PARALLEL = "llama2-70b", "h100-80gb", 8
"""One replica: eight H100, the fastest measured split (and the only one with memory to spare for
64 long conversations)."""


class Engine(msgspec.Struct, frozen=True):
    """Measured speed: prompt seconds by tokens, iteration seconds by batch, the largest batch."""

    prompt_tokens: tuple[float, ...]
    prompt_s: tuple[float, ...]
    batches: tuple[float, ...]
    iteration_s: tuple[float, ...]

    @property
    def slots(self) -> int:
        """The largest batch that was measured."""
        return int(self.batches[-1])

    def prompt(self, tokens: float) -> float:
        """Seconds of a prompt; beyond the measured sizes the last slope goes on."""
        return _line(self.prompt_tokens, self.prompt_s, tokens)

    def iteration(self, batch: float) -> float:
        """Seconds of a token for everyone of the batch."""
        return _line(self.batches, self.iteration_s, max(1.0, batch))


def _line(xs: Sequence[float], ys: Sequence[float], x: float) -> float:
    if x <= xs[0]:
        return ys[0]
    right = min(bisect_right(xs, x), len(xs) - 1)
    left = right - 1
    return ys[left] + (ys[right] - ys[left]) * (x - xs[left]) / (xs[right] - xs[left])


def read_engine(path: Path) -> Engine:
    """The engine of the file of measurements (``llm_perf_splitwise.csv``)."""
    prompts: dict[float, list[float]] = {}
    iterations: dict[float, list[float]] = {}
    with path.open(newline="") as lines:
        for row in csv.DictReader(lines):
            if (row["model"], row["hardware"], int(row["tensor_parallel"])) != (
                MODEL,
                HARDWARE,
                PARALLEL,
            ) or row["output_tokens"] != "128":
                continue
            if row["batch_size"] == "1":
                prompts.setdefault(float(row["prompt_tokens"]), []).append(
                    float(row["prompt_time_ms"]) / 1000
                )
            if row["prompt_tokens"] == "512":
                iterations.setdefault(float(row["batch_size"]), []).append(
                    float(row["token_time_ms"]) / 1000
                )
    xs, ys = _rising(prompts)
    bs, ts = _rising(iterations)
    return Engine(xs, ys, bs, ts)


def _rising(points: dict[float, list[float]]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Means by size; where noise makes a larger size faster, the smaller's time stands."""
    xs = sorted(points)
    ys: list[float] = []
    for x in xs:
        mean = sum(points[x]) / len(points[x])
        ys.append(max(mean, ys[-1]) if ys else mean)
    return tuple(xs), tuple(ys)


class Fluid:
    """All replicas alike, requests as a liquid: one step a second, a few sums."""

    def __init__(self, engine: Engine, counts: Sequence[int], prompt_s: float, output: float):
        self.engine, self.counts, self.prompt_s, self.output = engine, counts, prompt_s, output
        self.slots = engine.slots
        self.in_service = 0.0
        self.waiting = 0.0
        self.came = self.begun = self.came_before = 0.0
        self.windows = len(counts) // WINDOW_S + 2
        self.late = [0.0] * self.windows
        self.late_now = self.ended_now = 0.0
        self._iterations = [engine.iteration(b) for b in range(self.slots + 2)]
        self.entry_cv2 = 0.0

    @property
    def seconds(self) -> int:
        """How long the arrivals last."""
        return len(self.counts)

    def clone(self) -> Fluid:
        """The same state, to try something."""
        other = object.__new__(Fluid)
        other.__dict__.update(self.__dict__)
        other.late = self.late.copy()
        return other

    def advance(self, second: int, replicas: int) -> None:
        """One second with so many replicas."""
        arrivals = self.counts[second]
        queue, inside = self.waiting + arrivals, self.in_service
        if replicas > 0:
            beside = inside / replicas
            iteration = self._iterations[min(int(beside) + 1, self.slots)]
            leaving = min(1.0, 1.0 / (self.output * iteration)) * inside
            stall = self.prompt_s / replicas
            room = (replicas * self.slots - inside + leaving) / (1 + leaving * stall)
            begun = min(queue, room, 1.0 / stall)
            if begun < 0.0:
                begun = 0.0
            ended = leaving * max(0.0, 1 - begun * stall)
        else:
            begun = ended = 0.0
        self.in_service = inside + begun - ended
        self.waiting = queue - begun
        self.ended_now = ended
        came = self.came + arrivals
        begun_all = self.begun + begun
        self._judge(second, came, begun_all)
        self.came_before, self.came, self.begun = self.came, came, begun_all

    def _judge(self, second: int, came: float, begun: float) -> None:
        """Who came in the second before: had he begun a second later?"""
        before = self.begun - self.came_before
        after = begun - self.came
        self.late_now = 0.0
        if before < -1e-6 or after < -1e-6:
            share = 1.0
            if before >= 0 or after >= 0:
                share = min(before, after) / (min(before, after) - max(before, after))
            self.late_now = share * (self.came - self.came_before)
            self.late[max(0, second - 1) // WINDOW_S] += self.late_now

    def retire(self, replicas: int, before: int) -> float:
        """Replicas leave with their share of the requests; returns the seconds they drain for."""
        share = replicas / max(1, before)
        beside = self.in_service / max(1, before)
        self.in_service *= 1 - share
        return self.output * self.engine.iteration(beside) if beside > 0 else 0.0


class Exact:
    """Every request, every replica: prompts one by one, tokens in iterations, first come first.

    A waiting request goes to the replica with the fewest requests among those that can begin it.
    Each replica counts the tokens that a request would have got since its start; the clock of
    tokens stands still during prompts, and a request ends when its own number is reached.
    """

    def __init__(self, engine: Engine, requests: Sequence[tuple[float, float, float]]):
        """``requests``: (arrival second, prompt tokens, output tokens), in order."""
        self.engine = engine
        self.slots = engine.slots
        self.requests = requests
        self.prompts = [engine.prompt(request[1]) for request in requests]
        self._iterations = [engine.iteration(b) for b in range(self.slots + 2)]
        self.next = 0
        self.queue: deque[int] = deque()
        self.replicas: list[_Replica] = []
        self.draining: list[_Replica] = []
        self.late = [0.0] * (self.seconds // WINDOW_S + 2)
        self.late_now = self.ended_now = 0.0
        self.entries: list[float] = []

    @property
    def seconds(self) -> int:
        """How long the arrivals last."""
        return int(self.requests[-1][0]) + 1

    @property
    def in_service(self) -> float:
        """Requests on replicas that still take new ones."""
        return float(sum(len(r.ends) + (r.entering is not None) for r in self.replicas))

    @property
    def waiting(self) -> float:
        """Requests that nobody has begun."""
        return float(len(self.queue))

    def clone(self) -> Exact:
        """The same state, to try something."""
        other = object.__new__(Exact)
        other.__dict__.update(self.__dict__)
        other.queue = self.queue.copy()
        other.replicas = [r.clone() for r in self.replicas]
        other.draining = []
        other.late = self.late.copy()
        other.entries = []
        return other

    def advance(self, second: int, replicas: int) -> None:
        """One second with so many replicas (``retire`` was called for those that left)."""
        self.late_now = self.ended_now = 0.0
        while len(self.replicas) < replicas:
            self.replicas.append(_Replica(self._iterations, float(second)))
        now, end = float(second), second + 1.0
        self._begin(now)
        while True:
            arrival = self.requests[self.next][0] if self.next < len(self.requests) else 1e18
            replica = min(self.replicas, key=_due, default=None)
            due = replica.due if replica is not None else 1e18
            now = min(arrival, due)
            if now >= end:
                break
            if arrival <= due:
                self.queue.append(self.next)
                self.next += 1
            elif replica is not None:
                self.ended_now += replica.happen(now)
            self._begin(now)

    def _begin(self, now: float) -> None:
        while self.queue:
            free = [r for r in self.replicas if r.entering is None and len(r.ends) < self.slots]
            if not free:
                return
            index = self.queue.popleft()
            arrival, _, output = self.requests[index]
            if now - arrival > WAIT_S:
                self.late[int(arrival) // WINDOW_S] += 1
                self.late_now += 1
            self.entries.append(self.prompts[index])
            min(free, key=_company).enter(now, self.prompts[index], output)

    def finish(self) -> None:
        """Whoever still waits at the end is late if he has waited long enough."""
        for index in self.queue:
            if self.seconds - self.requests[index][0] > WAIT_S:
                self.late[int(self.requests[index][0]) // WINDOW_S] += 1

    def retire(self, replicas: int, before: int) -> float:
        """The emptiest replicas leave; returns the mean seconds that they drain for."""
        self.replicas.sort(key=_company, reverse=True)
        leaving = self.replicas[len(self.replicas) - replicas :]
        del self.replicas[len(self.replicas) - replicas :]
        return sum(r.drained_in() for r in leaving) / max(1, replicas)


class _Replica:
    """One engine: its prompt, its batch by the token at which each ends, its clock of tokens."""

    __slots__ = ("due", "ends", "entering", "iterations", "now", "tokens")

    def __init__(self, iterations: list[float], now: float):
        self.iterations = iterations
        self.now = now
        self.tokens = 0.0
        self.ends: list[float] = []
        self.entering: tuple[float, float] | None = None
        self.due = 1e18

    def clone(self) -> _Replica:
        other = _Replica(self.iterations, self.now)
        other.tokens, other.ends = self.tokens, self.ends.copy()
        other.entering, other.due = self.entering, self.due
        return other

    def _elapse(self, now: float) -> None:
        if self.entering is None and self.ends:
            self.tokens += (now - self.now) / self.iterations[len(self.ends)]
        self.now = now

    def _expect(self) -> None:
        if self.entering is not None:
            self.due = self.entering[0]
        elif self.ends:
            left = max(0.0, self.ends[0] - self.tokens)
            self.due = self.now + left * self.iterations[len(self.ends)]
        else:
            self.due = 1e18

    def enter(self, now: float, prompt_s: float, output: float) -> None:
        self._elapse(now)
        self.entering = (now + prompt_s, output)
        self._expect()

    def happen(self, now: float) -> int:
        """What was due: a prompt is through (0), or a request ends (1)."""
        self._elapse(now)
        if self.entering is not None:
            heapq.heappush(self.ends, self.tokens + self.entering[1])
            self.entering, ended = None, 0
        else:
            heapq.heappop(self.ends)
            ended = 1
        self._expect()
        return ended

    def drained_in(self) -> float:
        if not self.ends:
            return 0.0
        return (max(self.ends) - self.tokens) * self.iterations[len(self.ends) // 2 + 1]


def _due(replica: _Replica) -> float:
    return replica.due


def _company(replica: _Replica) -> int:
    return len(replica.ends)


Simulator = Fluid | Exact
