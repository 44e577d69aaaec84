"""One validator's watches: measures at its hours, commits, waits, opens, and hears the others.

Intuition: everything that decides is pure and lies elsewhere (who and when in ``rules.watching``,
what in ``watch_plan``, what it is worth in ``watch_checking``); here is the clock, the disk and the
fabric. Each tick asks: which watch is it, what is due, what was not said yet. A validator that
starts in the middle, or again after a crash, does what is still to be done and nothing twice.

What is said goes to the disk first (``watch_journal``), then into the own holdings, from where it
comes to the other validators and into the records like any record, and over ``iso.ledger.watch``
again and again, so that it comes soon.

*In time.* The openings tell of each other's commitments. What was here when the first opening came
counts as seen, or when we open ourselves. An opening that comes much before its time
(``Phases.tolerance_ms``) only gives its own author away and stops nobody else's.

What it does not do: measure, follow the chain (``watch_under`` names who does), judge.
"""

from __future__ import annotations

import asyncio
import hashlib
import heapq
import logging
import os
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

from isochrone.fabric.connection import Fabric
from isochrone.rules.commitments import commitment, page_digest, secret_digest
from isochrone.rules.pacing import Pace
from isochrone.rules.watching import Phases, phases, seed_of, watch_at
from isochrone.schema.deployment import Deployment
from isochrone.schema.documents import pack, seal
from isochrone.schema.errors import IsochroneError
from isochrone.schema.identity import PrivateKey
from isochrone.schema.proof import (
    APPEAL,
    S_WATCH,
    WATCH_COMMITMENT,
    WATCH_OPENING,
    WatchCommitment,
    WatchOpening,
)
from isochrone.schema.record_batch import RecordBatch
from isochrone.schema.settling import WatchStatus
from isochrone.validator.holdings import Holdings
from isochrone.validator.watch_journal import Sealed, Taken, WatchJournal
from isochrone.validator.watch_papers import WatchPaper, body_digest, read_watch
from isochrone.validator.watch_plan import Deed, Scene, deeds, needed, paged, reports
from isochrone.validator.watch_under import Eyes, Facts, Under

RESAY_MS: Final = 5_000
"""What was said is said again so often while its phase lasts; a page of an opening less often."""

RESAY_BYTES_MAX: Final = 1024 * 1024
"""Openings above it are said once: whoever missed a page gets it at the cut-off."""

LOOK_MS: Final = 1_000
"""How often is looked for nodes and for the watch's first block."""

DEEDS_MAX: Final = 256
"""Under way at once; most of them wait for a node."""

HEARD_MAX: Final = 64
"""Documents of others on their way to the disk; more are dropped, they are said again."""

CHECKS_PER_S: Final = 500
"""Signatures looked at of what comes new over the fabric, where anybody may speak: a tenth of a
core at most. What a flood pushes out is said again, and comes at the cut-off by other ways."""

KNOWN_MAX: Final = 4_096
"""Documents remembered, by digest, so that repeats cost no signature check."""

log = logging.getLogger(__name__)


