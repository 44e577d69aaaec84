"""What a replica would break of each node of a cell: how a fit chooses among equal machines.

Intuition: of one provider's machines at the same price and distance a replica should take the one
where it leaves the least waste behind (``rules.packing``). The number is worked out from what the
inputs hold anyhow, the free parts of the nodes and the mix of demands that came (``shapes``), and
written into them: the placement rule reads it, the record carries it, a replay needs no packing,
and whoever doubts it can work it out again (``with_fit_costs`` of the same inputs).

Rules of this file: pure; whole numbers, in steps of ``packing.cluster.STEP``; nothing for a node
that holds the service already or has no room. What it does not do: choose (``rules.equals``).
"""

from __future__ import annotations

import msgspec
from msgspec import UNSET

from isochrone.rules.packing.site import demand_for, site_of
from isochrone.schema.decision import FreeNode, PlacementInputs


def with_fit_costs(inputs: PlacementInputs) -> PlacementInputs:
    """A fit's inputs with every node's cost, and the GPUs that a replica would get there.

    As they were without any GPU in the cell (only GPUs break), or for a choice of sites.
    """
    if inputs.kind != "fit" or not any(free.free_gpu_milli for free in inputs.nodes):
        return inputs
    site = site_of(inputs.nodes, inputs.shapes)
    found = site.each(demand_for(inputs.service.resources))
    nodes = tuple(
        _with(free, *added) if added is not None and not free.holds else _without(free)
        for free, added in zip(inputs.nodes, found, strict=True)
    )
    return msgspec.structs.replace(inputs, nodes=nodes)


def _with(free: FreeNode, cost: int, gpus: tuple[int, ...]) -> FreeNode:
    return msgspec.structs.replace(free, fit_cost=cost, fit_gpus=gpus)


def _without(free: FreeNode) -> FreeNode:
    return msgspec.structs.replace(free, fit_cost=UNSET, fit_gpus=UNSET)
