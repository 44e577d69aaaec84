"""Choosing a set of nodes: greedy facility location, then exchanges, within hard limits.

Intuition: nodes are added one at a time where the cost (``costs``) ends lowest, until there are
enough; then only while one more lowers it; then single replicas are exchanged while that lowers it.

Hard limits: one replica a node; the budget; a gang whole or not at all; never all replicas on one
provider when two can be had and paid for. The budget is kept in sight from the first pick: a node
is only taken when the cheapest completion of the minimum can still be paid.

Rules of this file: ``options`` are sorted by price, then by the caller's order of ties; among equal
costs the first one wins, so a cheaper and otherwise equal node never loses. What this does not
do: find the best set of all; what it promises is that no single exchange would be better (for up
to ``EXCHANGE_MAX`` replicas).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from isochrone.rules.costs import Costs, Option

EXCHANGE_MAX = 16
"""Larger sets are not improved by exchanges: a round looks at replicas × nodes × audience."""

ROUNDS_MAX = 64
"""Each exchange lowers the cost, so this only bounds the time."""

Mask = npt.NDArray[np.bool_]


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """At least and at most how many replicas, for how many micro-US-dollars per hour together.

    ``gang``: fewer than the least are of no use. ``spread``: not all on one provider, if possible.
    """

    least: int
    most: int
    budget: int | None = None
    gang: bool = False
    spread: bool = True


class Margin(msgspec.Struct, frozen=True, kw_only=True):
    """By how much an option lost: what the set would cost more with it ``instead_of`` a winner.

    In millionths of a point. ``barrier`` names the hard limit (``budget``, ``one_provider``) when
    every such exchange breaks one; ``by`` may then be negative.
    """

    by: int
    instead_of: int
    barrier: str = ""


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """The chosen options in the order of picking, their cost, and every other option's margin.

    ``least``: the minimum that could be had. ``two_providers``: whether two could be had.
    """

    chosen: tuple[int, ...]
    cost: int
    least: int
    two_providers: bool
    margins: dict[int, Margin]


def choose(options: Sequence[Option], limits: Limits, costs: Costs) -> Choice:
    """The choice; ``options`` must be sorted by price."""
    search = _Search(options, limits, costs)
    broken = limits.gang and search.least < limits.least
    chosen = [] if broken else search.exchange(search.grow())
    return Choice(
        chosen=tuple(chosen),
        cost=costs.of(chosen),
        least=search.least,
        two_providers=search.two,
        margins=search.margins(chosen),
    )


class _Search:
    def __init__(self, options: Sequence[Option], limits: Limits, costs: Costs) -> None:
        self.limits = limits
        self.costs = costs
        self.prices = np.array([option.price for option in options], dtype=np.int64)
        self.least = self._affordable_least()
        two = limits.spread and self.least >= 2
        self.two = two and self._completes([], self.least, stranger=True)

    # -- hard limits -----------------------------------------------------------------------------

    def _affordable_least(self) -> int:
        count = min(self.limits.least, len(self.prices))
        while count and not self._pays(int(self.prices[:count].sum())):
            count -= 1
        return count

    def _pays(self, price: int) -> bool:
        return self.limits.budget is None or price <= self.limits.budget

    def _completes(self, chosen: Sequence[int], more: int, *, stranger: bool) -> bool:
        """Whether ``more`` further options can be paid after these, from two providers if asked."""
        rest = [n for n in range(min(len(self.prices), more + len(chosen))) if n not in chosen]
        cheapest = rest[:more]
        if len(cheapest) < more:
            return False
        together = [*chosen, *cheapest]
        if stranger and len(self._providers(together)) < 2:
            others = np.flatnonzero(self.costs.providers != self.costs.providers[together[0]])
            if not more or not len(others):
                return False
            together[-1] = int(others[0])
        return self._pays(int(self.prices[together].sum()))

    def _providers(self, chosen: Sequence[int]) -> set[int]:
        return {int(self.costs.providers[n]) for n in chosen}

    def _allowed(self, chosen: Sequence[int], more: int = 0) -> Mask:
        """Which options may be added to a set, when ``more`` must still come after."""
        allowed = np.ones(len(self.prices), dtype=np.bool_)
        allowed[list(chosen)] = False
        if self._must_be_stranger(chosen):
            allowed &= self.costs.providers != self.costs.providers[chosen[0]]
        if self.limits.budget is None:
            return allowed
        allowed &= self.prices <= self.limits.budget - int(self.prices[list(chosen)].sum())
        if more:
            for n in np.flatnonzero(allowed):
                allowed[n] = self._completes([*chosen, int(n)], more, stranger=self.two)
        return allowed

    def _must_be_stranger(self, chosen: Sequence[int]) -> bool:
        return self.two and len(chosen) > 0 and len(self._providers(chosen)) < 2

    # -- search ----------------------------------------------------------------------------------

    def grow(self) -> list[int]:
        """Add the best option again and again."""
        chosen: list[int] = []
        alone, cost = 0, self.costs.of(chosen)
        while len(chosen) < self.limits.most:
            more = self.least - len(chosen) - 1
            found = self._best(chosen, self._allowed(chosen, max(0, more)), alone)
            if found is None or (more < 0 and found[0] >= cost):
                break
            cost, n = found
            alone += int(self.costs.adding(chosen)[n])
            chosen.append(n)
        return chosen

    def _best(self, chosen: Sequence[int], allowed: Mask, alone: int) -> tuple[int, int] | None:
        indices = np.flatnonzero(allowed)
        if not len(indices):
            return None
        each = self.costs.each_with(chosen, alone)[indices]
        position = int(each.argmin())
        return int(each[position]), int(indices[position])

    def exchange(self, chosen: list[int]) -> list[int]:
        """Exchange single options while the cost, or at the same cost the price, falls."""
        if len(chosen) > EXCHANGE_MAX:
            return chosen
        standing = (self.costs.of(chosen), int(self.prices[chosen].sum()))
        for _ in range(ROUNDS_MAX):
            found = [trial for place in range(len(chosen)) for trial in self._trials(chosen, place)]
            if not found or min(found)[0] >= standing:
                break
            standing, place, n = min(found)
            chosen = [*chosen[:place], n, *chosen[place + 1 :]]
        return chosen

    def _trials(self, chosen: Sequence[int], place: int) -> list[tuple[tuple[int, int], int, int]]:
        """The best exchange for one chosen option: (cost, price), its place, and what comes."""
        rest = [n for n in chosen if n != chosen[place]]
        allowed = self._allowed(rest)
        allowed[chosen[place]] = False
        found = self._best(rest, allowed, self.costs.alone(rest))
        if found is None:
            return []
        cost, n = found
        return [((cost, int(self.prices[rest].sum() + self.prices[n])), place, n)]

    def margins(self, chosen: Sequence[int]) -> dict[int, Margin]:
        """For each option that was not chosen, its best exchange, allowed ones first."""
        places = range(max(0, len(chosen) - EXCHANGE_MAX), len(chosen))
        standing = self.costs.of(chosen) if chosen else 0
        best: dict[int, tuple[bool, int, int]] = {}
        for place in places:
            rest = [n for n in chosen if n != chosen[place]]
            each = self.costs.each_with(rest) - standing
            allowed = self._allowed(rest)
            for n, by in enumerate(each.tolist()):
                trial = (not allowed[n], by, chosen[place])
                if n not in best or trial < best[n]:
                    best[n] = trial
        return {
            n: Margin(by=by, instead_of=place, barrier=self._barrier(chosen, n) if barred else "")
            for n, (barred, by, place) in sorted(best.items())
            if n not in chosen
        }

    def _barrier(self, chosen: Sequence[int], n: int) -> str:
        dearest = int(self.prices[list(chosen)].max())
        total = int(self.prices[list(chosen)].sum()) - dearest + int(self.prices[n])
        return "one_provider" if self._pays(total) else "budget"
