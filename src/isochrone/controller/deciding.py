"""Running the placement rule without holding up the process.

A decision over all cells may take up to a second of computing for a thousand nodes; in a thread
the interpreter goes on switching back to beats and repairs. A fit looks at one cell and is made
in place: a thread's start would cost as much as the rule.
"""

from __future__ import annotations

import asyncio

from isochrone.rules.placement import decide
from isochrone.schema.decision import Decision, PlacementInputs

IN_PLACE_PAIRS_MAX = 2000
"""Audience points times nodes that are decided in place: about 5 ms of computing."""


async def decided(inputs: PlacementInputs) -> Decision:
    """The decision on ``inputs``."""
    if len(inputs.audience) * len(inputs.nodes) <= IN_PLACE_PAIRS_MAX:
        return decide(inputs)
    return await asyncio.to_thread(decide, inputs)
