"""Whose turn it is when a cell has less than is wanted, and who must make room, after a notice.

The shell around ``rules.fairness`` and ``rules.fairness_preemption``. While every quota fits,
nothing here does anything. When replicas are missing:

* quotas are served in the fair order, tenants with the least share first;
* a service below its fair number whose replica still fits nowhere after ``PATIENCE_S`` gets the
  place of one that is above its own, which is told so (a decision on record) and serves on for the
  notice period, then drains;
* until the place is taken, services at or above their fair number get nothing new here, so that
  the room goes to whom it was made for; a beneficiary that has not come ``GIVE_UP_S`` after the
  notice is given up for a while.

A pure machine but for the clock that it is given. What is under way is forgotten with the leader;
the next one gives its own notice, which only makes it longer. What it does not do: look at other
cells (a tenant's share is its share of *this* cell), or act in doubt.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

import msgspec

from isochrone.controller.declared import Declared
from isochrone.controller.quotas import replicas_of
from isochrone.controller.view import World
from isochrone.rules.fairness import Demand, entitled, order
from isochrone.rules.fairness_preemption import NOTICE_S, Victim, preempt
from isochrone.rules.fairness_room import Rooms, need_of, whole_room
from isochrone.rules.rotation import seed_for
from isochrone.schema.decision import Cleared
from isochrone.schema.lease import Lease
from isochrone.schema.node import Node

PATIENCE_S = 2.0
"""So long a replica must be missing before anybody is asked to leave: a draining lease is gone by
then, and a single move has been tried (``making_room.PATIENCE_S``)."""

GIVE_UP_S = 60.0
"""So long after the notice a beneficiary may take to come: its home decides within seconds."""

AGAIN_S = 600.0
"""A beneficiary that did not come is not made room for again before that."""

LOOK_EVERY_S = 0.5
"""Between two looks at shares, at least ..."""

LOOK_SHARE = 20
"""... and so many times what the last one took: a look at 1,000 nodes and 200 services is most of a
second of computing, and repairs must not wait for it more than a twentieth of the time."""

Nodes = Callable[[Declared], frozenset[str]]
"""The nodes where a service may run by everything but room."""


class Notice(msgspec.Struct, frozen=True):
    """A replica that must go at ``due_s`` (monotonic seconds)."""

    victim: Victim
    due_s: float


class FairTurns:
    """The fairness of one cell. ``weights``: each tenant's, in one unit (absent: 1)."""

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        notice_s: float = NOTICE_S,
        weights: Callable[[], Mapping[str, int]] = dict,
    ) -> None:
        self._clock = clock
        self._notice_s = notice_s
        self._weights = weights
        self._notices: dict[tuple[str, str], Notice] = {}
        self._short_since_s: dict[str, float] = {}
        self._not_before_s: dict[str, float] = {}
        self._order: list[str] = []
        self._full: frozenset[str] = frozenset()
        self._next_look_s = float("-inf")

    def order(self, services: Iterable[str]) -> list[str]:
        """The services in the order in which they look for room."""
        place = {service: number for number, service in enumerate(self._order)}
        return sorted(services, key=lambda service: (place.get(service, len(place)), service))

    @property
    def held_back(self) -> frozenset[str]:
        """The services that get nothing new in this cell now."""
        return self._full if self._notices else frozenset()

    def is_made_for(self, service: str) -> bool:
        """Whether room is being made for a service."""
        return any(notice.victim.beneficiary == service for notice in self._notices.values())

    def cleared(self, world: World, service: str) -> tuple[Cleared, ...]:
        """The nodes that a service must leave now, or must not come to."""
        now_s, rows = self._clock(), []
        for (of, node), notice in sorted(self._notices.items()):
            if of == service and notice.due_s <= now_s:
                reason = f"its notice is over: it made room for {_words(notice)}"
                rows.append(Cleared(node=node, reason=reason, at_once=True))
        if service in self.held_back:
            kept = min((n for n in self._notices.values()), key=lambda n: n.victim.beneficiary)
            mine = {lease.node for lease in world.leases_of(service) if _serves(lease)}
            left = {row.node for row in rows}
            rows += [
                Cleared(node=node, reason=f"its room is kept for {_words(kept)}")
                for node in sorted(world.nodes)
                if node not in mine | left
            ]
        return tuple(rows)

    def announced(self, service: str) -> tuple[Cleared, ...]:
        """What a service's fit will be told once its notices are over: the record of a notice."""
        now_s = self._clock()
        return tuple(
            Cleared(
                node=node,
                reason=f"it must go {max(0.0, notice.due_s - now_s):.0f} s from now to make room"
                f" for {_words(notice)}",
                at_once=True,
            )
            for (of, node), notice in sorted(self._notices.items())
            if of == service
        )

    def work(
        self,
        world: World,
        short: Collection[str],
        missing: Mapping[str, Declared],
        lacks: Mapping[str, int],
        nodes: Nodes,
    ) -> tuple[Notice, ...]:
        """One pass; returns the notices that begin now.

        ``short``: services that this cell could not place whole. ``missing``: services at home
        here that no cell could be granted whole, ``lacks`` by how many.
        """
        now_s = self._clock()
        waiting = {*short, *missing}
        self._short_since_s = {id_: self._short_since_s.get(id_, now_s) for id_ in waiting}
        if not waiting:
            self._notices, self._order, self._full = {}, [], frozenset()
            return ()
        if world.doubt or now_s < self._next_look_s:
            return ()
        rooms = Rooms(whole_room(node) for node in world.nodes.values() if _is_here(world, node))
        demands = [
            _demand(world, declared, lacks.get(id_, 0) if id_ in missing else 0, nodes(declared))
            for id_, declared in sorted({**missing, **world.granted}.items())
        ]
        # One draw for good: who runs wins a tie anyway, and another draw, at the change of an hour
        # or of leaders, would only take back notices that were given.
        begun = self._judge(demands, rooms, seed_for(world.cell, 0, 0, 0), now_s)
        took_s = self._clock() - now_s
        self._next_look_s = now_s + max(LOOK_EVERY_S, LOOK_SHARE * took_s)
        return begun

    def _judge(
        self, demands: list[Demand], rooms: Rooms, seed: int, now_s: float
    ) -> tuple[Notice, ...]:
        weights = self._weights()
        fair = entitled(demands, rooms, weights, seed)
        runs = {demand.service: len(demand.runs) for demand in demands}
        self._order = order(demands, rooms, weights, seed)
        self._full = frozenset(id_ for id_, count in runs.items() if count >= fair[id_])
        self._end_notices(fair, runs, now_s)
        asking = {id_ for id_ in runs if self._may_ask(id_, now_s)}
        leaving = [notice.victim for notice in self._notices.values()]
        begun = [
            Notice(victim, now_s + self._notice_s)
            for victim in preempt(demands, rooms, fair, seed, leaving, asking)
        ]
        for notice in begun:
            self._notices[notice.victim.service, notice.victim.node] = notice
        return tuple(begun)

    def _may_ask(self, service: str, now_s: float) -> bool:
        """Whether room may be made for a service now."""
        since_s = self._short_since_s.get(service)
        barred = now_s < self._not_before_s.get(service, float("-inf"))
        return since_s is not None and now_s - since_s >= PATIENCE_S and not barred

    def _end_notices(self, fair: Mapping[str, int], runs: Mapping[str, int], now_s: float) -> None:
        """Drop what is over: the beneficiary has come, or is not below its number any more; the
        victim is not above its own; or nobody came."""
        for key, notice in list(self._notices.items()):
            victim = notice.victim
            lacks = runs.get(victim.beneficiary, 0) < fair.get(victim.beneficiary, 0)
            told = now_s < notice.due_s
            if told and runs.get(victim.service, 0) <= fair.get(victim.service, 0):
                lacks = False
            if now_s > notice.due_s + GIVE_UP_S:
                self._not_before_s[victim.beneficiary] = now_s + AGAIN_S
                lacks = False
            if not lacks:
                del self._notices[key]


