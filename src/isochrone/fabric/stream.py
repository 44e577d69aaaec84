"""The sequenced stream of routing tables: the newest of each cell, for whoever starts now.

A table is published on ``iso.<cell>.routes``: gateways of all cells hear it at once, and the
cell's own store keeps the last few, a moment later (it syncs each one to its disk). A table's
identity is (epoch, sequence) inside it, so hearing one twice or late does no harm.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from isochrone.fabric.connection import Fabric
from isochrone.schema.errors import IsochroneError

STREAM: Final = "routes"
KEPT: Final = 16
"""Tables kept per cell: one is enough to start from, a few help an engineer."""

log = logging.getLogger(__name__)


def subject(cell: str) -> str:
    """Where a cell's routing tables are published."""
    return f"iso.{cell}.routes"


class RouteStream:
    """Publish and follow routing tables (as bytes)."""

    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric
        self._kept_in = -1

    async def publish(self, data: bytes) -> bool:
        """Publish this cell's table; False when the fabric is away."""
        await self._keep()
        return self._fabric.publish(subject(self._fabric.cell), data)

    async def follow(self, callback: Callable[[str, bytes], None]) -> None:
        """Call ``callback(cell, data)`` for every table of every cell.

        After every connection also for this cell's last one, whoever published it when.
        """

        def receive(name: str, data: bytes) -> None:
            try:
                callback(name.split(".")[1], data)
            except Exception:
                log.exception("a routing table on %s could not be taken", name)

        async def catch_up() -> None:
            last = await self.latest()
            if last is not None:
                receive(subject(self._fabric.cell), last)

        await self._fabric.subscribe("iso.*.routes", receive)
        self._fabric.on_reconnect.append(lambda: self._fabric.spawn(catch_up()))
        await catch_up()

    async def latest(self) -> bytes | None:
        """This cell's newest kept table, if the fabric has one."""
        try:
            line = self._fabric.line()
            return await line.latest(STREAM, subject(self._fabric.cell))
        except IsochroneError as error:
            log.debug("%s", error.sentence())
            return None

    async def _keep(self) -> None:
        """Make the stream once per connection (its data may have been deleted meanwhile)."""
        generation = self._fabric.generation
        if self._kept_in == generation or not self._fabric.connected:
            return
        try:
            await self._fabric.line().keep_latest(STREAM, subject(self._fabric.cell), KEPT)
            self._kept_in = generation
        except IsochroneError as error:
            log.debug("%s", error.sentence())
