"""This cell's standbys: which leases its pool of a service needs, and fits that start from it.

The shell around ``rules.standby``. Nodes for a standby are looked for at most every ``LOOK_S``, as
nothing waits for them, and looked through every ``FULL_S``; what there is is compared each pass.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import msgspec

from isochrone.controller import fit
from isochrone.controller.deciding import decided
from isochrone.controller.declared import Declared
from isochrone.controller.inputs import Stamp
from isochrone.controller.lawful import Lawful
from isochrone.controller.view import World
from isochrone.rules.eligible import eligibilities
from isochrone.rules.fit_costs import with_fit_costs
from isochrone.rules.reconcile import Action
from isochrone.rules.seats import Held
from isochrone.rules.standby import Pool, begun, first, is_ready, picked, plan_standbys
from isochrone.schema.decision import Decision, PlacementInputs
from isochrone.schema.lease import Quota

LOOK_S = 2.0
"""Between two looks for nodes while too few can be found: a look costs milliseconds."""

FULL_S = 30.0
"""Between two looks whether the nodes could still run a replica: nothing waits for it."""


class Standbys:
    """The pools of all services that this cell holds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._looked_s: dict[str, float] = {}
        self._full: dict[str, tuple[float, frozenset[str]]] = {}

    def plan(
        self,
        world: World,
        quota: Quota,
        grant: Declared,
        standbys: Sequence[Held],
        replicas: Sequence[Held],
        made: fit.Fit,
        stamp: Stamp,
        nonce: Callable[[], int],
    ) -> list[Action]:
        """The writes that bring the pool closer to what was granted; none in doubt.

        ``standbys``, ``replicas``: the service's leases here. ``made``: the fit in force. Raises
        InvalidInput for a declaration that nothing understands.
        """
        if world.doubt:
            return []
        pool = _pool(world, quota, grant, standbys, made)
        inputs: PlacementInputs | None = None
        full_s, full = self._full.get(grant.id, (float("-inf"), frozenset[str]()))
        if not standbys:
            self._full.pop(grant.id, None)
        elif self._clock() - full_s >= FULL_S:
            inputs = fit.look(world, quota, grant, replicas, stamp)
            full = _full(inputs)
            self._full[grant.id] = self._clock(), full
        pool = msgspec.structs.replace(pool, full=full)
        planned, missing = plan_standbys(pool, standbys, replicas, epoch=stamp.epoch)
        actions = list(planned)
        if missing and self._is_due(grant.id):
            inputs = inputs or fit.look(world, quota, grant, replicas, stamp)
            inputs = with_fit_costs(inputs)
            for node in picked(pool, inputs, standbys, replicas, missing):
                provider = world.nodes[node].provider
                actions.append(begun(pool, node, provider, epoch=stamp.epoch, nonce=nonce()))
        return actions

    def forget(self, services: Collection[str]) -> None:
        """Drop the memory of all but ``services``."""
        self._full = {id_: full for id_, full in self._full.items() if id_ in services}

    def _is_due(self, service: str) -> bool:
        now_s = self._clock()
        self._looked_s = {
            id_: at_s for id_, at_s in self._looked_s.items() if now_s - at_s < LOOK_S
        }
        return self._looked_s.setdefault(service, now_s) == now_s


async def with_standbys_first(
    inputs: PlacementInputs, decision: Decision, standbys: Sequence[Held]
) -> tuple[PlacementInputs, Decision]:
    """A fit that puts new replicas where the files are, if as many can be placed that way."""
    ready = [row.lease.node for row in standbys if is_ready(row, inputs.service)]
    held = {free.node.address for free in inputs.nodes if free.holds}
    if set(decision.winners) <= held | set(ready):
        return inputs, decision
    preferred = first(inputs, ready)
    if preferred is None:
        return inputs, decision
    other = await decided(preferred)
    if len(other.winners) < len(decision.winners):
        return inputs, decision
    return preferred, other


def _full(inputs: PlacementInputs) -> frozenset[str]:
    """The living nodes that could not run a replica now."""
    verdicts = zip(inputs.nodes, eligibilities(inputs), strict=True)
    return frozenset(
        free.node.address for free, verdict in verdicts if free.alive and verdict.excluded_by
    )


def _pool(
    world: World, quota: Quota, grant: Declared, standbys: Sequence[Held], made: fit.Fit
) -> Pool:
    lawful = Lawful(grant)
    nodes = (row.lease.node for row in standbys)
    return Pool(
        service_id=grant.id,
        service=grant.service,
        cell=world.cell,
        sites=() if grant.service.deleted else quota.standby,
        decision=made.wanted.decision or quota.decision,
        seats=frozenset(seat.node for seat in made.wanted.seats),
        barred=frozenset(n for n in nodes if n in world.nodes and not lawful(world.nodes[n])),
    )
