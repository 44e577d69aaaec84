"""Fairness between tenants: who gets how many replicas when a cell has less than is wanted.

Weighted dominant-resource fairness (Ghodsi et al., NSDI 2011) by progressive filling. A tenant's
*dominant share* is the largest of its parts of the cell's cores, memory, GPUs, and GPUs of a model
that it names; divided by its weight. Whoever has the least takes the next replica, until nothing
of anybody's fits any more. A demand whose next replica does not fit is set aside and every other
is still looked at, so nothing lies idle that somebody wants and can use.

Whole things only: a replica is placed on one node or not at all; a *gang* whole or not at all. A
tenant orders its own demands by ``priority``, and by nothing else: between tenants it counts
nothing, since to say 9 costs nothing. Ties of tenants go to those whose next replica runs already
(nothing is moved for a tie), then by a ticket drawn with the seed, never by name.

What holds, and is tested. The model: one pool, each tenant with one kind of replica.
*No envy*: a tenant that wants more is at most one replica's share below any other whose last
replica it could have had instead. What is left over is less than any replica that is still wanted.
Over nodes instead of a pool a replica may fit nowhere though there is room in sum; then the shares
differ by what could not be placed.

Since replicas are whole, shares are fair but for a rounding, and a tenant can work on the rounding:

* *Splitting* it in k accounts between which its weight is divided gains at most k replicas, as each
  account is rounded up (whoever has nothing is served before anybody's second replica), and what
  one replica of another tenant occupies: where that does not fit any more, small ones fill its
  place. So k where all replicas are of one size; in two, one on most draws and seldom more.
* *Asking for more replicas* than are of use gains nothing.
* *Misreporting a need* gains at most what one replica occupies as it was claimed, and one of
  another tenant; nearly always it loses.

(Why k: were it more, one of the accounts would have been served at a higher share than the whole
had at its end, so every other tenant would have at least as many as then, and there was no room.
Counting in the share of the next replica, as D'Hondt's rule does, would end the first gain, but
leave out tenants of large replicas.) All this where weights add up to the same: a weight is what
the vault holds of a tenant's deposit. Without a chain every account weighs the same, and who makes
two weighs twice; such a cell must admit only tenants that it knows.

Rules of this file: exact fractions, no time. What it does not do: choose nodes for good (the fit
does; here a node is only a test of whether a replica fits), or end anything
(``fairness_preemption``).
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction

import msgspec

from isochrone.rules.fairness_room import Need, Rooms
from isochrone.rules.rotation import ticket

_Turn = tuple[int, bool, int, bytes, str]


class Demand(msgspec.Struct, frozen=True, kw_only=True):
    """What one service wants in a cell.

    ``wanted``: replicas in all, those that run included. ``nodes``: addresses where it may run, by
    law and by what a node is; whether there is room is asked of ``Rooms``. ``runs``: the nodes
    where it runs now. ``gang``: fewer than ``wanted`` are of no use. ``per_node``: replicas that a
    node may hold of it.
    """

    service: str
    tenant: str
    need: Need
    wanted: int
    nodes: frozenset[str]
    runs: tuple[str, ...] = ()
    priority: int = 0
    gang: bool = False
    per_node: int = 1


def entitled(
    demands: Sequence[Demand], rooms: Rooms, weights: Mapping[str, int], seed: int
) -> dict[str, int]:
    """Each service's fair number of replicas, as if the cell were handed out anew.

    ``rooms``: the cell's nodes, empty. ``weights``: by tenant, in any one unit; who has none
    weighs 1. The order of ``demands`` changes nothing.
    """
    filling = _Filling(demands, rooms, weights, seed)
    while filling.step():
        pass
    return filling.granted()


def order(
    demands: Sequence[Demand], rooms: Rooms, weights: Mapping[str, int], seed: int
) -> list[str]:
    """Services in the order in which they should look for room, from what runs now.

    First those of tenants with the least share; of one tenant by priority.
    """
    used = {tenant: _Used(rooms, weights.get(tenant, 1)) for tenant in _tenants(demands)}
    for demand in demands:
        used[demand.tenant].add(demand.need, len(demand.runs))
    return [
        demand.service
        for demand in sorted(
            demands,
            key=lambda d: (
                used[d.tenant].share,
                ticket(seed, d.tenant),
                -d.priority,
                len(d.runs),
                ticket(seed, d.service),
            ),
        )
    ]


class _Used:
    """What a tenant has, and its weighted dominant share."""

    def __init__(self, rooms: Rooms, weight: int) -> None:
        self.share = Fraction(0)
        self._rooms = rooms
        self._weight = max(1, weight)
        self._amounts: Counter[str] = Counter()

    def add(self, need: Need, count: int = 1) -> None:
        for name, amount in need.amounts().items():
            self._amounts[name] += amount * count
        self.share = max(
            (
                Fraction(amount, self._weight * self._rooms.total(name))
                for name, amount in self._amounts.items()
                if self._rooms.total(name)
            ),
            default=Fraction(0),
        )


class _Filling:
    """Progressive filling, one replica (or gang) a step."""

    def __init__(
        self, demands: Sequence[Demand], rooms: Rooms, weights: Mapping[str, int], seed: int
    ) -> None:
        self._demands = {demand.service: demand for demand in demands}
        self._rooms = rooms.copy()
        self._used = {t: _Used(rooms, weights.get(t, 1)) for t in _tenants(demands)}
        self._ran = Counter[str]()
        for demand in demands:
            self._ran[demand.tenant] += len(demand.runs)
        self._had = Counter[str]()
        self._tickets = {name: ticket(seed, name) for name in {*self._used, *self._demands}}
        self._placed: dict[str, Counter[str]] = {d.service: Counter() for d in demands}
        self._queues: dict[str, list[_Turn]] = {tenant: [] for tenant in self._used}
        for demand in demands:
            if demand.wanted > 0:
                heapq.heappush(self._queues[demand.tenant], self._turn(demand))

    def granted(self) -> dict[str, int]:
        return {service: self._placed[service].total() for service in sorted(self._placed)}

    def step(self) -> bool:
        """Grant the next replica, or set the next demand aside; False when none is left."""
        waiting = [tenant for tenant, queue in self._queues.items() if queue]
        if not waiting:
            return False
        tenant = min(waiting, key=self._standing)
        demand = self._demands[heapq.heappop(self._queues[tenant])[-1]]
        count = demand.wanted if demand.gang else 1
        if not self._place(demand, count):
            return True
        self._had[tenant] += count
        self._used[tenant].add(demand.need, count)
        if self._placed[demand.service].total() < demand.wanted:
            heapq.heappush(self._queues[tenant], self._turn(demand))
        return True

    def _standing(self, tenant: str) -> tuple[Fraction, bool, bytes]:
        """Which tenant is next: the least share, at a tie who runs more than it was granted yet."""
        had_all = self._had[tenant] >= self._ran[tenant]
        return self._used[tenant].share, had_all, self._tickets[tenant]

    def _turn(self, demand: Demand) -> _Turn:
        """Which of one tenant's services is next."""
        have = self._placed[demand.service].total()
        runs_on = have >= len(demand.runs)
        return -demand.priority, runs_on, have, self._tickets[demand.service], demand.service

    def _place(self, demand: Demand, count: int) -> bool:
        """Take room for so many replicas, or for none; where it runs already first."""
        here = self._placed[demand.service]
        placed: list[str] = []
        for _ in range(count):
            node = self._where(demand, here)
            if node is None:
                for taken in placed:
                    self._rooms.give_back(taken, demand.need)
                    here[taken] -= 1
                return False
            self._rooms.take(node, demand.need)
            here[node] += 1
            placed.append(node)
        return True

    def _where(self, demand: Demand, here: Counter[str]) -> str | None:
        for node in demand.runs:
            stays = node in demand.nodes and here[node] < min(
                demand.per_node, demand.runs.count(node)
            )
            if stays and self._rooms.fits(node, demand.need):
                return node
        free = (node for node in demand.nodes if here[node] < demand.per_node)
        return self._rooms.best(demand.need, free)


def _tenants(demands: Sequence[Demand]) -> set[str]:
    return {demand.tenant for demand in demands}
