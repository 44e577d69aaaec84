"""Works for validators: what a node answers when it is asked to show its hardware.

Intuition: between leases a node has nothing to do, so now and then it lets a validator see what it
is worth. On an order it starts a process (``work_worker``), which multiplies and keeps; the root
goes back, then the root of the recall, then rows and a signature; then the process and its memory
are gone. One work at a time. The node measures itself once, by the same way, before it claims.

What it refuses, in a word that the validator reads: ``off`` (no memory given to works), ``leased``
(a lease occupies the node, or came in the middle: customers go first), ``busy`` (another work),
``too_soon`` (``rules.work_budget``), ``too_large``, ``absurd``, ``unmeasured`` (it has not claimed
yet), ``failed`` (the process died). None of it raises; what does not fit the work is ignored.

What it does not do: judge by the clock. A node that is late says its root all the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator, Sequence

from isochrone.node.journal import Journal
from isochrone.node.questions import AskerRole, Questions, Say
from isochrone.node.watchers import Watching
from isochrone.node.work_process import WorkProcess
from isochrone.node.work_worker import Begin, Committed, Open, Opened, Recall, Recalled
from isochrone.rules.seeded_work import SEED_BYTES, WIDTHS
from isochrone.rules.work_budget import GAP_S, Budget, allows, begun, spent
from isochrone.rules.work_sizes import (
    MEMORY_MIB_MIN,
    ROWS_MIN,
    WorkSize,
    absurdity,
    claimed_mflops,
    mflops_of,
)
from isochrone.schema.documents import pack, seal
from isochrone.schema.errors import InvalidInput, IsochroneError
from isochrone.schema.identity import PrivateKey
from isochrone.schema.work import (
    WORK_RESULT,
    OpenedRow,
    WorkClaim,
    WorkCommitted,
    WorkOpen,
    WorkOpened,
    WorkOrder,
    WorkRecall,
    WorkRecalled,
    WorkResult,
)

NO_CLAIM = WorkClaim(memory_mib=0, mflops=0)

HOLD_S = 30.0
"""A validator that is silent for so long in the middle of a work has lost it."""

ROWS_SHOWN_MAX = 128
"""Rows that one work shows; validators ask for half as many."""

MESSAGE_BYTES_MAX = 160 * 1024
"""Of rows in one message: a control message has 256 KiB."""

OWN_SIZE = WorkSize(ROWS_MIN, WIDTHS[0])
"""What the node measures itself with: 17 GFLOP and 32 MiB, 0.3 s on a core of 2025, a second on
one of 20 GFLOP/s. Wider works waste less on the rest, so it rather claims too little."""


class _Running:
    """The work under way: whose it is, and what it was asked next."""

    def __init__(self, validator: str, order: WorkOrder, say: Say) -> None:
        self.validator = validator
        self.order = order
        self.say = say
        self.recall: asyncio.Future[WorkRecall] = asyncio.get_running_loop().create_future()
        self.open: asyncio.Future[WorkOpen] = asyncio.get_running_loop().create_future()
        self.task: asyncio.Task[None] | None = None
        self.reason = "failed"


class Works:
    """``claim`` is told to every validator that has joined.

    ``memory_mib_max``: what works may fill (0: none are done). ``mflops_max``: the provider's limit
    on the claim (0: none). ``threads``: cores granted. ``idle``: whether no lease is held.
    """

    def __init__(
        self,
        key: PrivateKey,
        journal: Journal,
        *,
        memory_mib_max: int,
        threads: int,
        idle: Callable[[], bool],
        mflops_max: int = 0,
        gap_s: float = GAP_S,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.claim = NO_CLAIM
        self._key = key
        self._journal = journal
        self._memory_mib_max = memory_mib_max if memory_mib_max >= MEMORY_MIB_MIN else 0
        self._mflops_max = mflops_max
        self._threads = max(1, threads)
        self._idle = idle
        self._gap_s = gap_s
        self._now_s = now_s
        self._budget = Budget(at_s=now_s())
        self._says: dict[str, Say] = {}
        self._measuring: asyncio.Task[None] | None = None
        self._running: _Running | None = None

    # -- validators ----------------------------------------------------------------------------

    def listen(self, questions: Questions, watching: Watching) -> None:
        """Answer validators, and nobody else."""
        validators: tuple[AskerRole, ...] = ("watcher",)
        for kind in (WorkOrder, WorkRecall, WorkOpen):
            questions.on(kind, self.heard, of=validators)
        watching.on_opened.append(self.joined)
        watching.on_lost.append(self.left)

    def joined(self, validator: str, say: Say) -> None:
        """A channel to a validator is open. The first one makes the node measure itself."""
        self._says[validator] = say
        if self.claim.mflops:
            say(self.claim)
        elif self._idle():
            self._measure_once()

    def left(self, validator: str) -> None:
        """It is gone, and a work of its own with it."""
        self._says.pop(validator, None)
        if self._running is not None and self._running.validator == validator:
            self._drop("failed")

    def heard(self, validator: str, message: object, say: Say) -> None:
        """A message of a validator; other kinds, and what fits no work, are ignored."""
        if isinstance(message, WorkOrder):
            self._ordered(validator, message, say)
            return
        running = self._running
        if running is None or running.validator != validator:
            return
        if isinstance(message, WorkRecall) and message.work == running.order.work:
            if not running.recall.done() and len(message.nonce) == SEED_BYTES:
                running.recall.set_result(message)
        elif (
            isinstance(message, WorkOpen)
            and message.work == running.order.work
            and running.recall.done()
            and not running.open.done()
        ):
            running.open.set_result(message)

    def leases_changed(self) -> None:
        """A work ends at once when a lease is held; an idle node that has not measured itself
        does."""
        if not self._idle():
            self._drop("leased")
        elif self._says:
            self._measure_once()

    async def close(self) -> None:
        """End what runs and wait for it."""
        tasks = [self._measuring, self._running.task if self._running is not None else None]
        for task in tasks:
            if task is not None:
                task.cancel()
        await asyncio.gather(*filter(None, tasks), return_exceptions=True)

    # -- one work ------------------------------------------------------------------------------

    def _ordered(self, validator: str, order: WorkOrder, say: Say) -> None:
        now_s = self._now_s()
        reason = self._objection(validator, order, now_s)
        if reason:
            self._journal.tell("debug", "work refused", validator=validator, reason=reason)
            say(WorkCommitted(work=order.work[:SEED_BYTES], root=b"", declined=reason))
            return
        self._budget = begun(self._budget, validator, now_s)
        self._running = running = _Running(validator, order, say)
        running.task = asyncio.get_running_loop().create_task(self._steps(running))
        running.task.add_done_callback(lambda task: self._over(running, task, now_s))

    def _objection(self, validator: str, order: WorkOrder, now_s: float) -> str:
        if not self._memory_mib_max:
            return "off"
        reason = absurdity(order.work, WorkSize(order.rows, order.width), self._memory_mib_max)
        if reason:
            return reason
        if not self._idle():
            return "leased"
        if self._running is not None or (self._measuring and not self._measuring.done()):
            return "busy"
        if not self.claim.mflops:
            return "unmeasured"
        return "" if allows(self._budget, validator, now_s, self._gap_s) else "too_soon"

    def _drop(self, reason: str) -> None:
        running = self._running
        if running is not None and running.task is not None:
            running.reason = reason
            running.task.cancel()

    def _over(self, running: _Running, task: asyncio.Task[None], began_s: float) -> None:
        """The work has ended, one way or another; an early end is told."""
        now_s = self._now_s()
        self._budget = spent(self._budget, now_s - began_s, now_s)
        self._running = None
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is None:
            return
        known = isinstance(error, IsochroneError | TimeoutError | asyncio.CancelledError)
        self._journal.tell(
            "info" if known else "error", "work ended early", validator=running.validator,
            reason=running.reason, error=repr(error),
        )  # fmt: skip
        work = running.order.work
        running.say(WorkCommitted(work=work, root=b"", declined=running.reason))

    async def _steps(self, running: _Running) -> None:
        order = running.order
        async with WorkProcess() as process:
            begin = Begin(order.work, order.rows, order.width, self._threads)
            committed = await process.ask(begin, Committed)
            running.say(WorkCommitted(work=order.work, root=committed.root))
            recall = await asyncio.wait_for(running.recall, HOLD_S)
            recalled = await process.ask(Recall(recall.nonce), Recalled)
            running.say(WorkRecalled(work=order.work, root=recalled.root))
            wanted = await asyncio.wait_for(running.open, HOLD_S)
            rows = wanted.rows
            if not 0 < len(rows) <= ROWS_SHOWN_MAX or not all(0 <= r < order.rows for r in rows):
                running.reason = "absurd"
                raise InvalidInput("The work has no such rows.")
            opened = await process.ask(Open(rows), Opened)
        result = WorkResult(
            validator=running.validator,
            work=order.work.hex(),
            rows=order.rows,
            width=order.width,
            committed=committed.root.hex(),
            nonce=recall.nonce.hex(),
            recalled=recalled.root.hex(),
            claimed_mflops=self.claim.mflops,
        )
        signed = pack(seal(WORK_RESULT, result, self._key))
        for message in in_messages(order.work, opened.rows, signed):
            running.say(message)
        self._journal.tell(
            "info", "work shown", validator=running.validator, device=committed.device,
            rows=order.rows, width=order.width,
        )  # fmt: skip

    # -- the node's own ------------------------------------------------------------------------

    def _measure_once(self) -> None:
        if self._memory_mib_max and self._measuring is None:
            self._measuring = asyncio.get_running_loop().create_task(self._measure())

    async def _measure(self) -> None:
        """One small work for itself; then it claims. On failure it claims nothing."""
        began_s = self._now_s()
        try:
            async with WorkProcess() as process:
                begin = Begin(bytes(SEED_BYTES), OWN_SIZE.rows, OWN_SIZE.width, self._threads)
                committed = await process.ask(begin, Committed)
            took_s = self._now_s() - began_s
        except IsochroneError as error:
            self._journal.tell("warning", "cannot measure itself", reason=error.sentence())
            return
        mflops = mflops_of(OWN_SIZE, max(1, int(took_s * 1e6)))
        claimed = claimed_mflops(min(mflops, self._mflops_max or mflops))
        self.claim = WorkClaim(memory_mib=self._memory_mib_max, mflops=claimed)
        self._journal.tell(
            "info", "measured itself", mflops=mflops, claimed=claimed, device=committed.device
        )
        for say in list(self._says.values()):
            with contextlib.suppress(IsochroneError):
                say(self.claim)


def in_messages(work: bytes, rows: Sequence[OpenedRow], result: bytes) -> Iterator[WorkOpened]:
    """The opened rows in messages that a channel takes; the last one has the result."""
    piece: list[OpenedRow] = []
    size = 0
    for row in rows:
        room = len(row.values) + 2 * len(row.committed_group) + 80 * len(row.committed_path)
        if piece and size + room > MESSAGE_BYTES_MAX:
            yield WorkOpened(work=work, rows=tuple(piece))
            piece, size = [], 0
        piece.append(row)
        size += room
    yield WorkOpened(work=work, rows=tuple(piece), result=result)
