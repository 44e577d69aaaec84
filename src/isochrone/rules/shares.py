"""Dividing an amount among parties by weight, to the last unit.

Intuition: pro rata leaves fractions, and whoever rounds them can be made to lose or to gain a unit
by splitting accounts or by adding a unit to the pot. So whole units are dealt out one after the
other, each to the party whose weight per unit is then the highest (D'Hondt's method, 1878, as
seats of a parliament). Three things follow, and the ledger leans on each: nothing is left over;
nobody gets less than its share rounded down; and one unit more to divide means one unit more for
exactly one party and no unit less for anybody (Hamilton's largest remainders do not have that).

Rules of this file: integers; ties go to the name that comes first. What it does not do: be exactly
fair in dust, the heaviest party is favoured by at most a few units.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from fractions import Fraction


def apportion(total: int, weights: Mapping[str, int]) -> dict[str, int]:
    """Whole units of ``total`` for every party; they sum to ``total``.

    Weights that are not positive get nothing. Without any weight, or anything to divide, all get
    nothing. A total of at most the sum of weights gives nobody more than its weight.

    >>> apportion(10, {"a": 2, "b": 1})
    {'a': 7, 'b': 3}
    >>> apportion(11, {"a": 2, "b": 1})
    {'a': 8, 'b': 3}
    >>> apportion(3, {"a": 0})
    {'a': 0}
    """
    whole = sum(weight for weight in weights.values() if weight > 0)
    if total <= 0 or not whole:
        return dict.fromkeys(weights, 0)
    units = {name: total * max(0, weight) // whole for name, weight in weights.items()}
    left = total - sum(units.values())
    if left:
        _deal(left, units, weights)
    return units


def _deal(left: int, units: dict[str, int], weights: Mapping[str, int]) -> None:
    """Hand out the last units. Shares rounded down are always part of D'Hondt's result."""
    queue = [
        (Fraction(-weight, units[name] + 1), name) for name, weight in weights.items() if weight > 0
    ]
    heapq.heapify(queue)
    for _ in range(left):
        name = queue[0][1]
        units[name] += 1
        heapq.heapreplace(queue, (Fraction(-weights[name], units[name] + 1), name))
