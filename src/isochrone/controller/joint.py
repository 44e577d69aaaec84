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

from isochrone.controller.home import Joint
from isochrone.controller.inputs import Stamp
from isochrone.controller.joint_inputs import Subject, gather, shared
from isochrone.controller.joint_sites import Machine
from isochrone.controller.view import World
from isochrone.rules.where import decide
from isochrone.schema.digests import digest
from isochrone.schema.plans import CellOffers
from isochrone.schema.where import WhereDecision, WhereInputs


async def decided_together(
    world: World, others: Mapping[str, CellOffers], subjects: Sequence[Subject], stamp: Stamp
) -> Joint:
    """Decide on all subjects, beside the loop; raises InvalidInput for what nothing understands."""

    def work() -> tuple[WhereInputs, WhereDecision, list[Machine]]:
        inputs = gather(world, others, subjects, stamp)
        return inputs, decide(inputs), shared(world, others, subjects)

    inputs, decision, machines = await asyncio.to_thread(work)
    return Joint(
        decision=decision,
        inputs=inputs,
        digest=digest(decision),
        grants={placed.service: placed.grants for placed in decision.services},
        rooms={machine.free.node.address: machine.free for machine in machines},
    )
