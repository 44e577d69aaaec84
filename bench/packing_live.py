"""What the published protocol leaves out: departures, failed nodes, demands bound to countries.

A sample of the cluster (every eighth GPU node) lives for 48 hours of simulated time. Pods of the
trace arrive at random (Poisson) so that 110 % of the sample's GPUs are asked for; each stays as
long as its pod stayed in the trace, 24 hours at most. Nodes fail at the rate of
gpu_node_faults_stepfun2024.csv (faults per node and day, over 400 nodes and 250 days) and for
durations drawn from it; what ran there is placed again at once or is lost. Nodes stand in four
countries, and three in ten pods may only run in one. Measured after 12 hours: the average share of
GPUs allocated, the share of the GPU-hours asked for that was refused or lost, and how many replicas
were moved on purpose. Ours values holes by what is expected of them (``rules.packing.holes``), not
by rehearsal: a rehearsal knows arrivals only.

``running`` is what a cell's controller does (``packing_running``): it knows the mix that came, and
moves at most ``MOVES_PER_HOUR``: one replica for a demand that has no room, or, with half of that
budget, for a usual demand that would have none if it came. ``running_unmoved``: without moves.
"""

from __future__ import annotations

import csv
import heapq
import random
import statistics
from collections import deque
from concurrent.futures import Executor
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
from bench.data import need
from bench.packing_policies import Fgd
from bench.packing_running import Running
from bench.packing_runs import OURS_POPULARITY_PPM
from bench.packing_trace import Pod, capacity_milli, nodes_of, pods_of, shuffled_nodes

from isochrone.controller.disturbance import MOVES_PER_HOUR
from isochrone.rules.packing.cluster import Cluster, Flags, Placement
from isochrone.rules.packing.defragment import Move, Replica, defragment, moved, openings
from isochrone.rules.packing.demand import Demand
from isochrone.rules.packing.fragmentation import POPULARITY_PPM, typical_of, typical_of_counts

SAMPLE = 8
HORIZON_S, WARM_S, LIFE_MAX_S = 48 * 3600, 12 * 3600, 24 * 3600
LOAD = 1.1
FAULT_NODES, FAULT_DAYS = 400, 250
COUNTRIES = (4, 3, 2, 1)
"""Tenths of the nodes, and of the restricted pods, in each of four countries."""
RESTRICTED = 0.3
LOOK_EVERY_S = 600
"""Between two looks for usual demands without room; a controller looks more often."""


class Lived(msgspec.Struct, frozen=True):
    """One run of one policy."""

    allocated_pct: float
    refused_gpu_hours_pct: float
    moves: float


class _Running(msgspec.Struct):
    demand: Demand
    placement: Placement
    ends_s: float
    among: Flags | None


def live(folder: str, pods: Path, seeds: int, pool: Executor) -> dict[str, dict[str, float]]:
    """The means of every policy over the seeds."""
    names = ("fgd_here", "ours", "running_unmoved", "running")
    found = {}
    for name in names:
        runs = list(pool.map(partial(run, folder, pods, name), range(seeds)))
        found[name] = {
            field: round(statistics.fmean(getattr(one, field) for one in runs), 2)
            for field in Lived.__struct_fields__
        }
    return found


def run(folder: str, pods: Path, policy: str, seed: int) -> Lived:
    """One policy lives through the events of one seed."""
    nodes = shuffled_nodes(nodes_of(folder), seed)[::SAMPLE]
    listed = pods_of(pods)
    demands = [pod.demand for pod in listed]
    if policy == "fgd_here":
        cluster: Cluster = Fgd(nodes, typical_of(demands))
    elif policy.startswith("running"):
        cluster = Running(nodes)
    else:
        cluster = Cluster(nodes, typical_of(demands, OURS_POPULARITY_PPM))
    world = _World(cluster, random.Random(f"live {seed}"), capacity_milli(nodes))
    events = world.arrivals(listed) + world.faults(need(folder, "gpu_node_faults_stepfun2024.csv"))
    if policy == "running":
        world.moves_per_hour = MOVES_PER_HOUR
        events += [(float(at), "defragment", at) for at in range(0, HORIZON_S, LOOK_EVERY_S)]
    return world.live(sorted(events, key=lambda event: (event[0], event[1])))


