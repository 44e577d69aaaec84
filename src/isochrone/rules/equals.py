"""The order among nodes that are equally good: nobody's for ever, and kind to who comes later.

Options are chosen by cost, and of equal costs the first in this order wins: by price, then by a
ticket that the seed draws for each *provider*, so that ten machines are no more tickets than one.
Among one provider's machines a fit takes the one where it breaks the least, which the inputs say
(``fit_cost``, from ``rules.fit_costs``), of equal ones the first by address: it takes nothing from
anybody else, and where replicas come and go the last machines stay whole. Where the inputs do not
say: the growth of what the shapes that the cell is asked for cannot use of its free GPUs, then the
share of those shapes that fit there now and would not any more, then a ticket for each node.

Rules of this file: seed, costs and shapes are inputs, on record; nothing depends on positions.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import UNSET

from isochrone.rules.eligible import price_of
from isochrone.rules.packing.demand import Demand, after
from isochrone.rules.packing.fragmentation import Typical, fit_cost, typical_of
from isochrone.rules.packing.site import demand_for, residual_of
from isochrone.rules.rotation import ticket
from isochrone.schema.decision import FreeNode, PlacementInputs

Order = tuple[int, bytes, tuple[int, int], bytes, str]


def order_of(inputs: PlacementInputs) -> Callable[[int], Order]:
    """A sort key for indices into the inputs' nodes."""
    harm = _harm_of(inputs)
    packed = inputs.kind == "fit" and _says(inputs)

    def order(index: int) -> Order:
        free = inputs.nodes[index]
        return (
            price_of(inputs, index),
            ticket(inputs.seed, free.node.provider),
            harm(free),
            b"" if packed else ticket(inputs.seed, free.node.address),
            free.node.address,
        )

    return order


def _harm_of(inputs: PlacementInputs) -> Callable[[FreeNode], tuple[int, int]]:
    """What a replica of the service would break of a node."""
    if inputs.kind != "fit":
        return lambda free: (0, 0)
    if _says(inputs):
        # Where nothing was worked out (it holds the service, or had no room) nothing is broken.
        return lambda free: (0 if free.fit_cost is UNSET else free.fit_cost, 0)
    typical = typical_of(
        demand_for(shape.resources) for shape in inputs.shapes for _ in range(shape.count)
    )
    demand = demand_for(inputs.service.resources)
    return lambda free: _by_gradient(free, demand, typical)


def _says(inputs: PlacementInputs) -> bool:
    """Whether the inputs say what a replica would break."""
    return any(free.fit_cost is not UNSET for free in inputs.nodes)


def _by_gradient(free: FreeNode, demand: Demand, typical: Typical) -> tuple[int, int]:
    """By FGD's measure; nothing more where a replica is already."""
    rest = residual_of(free)
    left = after(rest, demand)
    if free.holds or left is None:
        return 0, 0
    stops = sum(
        share
        for one, share in zip(typical.demands, typical.shares_ppm, strict=True)
        if after(rest, one) is not None and after(left, one) is None
    )
    return fit_cost(rest, demand, typical), stops
