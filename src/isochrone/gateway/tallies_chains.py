"""The chains of one tally, one after another: opened, closed link by link, ended, given up.

A chain ends with its epoch, when its lease's terms change, or in dispute. The next one counts on
from exactly there; its first link waits until the last one of the chain before is signed by both,
so that a node always knows where one stopped. After a dispute the next chain has a new session,
which tells the node that what lies before will never be proposed again.

Nothing here waits or writes; ``tallies_signing`` does what ``due`` asks for.
"""

from __future__ import annotations

import secrets
from collections import deque
from typing import Final

import msgspec

from isochrone.gateway.tallies import Tally, Told
from isochrone.rules import tallying
from isochrone.rules.tallying import Drawn, Link, Totals
from isochrone.schema.deployment import Deployment
from isochrone.schema.lease import Lease
from isochrone.schema.tally import (
    TallyChain,
    TallyProposal,
    next_head,
    terms_digest,
    terms_of,
)

SET_BACK_MS: Final = 60_000
"""A clock that is set back by less changes no epoch: it wanders around the boundary."""


class Writing:
    """A chain being written. ``end``: the counter at which it stops (None: it goes on).

    ``proposal``: the signed pending link, on disk and on its way (None: not signed yet).
    ``busy``: being signed or kept. ``closed_s``, ``sent_s``: when, monotonic seconds.
    """

    __slots__ = ("busy", "closed_s", "drawn", "end", "last_unix_ms", "proposal", "sent_s")

    def __init__(self, drawn: Drawn) -> None:
        self.drawn = drawn
        self.end: Totals | None = None
        self.proposal: TallyProposal | None = None
        self.busy = False
        self.closed_s = self.sent_s = 0.0
        self.last_unix_ms = 0

    @property
    def chain(self) -> TallyChain:
        """What it counts."""
        return self.drawn.chain

    @property
    def done(self) -> bool:
        """Whether it has ended and both have signed all of it."""
        return self.drawn.pending is None and self.end == self.drawn.signed

    def close(self, totals: Totals, at_unix_ms: int, now_s: float) -> None:
        """Close the next link at a moment inside the chain's epoch, never before the last one."""
        self.last_unix_ms = max(self.last_unix_ms, at_unix_ms)
        self.drawn = tallying.close(self.drawn, totals, self.last_unix_ms)
        self.closed_s = now_s