class _World:
    """Simulated time, and what runs in it."""

    def __init__(self, cluster: Cluster, chance: random.Random, capacity: int) -> None:
        self.cluster, self.chance, self.capacity = cluster, chance, capacity
        countries = [i for i, tenths in enumerate(COUNTRIES) for _ in range(tenths)]
        where = np.array([countries[i % len(countries)] for i in range(len(cluster.cpu))])
        self.within = [where == country for country in range(len(COUNTRIES))]
        self.running: dict[int, _Running] = {}
        self.ends: list[tuple[float, int]] = []
        self.now = self.area = self.asked = self.refused = 0.0
        self.used = self.moves = self.moves_per_hour = 0
        self.moved_s: deque[float] = deque()

    def arrivals(self, listed: list[Pod]) -> list[tuple[float, str, object]]:
        """Pods with their stay, at random times."""
        stays = [min(LIFE_MAX_S, max(1, pod.deleted_s - pod.created_s)) for pod in listed]
        mean = statistics.fmean(
            pod.demand.total_gpu_milli * stay for pod, stay in zip(listed, stays, strict=True)
        )
        gap_s = mean / (LOAD * self.capacity)
        found: list[tuple[float, str, object]] = []
        at = self.chance.expovariate(1 / gap_s)
        while at < HORIZON_S:
            index = self.chance.randrange(len(listed))
            among = None
            if self.chance.random() < RESTRICTED:
                among = self.chance.choices(range(len(COUNTRIES)), COUNTRIES)[0]
            found.append((at, "arrival", (listed[index].demand, stays[index], among)))
            at += self.chance.expovariate(1 / gap_s)
        return found

    def faults(self, path: Path) -> list[tuple[float, str, object]]:
        """Nodes that fail and come back."""
        with path.open(encoding="utf-8", newline="") as file:
            hours = [float(row["hours"]) for row in csv.DictReader(file)]
        per_s = len(hours) / (FAULT_NODES * FAULT_DAYS * 86_400) * len(self.cluster.cpu)
        found: list[tuple[float, str, object]] = []
        at = self.chance.expovariate(per_s)
        while at < HORIZON_S:
            node = self.chance.randrange(len(self.cluster.cpu))
            found.append((at, "fault", node))
            found.append((at + 3600 * self.chance.choice(hours), "repair", node))
            at += self.chance.expovariate(per_s)
        return found

    def live(self, events: list[tuple[float, str, object]]) -> Lived:
        """Let everything happen in its order."""
        for number, (at, what, of) in enumerate(events):
            if at > HORIZON_S:
                break
            self._until(at)
            if what == "arrival":
                assert isinstance(of, tuple)
                self._arrive(number, *of)
            elif what == "fault":
                assert isinstance(of, int)
                self._fail(of)
            elif what == "repair":
                assert isinstance(of, int)
                self.cluster.restore(of)
            else:
                self._defragment()
        self._until(HORIZON_S)
        share = self.area / (self.capacity * (HORIZON_S - WARM_S))
        return Lived(share * 100, self.refused / max(1.0, self.asked) * 100, float(self.moves))

    def _until(self, at: float) -> None:
        while self.ends and self.ends[0][0] <= at:
            ended, number = heapq.heappop(self.ends)
            if number in self.running:
                self._advance(ended)
                one = self.running.pop(number)
                self.cluster.release(one.placement, one.demand)
                self.used -= one.demand.total_gpu_milli
        self._advance(at)

    def _advance(self, at: float) -> None:
        self.area += self.used * max(0.0, at - max(self.now, WARM_S))
        self.now = at

    def _arrive(self, number: int, demand: Demand, stay_s: int, country: int | None) -> None:
        among = None if country is None else self.within[country]
        work = demand.total_gpu_milli * stay_s
        self.asked += work * (self.now >= WARM_S)
        if isinstance(self.cluster, Running):
            self.cluster.saw(demand)
        if self._left() > 0 and self.cluster.best(demand, among) is None:
            self._make_room(demand, among)
        placement = self.cluster.place(demand, among)
        if placement is None:
            self.refused += work * (self.now >= WARM_S)
            return
        self.running[number] = _Running(demand, placement, self.now + stay_s, among)
        self.used += demand.total_gpu_milli
        heapq.heappush(self.ends, (self.now + stay_s, number))

    def _fail(self, node: int) -> None:
        self.cluster.lose(node)
        for number in [n for n, one in self.running.items() if one.placement.node == node]:
            one = self.running[number]
            self.cluster.release(one.placement, one.demand)
            again = self.cluster.place(one.demand, one.among)
            if again is None:
                self.refused += one.demand.total_gpu_milli * (one.ends_s - self.now)
                self.used -= one.demand.total_gpu_milli
                del self.running[number]
            else:
                one.placement = again

    def _left(self) -> int:
        """Moves that the budget allows now."""
        while self.moved_s and self.now - self.moved_s[0] >= 3600:
            self.moved_s.popleft()
        return self.moves_per_hour - len(self.moved_s)

    def _make_room(self, demand: Demand, among: Flags | None) -> None:
        for replica in openings(self.cluster, self._replicas(), demand):
            if among is not None and not among[replica.placement.node]:
                continue
            move = moved(self.cluster, replica, demand, self._among().get(replica.key))
            if move is not None:
                self._note(move)
                return

    def _defragment(self) -> None:
        """Half of the budget is for those who wait."""
        if isinstance(self.cluster, Running) and self._left() > self.moves_per_hour // 2:
            usual = typical_of_counts(self.cluster.usual, POPULARITY_PPM)
            for move in defragment(self.cluster, self._replicas(), usual, 1, self._among()):
                self._note(move)

    def _replicas(self) -> list[Replica]:
        return [
            Replica(key=str(number), demand=one.demand, placement=one.placement)
            for number, one in self.running.items()
            if not self.cluster.lost[one.placement.node]
        ]

    def _among(self) -> dict[str, Flags]:
        return {str(n): one.among for n, one in self.running.items() if one.among is not None}

    def _note(self, move: Move) -> None:
        self.running[int(move.key)].placement = move.to
        self.moved_s.append(self.now)
        self.moves += 1
