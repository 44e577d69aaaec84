"""All services together: each as if alone, then room is shared out, then neighbours are redone.

Intuition: most services never meet. Those that do want the same few sites; a site goes first to
whom it would cost most to be kept out of it (regret). Then a few services that meet are lifted
out together and put back in another order, and the better of both stays, again and again.

Rules of this file: costs of different services are compared in money (points times the median
price of the service, whole numbers); chance comes from the seed. A service of higher priority is
placed before all lower ones and never moved for them. What it does not do: prove that nothing is
better (``bench.placement`` measures how far from it this is).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from isochrone.rules.where.case import Case
from isochrone.rules.where.chance import Chance
from isochrone.rules.where.ground import Integers
from isochrone.rules.where.search import best_set, without

TRIES = 60
"""Redone groups for each service that meets another ..."""

TRIES_MAX = 600
"""... and in all: a group takes about a millisecond for each of its services."""

GROUP_MAX = 4
"""Services lifted together."""


class Plan:
    """What stands: a set for each case (positions in its claim) and the room that is left.

    ``room`` is changed in place, as sets are put and lifted.
    """

    def __init__(self, cases: Sequence[Case], room: Integers) -> None:
        self.cases = cases
        self.room = room.copy()
        self.sets: list[list[int]] = [[] for _ in cases]
        self.money = [self.worth(n, []) for n in range(len(cases))]

    def worth(self, n: int, chosen: Sequence[int]) -> int:
        """The cost of a set for case n, in millionths of a point times micro-US-dollars."""
        return self.cases[n].of(chosen) * self.cases[n].claim.unit

    def put(self, n: int, chosen: list[int]) -> None:
        """Give case n, which stands nowhere, a set."""
        self.sets[n] = chosen
        self.money[n] = self.worth(n, chosen)
        np.subtract.at(self.room, self.cases[n].claim.at[chosen], self.cases[n].claim.need)

    def lift(self, n: int) -> list[int]:
        """Take case n's set away; returns it."""
        chosen = self.sets[n]
        np.add.at(self.room, self.cases[n].claim.at[chosen], self.cases[n].claim.need)
        self.sets[n] = []
        return chosen

    def limit(self, n: int) -> Integers:
        """How many replicas of case n, which stands nowhere, each of its sites can hold."""
        return self.cases[n].claim.limit(self.room)

    def sites(self, n: int) -> set[int]:
        """The ground's numbers of case n's sites."""
        return set(self.cases[n].claim.at[self.sets[n]].tolist())


def solve(cases: Sequence[Case], room: Integers, seed: int) -> Plan:
    """A plan for all cases, the higher priorities first."""
    plan = Plan(cases, room)
    for priority in sorted({case.service.priority for case in cases}, reverse=True):
        _tier(plan, [n for n, c in enumerate(cases) if c.service.priority == priority], seed)
    return plan


def _tier(plan: Plan, tier: list[int], seed: int) -> None:
    alone = {n: best_set(plan.cases[n], plan.limit(n)) for n in tier}
    wanted = _wanted(plan, alone)
    tight = {site for site in wanted if (wanted[site] > plan.room[site]).any()}
    regret = {n: _regret(plan, n, chosen, tight) for n, chosen in alone.items()}
    for n in sorted(tier, key=lambda n: -regret[n]):
        limit = plan.limit(n)
        fits = all(limit[site] >= alone[n].count(site) for site in alone[n])
        plan.put(n, alone[n] if fits else best_set(plan.cases[n], limit))
    _redo(plan, alone, Chance(seed))


def _wanted(plan: Plan, sets: dict[int, list[int]]) -> dict[int, Integers]:
    """What all sets together take of each site."""
    wanted: dict[int, Integers] = {}
    for n, chosen in sets.items():
        claim = plan.cases[n].claim
        for site in claim.at[chosen].tolist():
            wanted[site] = wanted.get(site, 0) + claim.need
    return wanted


def _regret(plan: Plan, n: int, chosen: list[int], tight: set[int]) -> int:
    """What being kept out of the tight sites would cost a case that wants one of them."""
    claim = plan.cases[n].claim
    if tight.isdisjoint(claim.at[chosen].tolist()):
        return 0
    limit = plan.limit(n).copy()
    limit[[here for here, site in enumerate(claim.at.tolist()) if site in tight]] = 0
    return plan.worth(n, best_set(plan.cases[n], limit)) - plan.worth(n, chosen)


def _redo(plan: Plan, alone: dict[int, list[int]], chance: Chance) -> None:
    """Lift groups of services that meet, and put them back better."""
    best = {n: plan.worth(n, chosen) for n, chosen in alone.items()}
    losers = [n for n in alone if plan.money[n] > best[n]]
    for _ in range(min(TRIES_MAX, TRIES * len(losers))):
        losers = [n for n in alone if plan.money[n] > best[n]]
        if not losers:
            break
        first = losers[chance.below(len(losers))]
        group = _group(plan, first, alone, chance)
        _redo_group(plan, group, chance)


def _group(plan: Plan, first: int, alone: dict[int, list[int]], chance: Chance) -> list[int]:
    """A service and some of those that stand where it would rather be."""
    claim = plan.cases[first].claim
    sites = set(claim.at[alone[first]].tolist())
    others = [n for n in alone if n != first and not sites.isdisjoint(plan.sites(n))]
    if chance.below(4) == 0:
        others = [n for n in alone if n != first]
    chance.shuffle(others)
    group = [first, *others[: 1 + chance.below(GROUP_MAX - 1)]]
    if chance.below(2):
        chance.shuffle(group)
    return group


def _redo_group(plan: Plan, group: list[int], chance: Chance) -> None:
    before = sum(plan.money[n] for n in group)
    old = {n: plan.lift(n) for n in group}
    whole = chance.below(2) == 0
    for n in group:
        start = [] if whole else _part(plan, n, old[n], chance)
        plan.put(n, best_set(plan.cases[n], plan.limit(n), start))
    if sum(plan.money[n] for n in group) >= before:
        for n in group:
            plan.lift(n)
        for n in group:
            plan.put(n, old[n])


def _part(plan: Plan, n: int, old: list[int], chance: Chance) -> list[int]:
    """An old set without one of its replicas, as far as there is room for it."""
    if not old:
        return []
    rest = without(old, old[chance.below(len(old))])
    limit = plan.limit(n)
    return rest if all(limit[site] >= rest.count(site) for site in rest) else []
