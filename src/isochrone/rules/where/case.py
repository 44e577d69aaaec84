"""What a set of sites costs one service, in points: ``rules.costs`` with sites instead of nodes.

The terms are those of a single placement, so that one service alone gets the same answer here: the
audience missed and slow, its backup, the price, pairs that fail together. Three things are counted
so that all terms are positive: a replica that must move costs ``HOLD_POINTS`` (there one that
stays saves them); replicas short of ``least`` cost ``SHORT_POINTS`` each, and all of them on one
provider, where two could be had, ``LONE_POINTS``: limits there, here dearer than any price.

Rules of this file: costs are int64 millionths of a point; a set is a list of positions among the
claim's sites, one for each replica, in any order; the same position may come several times.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from isochrone.rules.costs import (
    BACKUP_PER_MILLE,
    HOLD_POINTS,
    LATENCY_CAP,
    LATENCY_POINTS,
    METRO_POINTS,
    MISSED_POINTS,
    POINT,
    PROVIDER_POINTS,
)
from isochrone.rules.expected import NEVER_US, at_percentile_us
from isochrone.rules.where.ground import Claim, Integers, integers
from isochrone.schema.where import WhereCosts, WhereService

NETWORK_POINTS = 5
"""Each pair of replicas on one network, as for one metro: cables and routers fail for both."""

SHORT_POINTS = 40_000
"""A replica short of the least: four times the dearest replica (``PRICE_CAP``), so that nothing
that can be afforded is left undone to save money."""

LONE_POINTS = 15_000
"""All replicas on one provider: more than the dearest exchange, less than a replica short."""

KEPT_CELLS = 8192
"""Costs that a case remembers, since a search asks for the same sets again: sites times sets, so
64 KiB a case."""

KEPT_SETS = 4096
"""... and sets whose own cost it remembers."""

PAIRS = (PROVIDER_POINTS, METRO_POINTS, NETWORK_POINTS)


class Case:
    """One service on its claim: ``held[n]`` replicas run at the claim's site n now.

    ``lone``: whether two providers could be had at all, so that one is not enough.
    """

    def __init__(self, claim: Claim, service: WhereService, order: Sequence[int]) -> None:
        self.claim = claim
        self.service = service
        self.least = service.least
        self.most = max(service.least, service.most)
        self.budget = service.budget
        weights = integers([weight for _, weight in service.audience])
        points = integers([point for point, _ in service.audience])
        p50_us = np.minimum(claim.times_us[:, points] + service.service_us, NEVER_US)
        late_us = at_percentile_us(p50_us, service.percentile)
        capped_us = np.minimum(late_us, LATENCY_CAP * service.objective_us)
        missed = MISSED_POINTS * (late_us > service.objective_us)
        self.reach: Integers = weights * missed + (
            weights * (LATENCY_POINTS * capped_us) // service.objective_us
        )
        self.spare = _backup(self.reach)
        self.weights = weights
        self.nobody: Integers = weights * (MISSED_POINTS + LATENCY_POINTS * LATENCY_CAP)
        self.nobody_spare = _backup(self.nobody)
        self.held, self.held_total = self._held(order)
        self._of: dict[tuple[int, ...], int] = {}
        self._each: dict[tuple[int, ...], Integers] = {}
        self.two = service.least >= 2 and len(np.unique(claim.domains[0])) >= 2

    def _held(self, order: Sequence[int]) -> tuple[Integers, int]:
        held = np.zeros(len(self.claim.at), dtype=np.int64)
        if not self.service.held:
            return held, 0
        number = {position: n for n, position in enumerate(order)}
        for position, replicas in self.service.held:
            here = self.claim.position.get(number[position])
            if here is not None:
                held[here] += replicas
        return held, sum(replicas for _, replicas in self.service.held)

    def hold(self, chosen: Sequence[int]) -> None:
        """From now on this set is what runs: to keep it saves the cost of moving."""
        self.held = np.bincount(list(chosen), minlength=len(self.claim.at)).astype(np.int64)
        self.held_total = len(chosen)
        self._of.clear()
        self._each.clear()

    # -- one set -----------------------------------------------------------------------------------

    def audience(self, chosen: Sequence[int]) -> tuple[Integers, Integers]:
        """What each point costs by its best replica, and by its second as a backup."""
        if not chosen:
            return self.nobody, self.nobody_spare
        rows = self.claim.spot[list(chosen)]
        best = self.reach[rows].min(axis=0)
        if len(rows) == 1:
            return best, self.nobody_spare
        spare = self.spare[rows]
        spare.partition(1, axis=0)
        return best, spare[1]

    def of(self, chosen: Sequence[int]) -> int:
        """The cost of a set."""
        key = tuple(sorted(chosen))
        cost = self._of.get(key)
        if cost is None:
            if len(self._of) >= KEPT_SETS:
                self._of.clear()
            cost = self._of[key] = self._cost(chosen)
        return cost

    def _cost(self, chosen: Sequence[int]) -> int:
        best, spare = self.audience(chosen)
        return int(best.sum() + spare.sum()) + self.beside(chosen)

    def beside(self, chosen: Sequence[int]) -> int:
        """Its part that is not the audience's."""
        spread = list(chosen)
        cost = int(self.claim.own[spread].sum()) + self._pairs(spread) + self._moved(spread)
        return cost + self._short(len(spread)) + self._lone(spread)

    def _pairs(self, chosen: list[int]) -> int:
        cost = 0
        for domain, points in zip(self.claim.domains, PAIRS, strict=True):
            counts = Counter(domain[chosen].tolist()).values()
            cost += points * POINT * sum(count * (count - 1) // 2 for count in counts)
        return cost

    def _moved(self, chosen: list[int]) -> int:
        if not self.held_total:
            return 0
        kept = sum(min(chosen.count(n), int(self.held[n])) for n in set(chosen))
        return HOLD_POINTS * POINT * (self.held_total - kept)

    def _short(self, count: int) -> int:
        return SHORT_POINTS * POINT * max(0, self.least - count)

    def _lone(self, chosen: list[int]) -> int:
        one = self.two and len(set(self.claim.domains[0][chosen].tolist())) < 2
        return LONE_POINTS * POINT if one else 0

    def terms(self, chosen: Sequence[int]) -> WhereCosts:
        """The cost of a set by term."""
        best, spare = self.audience(chosen)
        spread = list(chosen)
        missed = int(self.weights[best >= MISSED_POINTS * self.weights].sum()) * MISSED_POINTS
        return WhereCosts(
            missed=missed,
            latency=int(best.sum()) - missed,
            backup=int(spare.sum()),
            price=int(self.claim.own[spread].sum()),
            pairs=self._pairs(spread),
            moved=self._moved(spread),
            short=self._short(len(spread)),
            alone=self._lone(spread),
        )

    def price(self, chosen: Sequence[int]) -> int:
        """Micro-US-dollars per hour of a set."""
        return int(self.claim.price[list(chosen)].sum())

    # -- a set and one more ------------------------------------------------------------------------

    def each_with(self, chosen: Sequence[int]) -> Integers:
        """The cost of a set with one more replica, for each of the claim's sites (read only)."""
        key = tuple(sorted(chosen))
        each = self._each.get(key)
        if each is None:
            while self._each and (len(self._each) + 1) * len(self.claim.at) > KEPT_CELLS:
                del self._each[next(iter(self._each))]
            each = self._each[key] = self._each_cost(chosen)
        return each

    def _each_cost(self, chosen: Sequence[int]) -> Integers:
        best, spare = self.audience(chosen)
        reached = np.minimum(self.reach, best).sum(axis=1)
        if chosen:
            second = np.maximum(self.spare, _backup(best))
            reached += np.minimum(second, spare, out=second).sum(axis=1)
        else:
            reached += spare.sum()
        total: Integers = reached[self.claim.spot]
        total += self.claim.own
        spread = list(chosen)
        for domain, points in zip(self.claim.domains, PAIRS, strict=True) if spread else ():
            here = domain[spread]
            for number in set(here.tolist()):
                total[domain == number] += points * POINT * int((here == number).sum())
        total += self._each_beside(spread)
        return total

    def _each_beside(self, chosen: list[int]) -> Integers | int:
        base = int(self.claim.own[chosen].sum()) + self._pairs(chosen) + self._moved(chosen)
        base += self._short(len(chosen) + 1)
        if not self.held_total and not self.two:
            return base
        each = np.full(len(self.claim.at), base, dtype=np.int64)
        if self.held_total:
            counts = np.bincount(chosen, minlength=len(each)) if chosen else 0
            each[self.held > counts] -= HOLD_POINTS * POINT
        if self.two:
            providers = set(self.claim.domains[0][chosen].tolist())
            if not providers:
                each += LONE_POINTS * POINT
            elif len(providers) == 1:
                each[self.claim.domains[0] == providers.pop()] += LONE_POINTS * POINT
        return each


def _backup(times: Integers) -> Integers:
    share: Integers = times * BACKUP_PER_MILLE // 1000
    return share
