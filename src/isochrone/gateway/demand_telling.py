"""Tells the controllers what is asked of services: every second, and at once when requests wait.

Rules: a report at once waits ``SOON_S`` for company, so that a flood of first requests is one
message; nothing is published while nobody asks for anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Final

import msgspec

from isochrone.fabric.connection import Fabric
from isochrone.gateway.demand import Demand
from isochrone.schema.demand import DemandReport, demand_subject

TELL_S: Final = 1.0
SOON_S: Final = 0.02
"""Twenty milliseconds, against the second that a start takes at least."""

_encode = msgspec.msgpack.Encoder().encode


class DemandTeller:
    """Publishes reports on the fabric. ``gateway``: our address; ``boot``: of this process."""

    def __init__(self, demand: Demand, fabric: Fabric, cell: str, gateway: str, boot: str) -> None:
        self._demand = demand
        self._publish: Callable[[str, bytes], object] = fabric.publish
        self._cell = cell
        self._gateway = gateway
        self._boot = boot
        self._sequence = 0
        self._timer: asyncio.TimerHandle | None = None

    def soon(self) -> None:
        """A request waits for a replica: tell it at once."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(SOON_S, self._tell)

    async def run(self) -> None:
        """Tell every ``TELL_S`` until cancelled."""
        try:
            while True:
                await asyncio.sleep(TELL_S)
                self._tell()
        finally:
            if self._timer is not None:
                self._timer.cancel()

    def _tell(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        rows = self._demand.rows(monotonic())
        if not rows:
            return
        self._sequence += 1
        report = DemandReport(
            gateway=self._gateway,
            cell=self._cell,
            boot=self._boot,
            sequence=self._sequence,
            services=rows,
        )
        self._publish(demand_subject(self._cell, self._gateway), _encode(report))
