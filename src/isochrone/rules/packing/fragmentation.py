"""How much of a node's free GPUs the usual demands could not use.

Intuition: free is not the same as useful. Draw a demand as they usually come: the part of a node's
free GPUs that it could not use is broken off. Averaged over the usual demands that is the node's
fragmentation, and a placement is good when it lets little of it arise.

Source: Weng et al., "Beware of Fragmentation: Scheduling GPU-Sharing Workloads with Fragmentation
Gradient Descent", USENIX ATC 2023, section 3. Here in integers: thousandths of a GPU times
millionths of the demands.

Rules of this file: the measure looks at cores, memory, models and each GPU by itself. What it does
not do: look ahead (``valuing`` does).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import msgspec

from isochrone.rules.packing.demand import Demand, Residual, accepted_milli, after

PPM = 1_000_000

POPULARITY_PPM = 950_000
"""The commonest demands that make up 95 % of all: the rest is noise (the paper's figure)."""

NO_FIT = 1 << 62
"""The cost of a node that cannot take the demand: above every other."""


class Typical(msgspec.Struct, frozen=True, kw_only=True):
    """The usual demands and their shares in millionths of all (sum about 1,000,000)."""

    demands: tuple[Demand, ...] = ()
    shares_ppm: tuple[int, ...] = ()


def typical_of(demands: Iterable[Demand], popularity_ppm: int = POPULARITY_PPM) -> Typical:
    """The commonest demands of those given, until they make up ``popularity_ppm`` of all."""
    return typical_of_counts(Counter(demands), popularity_ppm)


def typical_of_counts(counts: Mapping[Demand, int], popularity_ppm: int) -> Typical:
    """As ``typical_of``, of demands that have been counted."""
    counted = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    total = sum(count for _, count in counted)
    kept: list[tuple[Demand, int]] = []
    reached = 0
    for demand, count in counted:
        if reached * PPM >= popularity_ppm * total:
            break
        kept.append((demand, count))
        reached += count
    return Typical(
        demands=tuple(demand for demand, _ in kept),
        shares_ppm=tuple(count * PPM // reached for _, count in kept),
    )


def fragmentation(residual: Residual, typical: Typical) -> int:
    """What of the node's free GPUs the usual demands cannot use: thousandths × millionths.

    A demand without GPUs can use none of them, so all that is free counts for its share.
    """
    return sum(
        share * unusable_milli(residual, demand)
        for demand, share in zip(typical.demands, typical.shares_ppm, strict=True)
    )


def unusable_milli(residual: Residual, demand: Demand) -> int:
    """What of the node's free GPUs this demand cannot use, in thousandths of a GPU."""
    free = sum(residual.gpu_milli)
    if demand.gpu_count == 0 or after(residual, demand) is None:
        return free
    usable = accepted_milli(residual, demand)
    return free - sum(milli for milli in usable if milli >= demand.gpu_milli)


def fit_cost(residual: Residual, demand: Demand, typical: Typical) -> int:
    """What a placement breaks of the node, thousandths × millionths; lower is better.

    The growth of its fragmentation, negative where the demand takes what nobody else could use.
    ``NO_FIT`` if the node cannot take the demand. Pure: orders nodes of equal price.
    """
    left = after(residual, demand)
    if left is None:
        return NO_FIT
    return fragmentation(left, typical) - fragmentation(residual, typical)
