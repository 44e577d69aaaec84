"""The shell of ``leadership``: carries its writes to the table, remembers epochs on disk.

Started, it runs by itself until closed; the controller asks ``may_act()`` before every order and
puts ``epoch`` into it. Closing a leader hands over at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable

from isochrone.controller import leadership
from isochrone.controller.ending import end_tasks
from isochrone.controller.shelf import Shelf
from isochrone.fabric.connection import Fabric
from isochrone.fabric.table import Table
from isochrone.schema.errors import IsochroneError
from isochrone.schema.leadership import LEADERSHIP_KEY, Leadership

STEP_S = 0.05
"""How often the machine is asked: well below ``leadership.BEAT_S``."""

ELECTION_S = leadership.TAKEOVER_S + leadership.ACT_S
"""How long a question waits for a leader: the longest election and a first beat on a slow disk."""

HAND_OVER_S = 1.0
"""For the last write of a leader that ends; a standby waits only three times longer without it."""

log = logging.getLogger(__name__)


class Leading:
    """This process's part in the leadership. ``on_lead`` is called when it begins to lead."""

    def __init__(
        self,
        fabric: Fabric,
        table: Table[Leadership],
        me: str,
        shelf: Shelf,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fabric = fabric
        self._table = table
        self._shelf = shelf
        self._clock = clock
        self._state = leadership.start(me, _read_floor(shelf), clock())
        self._told = False
        self.on_lead: list[Callable[[], None]] = []
        self._task = asyncio.create_task(self._run(), name="leadership")

    @property
    def epoch(self) -> int:
        """The epoch to put into orders."""
        return self._state.epoch

    @property
    def leader(self) -> str:
        """Who leads as far as is known; empty: nobody."""
        return self._state.entry.leader if self._state.entry else ""

    def may_act(self) -> bool:
        """Whether an order may be sent at this instant."""
        return self._fabric.connected and leadership.may_act(self._state, self._clock())

    async def answers(self) -> bool:
        """Whether a question that came just now is ours to answer; waits while an election is on.

        Someone else's leader answers, if it has shown itself since the question came: more than a
        beat later, for a beat seen sooner may have been sent before.
        """
        asked_s = self._clock()
        while not self.may_act():
            others = self._state.role != "lead" and self.leader not in ("", self._state.me)
            shown = others and self._state.changed_s > asked_s + leadership.BEAT_S
            if shown or self._clock() - asked_s > ELECTION_S:
                return False
            await asyncio.sleep(STEP_S)
        return True

    def learn(self, epoch: int) -> None:
        """Somebody has seen this epoch of our cell: never act below it."""
        self._step(leadership.Learned(epoch))

    async def close(self) -> None:
        """Stop, and let a standby take over at once if we led."""
        await end_tasks([self._task])
        write = leadership.resignation(self._state)
        if write is not None:
            with contextlib.suppress(IsochroneError, TimeoutError):
                async with asyncio.timeout(HAND_OVER_S):
                    await self._table.put(LEADERSHIP_KEY, write.entry, revision=write.revision)

    async def _run(self) -> None:
        while True:
            await self._look()
            await asyncio.sleep(STEP_S)

    async def _look(self) -> None:
        entry = self._table.entries.get(LEADERSHIP_KEY) if self._table.trustworthy else None
        self._step(leadership.Seen(entry.value, entry.revision) if entry else _NOTHING)
        connected = self._fabric.connected and self._table.seen.is_set()
        write = self._step(leadership.Tick(connected))
        if write is not None:
            await self._carry_out(write)
        self._tell()

    async def _carry_out(self, write: leadership.Write) -> None:
        sent_s = self._clock()
        try:
            if write.entry.epoch != self._state.epoch:
                # Before it is claimed: an epoch that was used is never used again.
                self._keep_floor(write.entry.epoch)
            revision = await self._table.put(LEADERSHIP_KEY, write.entry, revision=write.revision)
        except IsochroneError as error:
            log.debug("leadership not written: %s", error.sentence())
            self._step(leadership.Failed())
            return
        self._step(leadership.Wrote(write.entry, revision, sent_s))

    def _step(self, event: leadership.Event) -> leadership.Write | None:
        self._state, write = leadership.step(self._state, event, self._clock())
        return write

    def _tell(self) -> None:
        leads = self._state.role == "lead"
        if leads == self._told:
            return
        self._told = leads
        if leads:
            log.info("leading %s in epoch %d", self._fabric.cell, self._state.epoch)
            for callback in self.on_lead:
                callback()
        else:
            log.warning("standing by in %s; %s leads", self._fabric.cell, self.leader or "nobody")

    def _keep_floor(self, epoch: int) -> None:
        """On a disk that refuses, the table and the gateways' memory of epochs must do."""
        try:
            self._shelf.keep("epoch", str(epoch).encode())
        except IsochroneError as error:
            log.error("%s", error.sentence())


_NOTHING = leadership.Seen(None, 0)


def _read_floor(shelf: Shelf) -> int:
    text = shelf.read("epoch") or b"0"
    return int(text) if text.isdigit() else 0
