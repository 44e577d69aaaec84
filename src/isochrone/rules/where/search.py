"""One service's sites, given how many replicas each site can still hold: grow, then exchange.

Intuition: replicas are added one at a time where the cost ends lowest, until one more would not
lower it; then single replicas are added, dropped or exchanged while that lowers it.

Rules of this file: hard limits are the room and the budget; among equal costs the earlier ``turn``
of the claim wins (cheaper first). What it does not do: look at other services (``solve``).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from isochrone.rules.where.case import Case
from isochrone.rules.where.ground import Integers

ROUNDS_MAX = 64
"""Each step lowers the cost, so this only bounds the time."""

Mask = npt.NDArray[np.bool_]


def best_set(case: Case, limit: Integers, start: Sequence[int] = ()) -> list[int]:
    """A set that no single step would make better, grown from ``start``, which must fit."""
    chosen = exchange(case, limit, grow(case, limit, start))
    return [] if case.service.gang and len(chosen) < case.least else chosen


def grow(case: Case, limit: Integers, start: Sequence[int] = ()) -> list[int]:
    """Add the best site again and again."""
    chosen = list(start)
    cost = case.of(chosen)
    while len(chosen) < case.most:
        more = max(0, case.least - len(chosen) - 1)
        found = _best(case, chosen, allowed(case, limit, chosen, more))
        if found is None or found[0] >= cost:
            break
        cost, site = found
        chosen.append(site)
    return chosen


def one_more(case: Case, limit: Integers, start: Sequence[int]) -> list[int]:
    """A set with one more replica where it helps most, whatever that costs, if there is room."""
    found = _best(case, start, allowed(case, limit, start))
    return list(start) if found is None else [*start, found[1]]


def exchange(case: Case, limit: Integers, chosen: list[int]) -> list[int]:
    """Single steps (one more, one less, one for another) while the cost falls."""
    cost = case.of(chosen)
    for _ in range(ROUNDS_MAX):
        steps = [step for step in _steps(case, limit, chosen) if step[0] < cost]
        if not steps:
            break
        cost, _, chosen = min(steps)
    return chosen


def _steps(case: Case, limit: Integers, chosen: list[int]) -> list[tuple[int, int, list[int]]]:
    """The best step of each kind: cost, turn, set."""
    steps = []
    if len(chosen) < case.most:
        steps += _step(case, limit, chosen)
    for site in sorted(set(chosen)):
        rest = without(chosen, site)
        if len(rest) >= case.least:
            steps.append((case.of(rest), -1, rest))
        steps += _step(case, limit, rest)
    return steps


def _step(case: Case, limit: Integers, rest: list[int]) -> list[tuple[int, int, list[int]]]:
    found = _best(case, rest, allowed(case, limit, rest))
    return [] if found is None else [(found[0], int(case.claim.turn[found[1]]), [*rest, found[1]])]


def without(chosen: Sequence[int], site: int) -> list[int]:
    """A set with one replica less at a site."""
    rest = list(chosen)
    rest.remove(site)
    return rest


def allowed(case: Case, limit: Integers, chosen: Sequence[int], more: int = 0) -> Mask:
    """Which sites have room for one more replica that can be paid, with ``more`` after it."""
    mask: Mask = limit > 0
    for site in set(chosen):
        mask[site] = limit[site] > list(chosen).count(site)
    if case.budget is not None:
        left = case.budget - case.price(chosen)
        if more:
            prices = np.sort(case.claim.price[mask])
            left -= int(prices[:more].sum())
        mask &= case.claim.price <= left
    return mask


def _best(case: Case, chosen: Sequence[int], mask: Mask) -> tuple[int, int] | None:
    sites = np.flatnonzero(mask)
    if not len(sites):
        return None
    each = case.each_with(chosen)[sites]
    least = each.min()
    equal = sites[each == least]
    return int(least), int(equal[case.claim.turn[equal].argmin()])
