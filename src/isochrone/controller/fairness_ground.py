"""Where in this cell a service may run by everything but room: what its fair share counts over.

Intuition: whoever may not use a machine by law, engine or price has no share of it, so fairness
counts over the machines that remain, each as if it stood empty.

What it does not do: say what is free now, or hand anything out (``rules.fairness``).
"""

from __future__ import annotations

from isochrone.controller.declared import Declared
from isochrone.controller.inputs import named_blocs
from isochrone.controller.joint_sites import as_empty
from isochrone.controller.view import World, free_nodes, sites_of
from isochrone.rules.eligible import eligibilities
from isochrone.schema.decision import PlacementInputs
from isochrone.schema.digests import canonical


class FairGround:
    """One look at the cell; services that ask for the same kind of node are judged once."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._free = tuple(as_empty(free) for free in free_nodes(world) if free.alive)
        self._gateways = sites_of(world)
        self._known: dict[bytes, frozenset[str]] = {}

    def __call__(self, declared: Declared) -> frozenset[str]:
        """The addresses; raises InvalidInput for a residency that nothing understands."""
        one = declared.service
        asked = one.resources, one.residency, one.model.engine, one.max_price_microusd_per_hour
        key = canonical(asked)
        if key not in self._known:
            verdicts = eligibilities(self._inputs(declared))
            self._known[key] = frozenset(
                free.node.address
                for free, verdict in zip(self._free, verdicts, strict=True)
                if not verdict.excluded_by
            )
        return self._known[key]

    def _inputs(self, declared: Declared) -> PlacementInputs:
        residency = declared.service.residency
        return PlacementInputs(
            kind="fit",
            service=declared.service,
            tenant=declared.tenant,
            cell=self._world.cell,
            epoch=0,
            at_unix_ms=0,
            seed=0,
            blocs_version="",
            blocs=named_blocs((*residency.allow, *residency.deny)),
            gateways=self._gateways,
            audience=(),
            nodes=self._free,
            client_rtt_ms=(),
            node_rtt_ms=(),
        )
