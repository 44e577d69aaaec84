"""Running the placement rule without holding up the process.

A decision over all cells may take up to a second of computing for a thousand nodes; in a thread
the interpreter goes on switching back to beats and repairs, and so for the costs of a fit in a
large cell. A fit of a small cell is made in place: a thread's start would cost as much as the rule.
"""

from __future__ import annotations

import asyncio

from isochrone.rules.fit_costs import with_fit_costs
from isochrone.rules.placement import decide
from isochrone.schema.decision import Decision, PlacementInputs

IN_PLACE_PAIRS_MAX = 2000
"""Audience points times nodes that are decided in place: about 5 ms of computing."""

IN_PLACE_NODES_MAX = 100
"""Nodes whose costs are worked out in place: about 4 ms; of 1,000 nodes it is 20."""


async def weighed(inputs: PlacementInputs) -> PlacementInputs:
    """A fit's inputs with what a replica would break of each node (``rules.fit_costs``)."""
    if len(inputs.nodes) <= IN_PLACE_NODES_MAX:
        return with_fit_costs(inputs)
    return await asyncio.to_thread(with_fit_costs, inputs)


async def decided(inputs: PlacementInputs) -> Decision:
    """The decision on ``inputs``."""
    if len(inputs.audience) * len(inputs.nodes) <= IN_PLACE_PAIRS_MAX:
        return decide(inputs)
    return await asyncio.to_thread(decide, inputs)
