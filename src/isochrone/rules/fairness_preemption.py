"""Preemption: which replicas make room for a tenant that is below its fair share.

Intuition: ``fairness.entitled`` says how many replicas each service would have if the cell were
handed out anew. A service below that number whose next replica fits nowhere may take the place of
replicas of services *above* theirs, and of no others. So nobody falls below its fair share, and
who was a victim is never below it, so a victim never makes a victim (no cascade).

Of all nodes where it could be done the one is chosen where the fewest replicas go; then those of
least priority; then the least that they occupy; then by a ticket that the seed draws. No replica
goes that need not: each set of victims is one from which none can be left out. A gang that would
be left with fewer than all goes whole, so it is taken last.

The order, and why: share before priority. Priority is the tenant's own word and orders what is its
own: among one tenant's services the higher takes the lower's place, since ``entitled`` serves it
first. Between tenants it only chooses among the replicas that are above a fair share anyway.

Rules of this file: pure; the notice that a victim gets is the controller's to keep
(``NOTICE_S``). A victim's lease is *drained* by its controller after the notice, which for
settlement is a release: its provider earned until then, and is owed and fined nothing after.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence

import msgspec

from isochrone.rules.fairness import Demand
from isochrone.rules.fairness_room import Need, Rooms
from isochrone.rules.rotation import ticket

NOTICE_S = 30.0
"""How long a replica serves on after it was told that it must go: long enough to place another one
elsewhere and fetch a model of a few GB, short enough that a starved tenant is not kept waiting."""


class Victim(msgspec.Struct, frozen=True, kw_only=True):
    """A replica that makes room: ``service`` on ``node``, for ``beneficiary``."""

    service: str
    node: str
    beneficiary: str


def preempt(
    demands: Sequence[Demand],
    rooms: Rooms,
    fair: Mapping[str, int],
    seed: int,
    leaving: Sequence[Victim] = (),
    asking: Collection[str] | None = None,
) -> tuple[Victim, ...]:
    """The replicas that must go, by node and service; empty when none may or need.

    ``rooms``: the cell's nodes, empty; what runs is put there here. ``fair``: ``entitled`` of the
    same demands. ``leaving``: victims chosen before that have not gone yet: they count as gone and
    their place as taken by whom they leave it to. ``asking``: the services that may have room made
    for them now (None: all).
    """
    trial = _Trial(demands, rooms, fair, seed)
    for victim in leaving:
        trial.leaves(victim)
    for demand in sorted(demands, key=lambda d: _urgency(d, fair, seed)):
        if asking is None or demand.service in asking:
            trial.serve(demand)
    return tuple(sorted(trial.victims, key=lambda v: (v.node, v.service)))


def _urgency(demand: Demand, fair: Mapping[str, int], seed: int) -> tuple[int, int, bytes]:
    """Who is furthest below its number first, then by priority of its own kind."""
    return (
        len(demand.runs) - fair.get(demand.service, 0),
        -demand.priority,
        ticket(seed, demand.service),
    )


class _Trial:
    """The cell as it is, and as it becomes while room is made."""

    def __init__(
        self, demands: Sequence[Demand], rooms: Rooms, fair: Mapping[str, int], seed: int
    ) -> None:
        self.victims: list[Victim] = []
        self._demands = {demand.service: demand for demand in demands}
        self._fair = fair
        self._seed = seed
        self._rooms = rooms.copy()
        self._runs = {d.service: Counter(d.runs) for d in demands}
        self._promised: Counter[tuple[str, str]] = Counter()
        self._on: defaultdict[str, set[str]] = defaultdict(set)
        for demand in sorted(demands, key=lambda d: d.service):
            for node in demand.runs:
                self._rooms.take(node, demand.need)
                self._on[node].add(demand.service)

    def leaves(self, victim: Victim) -> None:
        """A victim of before: gone, and its place promised."""
        demand = self._demands.get(victim.service)
        if demand is None or not self._runs[victim.service][victim.node]:
            return
        self._go(victim.service, victim.node)
        heir = self._demands.get(victim.beneficiary)
        already = self._promised[victim.beneficiary, victim.node]
        if heir is not None and not already and self._rooms.fits(victim.node, heir.need):
            self._come(heir, victim.node)

    def serve(self, demand: Demand) -> None:
        """Find room for what a service lacks of its fair number."""
        lacks = self._fair.get(demand.service, 0) - self._count(demand.service)
        if demand.gang and lacks > 0:
            lacks = demand.wanted - self._count(demand.service)
        if not demand.gang:
            while lacks > 0 and self._find(demand):
                lacks -= 1
            return
        before = len(self.victims)
        rooms, runs = self._rooms.copy(), {name: Counter(c) for name, c in self._runs.items()}
        while lacks > 0:
            if not self._find(demand):  # a part of a gang is of no use: nobody goes for it
                del self.victims[before:]
                self._rooms, self._runs = rooms, runs
                return
            lacks -= 1

    def _find(self, demand: Demand) -> bool:
        free = {node for node in demand.nodes if self._may_come(demand, node)}
        node = self._rooms.best(demand.need, free)
        if node is not None:
            self._come(demand, node)
            return True
        ways = [(self._victims(demand, node), node) for node in sorted(free)]
        possible = [(victims, node) for victims, node in ways if victims]
        if not possible:
            return False
        victims, node = min(possible, key=lambda way: self._disturbance(*way))
        for service in victims:
            self._go(service, node)
            self.victims.append(Victim(service=service, node=node, beneficiary=demand.service))
        self._come(demand, node)
        return True

    def _may_come(self, demand: Demand, node: str) -> bool:
        return self._runs[demand.service][node] < demand.per_node

    def _victims(self, demand: Demand, node: str) -> tuple[str, ...]:
        """The services whose replicas must leave a node, none too many; empty: it cannot be."""
        chosen: list[str] = []
        spare = sorted(self._spare(demand, node), key=self._reluctance)
        for service in spare:
            if self._fits_without(demand.need, node, chosen):
                break
            chosen.append(service)
        if not self._fits_without(demand.need, node, chosen):
            return ()
        for service in reversed(chosen[:]):
            rest = [other for other in chosen if other != service]
            if self._fits_without(demand.need, node, rest):
                chosen = rest
        return tuple(chosen)

    def _spare(self, demand: Demand, node: str) -> list[str]:
        """Services on the node that have more than their fair number."""
        return [
            service
            for service in self._on[node]
            if self._runs[service][node]
            and service != demand.service
            and self._count(service) > self._fair.get(service, 0)
            and self._is_whole_without(service)
        ]

    def _is_whole_without(self, service: str) -> bool:
        """A gang may only go where it is entitled to nothing: then it is of no use anyway."""
        return not self._demands[service].gang or not self._fair.get(service, 0)

    def _reluctance(self, service: str) -> tuple[bool, int, int, bytes]:
        demand = self._demands[service]
        size = demand.need.gpu_count * demand.need.gpu_milli
        return demand.gang, demand.priority, -size, ticket(self._seed, service)

    def _fits_without(self, need: Need, node: str, gone: Sequence[str]) -> bool:
        for service in gone:
            self._rooms.give_back(node, self._demands[service].need)
        fits = self._rooms.fits(node, need)
        for service in gone:
            self._rooms.take(node, self._demands[service].need)
        return fits

    def _disturbance(
        self, victims: Sequence[str], node: str
    ) -> tuple[int, tuple[int, ...], int, int, bytes]:
        needs = [self._demands[service].need for service in victims]
        return (
            len(victims),
            tuple(sorted((self._demands[s].priority for s in victims), reverse=True)),
            sum(need.gpu_count * need.gpu_milli for need in needs),
            sum(need.cpu_milli for need in needs),
            ticket(self._seed, node),
        )

    def _count(self, service: str) -> int:
        return self._runs[service].total()

    def _go(self, service: str, node: str) -> None:
        self._rooms.give_back(node, self._demands[service].need)
        self._runs[service][node] -= 1

    def _come(self, demand: Demand, node: str) -> None:
        self._rooms.take(node, demand.need)
        self._runs[demand.service][node] += 1
        self._on[node].add(demand.service)
        self._promised[demand.service, node] += 1
