"""A validator's holdings: what it was handed, on its disk before it says so.

The shell of ``collecting``: a spool (fsynced, read again at the start) under one collection, used
by the event loop and by the threads that propose and review. A batch is acknowledged when all that
was new in it is on disk; what belongs to an epoch that is settled is acknowledged and dropped, so
that nobody repeats for ever what can no longer count.

Every bonded operator has a share of the spool (``shares``): who floods fills its own, and what
found no room is not acknowledged, nor binding any longer. Only what is new of a batch is written.

A *mark* is what was held at a moment: a proposal made later must not miss any of it.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Collection as Collected
from itertools import filterfalse
from pathlib import Path
from typing import Final

import msgspec

from isochrone.records.segments import RECORD_BYTES_MAX
from isochrone.records.spool import Spool
from isochrone.schema.chain_snapshot import ChainSnapshot
from isochrone.schema.deployment import Deployment
from isochrone.schema.digests import UNREADABLE
from isochrone.schema.documents import LEASE_RECORD, STANDBY_RECORD
from isochrone.schema.errors import InvalidInput, IsochroneError, TooLarge, Unavailable
from isochrone.schema.proof import APPEAL
from isochrone.schema.record_batch import LeaseRecord, Links, RecordBatch, SignedHead
from isochrone.schema.settlement import Books
from isochrone.schema.settling import RecordsAck
from isochrone.validator.chains import LATE_EPOCHS
from isochrone.validator.collecting import Collection, Fault, batches_of
from isochrone.validator.shares import NOBODY, Shares
from isochrone.validator.sifting import Sound, sift
from isochrone.validator.watch_collecting import WatchCollection, is_of_a_watch

EPOCHS_AHEAD: Final = 1
"""Clocks differ: a record of the next epoch may come before this one is over for us."""

FILE_BYTES_MAX: Final = 512 * 1024 * 1024
"""Of another validator's holdings in one file."""

log = logging.getLogger(__name__)

_decode_batch = msgspec.msgpack.Decoder(RecordBatch).decode
_decode_file = msgspec.msgpack.Decoder(list[RecordBatch]).decode
_encode = msgspec.msgpack.Encoder().encode


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """What was held: newest position by chain id; kind, subject (of a watch's: SHA-256) and signer
    of the documents of the epoch."""

    positions: dict[bytes, int]
    papers: frozenset[tuple[str, str, str]]


