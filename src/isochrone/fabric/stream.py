"""The sequenced stream of routing tables: the newest of each cell, for whoever starts now.

A table is published on ``iso.<cell>.routes``: gateways of all cells hear it at once, and the
cell's own JetStream keeps the last few. A table's identity is (epoch, sequence) inside it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import nats.errors
import nats.js.errors

from isochrone.fabric.connection import Fabric

STREAM = "routes"
KEPT = 16
"""Tables kept per cell: one is enough to start from, a few help an engineer."""

_FOREIGN = (nats.errors.Error, OSError, asyncio.TimeoutError)


def subject(cell: str) -> str:
    """Where a cell's routing tables are published."""
    return f"iso.{cell}.routes"


class RouteStream:
    """Publish and follow routing tables (as bytes)."""

    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric
        self._made_in = -1

    async def publish(self, data: bytes) -> bool:
        """Publish this cell's table; False when the fabric is away."""
        await self._ensure()
        return self._fabric.publish(subject(self._fabric.cell), data)

    async def follow(self, callback: Callable[[str, bytes], None]) -> None:
        """Call ``callback(cell, data)`` for every table of every cell, and the cell's last one."""

        def receive(name: str, data: bytes) -> None:
            callback(name.split(".")[1], data)

        await self._fabric.subscribe("iso.*.routes", receive)
        last = await self.latest()
        if last is not None:
            callback(self._fabric.cell, last)

    async def latest(self) -> bytes | None:
        """This cell's newest kept table, if the fabric has one."""
        if not self._fabric.connected:
            return None
        try:
            jetstream = self._fabric.jetstream()
            message = await jetstream.get_last_msg(STREAM, subject(self._fabric.cell))
        except _FOREIGN:
            return None
        return bytes(message.data) if message.data else None

    async def _ensure(self) -> None:
        """Make the stream once per connection (its data may have been deleted meanwhile)."""
        if not self._fabric.connected or self._made_in == self._fabric.generation:
            return
        generation = self._fabric.generation
        with contextlib.suppress(*_FOREIGN):
            jetstream = self._fabric.jetstream()
            try:
                await jetstream.stream_info(STREAM)
            except nats.js.errors.NotFoundError:
                await jetstream.add_stream(
                    name=STREAM,
                    subjects=[subject(self._fabric.cell)],
                    max_msgs_per_subject=KEPT,
                )
            self._made_in = generation
