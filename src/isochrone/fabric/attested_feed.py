"""The way of attestations onto the shelf: heard, checked aside, repeated for nothing, kept on disk.

Intuition: a network of a hundred nodes and twenty vantages repeats thousands of documents every ten
seconds, two signatures each. A document is checked once, in a thread (the signatures' mathematics
lets other threads run), and remembered by its digest; repetitions cost a look-up.

Rules of this file: what is heard is bounded by message, queue and rate, guests' and others' apart,
and what cannot be read or is not believed is counted and dropped. After a restart the documents on
disk are heard first, as if they had been told: a process that knew everything a moment ago does not
become blind. ``settled`` says whether every believed vantage has had time to speak: since what was
kept has been checked, and since the fabric was away, this process stood still or its clock was put
forward so far that proofs may have grown old unheard. Until then a missing proof means nothing and
nothing should be *ended* for it (it proves nothing all the same).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from isochrone.fabric.attestations import place_attestation, work_attestation
from isochrone.fabric.attested import AttestedShelf, Believed, Checked, digest_of
from isochrone.fabric.connection import Fabric
from isochrone.fabric.reaches import Reaches
from isochrone.fabric.regions import Regions
from isochrone.rules.pacing import Pace
from isochrone.schema.digests import UNREADABLE
from isochrone.schema.documents import unpack
from isochrone.schema.errors import IsochroneError
from isochrone.schema.probing import (
    S_ATTESTED,
    S_HOUSE_ATTESTED,
    S_HOUSE_VANTAGES,
    S_VANTAGES,
    Attested,
)
from isochrone.schema.proof import S_VERDICTS
from isochrone.schema.work import WORK_ATTESTATION

MESSAGE_BYTES_MAX: Final = 1024 * 1024
"""What NATS carries at most by default."""

DOCUMENTS_MAX: Final = 1024
"""Of one message."""

QUEUE_MAX: Final = 64
"""Messages that wait to be checked; further ones are dropped and come again."""

CHECKS_PER_S: Final = 200
"""Documents checked a second at most, of guests and of others: 0.3 ms each, 6 % of a core, in a
thread. A flood of guests' that claim to be of believed keys holds other guests' up."""

NEWS_PER_S: Final = 200
"""News of vantages and of verdicts looked at a second, of either kind, 0.1 ms each: a hundred
vantages speak every two seconds. A flood in their names keeps some of it out; what is known
stays."""

SEEN_MAX: Final = 65_536
"""Digests of documents that need no second look, 16 bytes each."""

SWEEP_S: Final = 1.0
SAVE_S: Final = 30.0

SETTLE_S: Final = 15.0
"""Vantages repeat everything every ten seconds, or before it grows old."""

AWAY_MS: Final = 5000
"""Away for less, nothing was missed that is not repeated in time (or a quarter of the validity)."""

KEPT: Final = "attested.msgpack"

log = logging.getLogger(__name__)
_decode = msgspec.msgpack.Decoder(Attested).decode


class Feed:
    """Feeds a shelf from the fabric. ``folder``: where documents are kept (None: nowhere);
    ``regions``: absent, nothing is known statistically."""

    def __init__(
        self,
        shelf: AttestedShelf,
        reaches: Reaches,
        folder: Path | None,
        regions: Regions | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._shelf = shelf
        self._reaches = reaches
        self._regions = regions
        self._path = None if folder is None else folder / KEPT
        self._clock = clock
        self._began_s = clock()
        self._away_ms = max(AWAY_MS, shelf.valid_ms // 4)
        self._here_unix_ms = shelf.now_unix_ms()
        self._queues: dict[str, asyncio.Queue[tuple[bytes, ...]]] = {
            subject: asyncio.Queue(QUEUE_MAX) for subject in (S_ATTESTED, S_HOUSE_ATTESTED)
        }
        self._seen: OrderedDict[bytes, None] = OrderedDict()
        self._tasks: list[asyncio.Task[None]] = []
        self._saved = -1
        self._kept: tuple[bytes, ...] = ()
        heard = (S_VANTAGES, S_HOUSE_VANTAGES, S_VERDICTS)
        self._paces = {subject: Pace(NEWS_PER_S) for subject in heard}
        reaches.on_known.append(shelf.redraw)

    @property
    def settled(self) -> bool:
        """Whether whoever is believed has had time to speak, and map and model were asked."""
        if not self._shelf.believed.keys:
            return True
        if self._kept or self._was_away():
            return False
        settle_s = min(SETTLE_S, self._shelf.valid_ms / 1000)
        if self._regions is not None and not self._regions.complete:
            return False
        return self._clock() - self._began_s >= settle_s and self._reaches.complete

    async def start(self, fabric: Fabric) -> None:
        """Hear what was kept, then follow the fabric until ``close``."""
        self._kept = await asyncio.to_thread(self._load)
        if self._kept:
            self._queues[S_HOUSE_ATTESTED].put_nowait(self._kept)
        for subject in self._queues:
            await fabric.subscribe(subject, self.attested)
        for subject in self._paces:
            await fabric.subscribe(subject, self.news)
        loop = asyncio.get_running_loop()
        checks = [self._check(queue) for queue in self._queues.values()]
        works = [*checks, self._sweep(fabric), self._reaches.run()]
        if self._regions is not None:
            works.append(self._regions.run(self._shelf.independent, self._shelf.regions_changed))
        self._tasks.extend(loop.create_task(work) for work in works)

    async def close(self) -> None:
        """Stop, and keep what is known."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.to_thread(self._save, self._shelf.documents())

    def attested(self, subject: str, data: bytes) -> None:
        """A message of attestations; never raises for what it holds."""
        counters = self._shelf.counters
        try:
            documents = _decode(data).documents if len(data) <= MESSAGE_BYTES_MAX else ()
        except UNREADABLE:
            documents = ()
        if not documents or len(documents) > DOCUMENTS_MAX:
            counters["unreadable"] += 1
            return
        new = tuple(
            d for d in documents if digest_of(d) not in self._seen and self._shelf.claims(d)
        )
        if not new:
            return
        try:
            self._queues[subject].put_nowait(new)
        except asyncio.QueueFull:
            counters["dropped"] += 1

    def news(self, subject: str, data: bytes) -> None:
        """A document of vantages or verdicts; never raises for what it holds."""
        shelf, of_vantage = self._shelf, subject != S_VERDICTS
        if len(data) > MESSAGE_BYTES_MAX or (of_vantage and not shelf.claims(data)):
            shelf.counters["not_believed"] += 1
            return
        if not self._paces[subject].allows(self._clock()):
            shelf.counters["dropped"] += 1
            return
        try:
            shelf.vantage(data) if of_vantage else shelf.verdict(data)
        except IsochroneError:
            self._shelf.counters["not_believed"] += 1

    async def _check(self, queue: asyncio.Queue[tuple[bytes, ...]]) -> None:
        while True:
            documents = await queue.get()
            for first in range(0, len(documents), CHECKS_PER_S // 4):
                batch = documents[first : first + CHECKS_PER_S // 4]
                began_s = self._clock()
                checked = await asyncio.to_thread(_checked, batch)
                self._shelf.counters["refused"] += len(batch) - len(checked)
                self._shelf.take(checked)
                for document in batch:
                    self._remember(digest_of(document))
                await asyncio.sleep(max(0.0, began_s + len(batch) / CHECKS_PER_S - self._clock()))
            if documents is self._kept:
                self._kept, self._began_s = (), self._clock()

    def _remember(self, digest: bytes) -> None:
        self._seen[digest] = None
        while len(self._seen) > SEEN_MAX:
            self._seen.popitem(last=False)

    def look(self, connected: bool) -> None:
        """Note whether the fabric is there; after an absence everybody gets time to speak."""
        if not connected:
            return
        if self._was_away():
            self._began_s = self._clock()
        self._here_unix_ms = self._shelf.now_unix_ms()

    def _was_away(self) -> bool:
        return self._shelf.now_unix_ms() - self._here_unix_ms > self._away_ms

    async def _sweep(self, fabric: Fabric) -> None:
        saved_s = self._clock()
        while True:
            await asyncio.sleep(SWEEP_S)
            self.look(fabric.connected)
            self._shelf.sweep()
            if self._clock() - saved_s >= SAVE_S:
                saved_s = self._clock()
                await asyncio.to_thread(self._save, self._shelf.documents())

    def _load(self) -> tuple[bytes, ...]:
        if self._path is not None:
            with contextlib.suppress(OSError, *UNREADABLE):
                return _decode(self._path.read_bytes()).documents
        return ()

    def _save(self, documents: list[bytes]) -> None:
        """Blocking."""
        taken = self._shelf.counters["taken"]
        if self._path is None or taken == self._saved or not documents:
            return
        draft = self._path.with_suffix(".new")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            draft.write_bytes(msgspec.msgpack.encode(Attested(documents=tuple(documents))))
            draft.replace(self._path)
        except OSError as error:
            log.info("attestations are not kept on disk: %s", error)
            return
        self._saved = taken


def open_shelf(believed: Believed, valid_ms: int, folder: Path) -> tuple[AttestedShelf, Feed]:
    """A shelf and its feed, with map and model by children; everything is kept in a folder."""
    reaches, regions = Reaches(folder), Regions(folder)
    shelf = AttestedShelf(believed, reaches.of, valid_ms=valid_ms, region_of=regions.of)
    return shelf, Feed(shelf, reaches, folder, regions)


def _checked(documents: Sequence[bytes]) -> list[Checked]:
    """Those that agree with themselves. Blocking: call it in a thread."""
    found: list[Checked] = []
    for packed in documents:
        try:
            document = unpack(packed)
            work = document.kind == WORK_ATTESTATION
            found.append(
                (work_attestation(document) if work else place_attestation(document), packed)
            )
        except IsochroneError:
            continue
    return found