class Holdings:
    """Records on disk and in memory. ``settled``: newest epoch with books; ``changes`` grows."""

    def __init__(
        self, deployment: Deployment, spool: Spool, me: str, unix_ms: Callable[[], int]
    ) -> None:
        self._deployment = deployment
        self._spool = spool
        self._me = me
        self._unix_ms = unix_ms
        self._lock = threading.Lock()
        self._shares = Shares(spool.bytes_max)
        self._collection = Collection(deployment.domain, self._shares)
        self._watches = WatchCollection(self._shares)
        self._accused = 0
        self._crowded: dict[str, str] = {}
        self._operators: Mapping[str, str] | None = None
        self._bonds: Mapping[str, int] = {}
        self._watchers: tuple[Mapping[str, str], Mapping[str, int], Collected[str]] = ({}, {}, ())
        self._keeping = asyncio.Lock()
        self._owed: list[tuple[int, bytes]] = []
        self.settled = -1
        self.changes = 0

    @classmethod
    def open(
        cls, deployment: Deployment, folder: Path, me: str, unix_ms: Callable[[], int]
    ) -> Holdings:
        """Open the spool and read all of it again. Blocking."""
        return cls.over(deployment, Spool.open(folder), me, unix_ms)

    @classmethod
    def over(
        cls, deployment: Deployment, spool: Spool, me: str, unix_ms: Callable[[], int]
    ) -> Holdings:
        """The same over a spool that is open."""
        holdings = cls(deployment, spool, me, unix_ms)
        holdings._shares.binding = False
        for epoch in holdings._spool.epochs():
            for data in holdings._spool.read(epoch):
                try:
                    holdings._take(_decode_batch(data))
                except Unavailable as error:  # it was handed over in another order
                    log.error("held records are left out: %s", error.sentence())
        holdings._shares.binding = True
        for damage in holdings._spool.damages:
            log.error("the holdings are damaged: %s", damage)
        return holdings

    def close(self) -> None:
        """Give the spool back."""
        self._spool.close()

    @property
    def chains(self) -> int:
        """How many chains are known."""
        return len(self._collection.chains)

    @property
    def crowded(self) -> tuple[str, ...]:
        """Why records were refused for want of room, in words, an account each."""
        return tuple(why for _, why in sorted(self._crowded.items()))

    async def admit(
        self,
        operators: Mapping[str, str],
        bonds: Mapping[str, int],
        validators: Mapping[str, str] | None = None,
        stakes: Mapping[str, int] | None = None,
        nodes: Collected[str] = (),
    ) -> None:
        """The chain was read: only records by these bonded keys are taken now.

        ``operators``, ``validators``: account by key; ``bonds``, ``stakes``: their micro-USD by
        account. ``nodes``: keys that work for a bonded provider.
        """
        watchers = (validators or {}, stakes or {}, nodes)
        if (operators, bonds, watchers) != (self._operators, self._bonds, self._watchers):
            self._operators, self._bonds, self._watchers = operators, bonds, watchers
            await asyncio.to_thread(self._admit)

    async def on_batch(self, data: bytes) -> bytes | None:
        """Take a batch that was handed over; the acknowledgement, or None when it is not taken."""
        try:
            batch = _decode_batch(data)
        except UNREADABLE as error:
            log.debug("a batch of records cannot be read: %s", error)
            return None
        try:
            if not await self.take(batch):
                return None
        except IsochroneError as error:
            log.error("records are not taken: %s", error.sentence())
            return None
        return msgspec.json.encode(RecordsAck(validator=self._me))

    async def take(self, batch: RecordBatch) -> bool:
        """Take a batch; False for one of an epoch, or by an operator, that is not there yet, and
        for one of which an operator's share had no room for all.

        Raises TooLarge for more than the spool takes at once, Unavailable when it takes nothing.
        """
        now = self._deployment.epoch_at(self._unix_ms())
        if not 0 <= batch.epoch <= now + EPOCHS_AHEAD:
            return False
        if batch.epoch < self.settled:  # of the newest settled one, late records still count
            return True
        size_bytes = len(_encode(batch))
        if size_bytes > RECORD_BYTES_MAX:
            raise TooLarge(f"A batch of {size_bytes} bytes; {RECORD_BYTES_MAX} are taken at once.")
        new, whole = await asyncio.to_thread(self._add, batch)
        if new is not None:
            self.changes += 1
            self._owed.append((batch.epoch, _encode(new)))
        await self._keep()
        return whole

    async def take_file(self, data: bytes) -> int:
        """Take another validator's file of holdings; how many chains in it were new.

        Raises InvalidInput when it cannot be read.
        """
        try:
            batches = await asyncio.to_thread(_decode_file, data)
        except UNREADABLE as error:
            raise InvalidInput(f"A file of held records cannot be read: {error}.") from error
        before = self.chains
        for batch in batches:
            await self.take(batch)
        return self.chains - before

    def file(self, epoch: int) -> tuple[bytes, Mark]:
        """Everything that can count in an epoch as a file, and its mark. Blocking.

        The bytes depend on what is held alone, not on how it came.
        """
        with self._lock:
            counting, collection = _counting(epoch), self._collection
            batches = [batch for of in counting for batch in batches_of(collection, of, "")]
            said = self._watches.documents(epoch)
            batches += [RecordBatch(epoch=epoch, source="", documents=(one,)) for one in said]
            return _encode(batches), self._mark(epoch)

    def watches(self, epoch: int) -> list[bytes]:
        """The documents held of an epoch's watch, packed. Blocking, briefly."""
        with self._lock:
            return self._watches.documents(epoch)

    def homes(self, epoch: int) -> dict[str, str]:
        """Node → cell, by the lease and standby records held of an epoch; unchecked."""
        kinds = (LEASE_RECORD, STANDBY_RECORD)
        with self._lock:
            signed = [one for kind in kinds for _, one in self._collection.documents(kind, epoch)]
        records = [paper.record for papers in signed for paper in papers]
        told = [one.terms if isinstance(one, LeaseRecord) else one for one in records]
        return {one.node: one.cell for one in told}

    def sound(self, epoch: int, chain: ChainSnapshot, books: Books | None) -> Sound:
        """What may count in an epoch by what the chain says about keys. Blocking."""
        with self._lock:
            heads = list(self._heads(epoch))
            links = self._links(epoch)
            leases = self._papers(LEASE_RECORD, _counting(epoch))
            standby = self._papers(STANDBY_RECORD, (epoch,))
            watches = self._watches.documents(epoch)
        return sift(
            epoch,
            self._deployment,
            chain,
            books,
            heads=heads,
            links=links,
            leases=leases,
            standby=standby,
            watches=watches,
        )

    def binding(self, mark: Mark) -> Mark:
        """What of a mark others are held to. Blocking.

        Whoever floods may fill its share with other records at every validator; then none can take
        what another has. So an operator whose share was too small here binds nobody; appeals do.
        """
        with self._lock:
            chains, account = self._collection.chains, self._shares.account
            theirs = {
                name
                for name in (mark.positions if self._crowded else ())
                if (copy := chains.get(name)) is not None
                and copy.chain is not None
                and account(copy.chain.gateway) in self._crowded
            }
            papers = {
                (kind, about, signer)
                for kind, about, signer in mark.papers
                if kind == APPEAL or account(signer) not in self._crowded
            }
            positions = {name: at for name, at in mark.positions.items() if name not in theirs}
            return Mark(positions=positions, papers=frozenset(papers))

    def incomplete(self, epoch: int) -> bool:
        """Whether a head waits for links that are not here, though there is room for them: somebody
        should send them again."""
        with self._lock:
            gateways = self._collection.incomplete(epoch)
            return any(self._shares.account(one) not in self._crowded for one in gateways)

    def open_faults(self) -> list[Fault]:
        """Proofs of lies that the chain was not told yet, the oldest first."""
        with self._lock:
            return self._collection.faults[self._accused :]

    def accused(self) -> None:
        """The chain was told the oldest of them."""
        self._accused += 1

    async def settled_to(self, epoch: int, final: int) -> None:
        """Books of ``epoch`` are made; drop what nothing needs once ``final`` is final.

        Late records of a final epoch are still counted in the one after it.
        """
        self.settled = max(self.settled, epoch)
        last = min(final, epoch) - LATE_EPOCHS
        with self._lock:
            self._collection.forget_before(last + 1)
            self._watches.forget_before(last + 1)
            self._shares.forget_before(last + 1)
        for old in self._spool.epochs():
            if old <= last:
                await self._spool.drop(old)
                self._crowded.clear()  # there is room again, as far as anybody knows

    # --- inside ----------------------------------------------------------------------------------

    def _add(self, batch: RecordBatch) -> tuple[RecordBatch | None, bool]:
        """What in it was new; whether all is kept: nothing a stranger's, nothing over a share."""
        both = (self._collection, self._watches)
        with self._lock:
            before = [(one.strange, one.over) for one in both]
            new = self._take(batch)
            self._say_crowded()
            return new, [(one.strange, one.over) for one in both] == before

    def _take(self, batch: RecordBatch) -> RecordBatch | None:
        """What of a batch was new, None when nothing was; each document where it belongs."""
        watching = tuple(filter(is_of_a_watch, batch.documents))
        rest = tuple(filterfalse(is_of_a_watch, batch.documents))
        new = self._collection.add(msgspec.structs.replace(batch, documents=rest))
        said = self._watches.add(batch.epoch, watching)
        if not said:
            return new
        found = new or RecordBatch(epoch=batch.epoch, source=batch.source)
        return msgspec.structs.replace(found, documents=(*found.documents, *said))

    def _say_crowded(self) -> None:
        """Once an operator, until epochs are forgotten."""
        crowded = self._collection.crowded | self._watches.crowded
        for account in crowded - set(self._crowded):
            limit = self._shares.limit(account)
            who = "records of no known operator" if account == NOBODY else f"operator {account}"
            why = f"no more records are kept of {who}: its share of {limit} bytes is full"
            self._crowded[account] = why
            log.error("%s", why)
        self._collection.crowded.clear()
        self._watches.crowded.clear()

    def _admit(self) -> None:
        operators = self._operators or {}
        validators, stakes, nodes = self._watchers
        together = Counter(self._bonds) + Counter(stakes)
        with self._lock:
            self._collection.admit(operators)
            self._watches.admit(validators, nodes)
            self._shares.admit({**operators, **validators}, together)

    async def _keep(self) -> None:
        """Put on disk what is in memory only. Whoever brings the same again waits for it as well,
        and a write that failed is owed to the next one: nothing is acknowledged before."""
        async with self._keeping:
            owed = list(self._owed)
            for epoch in sorted({of for of, _ in owed}):
                await self._spool.append(epoch, [data for of, data in owed if of == epoch])
            del self._owed[: len(owed)]

    def _mark(self, epoch: int) -> Mark:
        positions = {
            copy.best.chain.id: copy.position
            for of in _counting(epoch)
            for copy in self._collection.of(of)
            if copy.best is not None
        }
        papers = frozenset(
            (kind, about, signer)
            for (kind, of, about), signed in self._collection.papers.items()
            if of == epoch and kind in (LEASE_RECORD, STANDBY_RECORD)
            for signer in signed
        )
        papers |= self._watches.names(epoch)
        return Mark(positions=positions, papers=papers)

    def _heads(self, epoch: int) -> Iterable[SignedHead]:
        for of in _counting(epoch):
            for copy in self._collection.of(of):
                assert copy.best is not None
                yield copy.best
                for requests, signature in copy.counts.values():
                    yield msgspec.structs.replace(
                        copy.best, tenant_requests=requests, tenant_signature=signature
                    )

    def _links(self, epoch: int) -> dict[bytes, Links]:
        return {
            copy.best.chain.id: Links(chain=copy.best.chain.id, first=1, bodies=copy.bodies)
            for of in _counting(epoch)
            for copy in self._collection.of(of)
            if copy.best is not None
        }

    def _papers(self, kind: str, epochs: Iterable[int]) -> list[bytes]:
        return [
            paper.packed
            for of in epochs
            for _, papers in self._collection.documents(kind, of)
            for paper in papers
        ]


def _counting(epoch: int) -> range:
    """The epochs whose records can count in one."""
    return range(max(0, epoch - LATE_EPOCHS), epoch + 1)
