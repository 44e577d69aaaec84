"""Marginal coverage: what one more machine adds where there are some already.

One number with two uses. A place's pool pays standby by how much of the place it covers
(``rules.rewards``), and a planner says what each further site would add to an audience
(``rules.coverage_order``). Intuition: what covers a place already leaves less for whoever comes
next, so a place that nobody covers is worth most: scarcity is the coverage that is still missing.

Rules of this file: whole ten-thousandths (basis points), rounded down, so that everybody gets the
same number; what several additions gain one after another is what they gain together.
"""

from __future__ import annotations

WHOLE_BPS = 10_000
"""A place covered whole."""


def coverage_bps(supply: int, full: int) -> int:
    """How much of a place is covered by ``supply``, where ``full`` covers all of it: 0-10,000.

    >>> coverage_bps(1, 4)
    2500
    >>> coverage_bps(9, 4)
    10000
    """
    return min(WHOLE_BPS, max(0, supply) * WHOLE_BPS // full)


def gain_bps(supply: int, more: int, full: int) -> int:
    """Marginal coverage: what ``more`` adds where ``supply`` stands already, 0-10,000.

    >>> gain_bps(3, 2, 4)
    2500
    >>> gain_bps(4, 1, 4)
    0
    """
    return coverage_bps(supply + more, full) - coverage_bps(supply, full)
