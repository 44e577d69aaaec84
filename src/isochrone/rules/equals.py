"""The order among nodes that are equally good: nobody's for ever, and kind to who comes later.

Options are chosen by cost, and of equal costs the first in this order wins: by price, then by a
ticket that the seed draws for each *provider*, so that ten machines are no more tickets than one.
Among one provider's machines a fit takes the one where it breaks the least, which the inputs say
(``fit_cost``, from ``rules.fit_costs``). Where they do not: the growth of what the shapes that the
cell is asked for cannot use of its free GPUs, then the share of those shapes that fit there now and
would not any more. Then by a ticket for each node, which also packs better than a fixed order.

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
    typical = typical_of(
        demand_for(shape.resources) for shape in inputs.shapes for _ in range(shape.count)
    )
    demand = demand_for(inputs.service.resources)

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
    if free.fit_cost is not UNSET:
        return free.fit_cost, 0
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
