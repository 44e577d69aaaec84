"""Signs the links that gateways propose, when they agree with what the node counted itself.

The order for every link: its place in the chain and the gateway's signature are checked, its counts
are judged (``rules.tallying.judge``), the node signs, both halves are fsynced as they are, and only
then the answer leaves. What was signed is remembered by chain and position across restarts: the
same proposal gets the same answer for ever, another one for that position never gets any. A node
that started anew cannot vouch for chains it counted before and says so; the gateway then begins
others.

Signatures and disk are done in a thread for all proposals that wait together.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable

import msgspec

from isochrone.node.journal import Journal
from isochrone.node.tallies import Key, Tallies, Tally
from isochrone.records.spool import Spool
from isochrone.rules import tallying
from isochrone.rules.tally_batches import Message, unpack_message
from isochrone.rules.tallying import Link, Verdict, Watched, judge
from isochrone.schema.deployment import Deployment
from isochrone.schema.digests import UNREADABLE
from isochrone.schema.errors import IsochroneError
from isochrone.schema.frames import Control, pack
from isochrone.schema.identity import PrivateKey, recover
from isochrone.schema.tally import (
    LINK_BYTES,
    LINK_WORDS,
    TallyAccepted,
    TallyChain,
    TallyProposal,
    TallyRefused,
    next_head,
)
from isochrone.schema.typed_data import tally_head

WAITING_MAX = 4096
"""Proposals that wait for a thread: a node has a few leases and gateways, each with one."""

Send = Callable[[str, Control], None]
"""Says something to a gateway, if it is connected."""


class Signed(msgspec.Struct, frozen=True):
    """The last link of a chain that this node has signed."""

    epoch: int
    position: int
    head: bytes
    signature: bytes


class _Case(msgspec.Struct, frozen=True):
    """A proposal being decided: ``seen`` and ``in_flight`` are the node's counts at its time."""

    gateway: str
    message: TallyProposal
    chain_id: bytes
    tally: Tally
    seen: tallying.Totals
    in_flight: int


