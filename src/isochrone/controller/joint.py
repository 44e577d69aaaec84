"""All services of this home decided together, and what each of them is granted thereby.

Intuition: services compete for the same machines, and one after the other the first takes what the
second needs more. When any service is due and there is another one, all are decided together
(``rules.where``); each service's own placement then follows the sites that it was given, and its
record names the joint one. What runs stays unless moving it gains more than a move costs, so a
decision that changes nothing for a service leaves no record of it.

Without contention one service alone is decided as ever. In doubt about our view nothing is weighed
against anything: only what is due is decided, alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import msgspec

from isochrone.controller.inputs import Stamp
from isochrone.controller.joint_inputs import Subject, gather
from isochrone.controller.view import World
from isochrone.rules.where import decide
from isochrone.schema.digests import digest
from isochrone.schema.lease import Site
from isochrone.schema.plans import CellOffers
from isochrone.schema.where import WhereDecision, WhereInputs

Sites = tuple[tuple[str, Site], ...]


class Joint(msgspec.Struct, frozen=True, kw_only=True):
    """A decision on all services together, its inputs, its digest, and what each one is granted."""

    decision: WhereDecision
    inputs: WhereInputs
    digest: str
    grants: Mapping[str, Sites]


async def decided_together(
    world: World, others: Mapping[str, CellOffers], subjects: Sequence[Subject], stamp: Stamp
) -> Joint:
    """Decide on all subjects, beside the loop; raises InvalidInput for what nothing understands."""

    def work() -> tuple[WhereInputs, WhereDecision]:
        inputs = gather(world, others, subjects, stamp)
        return inputs, decide(inputs)

    inputs, decision = await asyncio.to_thread(work)
    return Joint(
        decision=decision,
        inputs=inputs,
        digest=digest(decision),
        grants={placed.service: placed.grants for placed in decision.services},
    )
