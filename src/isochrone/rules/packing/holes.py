"""What a hole in a GPU will be worth: how much of a free part is likely never to be used.

Intuition: a GPU with 530 thousandths free waits for demands that share. Each that comes and fits
either fills the hole or leaves a smaller one; and at some time nothing comes any more, and what is
left is lost. So the waste of a hole is that of the holes which it may become, weighted by how often
the demands come that make it so, against the rate at which waiting ends.

``H(0) = 0``; ``H(f) = (end x f + sum of rate(g) x H(f - g)) / (end + sum of rate(g))`` over the
sizes g that fit into f. A hole of 190 beside demands of 160, 470 and 810 is nearly all waste; one
of 530 is not, since 470 is common.

Rules of this file: integers, rounded down, so that the table is the same on every machine. What it
does not do: look at cores (``valuing`` does).
"""

from __future__ import annotations

from collections import Counter

from isochrone.rules.packing.demand import WHOLE_MILLI
from isochrone.rules.packing.fragmentation import Typical

END_PPM = 36_000
"""Of a million demands that come, so often waiting ends. Larger: holes are closed at once, whatever
rest that leaves; smaller: holes are kept open for a fit that may never come."""

Table = tuple[int, ...]
"""The waste of a hole of 0, 1 ... 1,000 thousandths, in thousandths x ``DETAIL``."""

DETAIL = 1_000
"""Waste is counted in thousandths of a thousandth."""


def hole_waste(typical: Typical, end_ppm: int = END_PPM) -> Table:
    """The expected waste of a hole of 0 to 1,000 thousandths, in thousandths x ``DETAIL``."""
    rates: Counter[int] = Counter()
    for demand, share in zip(typical.demands, typical.shares_ppm, strict=True):
        if demand.gpu_count:
            rates[demand.gpu_milli] += share
    sizes = sorted(rates.items())
    table = [0]
    for free in range(1, WHOLE_MILLI + 1):
        fitting = [(size, rate) for size, rate in sizes if size <= free]
        weighted = sum(rate * table[free - size] for size, rate in fitting)
        all_rates = sum(rate for _, rate in fitting)
        table.append((end_ppm * free * DETAIL + weighted) // (end_ppm + all_rates))
    return tuple(table)