class TallySigner:
    """Signs for one node. ``counters``: proposals by fate; ``versions``: per epoch, how often
    something was signed in it (so that copies are told anew)."""

    def __init__(
        self,
        *,
        key: PrivateKey,
        deployment: Deployment,
        cell: Callable[[], str | None],
        tallies: Tallies,
        spool: Spool,
        send: Send,
        journal: Journal,
        now_unix_ms: Callable[[], int],
    ) -> None:
        self.counters: Counter[str] = Counter()
        self.versions: Counter[int] = Counter()
        self.signed: dict[bytes, Signed] = {}
        self.deployment = deployment
        self.spool = spool
        self._key = key
        self._cell = cell
        self._tallies = tallies
        self._send = send
        self._journal = journal
        self._now_unix_ms = now_unix_ms
        self._waiting: asyncio.Queue[tuple[str, TallyProposal]] = asyncio.Queue(WAITING_MAX)
        self._restored: dict[Key, Watched] = {}  # with the audience as chains name it

    @property
    def epoch(self) -> int:
        """The epoch by this node's clock."""
        return self.deployment.epoch_at(self._now_unix_ms())

    def restore(self) -> None:
        """Remember what a former process signed. Blocking."""
        for epoch in self.spool.epochs():
            proposals: dict[tuple[bytes, int], TallyProposal] = {}
            for message in self.messages(epoch):
                if isinstance(message, TallyProposal):
                    proposals[message.chain.id, message.position] = message
                elif isinstance(message, TallyAccepted):
                    proposal = proposals.get((message.chain, message.position))
                    if proposal is not None:
                        self._remember(proposal, message)
            self.versions[epoch] += 1

    def messages(self, epoch: int) -> list[Message]:
        """What the spool holds of an epoch. Blocking."""
        found = []
        for record in self.spool.read(epoch):
            try:
                found.append(unpack_message(record))
            except UNREADABLE:
                self._journal.tell("error", "a record cannot be read", epoch=epoch)
        return found

    def proposed(self, gateway: str, message: TallyProposal) -> None:
        """A gateway proposes a link."""
        try:
            self._waiting.put_nowait((gateway, message))
        except asyncio.QueueFull:
            self.counters["dropped"] += 1  # it is proposed again

    async def run(self) -> None:
        """Decide what was proposed, until cancelled."""
        while True:
            batch = [await self._waiting.get()]
            busy = {batch[0][1].chain.id}
            while not self._waiting.empty():
                gateway, message = self._waiting.get_nowait()
                if message.chain.id in busy:
                    continue  # one at a time: it is proposed again
                busy.add(message.chain.id)
                batch.append((gateway, message))
            cases = [case for told in batch if (case := self._open(*told)) is not None]
            if cases:
                await self._decide(cases)

    # -- one batch -------------------------------------------------------------------------------

    def _open(self, gateway: str, message: TallyProposal) -> _Case | None:
        """What needs no thread: repeated, or not for us."""
        chain = message.chain
        chain_id = chain.id
        known = self.signed.get(chain_id)
        if known is not None and message.position <= known.position:
            self._repeat(gateway, chain_id, known, message)
            return None
        code, text = self._unfit(gateway, message)
        if code:
            self._refuse(gateway, chain_id, message.position, code, text)
            return None
        audience = "" if chain.audience == self._cell() else chain.audience
        key = (gateway, chain.lease, audience)
        tally = self._tallies.of(*key)
        restored = self._restored.pop((gateway, chain.lease, chain.audience), None)
        if restored is not None and not tally.watched.chain:
            tally.watched = restored
        counter = tally.counter
        return _Case(gateway, message, chain_id, tally, counter.seen(), counter.in_flight)

    def _repeat(self, gateway: str, chain: bytes, known: Signed, message: TallyProposal) -> None:
        same = next_head(message.previous, message.body) == known.head
        if message.position == known.position and same:
            self.counters["repeated"] += 1
            answer = TallyAccepted(chain=chain, position=known.position, signature=known.signature)
            self._send(gateway, answer)
        else:
            text = f"This node has signed position {known.position} of that chain already."
            self._refuse(gateway, chain, message.position, "wrong_position", text)

    def _unfit(self, gateway: str, message: TallyProposal) -> tuple[str, str]:
        chain = message.chain
        if chain.gateway != gateway or chain.node != self._key.address:
            return "not_ours", "The chain is not one between that gateway and this node."
        if len(message.body) != LINK_BYTES:
            return "bad_link", "The link has a wrong length."
        if not self._tallies.agreed(chain.lease, chain.terms):
            return "other_terms", "This node does not carry out that lease on those terms."
        return self._untimely(chain, LINK_WORDS.unpack(message.body)[1])

    def _untimely(self, chain: TallyChain, at_unix_ms: int) -> tuple[str, str]:
        ahead_ms = at_unix_ms - self._now_unix_ms()
        if ahead_ms > tallying.SKEW_MS_MAX:
            return "not_yet", f"The link is {ahead_ms} ms ahead of this node's clock."
        if self.deployment.epoch_at(at_unix_ms) != chain.epoch:
            return "wrong_epoch", "The link's time lies outside its chain's epoch."
        return "", ""

    async def _decide(self, cases: list[_Case]) -> None:
        verdicts = await asyncio.to_thread(lambda: [self._judge(case) for case in cases])
        good: list[tuple[_Case, Verdict, TallyAccepted]] = []
        for case, (verdict, answer) in zip(cases, verdicts, strict=True):
            if answer is None:
                message = case.message
                self._refuse(
                    case.gateway, case.chain_id, message.position, verdict.code, verdict.message
                )
            else:
                good.append((case, verdict, answer))
        for epoch in sorted({case.message.chain.epoch for case, _, _ in good}):
            await self._keep(epoch, [item for item in good if item[0].message.chain.epoch == epoch])

    def _judge(self, case: _Case) -> tuple[Verdict, TallyAccepted | None]:
        message, watched = case.message, case.tally.watched
        head = next_head(message.previous, message.body)
        digest = tally_head(self.deployment.domain, case.chain_id, message.position, head)
        try:
            signer = recover(digest, message.signature)
        except IsochroneError:
            signer = ""
        if signer != case.gateway:
            text = (
                "The link is not signed by its gateway for this deployment (chain "
                f"{self.deployment.chain_id}, bonds {self.deployment.bonds})."
            )
            return Verdict(watched=watched, code="bad_signature", message=text), None
        link = Link(
            position=message.position, previous=message.previous, body=message.body, head=head
        )
        verdict = judge(watched, message.chain, link, case.seen, case.in_flight)
        if verdict.code:
            return verdict, None
        answer = TallyAccepted(
            chain=case.chain_id, position=message.position, signature=self._key.sign(digest)
        )
        return verdict, answer

    async def _keep(self, epoch: int, group: list[tuple[_Case, Verdict, TallyAccepted]]) -> None:
        records = [pack(part) for case, _, answer in group for part in (case.message, answer)]
        try:
            await self.spool.append(epoch, records)
        except IsochroneError as error:
            for case, _, answer in group:
                code = error.code if error.code in tallying.PATIENT else "unavailable"
                text = "The node cannot keep it now."
                self._refuse(case.gateway, answer.chain, answer.position, code, text)
            return
        self.versions[epoch] += 1
        for case, verdict, answer in group:
            self.counters["signed"] += 1
            self._settle(case, verdict)
            head = verdict.watched.head
            self.signed[answer.chain] = Signed(epoch, answer.position, head, answer.signature)
            self._send(case.gateway, answer)

    def _settle(self, case: _Case, verdict: Verdict) -> None:
        tally, watched = case.tally, verdict.watched
        if watched.chain != tally.watched.chain and watched.session == tally.watched.session:
            tally.write_offs = 0  # an epoch went by in order
        if verdict.written_off:
            tally.write_offs += 1
            tally.rest_until_s = time.monotonic() + tallying.rest_s(tally.write_offs)
            self._journal.tell(
                "warning",
                "work will never be signed",
                gateway=case.gateway,
                lease=case.message.chain.lease,
                requests=verdict.written_off,
            )
        tally.watched = watched
        tally.signed = watched.mark[0]
        tally.since_s = 0.0
        tally.graced = False
        if tally.barred == "unsigned_work" and not verdict.written_off:
            tally.barred = ""  # at once, not only at the next look

    def forget(self, epoch: int) -> None:
        """The records of an epoch are gone from the spool."""
        self.versions.pop(epoch, None)
        for chain in [chain for chain, signed in self.signed.items() if signed.epoch <= epoch]:
            del self.signed[chain]

    def _refuse(self, gateway: str, chain: bytes, position: int, code: str, text: str) -> None:
        self.counters[f"refused_{code}"] += 1
        self._journal.tell("warning", "link not signed", gateway=gateway, code=code, text=text)
        self._send(gateway, TallyRefused(chain=chain, position=position, code=code, message=text))

    def _remember(self, proposal: TallyProposal, answer: TallyAccepted) -> None:
        chain = proposal.chain
        head = next_head(proposal.previous, proposal.body)
        self.signed[answer.chain] = Signed(chain.epoch, answer.position, head, answer.signature)
        _, at_unix_ms, *counts = LINK_WORDS.unpack(proposal.body)
        self._restored[chain.gateway, chain.lease, chain.audience] = Watched(
            chain=answer.chain,
            session=chain.session,
            position=proposal.position,
            head=head,
            at_unix_ms=at_unix_ms,
            counts=tuple(counts),
            restored=True,
        )
