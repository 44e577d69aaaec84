"""The order among nodes that are equally good: nobody's for ever, and kind to who comes later.

Options are chosen by cost, and of equal costs the first in this order wins: by price, then by a
ticket that the seed draws for each *provider*, so that ten machines are no more tickets than one.
Among one provider's machines a fit takes the one where it breaks the least: the growth of what the
shapes that the cell is asked for cannot use of its free GPUs (``rules.packing``), then the share of
those shapes that fit there now and would not any more. Then by a ticket for each node.

Rules of this file: the seed and the shapes are inputs, on record; nothing depends on positions.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from isochrone.rules.devices import gpu_names
from isochrone.rules.eligible import price_of
from isochrone.rules.packing.demand import Demand, Residual, after, demand_of
from isochrone.rules.packing.fragmentation import Typical, fit_cost, typical_of
from isochrone.rules.rotation import ticket
from isochrone.schema.decision import FreeNode, PlacementInputs
from isochrone.schema.node import Resources

Order = tuple[int, bytes, tuple[int, int], bytes, str]


def order_of(inputs: PlacementInputs) -> Callable[[int], Order]:
    """A sort key for indices into the inputs' nodes."""
    typical = typical_of(
        _demand(shape.resources) for shape in inputs.shapes for _ in range(shape.count)
    )
    demand = _demand(inputs.service.resources)

    def order(index: int) -> Order:
        free = inputs.nodes[index]
        return (
            price_of(inputs, index),
            ticket(inputs.seed, free.node.provider),
            _harm(free, demand, typical) if inputs.kind == "fit" else (0, 0),
            ticket(inputs.seed, free.node.address),
            free.node.address,
        )

    return order


def _harm(free: FreeNode, demand: Demand, typical: Typical) -> tuple[int, int]:
    """What a replica there breaks: nothing more where one is already."""
    rest = _residual(free)
    left = after(rest, demand)
    if free.holds or left is None:
        return 0, 0
    stops = sum(
        share
        for one, share in zip(typical.demands, typical.shares_ppm, strict=True)
        if after(rest, one) is not None and after(left, one) is None
    )
    return fit_cost(rest, demand, typical), stops


def _demand(resources: Resources) -> Demand:
    """Models are compared in lower case, as ``rules.devices`` does."""
    return demand_of(msgspec.structs.replace(resources, gpu=resources.gpu.lower()))


def _residual(free: FreeNode) -> Residual:
    names = gpu_names(free.node.capacity)
    known = len(free.free_gpu_milli)
    return Residual(
        cpu_milli=free.free_cpu_milli,
        memory_mib=free.free_memory_mib,
        gpu_milli=free.free_gpu_milli,
        models=tuple(name.lower() for name in names[:known]),
    )
