"""Telling: routes to the gateways of all cells, offers to the controllers of all cells."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping

import msgspec

from isochrone.controller import offers, routes
from isochrone.controller.shelf import Shelf
from isochrone.controller.view import World
from isochrone.fabric.connection import Fabric
from isochrone.fabric.stream import RouteStream
from isochrone.schema.digests import decode
from isochrone.schema.errors import InvalidInput, IsochroneError
from isochrone.schema.plans import CellOffers
from isochrone.schema.routing import RoutingTable, Starting

log = logging.getLogger(__name__)


class RoutesTeller:
    """Publishes the cell's routing table, on change at once and every ``routes.REPEAT_S``.

    The last table is kept on disk and in the stream: who begins to lead goes on from the newer
    of the two, so that a controller that has not yet heard the nodes takes no route away.
    """

    def __init__(
        self, fabric: Fabric, shelf: Shelf, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream = RouteStream(fabric)
        self._shelf = shelf
        self._clock = clock
        self._state = routes.State()
        self._epoch = 0

    async def tell(self, world: World, epoch: int, starting: Mapping[str, Starting]) -> None:
        """Publish if there is something to say. ``starting``: of services at home here."""
        if epoch != self._epoch:
            self._epoch = epoch
            self._state = routes.State(await self._last())
        before = self._state.table
        self._state, table = routes.step(self._state, world, epoch, self._clock(), starting)
        if table is None:
            return
        data = msgspec.json.encode(table)
        await self._stream.publish(data)
        if table != before:
            log.info("routes %d.%d: %s", table.epoch, table.sequence, _summary(table))
            await self._keep(data)

    async def _keep(self, data: bytes) -> None:
        try:
            await asyncio.to_thread(self._shelf.keep, "routes", data)
        except IsochroneError as error:
            log.error("%s", error.sentence())

    async def _last(self) -> RoutingTable | None:
        found: list[RoutingTable] = []
        for data in (await self._stream.latest(), self._shelf.read("routes")):
            if data:
                with contextlib.suppress(InvalidInput):
                    found.append(decode(data, RoutingTable, "routing table"))
        return max(found, key=lambda table: (table.epoch, table.sequence), default=None)


class Neighbours:
    """The other cells: what they offer, and telling them what we offer. ``controller``: us."""

    def __init__(
        self,
        fabric: Fabric,
        cell: str,
        controller: str,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fabric = fabric
        self._cell = cell
        self._controller = controller
        self._clock = clock
        self._board: dict[str, offers.Known] = {}
        self._told_s = float("-inf")
        self._sequence = 0

    async def listen(self) -> None:
        """Follow every cell's offers."""
        await self._fabric.subscribe("iso.*.offers", self._hear)

    def present(self) -> dict[str, CellOffers]:
        """The newest offers of the other cells that are there."""
        return offers.present(self._board, self._clock())

    def tell(self, world: World, epoch: int) -> None:
        """Publish our offers, at most every ``offers.TELL_S``."""
        now_s = self._clock()
        if now_s - self._told_s < offers.TELL_S:
            return
        self._told_s = now_s
        self._sequence += 1
        told = offers.offers_of(world, epoch, self._sequence, self._controller)
        self._fabric.publish(f"iso.{self._cell}.offers", msgspec.json.encode(told))

    def _hear(self, subject: str, data: bytes) -> None:
        try:
            told = decode(data, CellOffers, "offers")
        except InvalidInput as error:
            log.warning("%s: %s", subject, error.message)
            return
        if told.cell == self._cell or subject.split(".")[1] != told.cell:
            return
        if offers.newer(self._board.get(told.cell), told, self._clock()):
            self._board[told.cell] = offers.Known(told, self._clock())


def _summary(table: RoutingTable) -> str:
    rows = (f"{s.name} {len(s.replicas)}" for s in table.services)
    return ", ".join(rows) or "no service"
