"""Any mix of freezes, cuts, slow writes and lost data: never two who act (where data was lost:
never for long), always one in the end."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from isochrone.controller.leadership import (
    ACT_S,
    Failed,
    Seen,
    Tick,
    Wrote,
    may_act,
    start,
    step,
)
from isochrone.schema.leadership import Leadership

STEP_S = 0.05
FAULTS_END_S = 30.0
END_S = 45.0


class Store:
    """A compare-and-set entry whose revisions grow, which may lose everything."""

    def __init__(self) -> None:
        self.entry: Leadership | None = None
        self.revision = 0
        self.last = 0

    def write(self, entry: Leadership, revision: int | None) -> int | None:
        if (revision or 0) != self.revision:
            return None
        self.last += 1
        self.entry, self.revision = entry, self.last
        return self.last

    def lose(self) -> None:
        self.entry, self.revision, self.last = None, 0, 0


class Process:
    """A controller in the simulation: its state, its write under way, until when it is frozen."""

    def __init__(self, name: str) -> None:
        self.state = start(f"{name}/1", 0, 0.0)
        self.frozen_until_s = 0.0
        self.cut_until_s = 0.0
        self.arrives_s = 0.0
        self.flight = None
        self.sent_s = 0.0

    def run(self, store: Store, now_s: float, rng: random.Random, faulty: bool) -> None:
        connected = now_s >= self.cut_until_s
        if self.flight and now_s >= self.arrives_s:
            write, self.flight = self.flight, None
            done = store.write(write.entry, write.revision) if connected else None
            event = Wrote(write.entry, done, self.sent_s) if done else Failed()
            self.state, _ = step(self.state, event, now_s)
        if connected and rng.random() < 0.9:
            self.state, _ = step(self.state, Seen(store.entry, store.revision), now_s)
        self.state, write = step(self.state, Tick(connected=connected), now_s)
        if write:
            self.flight, self.sent_s = write, now_s
            self.arrives_s = now_s + (rng.uniform(0, 1.5) if faulty else 0.01)


@given(seed=st.integers(0, 2**32), loses=st.booleans())
def test_at_most_one_acts_and_in_the_end_one_does(seed: int, loses: bool) -> None:
    rng = random.Random(seed)
    store = Store()
    processes = [Process(name) for name in "abc"]
    epochs: dict[int, str] = {}
    twice_s = 0.0
    for tick in range(int(END_S / STEP_S)):
        now_s = tick * STEP_S
        faulty = now_s < FAULTS_END_S
        if faulty and loses and rng.random() < 0.002:
            store.lose()
        for process in processes:
            if faulty and rng.random() < 0.01:
                process.frozen_until_s = now_s + rng.uniform(0, 6)
            if faulty and rng.random() < 0.01:
                process.cut_until_s = now_s + rng.uniform(0, 6)
            if now_s >= process.frozen_until_s:
                process.run(store, now_s, rng, faulty)
        acting = [p for p in processes if may_act(p.state, now_s)]
        assert len(acting) <= 1 or loses
        # A store that lost everything may give an epoch twice; only one of the two can renew it.
        twice = len({p.state.epoch for p in acting}) < len(acting)
        twice_s = twice_s + STEP_S if twice else 0.0
        assert twice_s <= ACT_S
        for process in acting:
            holder = epochs.setdefault(process.state.epoch, process.state.me)
            assert loses or holder == process.state.me
    assert len([p for p in processes if may_act(p.state, END_S)]) == 1
