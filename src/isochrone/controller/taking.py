"""Taking quotas: the cell's side of a home controller's order.

The same way for our own home and for others': checked (``quotas.check``), written by
compare-and-set, answered with how far the cell has come. A quota that changes nothing is answered
without a write, so its repetition every two seconds costs nothing but the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from isochrone.atlas.blocs import blocs
from isochrone.controller import quotas
from isochrone.controller.declared import Declared
from isochrone.controller.tables import Tables
from isochrone.controller.view import World, held
from isochrone.schema.errors import IsochroneError, Unavailable
from isochrone.schema.lease import Quota
from isochrone.schema.plans import QuotaAnswer


class Taking:
    """The quotas of this cell. ``unmet``: service → why it could not be placed whole."""

    def __init__(self, cell: str, tables: Tables, may_act: Callable[[], bool]) -> None:
        self._cell = cell
        self._quotas = tables.quotas
        self._may_act = may_act
        self.unmet: Mapping[str, tuple[str, ...]] = {}

    async def take(self, quota: Quota, world: World) -> QuotaAnswer:
        """Take or refuse a quota; never raises what is the sender's or the fabric's fault."""
        before = self._quotas.values.get(quota.service)
        try:
            grant = self._check(quota, before, world)
            if quota != before and not (before is None and quotas.withdrawn(quota)):
                await self._write(quota)
        except IsochroneError as error:
            return self._answer(before, quota.service, world, error)
        return self._answer(quota, grant.id, world, None)

    def _check(self, quota: Quota, before: Quota | None, world: World) -> Declared:
        places = [world.whereabouts(p.gateway, p.place.country) for p in world.sight.known]
        return quotas.check(quota, before, self._cell, places, blocs())

    async def _write(self, quota: Quota) -> None:
        if not self._may_act():
            raise Unavailable(f"No controller leads {self._cell} now.")
        key = quota.service
        await self._quotas.table.put(key, quota, revision=self._quotas.revision(key))

    def _answer(
        self, quota: Quota | None, service: str, world: World, error: IsochroneError | None
    ) -> QuotaAnswer:
        return QuotaAnswer(
            cell=self._cell,
            service=service,
            accepted=error is None,
            code=error.code if error else "",
            message=error.message if error else "",
            epoch=quota.epoch if quota else 0,
            revision=quota.revision if quota else 0,
            replicas=held(world, service),
            unmet=self.unmet.get(service, ()),
        )
