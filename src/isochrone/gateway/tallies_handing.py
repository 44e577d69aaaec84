"""Hands records to the validators until one of them has them on its disk.

When an epoch has ended, everything of it that both have signed goes out in batches; what changed
after (a late acceptance, a tenant's count) goes out again. Copies that nodes bring are passed on as
they are: a gateway cannot hide a head that its node holds. A validator that asks
(``RecordsWanted``) gets all of an epoch once more.

Rules: one batch at a time, repeated with growing pauses while nobody answers, at once when somebody
asks. What nobody takes keeps nothing else waiting: copies go after the gateway's own records, and
one that is not taken goes to the end of the line. Nodes' copies wait in memory
(``COPIES_BYTES_MAX``); one that finds no room is dropped, since the node keeps it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Collection
from typing import Final

import msgspec

from isochrone.fabric.connection import Fabric
from isochrone.gateway.tallies_kept import KeptTallies
from isochrone.rules.tally_batches import Copy, assemble, batches
from isochrone.schema.believing import Wishes
from isochrone.schema.digests import UNREADABLE
from isochrone.schema.errors import IsochroneError
from isochrone.schema.frames import Records
from isochrone.schema.record_batch import RecordBatch
from isochrone.schema.settling import RecordsAck, records_subject

LOOK_S: Final = 0.5
ANSWER_S: Final = 5.0
"""For a validator's fsync."""

PAUSE_FIRST_S: Final = 1.0
PAUSE_MOST_S: Final = 30.0
COPIES_BYTES_MAX: Final = 64 * 1024 * 1024

log = logging.getLogger(__name__)


class RecordHand:
    """Hands over one gateway's records. ``epoch()``: the one that runs; ``validators``: those whose
    wishes are believed (none named: anybody's).

    ``behind``: ended epochs with records nobody has taken.
    """

    def __init__(
        self,
        *,
        address: str,
        cell: str,
        fabric: Fabric,
        kept: KeptTallies,
        epoch: Callable[[], int],
        validators: Collection[str] = (),
    ) -> None:
        self._wishes = Wishes(validators)
        self.handed = self.dropped = 0
        self._address = address
        self._subject = records_subject(cell)
        self._fabric = fabric
        self._kept = kept
        self._epoch = epoch
        self._copies: deque[bytes] = deque()
        self._copies_bytes = 0
        self._acked: dict[int, dict[bytes, tuple[int, int]]] = {}
        self._documents: dict[int, set[bytes]] = {}
        self._pause_s = 0.0
        self._asked = asyncio.Event()

    @property
    def behind(self) -> list[int]:
        """Ended epochs of which something is still to be handed over."""
        return sorted(epoch for epoch in self._kept.changed if epoch < self._epoch())

    async def run(self) -> None:
        """Hand over what there is, until cancelled."""
        while True:
            try:
                await self._hand_over()
                self._pause_s = 0.0
            except IsochroneError as error:
                log.debug("records are not handed over: %s", error.sentence())
                self._pause_s = min(PAUSE_MOST_S, max(PAUSE_FIRST_S, self._pause_s * 2))
            self._asked.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(LOOK_S, self._pause_s)):
                    await self._asked.wait()

    def wanted(self, _subject: str, data: bytes) -> None:
        """A validator asks for an epoch's records (again)."""
        try:
            epoch = self._wishes.epoch(data)
        except IsochroneError as error:
            log.debug("a wish for records: %s", error.sentence())
            return
        if epoch in self._kept.epochs():
            self._acked.pop(epoch, None)
            self._documents.pop(epoch, None)
            self._kept.changed.add(epoch)
        self._asked.set()

    def copies(self, node: str, message: Records) -> None:
        """A node brings its copies."""
        try:
            batch = msgspec.msgpack.decode(message.batch, type=RecordBatch)
        except UNREADABLE:
            self.dropped += 1
            return
        full = self._copies_bytes + len(message.batch) > COPIES_BYTES_MAX
        if full or batch.source != node or batch.documents:
            self.dropped += 1
            return
        self._copies.append(message.batch)
        self._copies_bytes += len(message.batch)

    async def _hand_over(self) -> None:
        failed: IsochroneError | None = None
        try:
            for epoch in self.behind:
                await self._hand_over_epoch(epoch)
        except IsochroneError as error:
            failed = error
        await self._hand_over_copies()
        if failed is not None:
            raise failed

    async def _hand_over_copies(self) -> None:
        while self._copies:
            try:
                await self._request(self._copies[0])
            except IsochroneError:
                self._copies.rotate(-1)
                raise
            self._copies_bytes -= len(self._copies.popleft())

    async def _hand_over_epoch(self, epoch: int) -> None:
        self._kept.changed.discard(epoch)
        try:
            packed, states, documents = await asyncio.to_thread(self._gather, epoch)
            for batch in packed:
                await self._request(batch)
        except IsochroneError:
            self._kept.changed.add(epoch)
            raise
        self._acked.setdefault(epoch, {}).update(states)
        self._documents.setdefault(epoch, set()).update(documents)
        for old in [old for old in self._acked if old not in self._kept.epochs()]:
            self._acked.pop(old)
            self._documents.pop(old, None)

    def _gather(self, epoch: int) -> tuple[list[bytes], dict[bytes, tuple[int, int]], list[bytes]]:
        """The batches of what no validator has yet. Blocking."""
        copies, documents = assemble(self._kept.messages(epoch))
        acked, sent = self._acked.get(epoch, {}), self._documents.get(epoch, set())
        states = {chain: _state(copy) for chain, copy in copies.items()}
        fresh = [copy for chain, copy in copies.items() if acked.get(chain) != states[chain]]
        papers = [document for document in documents if document not in sent]
        return list(batches(epoch, self._address, fresh, papers)), states, papers

    async def _request(self, batch: bytes) -> None:
        answer = await self._fabric.request(self._subject, batch, ANSWER_S)
        try:
            msgspec.json.decode(answer, type=RecordsAck)
        except UNREADABLE as error:
            log.warning("what answers on %s is no validator: %s", self._subject, error)
        else:
            self.handed += 1


def _state(copy: Copy) -> tuple[int, int]:
    """What of a chain would be handed over: its position, and the tenant's count."""
    return copy.position, copy.counted.requests if copy.counted is not None else 0
