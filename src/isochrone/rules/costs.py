"""What a set of nodes costs, in points: the one sum that placement makes small.

Intuition: losing the whole audience costs 1,000 points; being slow within the objective costs a
little, and so does having nothing near to fall back on; every replica costs its price; replicas
that share a provider or a metro cost extra, as they fail together; what runs already is cheaper
than what must be moved to. Filling what was granted earns points.

Rules of this file: costs are integers (millionths of a point), so that sums are exact in any order
and on any machine. The cost of a set does not depend on the order in which it was put together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from isochrone.rules.expected import Integers, at_percentile_us

POINT = 1_000_000
"""Costs are counted in millionths of a point, as the audience in millionths of itself."""

MISSED_POINTS = 1_000
"""The whole audience outside the objective: the measure of all other points."""

LATENCY_POINTS = 50
"""The whole audience exactly at the objective (at half of it: half). Small beside missing it, since
a promise kept is kept; more than nothing, since nearer is better at the same price."""

LATENCY_CAP = 10
"""Ten times over the objective is as bad as any more."""

BACKUP_PER_MILLE = 60
"""What each part of the audience would cost if its replica were lost counts this much too: the
second replica of a service for one city stands near that city and not wherever it is cheapest.
Larger (1.5 times it must stay below ``PRICE_POINTS``), it buys backups that nobody asked for; at 0
a lost replica strands its people."""

PRICE_POINTS = 100
"""One replica at the median price: a replica beyond the minimum must win a tenth of the audience.
Smaller buys replicas that hardly anybody needs; larger leaves whole countries out."""

PRICE_CAP = 100
"""A price above a hundred medians counts as a hundred."""

HOLD_POINTS = 30
"""A replica that runs stays unless another place is better by 3 % of the audience or 30 % of the
median price. Smaller: replicas wander with every offer; larger: people stay badly served."""

PROVIDER_POINTS = 20
METRO_POINTS = 5
"""Each pair of replicas that shares a provider, or a metro: they fail together more often."""

SITE_POINTS = 2_000
"""A replica is put outside the granted metro only when nothing in the metro can take it."""

SITE_PROVIDER_POINTS = 300
"""... and keeps to the granted provider before any difference in speed or price."""


class Option(msgspec.Struct, frozen=True, kw_only=True):
    """A node that may be chosen. ``price``: of one replica, micro-US-dollars per hour.

    ``site``: what grants are counted by, a metro of a cell.
    """

    price: int
    provider: str
    metro: str
    holds: bool = False
    site: str = ""


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """How many replicas were granted by site and by provider; empty for a free choice."""

    sites: Mapping[str, int] = {}
    providers: Mapping[str, int] = {}


class Costs:
    """The costs of sets of ``options``, given as indices. ``providers``: a number for each one's.

    ``p50_us[i, n]``: audience point i's expected time on option n; ``weights_ppm[i]``: its share.
    """

    def __init__(
        self,
        options: Sequence[Option],
        grant: Grant,
        p50_us: Integers,
        weights_ppm: Integers,
        objective_us: int,
        percentile: float,
    ) -> None:
        self.unit = median(sorted(option.price for option in options))
        late_us = at_percentile_us(p50_us, percentile)
        capped_us = np.minimum(late_us, LATENCY_CAP * objective_us)
        missed = MISSED_POINTS * (late_us > objective_us).astype(np.int64)
        slow = weights_ppm[:, None] * (LATENCY_POINTS * capped_us) // objective_us
        self._audience: Integers = weights_ppm[:, None] * missed + slow
        self._nobody: Integers = weights_ppm * (MISSED_POINTS + LATENCY_POINTS * LATENCY_CAP)
        self._own = np.array([self._own_cost(option) for option in options], dtype=np.int64)
        self.providers, providers = _numbered([option.provider for option in options])
        metros, _ = _numbered([option.metro for option in options])
        sites, site_numbers = _numbered([option.site for option in options])
        self._pairs = ((self.providers, PROVIDER_POINTS), (metros, METRO_POINTS))
        self._grants = (
            (self.providers, SITE_PROVIDER_POINTS, _by(providers, grant.providers)),
            (sites, SITE_POINTS, _by(site_numbers, grant.sites)),
        )

    def _own_cost(self, option: Option) -> int:
        price = min(option.price, PRICE_CAP * self.unit) * PRICE_POINTS * POINT // self.unit
        return price - (HOLD_POINTS * POINT if option.holds else 0)

    def adding(self, chosen: Sequence[int]) -> Integers:
        """What each option adds to the cost of a set, beside the audience's part."""
        added = self._own.copy()
        for numbers, pair in self._pairs:
            for number, count in Counter(numbers[list(chosen)].tolist()).items():
                added[numbers == number] += count * pair * POINT
        for numbers, reward, granted in self._grants:
            have = Counter(numbers[list(chosen)].tolist())
            for number, count in granted.items():
                if have[number] < count:
                    added[numbers == number] -= reward * POINT
        return added

    def alone(self, chosen: Sequence[int]) -> int:
        """The cost of a set beside the audience's part."""
        return sum(int(self.adding(chosen[:k])[n]) for k, n in enumerate(chosen))

    def _two_best(self, chosen: Sequence[int]) -> tuple[Integers, Integers]:
        """What each point of the audience costs by its best node of a set, and by its second."""
        columns = np.column_stack((self._nobody, self._nobody, self._audience[:, list(chosen)]))
        best = np.sort(columns, axis=1)
        return best[:, 0], best[:, 1]

    def audience(self, chosen: Sequence[int]) -> int:
        """What the audience costs when a set serves it."""
        best, second = self._two_best(chosen)
        return int(best.sum() + _backup(second).sum())

    def of(self, chosen: Sequence[int]) -> int:
        """The cost of a set."""
        return self.audience(chosen) + self.alone(chosen)

    def each_with(self, chosen: Sequence[int], alone: int | None = None) -> Integers:
        """The cost of a set with each option added. ``alone``: ``alone(chosen)`` when known."""
        best, second = (times[:, None] for times in self._two_best(chosen))
        reached = np.minimum(best, self._audience).sum(axis=0)
        spare = np.minimum(np.maximum(best, self._audience), second)
        base = self.alone(chosen) if alone is None else alone
        total: Integers = reached + _backup(spare).sum(axis=0) + self.adding(chosen) + base
        return total


def _backup(second: Integers) -> Integers:
    share: Integers = second * BACKUP_PER_MILLE // 1000
    return share


def _numbered(names: Sequence[str]) -> tuple[Integers, dict[str, int]]:
    """A number for each name, since arrays compare numbers faster."""
    numbers = {name: number for number, name in enumerate(sorted(set(names)))}
    return np.array([numbers[name] for name in names], dtype=np.int64), numbers


def _by(numbers: Mapping[str, int], granted: Mapping[str, int]) -> dict[int, int]:
    return {numbers[name]: count for name, count in sorted(granted.items()) if name in numbers}


def median(prices: Sequence[int]) -> int:
    """The lower median of sorted prices, at least 1: the unit in which prices are compared."""
    return max(1, prices[(len(prices) - 1) // 2]) if prices else 1
