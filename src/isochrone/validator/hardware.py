"""Challenging a node's hardware over its channel: order, recall, opening, attestation.

Intuition: three questions, each sent only when the last one is answered, since each answer must be
given before the next question is known. Times are taken on this process's monotonic clock from
sending to receiving, less one round trip of the channel, so that nobody's other clock matters.

The chance of a challenge (seed, nonce, rows) comes from 32 bytes of the validator's committed
secret (``rules.hardware``), so that anybody can see afterwards that it did not choose; without one
the system's randomness is taken.

Rules: at most ``UNDER_WAY_MAX`` challenges, one a node; an opening is bounded in rows and bytes;
checking runs in a thread, ``CHECKS_MAX`` at once. A node that declines, is gone, falls silent or
shows nothing that its roots hold gives None: nothing was measured. A late one is attested as late.

Cheapest lie caught: see ``rules.hardware``. Cheapest missed: a node that delays its pings is
allowed up to 0.3 s too much; our own loop's delays make a node look slower, by milliseconds.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from typing import TypeVar

from isochrone.rules.hardware import drawn_rows, recall_nonce, work_seed
from isochrone.rules.seeded_work import ROOT_BYTES
from isochrone.rules.work_sizes import (
    WorkSize,
    deadline_us,
    mflops_of,
    net_us,
    recall_deadline_us,
    work_for,
)
from isochrone.schema.documents import pack, seal, unpack, unseal
from isochrone.schema.errors import IsochroneError
from isochrone.schema.identity import PrivateKey
from isochrone.schema.work import (
    WORK_ATTESTATION,
    WORK_RESULT,
    OpenedRow,
    WorkAttestation,
    WorkClaim,
    WorkCommitted,
    WorkOpen,
    WorkOpened,
    WorkOrder,
    WorkRecall,
    WorkRecalled,
    WorkResult,
)
from isochrone.validator.door import WatchDoor
from isochrone.validator.hardware_check import Checked, Shown, check
from isochrone.wire.channel import Channel

UNDER_WAY_MAX = 1_024
"""Challenges at once: all nodes of a zone have the same moment, most of the time they compute."""

OPENINGS_MAX = 8
"""Openings at once: 1.2 MiB each, from a node that floods 17 MiB (its messages are counted)."""

CHECKS_MAX = 2

LATE = 4
"""A node may be so many times later than its deadline and is still waited for, to be attested."""

PATIENCE_S = 5.0
"""Added to that: starting a process on a busy machine."""

OPENING_S = 60.0
"""For making 64 rows again and sending up to 1.2 MiB over a thin line."""

CLAIMS_MAX = 100_000
"""Of nodes that are here: more than a door lets in."""

Message = WorkCommitted | WorkRecalled | WorkOpened
T = TypeVar("T", bound=Message)


class _Declined(Exception):
    """The node ended the work; the word says why."""


class _Challenge:
    """One node's work under way: the answers that came, in order."""

    def __init__(self, work: bytes, shown_max: int) -> None:
        self.work = work
        self.opening = False
        self.answers: asyncio.Queue[tuple[int, Message]] = asyncio.Queue(shown_max + 4)


