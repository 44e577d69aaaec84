"""What this gateway keeps of its tallies on disk, until the epoch's root is final.

A thin layer over the spool: messages by epoch, which epochs changed (for whoever hands records
on), how full it is, and what may be forgotten. With a chain of money only finality releases an
epoch, and a spool that fills up stops paid work; without one no root ever comes, so epochs older
than ``KEPT_EPOCHS`` are dropped.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from isochrone.records.spool import Spool
from isochrone.rules.tally_batches import Message, unpack_message
from isochrone.schema.deployment import Deployment
from isochrone.schema.digests import UNREADABLE
from isochrone.schema.errors import IsochroneError
from isochrone.schema.frames import pack

KEPT_EPOCHS: Final = 24
"""Without a chain of money: a day, for whoever wants to look."""

log = logging.getLogger(__name__)


class KeptTallies:
    """The spool of one gateway. ``changed``: epochs in which something new is signed by both."""

    def __init__(self, spool: Spool, deployment: Deployment) -> None:
        self.changed: set[int] = set()
        self._spool = spool
        self._settles = deployment.settles
        self._tasks: set[asyncio.Task[None]] = set()

    def epochs(self) -> tuple[int, ...]:
        """The epochs that have records, ascending."""
        return self._spool.epochs()

    def messages(self, epoch: int) -> list[Message]:
        """Everything of an epoch, in the order in which it was kept. Blocking."""
        found = []
        for record in self._spool.read(epoch):
            try:
                found.append(unpack_message(record))
            except UNREADABLE:
                log.error("a record of epoch %d in the spool cannot be read", epoch)
        return found

    async def keep(self, epoch: int, messages: Sequence[Message], *, tell: bool) -> None:
        """Keep messages of an epoch; returns when they are safe. ``tell``: hand them on.

        Raises Unavailable when the disk refuses.
        """
        await self._spool.append(epoch, [pack(message) for message in messages])
        if tell:
            self.changed.add(epoch)

    def look(self, epoch: int) -> str:
        """Every few seconds: forget what nobody will release; why no paid work may be taken."""
        if self._settles:
            return self._spool.room().reason
        self.final(epoch - KEPT_EPOCHS - 1)
        return ""

    def final(self, epoch: int) -> None:
        """Every root up to ``epoch`` is final: what it counts need not be kept any longer."""
        for held in self._spool.epochs():
            if held <= epoch:
                self.changed.discard(held)
                task = asyncio.get_running_loop().create_task(self._drop(held))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Write what waits and give the folder back."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.to_thread(self._spool.close)

    async def _drop(self, epoch: int) -> None:
        try:
            await self._spool.drop(epoch)
        except IsochroneError as error:
            log.warning("%s", error.sentence())