class Watching:
    """See the module. ``tick`` is called often; ``listen`` once, before."""

    def __init__(
        self,
        deployment: Deployment,
        key: PrivateKey,
        journal: WatchJournal,
        holdings: Holdings,
        fabric: Fabric,
        facts: Facts,
        eyes: Eyes,
        unix_ms: Callable[[], int],
    ) -> None:
        self._deployment = deployment
        self._key = key
        self._journal = journal
        self._holdings = holdings
        self._fabric = fabric
        self._facts = facts
        self._eyes = eyes
        self._unix_ms = unix_ms
        self._under: dict[int, Under] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._measuring: set[asyncio.Task[None]] = set()
        self._known: dict[bytes, None] = {}
        self._heard = 0
        self._pace = Pace(CHECKS_PER_S)

    async def listen(self) -> None:
        """Hear the others."""
        await self._fabric.subscribe(S_WATCH, self._on_said)

    async def close(self) -> None:
        """Stop measuring; what was measured is on disk."""
        tasks = [*self._tasks, *self._measuring]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def status(self) -> WatchStatus | None:
        """How far the newest watch that measures has come; None while there is none."""
        now_ms = self._unix_ms()
        begun = [one for one, under in self._under.items() if now_ms >= under.clock.measure_ms]
        if not begun:
            return None
        watch = max(begun)
        under = self._under[watch]
        return WatchStatus(
            watch=watch,
            phase=under.clock.name(now_ms),
            assigned=sum(map(bool, under.planned.values())),
            measured=len({one.node for one in under.taken if one.documents}),
            committed=under.sealed is not None,
        )

    async def tick(self) -> None:
        """Do what is due; raises what the disk raises."""
        now_ms = self._unix_ms()
        newest = watch_at(self._deployment, now_ms)
        for watch in (newest - 1, newest):
            if watch >= 0 and now_ms < phases(self._deployment, watch).end_ms:
                await self._go_on(await self._opened(watch), now_ms)
        for old in [watch for watch in self._under if watch < newest - 1]:
            del self._under[old]
            await asyncio.to_thread(self._journal.forget_before, old)

    async def _opened(self, watch: int) -> Under:
        if watch not in self._under:
            journal = self._journal
            committed = await asyncio.to_thread(journal.committed_secret, watch)
            secret = committed or await asyncio.to_thread(journal.secret, watch)
            taken = await asyncio.to_thread(journal.notes, watch)
            clock = phases(self._deployment, watch)
            under = Under(
                clock,
                secret,
                committed=bool(committed),
                attended=not _may_open(clock, self._unix_ms()),
                taken=taken,
            )
            under.sealed = await asyncio.to_thread(journal.sealed, watch)
            self._under[watch] = under
        return self._under[watch]

    async def _go_on(self, under: Under, now_ms: int) -> None:
        phase = under.clock.name(now_ms)
        if under.scene is None and now_ms - under.looked_ms >= LOOK_MS:
            under.looked_ms = now_ms
            await self._begin(under)
        if under.scene is None:
            return
        if phase in ("drawing", "measuring"):
            self._plan(under, now_ms)
            self._measure(under, now_ms)
        elif phase == "committing" and under.sealed is None and not self._measuring_for(under):
            await self._commit(under)
        elif phase == "opening" and under.sealed is not None and not under.opening:
            await self._open(under)
        if now_ms - under.said_ms >= RESAY_MS:
            under.said_ms = now_ms
            self._say(under)

    async def _begin(self, under: Under) -> None:
        """Once the watch's first block is final and our stake votes in it."""
        watch = under.clock.watch
        try:
            start = await self._facts.start_of(watch)
        except IsochroneError as error:
            log.debug("watch %d: %s", watch, error.sentence())
            return
        mine = [one for one in start.watchers if one.key == self._key.address]
        if mine:
            under.scene = Scene(
                seed=seed_of(start, watch),
                secret=bytes.fromhex(under.secret),
                clock=under.clock,
                me=mine[0],
                watchers=start.watchers,
            )

    # --- measuring -------------------------------------------------------------------------------

    def _plan(self, under: Under, now_ms: int) -> None:
        """Who is to be measured by us; whoever appears or becomes a suspect later comes later."""
        if now_ms - under.looked_ms < LOOK_MS and under.planned:
            return
        under.looked_ms = now_ms
        assert under.scene is not None
        here, owners = self._eyes.grants(), self._facts.owners()
        under.grants.update(here)
        suspects = self._facts.suspects(under.clock.watch)
        for node in sorted({*here, *self._facts.named(under.clock.watch)} & set(owners)):
            before = under.planned.get(node)
            if before is not None and (node in suspects) == (node in under.suspects):
                continue
            planned = frozenset(deeds(under.scene, node, owners[node], suspects))
            for deed in planned - (before or frozenset()):
                heapq.heappush(under.due, deed)
            under.planned[node] = planned
        under.suspects = suspects

    def _measure(self, under: Under, now_ms: int) -> None:
        """Begin what is due; what is over half its tolerance ago was missed, and is not asked."""
        scene = under.scene
        assert scene is not None
        while under.due and under.due[0].at_ms <= now_ms:
            deed = heapq.heappop(under.due)
            late_ms = now_ms - deed.at_ms
            if not needed(scene, deed, under.taken):
                continue
            if late_ms <= under.clock.tolerance_ms // 2 and len(self._measuring) < DEEDS_MAX:
                task = asyncio.get_running_loop().create_task(self._do(under, deed))
                task.set_name(f"watch {under.clock.watch}")
                self._measuring.add(task)
                task.add_done_callback(self._measuring.discard)

    async def _do(self, under: Under, deed: Deed) -> None:
        left_s = (under.clock.open_ms - self._unix_ms()) / 2000
        try:
            async with asyncio.timeout(max(left_s, 0.0)):
                documents = await self._eyes.look(deed.node, deed.kind, deed.chances)
        except TimeoutError:
            documents = ()
        except Exception:
            log.exception("measuring %s of %s", deed.kind, deed.node)
            return
        if deed.kind != "place" and not documents:
            return
        taken = Taken(node=deed.node, kind=deed.kind, documents=documents)
        try:
            await asyncio.to_thread(self._journal.note, under.clock.watch, (taken,))
        except IsochroneError as error:
            log.error("%s", error.sentence())
            return
        under.taken.append(taken)

    def _measuring_for(self, under: Under) -> bool:
        """Whether measurements are under way for which there is time before commitments end."""
        late = self._unix_ms() >= (under.clock.commit_ms + under.clock.open_ms) // 2
        name = f"watch {under.clock.watch}"
        return not late and any(task.get_name() == name for task in self._measuring)

    # --- committing and opening ------------------------------------------------------------------

    async def _commit(self, under: Under) -> None:
        assert under.scene is not None
        sealed = await asyncio.to_thread(self._sealed, under)
        under.sealed = sealed
        await self._keep(under, (sealed.commitment,))
        self._say(under)

    def _sealed(self, under: Under) -> Sealed:
        """Made once: what lies in the journal already is what was committed. Blocking."""
        assert under.scene is not None
        watch = under.clock.watch
        pages = paged(reports(under.scene, tuple(under.taken), under.grants))
        salt = os.urandom(32).hex()
        names = [page_digest(page) for page in pages]
        word = WatchCommitment(
            watch=watch,
            reports=commitment(self._key.address, watch, salt, names),
            next_secret=secret_digest(self._journal.secret(watch + 1)),
        )
        document = pack(seal(WATCH_COMMITMENT, word, self._key))
        return self._journal.seal(
            Sealed(
                watch=watch,
                commitment=document,
                salt=salt,
                secret=under.committed_secret,
                pages=pages,
            )
        )

    async def _open(self, under: Under) -> None:
        sealed = under.sealed
        assert sealed is not None
        self._freeze(under)
        under.opening = await asyncio.to_thread(self._pages, sealed, under.seen or {})
        await self._keep(under, under.opening)
        for packed in under.opening:
            self._publish(packed)

    def _pages(self, sealed: Sealed, seen: dict[str, str]) -> tuple[bytes, ...]:
        names = tuple(page_digest(page) for page in sealed.pages)
        words = [
            WatchOpening(
                watch=sealed.watch,
                salt=sealed.salt,
                secret=sealed.secret,
                seen=seen,
                pages=names,
                page=number,
                reports=page,
            )
            for number, page in enumerate(sealed.pages)
        ]
        return tuple(pack(seal(WATCH_OPENING, word, self._key)) for word in words)

    def _papers(self, watch: int) -> list[WatchPaper]:
        documents = self._holdings.watches(watch)
        return [paper for packed in documents if (paper := read_watch(packed)) is not None]

    def _freeze(self, under: Under) -> None:
        """The commitments that are here now count as seen before any opening was.

        A process that was not there knows of its own only; what was said before a restart stands.
        """
        if under.seen is not None or under.scene is None:
            return
        papers = self._papers(under.clock.watch)
        me = self._key.address
        said = [p.word.seen for p in papers if isinstance(p.word, WatchOpening) and p.signer == me]
        known = {one.key for one in under.scene.watchers} if under.attended else {me}
        here = {
            one.signer: body_digest(one.word)
            for one in papers
            if isinstance(one.word, WatchCommitment) and one.signer in known
        }
        under.seen = said[0] if said else here

    async def _keep(self, under: Under, documents: tuple[bytes, ...]) -> None:
        for packed in documents:
            await self._hold(under.clock.watch, packed)

    async def _hold(self, watch: int, packed: bytes) -> None:
        await self._holdings.take(
            RecordBatch(epoch=watch, source=self._key.address, documents=(packed,))
        )

    # --- the fabric ------------------------------------------------------------------------------

    def _say(self, under: Under) -> None:
        if under.sealed is not None:
            self._publish(under.sealed.commitment)
        if sum(map(len, under.opening)) <= RESAY_BYTES_MAX:
            for packed in under.opening:
                self._publish(packed)

    def _publish(self, packed: bytes) -> None:
        self._fabric.publish(S_WATCH, packed)

    def _on_said(self, _subject: str, data: bytes) -> None:
        digest = hashlib.sha256(data).digest()
        if digest in self._known or self._heard >= HEARD_MAX:
            return
        if not self._pace.allows(time.monotonic()):
            return
        paper = read_watch(data)
        if paper is None or paper.kind == APPEAL or paper.signer == self._key.address:
            return
        under = self._under.get(paper.epoch)
        if under is None or under.scene is None:
            return
        if paper.signer not in {one.key for one in under.scene.watchers}:
            return
        if paper.kind == WATCH_OPENING and _may_open(under.clock, self._unix_ms()):
            self._freeze(under)
        self._spawn(self._take(paper, digest))

    async def _take(self, paper: WatchPaper, digest: bytes) -> None:
        self._heard += 1
        try:
            await self._hold(paper.epoch, paper.packed)
        except IsochroneError as error:
            log.warning("a watch's document is not taken: %s", error.sentence())
            return
        finally:
            self._heard -= 1
        self._known[digest] = None
        while len(self._known) > KNOWN_MAX:
            del self._known[next(iter(self._known))]

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _may_open(clock: Phases, now_ms: int) -> bool:
    """Whether an honest validator whose clock is ahead of ours may have opened."""
    return now_ms >= clock.open_ms - clock.tolerance_ms
