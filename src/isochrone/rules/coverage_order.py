"""What each further site adds to an audience, and in which order sites add most.

A site reaches the points of an audience whose round trip to it is short enough. What it adds is
the *marginal coverage* of ``rules.coverage_gain``: for every point it reaches, the point's weight
times what one more site in reach gains there; one site in reach covers a point whole. Taking the
site that adds most, again and again, is the classic greedy rule for maximum coverage: at least
1 - 1/e of what the best set covers (Nemhauser, Wolsey, Fisher 1978), in practice all but a
percent or two of it.

Several bounds may count at once (10, 25 and 50 ms): a gain is then the sum over the bounds.

Rules of this file: integer weights, so that sums are exact; among equal gains the first site wins,
so the caller's order breaks ties. What it does not do: look at prices, capacity or failures, which
``placement`` and ``where`` do.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from isochrone.rules.coverage_gain import WHOLE_BPS, gain_bps

Integers = npt.NDArray[np.int64]
Reach = npt.NDArray[np.bool_]

FULL = 1
"""Sites in reach that cover a point whole."""

COLUMNS = 128
"""Sites whose gains are summed at once: their table as integers stays small."""


def gains(weights: Integers, reach: Reach, supply: Integers) -> Integers:
    """What each site (column of ``reach``) would add, in units of ``weights``.

    ``reach[i, n]``: point i is reached by site n. ``supply[i]``: sites that reach it already.
    """
    added: Integers = (weights * _gain_per_point(supply) // WHOLE_BPS) @ reach
    return added


def _gain_per_point(supply: Integers) -> Integers:
    """The marginal coverage of one more site at every point, in ten-thousandths."""
    by_supply = {int(have): gain_bps(int(have), 1, FULL) for have in np.unique(supply)}
    return np.array([by_supply[int(have)] for have in supply], dtype=np.int64)


def order(
    weights: Integers, reaches: Sequence[Reach], count: int, start: Sequence[int] = ()
) -> list[int]:
    """Up to ``count`` sites in the order in which they add most; stops when nothing is added.

    ``reaches``: one table for each bound, of equal shape. ``start``: sites that stand already.
    """
    # A point that is reached adds nothing more (FULL is one), so its weight is spent. Gains only
    # fall: a site is looked at again only when its old gain could still win.
    left = [weights.copy() for _ in reaches]
    for site in start:
        _spend(left, reaches, site)
    bound = _all_gains(left, reaches)
    bound[list(start)] = -1
    chosen: list[int] = []
    while len(chosen) < min(count, reaches[0].shape[1]):
        site = _next(bound, left, reaches)
        if bound[site] <= 0:
            break
        chosen.append(site)
        _spend(left, reaches, site)
        bound[site] = -1
    return chosen


def _all_gains(left: Sequence[Integers], reaches: Sequence[Reach]) -> Integers:
    total = np.zeros(reaches[0].shape[1], dtype=np.int64)
    for weights, reach in zip(left, reaches, strict=True):
        for first in range(0, len(total), COLUMNS):  # a product makes integers of its columns
            total[first : first + COLUMNS] += weights @ reach[:, first : first + COLUMNS]
    return total


def _next(bound: Integers, left: Sequence[Integers], reaches: Sequence[Reach]) -> int:
    """The site with the largest gain now, lowest index first; refreshes ``bound`` on the way."""
    fresh: set[int] = set()
    while True:
        site = int(bound.argmax())
        if site in fresh or bound[site] <= 0:
            return site
        bound[site] = sum(
            int(weights[reach[:, site]].sum()) for weights, reach in zip(left, reaches, strict=True)
        )
        fresh.add(site)


def _spend(left: Sequence[Integers], reaches: Sequence[Reach], site: int) -> None:
    for weights, reach in zip(left, reaches, strict=True):
        weights[reach[:, site]] = 0
