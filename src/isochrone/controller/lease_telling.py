"""Lease records on their way: kept on disk, signed, handed to the validators until one has them.

Every controller of a cell keeps the book; whoever leads tells. After an epoch's end its records go
out as ``RecordBatch``es on ``iso.<cell>.records``, again and again until acknowledged, and once
more when a validator asks for them (``RecordsWanted``). They are forgotten when their epoch is
final, as more than a third of the configured validators say, or after ``EPOCHS_KEPT``. Whoever else
calls an epoch final would have records thrown away that nobody settled.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterator
from typing import Final

import msgspec

from isochrone.controller.lease_records import Book, Watched, looked, records_of, without_before
from isochrone.controller.shelf import Shelf
from isochrone.controller.view import World
from isochrone.fabric.connection import Fabric
from isochrone.rules.epochs import told_final
from isochrone.rules.tally_batches import batches
from isochrone.schema.believing import Wishes
from isochrone.schema.deployment import Deployment
from isochrone.schema.digests import UNREADABLE, decode
from isochrone.schema.documents import FINAL_NEWS, LEASE_RECORD, pack, seal, unpack, unseal
from isochrone.schema.errors import IsochroneError
from isochrone.schema.identity import PrivateKey
from isochrone.schema.settling import (
    S_FINAL,
    S_WANTED,
    FinalNews,
    RecordsAck,
    records_subject,
)

ACK_WITHIN_S: Final = 2.0

EPOCHS_KEPT: Final = 200
"""Epochs told and not yet final; older ones are given up (a week of hours)."""

log = logging.getLogger(__name__)


class LeaseTelling:
    """The book, on disk and on the fabric. ``may_act``: whether this controller leads.

    ``validators``: keys of those whose word on final epochs is believed, and whose wishes for
    records are (none named: anybody's).
    """

    def __init__(
        self,
        fabric: Fabric,
        cell: str,
        key: PrivateKey,
        deployment: Deployment,
        shelf: Shelf,
        may_act: Callable[[], bool],
        unix_ms: Callable[[], int],
        validators: Collection[str] = (),
    ) -> None:
        self._fabric = fabric
        self._cell = cell
        self._key = key
        self._deployment = deployment
        self._shelf = shelf
        self._may_act = may_act
        self._unix_ms = unix_ms
        self._validators = frozenset(validators)
        self._wishes = Wishes(validators)
        self._finals: dict[str, int] = {}
        self._kept: dict[str, Watched] = dict(_read(shelf))
        self._book: Book = dict(self._kept)
        self._due: set[int] = set()
        self._told_to = self._first_untold() - 1

    async def listen(self) -> None:
        """Hear what validators want, and what is final."""
        await self._fabric.subscribe(S_WANTED, self._on_wanted)
        await self._fabric.subscribe(S_FINAL, self._on_final)

    async def observe(self, world: World) -> None:
        """Look at the leases; at the end of an epoch put the whole book on disk."""
        if world.doubt:
            return
        self._book = looked(self._book, world, self._unix_ms())
        self._forget_before(self._epoch() - EPOCHS_KEPT)
        await self._save()

    async def tell(self) -> None:
        """Hand over what is due; what nobody acknowledges stays due."""
        newest = self._epoch() - 1
        self._due |= set(range(max(self._told_to + 1, newest - EPOCHS_KEPT), newest + 1))
        self._told_to = max(self._told_to, newest)
        for epoch in sorted(self._due):
            if not self._may_act() or not await self._hand_over(epoch):
                return
            self._due.discard(epoch)

    def _first_untold(self) -> int:
        """The oldest epoch that the book speaks of; it does not know what was acknowledged."""
        seen_ms = min((row.seen_unix_ms for row in self._book.values()), default=self._unix_ms())
        return max(self._deployment.epoch_at(seen_ms), self._epoch() - EPOCHS_KEPT)

    def _epoch(self) -> int:
        return self._deployment.epoch_at(self._unix_ms())

    async def _hand_over(self, epoch: int) -> bool:
        records = records_of(self._book, self._deployment, epoch)
        documents = (pack(seal(LEASE_RECORD, record, self._key)) for record in records)
        for data in batches(epoch, self._key.address, (), documents):
            try:
                reply = await self._fabric.request(records_subject(self._cell), data, ACK_WITHIN_S)
                decode(reply, RecordsAck, "acknowledgement")
            except IsochroneError as error:
                log.debug("lease records of epoch %d wait: %s", epoch, error.sentence())
                return False
        return True

    def _on_wanted(self, _subject: str, data: bytes) -> None:
        try:
            epoch = self._wishes.epoch(data)
        except IsochroneError as error:
            log.debug("a wish for records: %s", error.sentence())
            return
        if 0 <= self._epoch() - epoch <= EPOCHS_KEPT and epoch < self._epoch():
            self._due.add(epoch)

    def _on_final(self, _subject: str, data: bytes) -> None:
        try:
            news, signer = unseal(unpack(data), FINAL_NEWS, FinalNews)
        except IsochroneError as error:
            log.debug("news of a final epoch: %s", error.sentence())
            return
        if signer in self._validators:
            self._finals[signer] = max(news.epoch, self._finals.get(signer, -1))
            final = told_final(self._finals, self._validators)
            self._forget_before(min(final + 1, self._epoch()))

    def _forget_before(self, epoch: int) -> None:
        self._book = without_before(self._book, self._deployment.start_unix_ms(epoch))

    async def _save(self) -> None:
        """Write what changed: a new lease or release at once, a mere sight once an epoch."""
        changed = {
            key: row
            for key, row in self._book.items()
            if (kept := self._kept.get(key)) is None or self._is_news(kept, row)
        }
        gone = set(self._kept) - set(self._book)
        if not changed and not gone:
            return
        self._kept = {k: r for k, r in self._kept.items() if k not in gone} | changed
        await asyncio.to_thread(_write, self._shelf, changed, gone)

    def _is_news(self, kept: Watched, row: Watched) -> bool:
        epoch_at = self._deployment.epoch_at
        later = epoch_at(kept.seen_unix_ms) != epoch_at(row.seen_unix_ms)
        moved = kept.released_unix_ms != row.released_unix_ms
        return later or moved or kept.invitation != row.invitation


def _write(shelf: Shelf, changed: dict[str, Watched], gone: set[str]) -> None:
    for key in sorted(changed):
        shelf.keep(key, msgspec.json.encode(changed[key]))
    for key in sorted(gone):
        shelf.drop(key)


def _read(shelf: Shelf) -> Iterator[tuple[str, Watched]]:
    for key, data in shelf.everything().items():
        try:
            yield key, msgspec.json.decode(data, type=Watched)
        except UNREADABLE as error:
            log.error("the lease record %s cannot be read: %s", key, error)
