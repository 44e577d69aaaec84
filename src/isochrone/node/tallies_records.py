"""The node's copies of what both signed, brought to every gateway of its cell.

Whoever settles must not depend on the gateway that was paid for it: so at an epoch's end, when a
channel comes back, and when something more was signed late, each gateway gets all of it and hands
it on. Copies stay here until a gateway says that the epoch's root is final, and for
``KEPT_EPOCHS_MIN`` in any case, so that one word spoken too early loses nothing at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Protocol

from isochrone.node.journal import Journal
from isochrone.node.tallies_signing import TallySigner
from isochrone.rules.tally_batches import assemble, batches
from isochrone.schema.errors import IsochroneError
from isochrone.schema.frames import RECORDS_BYTES_MAX, Control, Records

LOOK_S = 0.5
AFTER_END_S = 2.0
"""The last links of an epoch are signed within a round trip and two fsyncs of its end."""

KEPT_EPOCHS_MIN = 2
KEPT_EPOCHS_UNSETTLED = 24
"""Without a chain of money no root is ever final: a day, for whoever wants to look."""

ROOM_S = 0.05
"""Before a channel that takes nothing more is looked at again."""


class Door(Protocol):
    """What bringing copies needs of a channel."""

    @property
    def closed(self) -> bool:
        """Whether nothing can be sent any more."""

    def send_control(self, message: Control) -> bool:
        """Send; False when it takes no more for now."""


class CopyBearer:
    """Brings copies to the gateways in ``channels`` (by address)."""

    def __init__(
        self, node: str, signer: TallySigner, channels: Mapping[str, Door], journal: Journal
    ) -> None:
        self.brought = 0
        self._node = node
        self._signer = signer
        self._channels = channels
        self._journal = journal
        self._told: dict[tuple[str, int], int] = {}
        self._epoch_seen = -1
        self._ready_s = 0.0
        self._final = -1

    async def run(self) -> None:
        """Bring what is new, until cancelled."""
        while True:
            try:
                await self.look(time.monotonic())
            except IsochroneError as error:
                self._journal.tell("warning", "copies wait", reason=error.sentence())
            await asyncio.sleep(LOOK_S)

    def connected(self, gateway: str) -> None:
        """A gateway is (again) there: it gets everything that is not final."""
        for key in [key for key in self._told if key[0] == gateway]:
            del self._told[key]

    def final(self, epoch: int) -> None:
        """A gateway says that all roots up to ``epoch`` are final."""
        self._final = max(self._final, epoch)

    async def look(self, now_s: float) -> None:
        """One look: what has ended and is not told; what may be forgotten."""
        signer = self._signer
        epoch = signer.epoch
        if epoch != self._epoch_seen:
            after_s = min(AFTER_END_S, signer.deployment.epoch_s / 4)
            self._epoch_seen, self._ready_s = epoch, now_s + after_s
        await self._forget(epoch)
        newest = epoch - 1 if now_s >= self._ready_s else epoch - 2
        for held in signer.spool.epochs():
            if held <= newest:
                await self._bring(held)

    async def _bring(self, epoch: int) -> None:
        version = self._signer.versions[epoch]
        waiting = [
            (gateway, door)
            for gateway, door in list(self._channels.items())
            if not door.closed and self._told.get((gateway, epoch)) != version
        ]
        if not waiting:
            return
        packed = await asyncio.to_thread(self._gather, epoch)
        for gateway, door in waiting:
            for batch in packed:
                if not door.send_control(Records(batch=batch)):
                    await asyncio.sleep(ROOM_S)  # it was taken; the next one waits
                self.brought += 1
            self._told[gateway, epoch] = version

    def _gather(self, epoch: int) -> list[bytes]:
        copies, _ = assemble(self._signer.messages(epoch))
        return list(batches(epoch, self._node, copies.values(), bytes_max=RECORDS_BYTES_MAX))

    async def _forget(self, epoch: int) -> None:
        signer = self._signer
        last = min(self._final, epoch - KEPT_EPOCHS_MIN)
        if not signer.deployment.settles:
            last = epoch - KEPT_EPOCHS_UNSETTLED
        for held in signer.spool.epochs():
            if held <= last:
                await signer.spool.drop(held)
                signer.forget(held)
                for key in [key for key in self._told if key[1] == held]:
                    del self._told[key]