class Hardware:
    """``channel_of``: the open channel of a node, if there is one. ``account``: the validator's, as
    the chain says. ``claims``: what nodes claim, by address. ``declined``: the words of nodes that
    declined their last work.

    The door passes every ``Work*`` message on to ``heard`` and tells ``lost`` (``listen``).
    """

    def __init__(
        self,
        key: PrivateKey,
        account: Callable[[], str],
        channel_of: Callable[[str], Channel | None],
        *,
        now_unix_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self.claims: dict[str, WorkClaim] = {}
        self.declined: dict[str, str] = {}
        self._key = key
        self._account = account
        self._channel_of = channel_of
        self._now_unix_ms = now_unix_ms
        self._under_way: dict[str, _Challenge] = {}
        self._openings = asyncio.Semaphore(OPENINGS_MAX)
        self._checks = asyncio.Semaphore(CHECKS_MAX)

    # -- the door's side -----------------------------------------------------------------------

    def listen(self, door: WatchDoor) -> None:
        """Take what nodes say about works at this door, and forget those that go: keys cost
        nothing, and claims of those that came once would keep true ones out."""
        for kind in (WorkClaim, WorkCommitted, WorkRecalled, WorkOpened):
            door.on(kind, self.heard)
        door.on_lost.append(self.lost)

    def heard(self, node: str, message: object) -> None:
        """A message of a node; what fits no challenge is ignored."""
        now_ns = time.monotonic_ns()
        if isinstance(message, WorkClaim):
            if node in self.claims or len(self.claims) < CLAIMS_MAX:
                self.claims[node] = message
            return
        challenge = self._under_way.get(node)
        if challenge is None or not isinstance(message, Message):
            return
        if message.work != challenge.work or challenge.answers.full():
            return
        if isinstance(message, WorkOpened) and not challenge.opening:
            message = WorkCommitted(work=message.work, root=b"", declined="out_of_turn")
        challenge.answers.put_nowait((now_ns, message))

    def lost(self, node: str) -> None:
        """Its channel is gone; so is what it claimed and what it was doing."""
        self.claims.pop(node, None)
        self.declined.pop(node, None)
        challenge = self._under_way.get(node)
        if challenge is not None and not challenge.answers.full():
            gone = WorkCommitted(work=challenge.work, root=b"", declined="gone")
            challenge.answers.put_nowait((time.monotonic_ns(), gone))

    # -- challenging ---------------------------------------------------------------------------

    async def challenge(self, node: str, *, chance: bytes = b"") -> bytes | None:
        """One work now: a packed ``work-attestation``, or None when nothing was measured.

        It fills all that the node claims, as far as the time allows. ``declined[node]`` has the
        word of a node that declined.
        """
        claim = self.claims.get(node)
        if claim is None or node in self._under_way or len(self._under_way) >= UNDER_WAY_MAX:
            return None
        size = work_for(claim.memory_mib, claim.mflops)
        if size is None:
            return None
        chance = chance or os.urandom(32)
        rows = drawn_rows(chance, size.rows)
        challenge = _Challenge(work_seed(chance), len(rows))
        self._under_way[node] = challenge
        self.declined.pop(node, None)
        try:
            return await self._ask(node, challenge, claim, size, chance, rows)
        except _Declined as word:
            self.declined[node] = str(word)[:40]
            return None
        except (IsochroneError, TimeoutError):
            return None
        finally:
            del self._under_way[node]

    async def _ask(
        self,
        node: str,
        challenge: _Challenge,
        claim: WorkClaim,
        size: WorkSize,
        chance: bytes,
        rows: tuple[int, ...],
    ) -> bytes | None:
        work, nonce, at_unix_ms = challenge.work, recall_nonce(chance), self._now_unix_ms()
        order = WorkOrder(work=work, rows=size.rows, width=size.width, start_unix_ms=at_unix_ms)
        committed, elapsed_us = await self._round(
            node, challenge, order, WorkCommitted, deadline_us(size, claim.mflops)
        )
        recalled, recalled_us = await self._round(
            node,
            challenge,
            WorkRecall(work=work, nonce=nonce),
            WorkRecalled,
            recall_deadline_us(size, claim.mflops),
        )
        if len(committed.root) != ROOT_BYTES or len(recalled.root) != ROOT_BYTES:
            return None
        async with self._openings:
            opened, result = await self._opening(node, challenge, WorkOpen(work=work, rows=rows))
        signed = WorkResult(
            validator=self._key.address,
            work=work.hex(),
            rows=size.rows,
            width=size.width,
            committed=committed.root.hex(),
            nonce=nonce.hex(),
            recalled=recalled.root.hex(),
            claimed_mflops=claim.mflops,
        )
        if unseal(unpack(result), WORK_RESULT, WorkResult) != (signed, node):
            return None
        shown = Shown(
            work=work, size=size, committed=committed.root, nonce=nonce, recalled=recalled.root,
            asked=rows, rows=opened,
        )  # fmt: skip
        async with self._checks:
            checked = await asyncio.to_thread(check, shown)
        if not checked.proven:
            return None
        return self._attest(node, size, at_unix_ms, elapsed_us, recalled_us, checked, result, rows)

    async def _round(
        self, node: str, challenge: _Challenge, question: WorkOrder | WorkRecall,
        answer: type[T], within_us: int,
    ) -> tuple[T, int]:  # fmt: skip
        """Ask and wait; the answer and the microseconds that it took, less a round trip."""
        channel = self._open_channel(node)
        sent_ns = time.monotonic_ns()
        channel.send_control(question)
        async with asyncio.timeout(LATE * within_us / 1e6 + PATIENCE_S):
            at_ns, found = await self._next(challenge, answer)
        return found, net_us((at_ns - sent_ns) // 1000, int(channel.rtt_ms_min * 1000))

    async def _opening(
        self, node: str, challenge: _Challenge, question: WorkOpen
    ) -> tuple[tuple[OpenedRow, ...], bytes]:
        """The rows, from as many messages as it takes, and the node's signed result."""
        challenge.opening = True
        self._open_channel(node).send_control(question)
        rows: list[OpenedRow] = []
        async with asyncio.timeout(OPENING_S):
            while True:
                _, opened = await self._next(challenge, WorkOpened)
                rows += opened.rows
                if opened.result or len(rows) > len(question.rows):
                    return tuple(rows), opened.result

    async def _next(self, challenge: _Challenge, answer: type[T]) -> tuple[int, T]:
        at_ns, found = await challenge.answers.get()
        if isinstance(found, WorkCommitted) and not found.root:
            raise _Declined(found.declined)
        if not isinstance(found, answer):
            raise _Declined("out_of_turn")
        return at_ns, found

    def _open_channel(self, node: str) -> Channel:
        channel = self._channel_of(node)
        if channel is None or channel.closed:
            raise _Declined("gone")
        return channel

    def _attest(
        self, node: str, size: WorkSize, at_unix_ms: int, elapsed_us: int, recalled_us: int,
        checked: Checked, result: bytes, rows: tuple[int, ...],
    ) -> bytes:  # fmt: skip
        attestation = WorkAttestation(
            node=node,
            validator=self._key.address,
            account=self._account(),
            at_unix_ms=at_unix_ms,
            rows=size.rows,
            width=size.width,
            elapsed_us=elapsed_us,
            recalled_us=recalled_us,
            memory_mib=size.memory_mib,
            mflops=mflops_of(size, elapsed_us),
            opened=len(rows),
            right=checked.wrong is None,
            exhibit=() if checked.wrong is None else (checked.wrong,),
            result=result,
        )
        return pack(seal(WORK_ATTESTATION, attestation, self._key))