def _words(notice: Notice) -> str:
    return f"{notice.victim.beneficiary}, whose tenant has less than its fair share"


def _serves(lease: Lease) -> bool:
    return lease.desired == "serving"


def _is_here(world: World, node: Node) -> bool:
    return node.cell == world.cell and world.sight.verdict(node.address) != "dead"


def _demand(world: World, declared: Declared, lacks: int, nodes: frozenset[str]) -> Demand:
    """``lacks``: replicas that home wants beyond what this cell was granted."""
    service, quota = declared.service, world.quotas.get(declared.id)
    leases = [lease for lease in world.leases_of(declared.id) if _serves(lease)]
    runs = {
        lease.node
        for lease in leases
        if lease.node in world.nodes and _is_here(world, world.nodes[lease.node])
    }
    failed = {lease.node for lease in leases if _has_failed(world, lease)}
    granted = replicas_of(quota.sites) if quota is not None else 0
    return Demand(
        service=declared.id,
        tenant=declared.tenant,
        need=need_of(service.resources),
        wanted=0 if service.deleted else granted + lacks,
        nodes=nodes - failed,
        runs=tuple(sorted(runs)),
        priority=service.priority,
        gang=service.replicas.gang,
    )


def _has_failed(world: World, lease: Lease) -> bool:
    status = world.status(lease)
    return status is not None and status.state == "failed"
