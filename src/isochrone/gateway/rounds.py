"""What a gateway does on a timer, whether or not anything arrives.

Every 250 ms: review the fleet, tell the doors, forget gateways that are gone. Every second: routing
tables to disk; every 2 s: repeat orders. Every 10 minutes: look through the store for files that
nothing names. (Presence has its own publisher, the tables compare themselves.)

Rules: a round ends only by being cancelled; a disk that refuses is logged and asked again later.
"""

from __future__ import annotations

import asyncio
import logging
from time import monotonic
from typing import Final

from isochrone.fabric.presence import FORGET_S, PERIOD_S
from isochrone.gateway.orders import REPEAT_S
from isochrone.gateway.parts import Parts

SAVE_ROUTES_S: Final = 1.0
ANSWERS_S: Final = 1.0
"""How often it is seen to that answers are signed and checked (``gateway.answer_desk``)."""
SWEEP_FILES_S: Final = 600.0
"""How often the store is looked through for files that nothing names."""

log = logging.getLogger(__name__)


class Rounds:
    """The repeated work on the parts."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._saved: dict[str, tuple[int, int]] = {}

    async def review(self) -> None:
        """Judge the nodes and the gateways, until cancelled."""
        parts = self._parts
        while True:
            now_s = monotonic()
            parts.fleet.judge(now_s)
            parts.fleet.review(now_s)
            parts.doors.set_doors(parts.neighbours.cell_doors())
            self._forget_gateways(now_s)
            await asyncio.sleep(PERIOD_S)

    async def repeat(self) -> None:
        """Repeat orders and keep routing tables, until cancelled."""
        saved_s = ordered_s = monotonic()
        while True:
            await asyncio.sleep(SAVE_ROUTES_S / 2)
            now_s = monotonic()
            if now_s - ordered_s >= REPEAT_S:
                ordered_s = now_s
                self._parts.tables.orders.send_all()
            if now_s - saved_s >= SAVE_ROUTES_S:
                saved_s = now_s
                await self.save_routes()

    async def check_answers(self) -> None:
        """Have answers signed and checked, until cancelled."""
        while True:
            await asyncio.sleep(ANSWERS_S)
            self._parts.answers.tick()

    async def sweep_files(self) -> None:
        """Files that nothing names any more, or nothing that may be here, do not stay."""
        parts = self._parts
        while True:
            await asyncio.sleep(SWEEP_FILES_S)
            if parts.tables.trusted():
                await parts.loop.run_in_executor(None, self.sweep, parts.files.wanted())

    def sweep(self, wanted: frozenset[str]) -> None:
        """Drop the files beside ``wanted`` and their proofs. Blocking: call it in a thread."""
        try:
            for sha256 in self._parts.store.sweep(wanted):
                self._parts.proofs.forget(sha256)
        except OSError as error:
            log.warning("the store is not swept: %s", error)

    async def save_routes(self) -> None:
        """Keep the routing tables that changed since they were kept last."""
        parts = self._parts
        tables = [
            table
            for cell, table in parts.book.tables.items()
            if self._saved.get(cell) != (table.epoch, table.sequence)
        ]
        if not tables:
            return
        try:
            await parts.loop.run_in_executor(None, parts.snapshots.save, tables)
        except OSError as error:
            log.warning("routing tables are not kept on disk: %s", error)
            return
        for table in tables:
            self._saved[table.cell] = (table.epoch, table.sequence)

    def _forget_gateways(self, now_s: float) -> None:
        fleet = self._parts.fleet
        heard = {presence.gateway for presence, _ in self._parts.board.heard()}
        for known in list(fleet.nodes.values()):
            for gateway, sighting in list(known.via.items()):
                gone = gateway not in heard and gateway not in fleet.peers
                if gone and now_s - sighting.at_s > FORGET_S:
                    fleet.gateway_forgotten(gateway)
