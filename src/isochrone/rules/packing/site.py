"""The nodes of a placement as packing sees them: what is left of each, and what is usually asked.

Intuition: records speak of nodes with capacities, offers and leases; packing asks only what is
free and what usually comes. This is the one place where the first becomes the second.

Rules of this file: device models are compared in lower case, as ``rules.devices`` does. What it
does not do: value anything (``valuing``), or look at law and price (``rules.eligible``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

from isochrone.rules.devices import gpu_names
from isochrone.rules.packing.cluster import Cluster
from isochrone.rules.packing.demand import WHOLE_MILLI, Demand, Residual, demand_of
from isochrone.rules.packing.fragmentation import PPM, Typical, typical_of_counts
from isochrone.schema.decision import FreeNode, Shape
from isochrone.schema.node import Resources


def demand_for(resources: Resources) -> Demand:
    """The demand of one replica declared with ``resources``, its model in lower case."""
    return demand_of(msgspec.structs.replace(resources, gpu=resources.gpu.lower()))


def residual_of(free: FreeNode) -> Residual:
    """What is left of a node now; GPUs of which nothing is known are not counted."""
    known = len(free.free_gpu_milli)
    return Residual(
        cpu_milli=free.free_cpu_milli,
        memory_mib=free.free_memory_mib,
        gpu_milli=free.free_gpu_milli,
        models=tuple(name.lower() for name in gpu_names(free.node.capacity)[:known]),
    )


def whole_of(free: FreeNode) -> Residual:
    """The node when nothing runs on it."""
    capacity = free.node.capacity
    models = tuple(name.lower() for name in gpu_names(capacity)[: len(free.free_gpu_milli)])
    return Residual(
        cpu_milli=capacity.cpu_milli,
        memory_mib=capacity.memory_mib,
        gpu_milli=(WHOLE_MILLI,) * len(models),
        models=models,
    )


def usual(shapes: Iterable[Shape], popularity_ppm: int = PPM) -> Typical:
    """What is usually asked; the rare demands too, or the commonest that make up so many ppm."""
    counts: Counter[Demand] = Counter()
    for shape in shapes:
        counts[demand_for(shape.resources)] += shape.count
    return typical_of_counts(counts, popularity_ppm)


def site_of(nodes: Sequence[FreeNode], shapes: Iterable[Shape]) -> Cluster:
    """The nodes, in their order, valued by what is usually asked."""
    return Cluster(
        [residual_of(free) for free in nodes],
        usual(shapes),
        whole=[whole_of(free) for free in nodes],
    )