class Chains:
    """The chains of one tally; the first is the one being signed, the last the one that counts.

    ``ids``: under which whoever keeps an index has entered them.
    """

    def __init__(self, tally: Tally, gateway: str, cell: str) -> None:
        self.tally = tally
        self.writings: deque[Writing] = deque()
        self.ids: set[bytes] = set()
        self._disputes = 0
        self._terms: tuple[Lease, str] | None = None
        self._gateway = gateway
        self._cell = cell
        self._session = secrets.token_hex(16)

    def follow(self, deployment: Deployment, now_unix_ms: int) -> None:
        """End the chain of an epoch or of terms that are over; begin one where there is none."""
        lease = self.tally.lease
        epoch = deployment.epoch_at(now_unix_ms)
        if lease is None or epoch < 0:
            return
        current = self.writings[-1] if self.writings and self.writings[-1].end is None else None
        if self._terms is None or self._terms[0] is not lease:
            self._terms = (lease, terms_digest(terms_of(lease)))
        terms = self._terms[1]
        if current is None:
            self._begin(epoch, terms, tallying.NOTHING)
            return
        if epoch < current.chain.epoch:
            ahead_ms = deployment.start_unix_ms(current.chain.epoch) - now_unix_ms
            if ahead_ms <= SET_BACK_MS:
                epoch = current.chain.epoch
        if epoch == current.chain.epoch and terms == current.chain.terms:
            return
        if epoch > current.chain.epoch:
            self._disputes = 0
        else:  # the clock was set back, or terms changed: a chain's id must never come again
            self._session = secrets.token_hex(16)
        current.end = self.tally.counter.totals()
        if current.end == current.drawn.base and current.drawn.pending is None:
            self.writings.pop()  # nothing happened: no link is needed
        self._begin(epoch, terms, current.end)

    def sort_out(self) -> None:
        """Forget what is signed to its end; tell the tally what is signed of the rest."""
        while self.writings and self.writings[0].done:
            self.writings.popleft()
        if self.writings:
            self.tally.signed = self.writings[0].drawn.signed[0]

    def due(self, deployment: Deployment, now_unix_ms: int, now_s: float, period_s: float) -> None:
        """Close the next link when it is time, or at once when the chain has ended."""
        if not self.writings:
            return
        writing = self.writings[0]
        if writing.drawn.pending is not None:
            return
        if writing.end is None and now_s - writing.closed_s < period_s:
            return
        totals = writing.end or self.tally.counter.totals()
        if totals == writing.drawn.signed:
            return
        epoch_ends_ms = deployment.start_unix_ms(writing.chain.epoch + 1)
        epoch_began_ms = deployment.start_unix_ms(writing.chain.epoch)
        at_unix_ms = min(max(now_unix_ms, epoch_began_ms), epoch_ends_ms - 1)
        writing.close(totals, at_unix_ms, now_s)

    def accepted(self, chain: bytes, position: int) -> bool:
        """The node signed the pending link; whether it was that one."""
        writing = self.writings[0] if self.writings else None
        if writing is None or writing.drawn.id != chain or not self._waits(writing, position):
            return False
        writing.drawn = tallying.accepted(writing.drawn, position)
        writing.proposal = None
        tally = self.tally
        if writing.drawn.signed[0] == tally.counter.requests:
            tally.since_s = 0.0
        elif tally.since_s:
            tally.since_s = max(tally.since_s, writing.closed_s)
        self.sort_out()
        return True

    def give_up(self, chain: bytes, position: int, now_s: float) -> bool:
        """The node will not sign: what is not signed stays unpaid, and counting starts anew."""
        writing = self.writings[0] if self.writings else None
        if writing is None or writing.drawn.id != chain or not self._waits(writing, position):
            return False
        if writing.chain.session != self._session and writing.end is not None:
            self.writings.popleft()  # of a session that is over anyway
            self.sort_out()
            return True
        tally = self.tally
        self._disputes += 1
        tally.rest_until_s = now_s + tallying.rest_s(self._disputes)
        tally.since_s = 0.0
        newest = self.writings[-1].chain
        self.writings.clear()
        self._session = secrets.token_hex(16)
        self._begin(newest.epoch, newest.terms, tally.counter.totals())
        return True

    def resume(self, proposal: TallyProposal) -> None:
        """A former process signed this and died before it was answered: it is proposed again."""
        link = Link(
            position=proposal.position,
            previous=proposal.previous,
            body=proposal.body,
            head=next_head(proposal.previous, proposal.body),
        )
        drawn = tallying.begin(proposal.chain, tallying.NOTHING)
        drawn = msgspec.structs.replace(
            drawn, position=link.position - 1, head=link.previous, pending=link
        )
        writing = Writing(drawn)
        writing.proposal = proposal
        writing.end = tallying.accepted(drawn, link.position).signed
        self.tally.node = proposal.chain.node
        self.writings.append(writing)

    def _waits(self, writing: Writing, position: int) -> bool:
        pending = writing.drawn.pending
        return pending is not None and pending.position == position

    def _begin(self, epoch: int, terms: str, base: Totals) -> None:
        tally = self.tally
        chain = TallyChain(
            epoch=epoch,
            lease=tally.id,
            terms=terms,
            node=tally.node,
            gateway=self._gateway,
            audience=tally.audience or self._cell,
            session=self._session,
        )
        writing = Writing(tallying.begin(chain, base))
        self.writings.append(writing)
        tenant = tally.lease.service.partition(".")[0] if tally.lease is not None else ""
        tally.now = Told(writing.drawn.id, epoch, tenant)
        self.sort_out()
