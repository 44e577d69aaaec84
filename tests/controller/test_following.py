"""Replicas that follow demand, by a hand-held clock: out, in, to zero, a new leader.

The service is a line with one server a replica, 20 requests a second each."""

from __future__ import annotations

import msgspec
import pytest

from isochrone.controller.coldstarts import ColdStarts
from isochrone.controller.declared import Declared
from isochrone.controller.demand import DemandBoard
from isochrone.controller.following import WINDOW_S, Following
from isochrone.schema.demand import DemandReport, ServiceDemand, demand_subject
from isochrone.schema.lease import LeaseStatus
from isochrone.schema.service import ReplicaRange, Scaling

from .worlds import declare, lease, node, seen, service, world

PER_S = 20
NODES = tuple(node(number, "frankfurt") for number in range(1, 5))


class Simulated:
    """Gateway, nodes and clock; replicas serve ``start_s`` after they are asked for."""

    def __init__(self, known: Declared, start_s: int = 2) -> None:
        self.known = known
        self.start_s = start_s
        self.now_s = 1000.0
        self.board = DemandBoard(lambda: self.now_s)
        self.starts = ColdStarts()
        self.following = Following(self.board, self.starts, lambda: self.now_s)
        self.replicas: list[float] = []
        self.row = ServiceDemand(known.id, 0, 0, 0, 0, 0, 0)
        self.sequence = 0
        self.line = 0

    @property
    def target(self) -> int:
        return self.following.targets[self.known.id]

    def run(self, seconds: int, per_s: int) -> None:
        for _ in range(seconds):
            self.now_s += 1
            self._serve(per_s)
            self._tell()
            self.following.work(self._world(), {}, {self.known.id: len(self.replicas)})
            while len(self.replicas) < self.target:
                self.replicas.append(self.now_s)
            del self.replicas[self.target :]

    def _ready(self) -> int:
        return sum(self.now_s - since_s >= self.start_s for since_s in self.replicas)

    def _serve(self, per_s: int) -> None:
        here, ready = self.line + per_s, self._ready()
        done = min(here, PER_S * ready)
        self.line = here - done
        old = self.row
        self.row = ServiceDemand(
            self.known.id,
            old.arrivals + per_s,
            old.completed + done,
            old.busy_ms + (round(1000 * (done / PER_S + self.line)) if ready else 0),
            old.late + (done if self.line > PER_S * max(1, ready) else 0),
            self.line if ready else 0,
            0 if ready else self.line,
        )

    def _tell(self) -> None:
        self.sequence += 1
        report = DemandReport(
            gateway="0xg", cell="fra", boot="a", sequence=self.sequence, services=(self.row,)
        )
        self.board.receive(demand_subject("fra", "0xg"), msgspec.msgpack.encode(report))

    def _world(self):  # type: ignore[no-untyped-def]
        states = ["serving" if n < self._ready() else "warming" for n in range(len(self.replicas))]
        rows = list(zip(NODES, states, strict=False))
        leases = tuple(lease(f"l{number}", self.known, one) for number, (one, _) in enumerate(rows))
        nodes = {one: seen((f"l{n}", state)) for n, (one, state) in enumerate(rows)}
        return world(nodes, leases, (self.known,))


def following(low: int, high: int, idle_s: float = 120.0) -> Simulated:
    scaling = Scaling(follow=True, idle_s=idle_s)
    return Simulated(declare(service(replicas=ReplicaRange(min=low, max=high), scaling=scaling)))


def test_out_under_load_and_back_in() -> None:
    simulated = following(1, 3)
    simulated.run(5, per_s=2)
    assert simulated.target == 1
    simulated.run(60, per_s=30)
    assert simulated.target >= 2
    assert simulated.line <= PER_S, "the line that had formed is gone"
    simulated.run(20, per_s=2)
    held = simulated.target
    simulated.run(1800, per_s=2)
    assert simulated.target == 1 <= held
    assert "1 replica" in simulated.following.words[simulated.known.id]


def test_from_zero_at_the_first_request_and_back_when_idle() -> None:
    simulated = following(0, 3, idle_s=90.0)
    simulated.run(30, per_s=0)
    assert simulated.target == 0
    simulated.run(1, per_s=3)
    assert simulated.target >= 1, "at once"
    simulated.run(80, per_s=0)
    assert simulated.target == 1, "not before it has been idle for as long as was declared"
    simulated.run(30, per_s=0)
    assert simulated.target == 0


def test_the_first_request_does_not_wait_for_the_next_step() -> None:
    simulated = following(0, 3)
    simulated.run(30, per_s=0)
    simulated.now_s += 0.05
    simulated.row = msgspec.structs.replace(simulated.row, arrivals=1, waiting=1)
    simulated._tell()
    simulated.following.work(simulated._world(), {}, {})
    assert simulated.target == 1


def test_a_start_from_zero_is_measured_as_who_waits_feels_it() -> None:
    simulated = following(0, 3)
    simulated.run(3, per_s=0)
    simulated.run(10, per_s=1)
    waits_s = simulated.starts.waits_s(simulated.known.service.model)
    assert waits_s == (pytest.approx(simulated.start_s, abs=1.01),)
    told = simulated.following.starting(simulated.known, "")
    assert told is not None
    assert told.starts_s == waits_s


def test_a_new_leader_takes_nothing_away_before_it_has_watched() -> None:
    simulated = following(1, 3)
    simulated.run(90, per_s=50)
    had = simulated.target
    assert had == 3
    simulated.following = Following(
        simulated.board, ColdStarts(), lambda: simulated.now_s
    )  # it has led nothing, and hears no more requests
    for _ in range(int(WINDOW_S) - 2):
        simulated.run(1, per_s=0)
        assert simulated.target == had
    simulated.run(600, per_s=0)
    assert simulated.target == 1


def test_a_new_leader_is_not_frightened_by_a_days_sums() -> None:
    simulated = following(1, 4)
    simulated.sequence = 90_000
    simulated.row = msgspec.structs.replace(
        simulated.row, arrivals=10**7, completed=10**7, busy_ms=10**9
    )
    simulated.replicas = [0.0]
    simulated.run(10, per_s=1)
    assert simulated.target == 1


def test_a_service_that_does_not_follow_has_no_target() -> None:
    simulated = Simulated(declare(service(replicas=ReplicaRange(min=1, max=3))))
    simulated.following.work(simulated._world(), {}, {})
    assert not simulated.following.targets
    assert simulated.following.starting(simulated.known, "") is None


def test_starts_are_measured_by_node_and_model() -> None:
    known, starts = declare(service()), ColdStarts()
    prior = starts.times(known.service.model)
    assert prior.measured == 0
    one = seen(("l1", "serving"))
    slow = LeaseStatus(
        lease="l1", revision=1, state="serving", load_ms=4000.0, first_answer_ms=500.0
    )
    one = msgspec.structs.replace(one, statuses=(slow,))
    here = world({NODES[0]: one}, (lease("l1", known, NODES[0]),), (known,))
    starts.look(here)
    starts.look(here)
    times = starts.times(known.service.model, NODES[0])
    assert times.measured == 1, "each lease once"
    assert times.warm_s == pytest.approx(4.5)
