"""Signs what the tallies counted, with the nodes: closes links, keeps them on disk, proposes.

The order for every link, and the reason for it: close (from now on it never changes) → sign → fsync
in the spool → propose → the node's signature is checked → fsync → it counts. A process that dies
anywhere between finds the link in its spool and proposes it again, unchanged; so no position is
ever signed twice with different contents. Hashing, signing and disk are done in threads, for all
links that are due together; the request path knows nothing of it.

Rules: a link is proposed again every ``RESEND_S`` and when its node comes back, until the node
answers. A refusal that may pass is waited for; any other gives the chain up (``tallies_chains``).
Without a chain of money (``NO_CHAIN``) all of it happens just the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Final

from isochrone.gateway.fleet import Fleet
from isochrone.gateway.tallies import SPOOL_FULL, Tallies, Tally, Told
from isochrone.gateway.tallies_chains import Chains, Writing
from isochrone.gateway.tallies_kept import KeptTallies
from isochrone.rules.tallying import PATIENT
from isochrone.schema.deployment import Deployment
from isochrone.schema.errors import IsochroneError
from isochrone.schema.identity import PrivateKey, recover
from isochrone.schema.lease import Lease
from isochrone.schema.tally import PERIOD_S, TallyAccepted, TallyProposal, TallyRefused
from isochrone.schema.typed_data import tally_head

TICK_S: Final = 0.5
"""How often tallies are looked at: a tenth of a period."""

SOON_S: Final = 0.02

RESEND_S: Final = 2.0
"""A proposal without an answer: twice before its work counts as unmatched."""

ROOM_S: Final = 2.0
"""How often the spool is asked how full it is."""

CLOSING_LOOK_S: Final = 0.02
CLOSING_LOOKS: Final = 50
"""A second for the last links when the process ends; what is not answered then is proposed by the
next process."""

log = logging.getLogger(__name__)
Leases = Mapping[str, Mapping[str, Lease]]


class TallySigner:
    """Signs for one gateway process. ``counters``: links by fate. ``told``: by chain, what callers
    were told, of this epoch and the one before."""

    def __init__(
        self,
        *,
        key: PrivateKey,
        cell: str,
        deployment: Deployment,
        tallies: Tallies,
        fleet: Fleet,
        leases: Callable[[], Leases],
        kept: KeptTallies,
        now_unix_ms: Callable[[], int],
    ) -> None:
        self.counters: Counter[str] = Counter()
        self.deployment = deployment
        self._kept = kept
        self._key = key
        self._cell = cell
        self._tallies = tallies
        self._fleet = fleet
        self._leases = leases
        self._now_unix_ms = now_unix_ms
        self._period_s = min(PERIOD_S, deployment.epoch_s / 4)
        self._chains: dict[Tally, Chains] = {}
        self._by_chain: dict[bytes, Chains] = {}
        self.told: dict[bytes, Told] = {}
        self._answers: asyncio.Queue[TallyAccepted] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()
        self._runners: list[asyncio.Task[None]] = []
        self._soon = asyncio.Event()
        self._room_s = 0.0

    @property
    def epoch(self) -> int:
        """The epoch by this gateway's clock."""
        return self.deployment.epoch_at(self._now_unix_ms())

    async def restore(self) -> None:
        """Take up what a former process signed and nobody answered."""
        for epoch in self._kept.epochs():
            messages = await asyncio.to_thread(self._kept.messages, epoch)
            self._kept.changed.add(epoch)
            newest: dict[bytes, TallyProposal] = {}
            answered: set[tuple[bytes, int]] = set()
            for message in messages:
                if isinstance(message, TallyProposal):
                    newest[message.chain.id] = message
                elif isinstance(message, TallyAccepted):
                    answered.add((message.chain, message.position))
            for chain, proposal in newest.items():
                ours = proposal.chain.gateway == self._key.address
                if ours and (chain, proposal.position) not in answered:
                    self.counters["resumed"] += 1
                    self._resume(proposal)

    def start(self) -> None:
        """Look at the tallies again and again from now on."""
        loop = asyncio.get_running_loop()
        self._runners = [loop.create_task(self._look_on()), loop.create_task(self._keep_answers())]

    async def close(self) -> None:
        """Sign what is counted by now with the nodes that are there, shortly; then stop."""
        if self._runners:
            self._runners[0].cancel()
            self._tallies.look(self._fleet, self._leases())  # what was counted a moment ago, too
        for _ in range(CLOSING_LOOKS):
            if not self._step(monotonic(), period_s=0.0):
                break
            await asyncio.sleep(CLOSING_LOOK_S)
        tasks = [*self._runners, *self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def soon(self) -> None:
        """Something changed at a node: do not wait for the next tick (a chain may be due)."""
        self._soon.set()

    async def _look_on(self) -> None:
        while True:
            self.look()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_S):
                    await self._soon.wait()
                    await asyncio.sleep(SOON_S)  # twenty nodes that come at once cause one look
            self._soon.clear()

    def look(self) -> None:
        """One tick: live time, epochs, links that are due, what is to be proposed again."""
        now_s = monotonic()
        self._watch_room(now_s)
        self._tallies.look(self._fleet, self._leases())
        self._step(now_s, self._period_s)
        self._tallies.bar(self._fleet, now_s)

    def _step(self, now_s: float, period_s: float) -> bool:
        """Close, propose, propose again what is due; whether anything waits for a node that is
        there."""
        now_unix_ms, leases = self._now_unix_ms(), self._leases()
        due: list[tuple[Chains, Writing]] = []
        waits = False
        for tally in self._tallies.all():
            chains = self._chains.get(tally)
            if chains is None:
                if tally.lease is None:
                    continue
                chains = self._chains[tally] = Chains(tally, self._key.address, self._cell)
            self._follow(chains, now_unix_ms, leases)
            writing = chains.writings[0] if chains.writings else None
            if writing is None or not self._reachable(tally):
                continue
            chains.due(self.deployment, now_unix_ms, now_s, period_s)
            waits = waits or writing.drawn.pending is not None
            if writing.drawn.pending is None or writing.busy:
                continue
            if writing.proposal is None:
                due.append((chains, writing))
            elif now_s - writing.sent_s >= RESEND_S:
                self._send(writing, now_s)
        if due:
            self._spawn(due)
        return waits

    # -- what nodes say ------------------------------------------------------------------------

    def node_joined(self, node: str) -> None:
        """A node is back: what waits for its answer is proposed at once."""
        now_s = monotonic()
        for chains in self._chains.values():
            if chains.tally.node != node or not chains.writings:
                continue
            writing = chains.writings[0]
            if writing.proposal is not None and not writing.busy:
                self._send(writing, now_s)

    def accepted(self, node: str, message: TallyAccepted) -> None:
        """A node says that it has signed a link."""
        chains = self._of(node, message.chain)
        if chains is None:
            self.counters["foreign"] += 1
            return
        self._answers.put_nowait(message)

    def refused(self, node: str, message: TallyRefused) -> None:
        """A node says why it does not."""
        chains = self._of(node, message.chain)
        self.counters[f"refused_{message.code[:40]}"] += 1
        if chains is None or message.code in PATIENT:
            return
        tally = chains.tally
        if chains.give_up(message.chain, message.position, monotonic()):
            log.warning(
                "node %s does not sign for lease %s (%s): %s",
                node, tally.id, message.code, message.message[:200],
            )  # fmt: skip
            self._index(chains)

    # -- signing and keeping ---------------------------------------------------------------------

    def _follow(self, chains: Chains, now_unix_ms: int, leases: Leases) -> None:
        tally = chains.tally
        last = chains.writings[-1] if chains.writings else None
        chains.follow(self.deployment, now_unix_ms)
        chains.sort_out()
        newest = chains.writings[-1] if chains.writings else None
        if newest is last:
            return
        self._index(chains)
        gone = tally.id not in leases.get(tally.node, {})
        if gone and len(chains.writings) == 1 and not (tally.since_s or tally.barred):
            self._tallies.forget(tally)
            self._chains.pop(tally, None)

    def _index(self, chains: Chains) -> None:
        ids = {writing.drawn.id for writing in chains.writings}
        for gone in chains.ids - ids:
            self._by_chain.pop(gone, None)
        for fresh in ids - chains.ids:
            self._by_chain[fresh] = chains
        chains.ids = ids
        now = chains.tally.now
        if now is not None:
            self.told[bytes.fromhex(now.prefix[:-1])] = now

    def _of(self, node: str, chain: bytes) -> Chains | None:
        chains = self._by_chain.get(chain)
        return chains if chains is not None and chains.tally.node == node else None

    def _resume(self, proposal: TallyProposal) -> None:
        chain = proposal.chain
        own = chain.audience == self._cell
        tally = (
            self._tallies.of(chain.lease)
            if own
            else self._tallies.relayed(chain.lease, chain.audience)
        )
        chains = self._chains.get(tally)
        if chains is None:
            chains = self._chains[tally] = Chains(tally, self._key.address, self._cell)
        chains.resume(proposal)
        self._index(chains)

    def _reachable(self, tally: Tally) -> bool:
        known = self._fleet.nodes.get(tally.node)
        return known is not None and known.line is not None

    def _send(self, writing: Writing, now_s: float) -> None:
        known = self._fleet.nodes.get(writing.chain.node)
        if known is not None and known.line is not None and writing.proposal is not None:
            writing.sent_s = now_s
            known.line.channel.send_control(writing.proposal)

    def _spawn(self, due: list[tuple[Chains, Writing]]) -> None:
        for _, writing in due:
            writing.busy = True
        task = asyncio.get_running_loop().create_task(self._propose(due))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _propose(self, due: list[tuple[Chains, Writing]]) -> None:
        """Sign and keep links, epoch by epoch, then send them."""
        try:
            signed = await asyncio.to_thread(
                lambda: [(writing, self._sign(writing)) for _, writing in due]
            )
            for epoch in sorted({writing.chain.epoch for writing, _ in signed}):
                group = [(w, proposal) for w, proposal in signed if w.chain.epoch == epoch]
                await self._kept.keep(epoch, [proposal for _, proposal in group], tell=False)
                for writing, proposal in group:
                    writing.proposal = proposal
                    self.counters["proposed"] += 1
                    self._send(writing, monotonic())
        except IsochroneError as error:
            self.counters[error.code] += 1  # the same links are kept at the next tick
        finally:
            for _, writing in due:
                writing.busy = False

    def _sign(self, writing: Writing) -> TallyProposal:
        link = writing.drawn.pending
        assert link is not None
        digest = tally_head(self.deployment.domain, writing.drawn.id, link.position, link.head)
        return TallyProposal(
            chain=writing.chain,
            position=link.position,
            previous=link.previous,
            body=link.body,
            signature=self._key.sign(digest),
        )

    async def _keep_answers(self) -> None:
        """Check and keep the nodes' signatures, all that wait together."""
        while True:
            waiting = [await self._answers.get()]
            while not self._answers.empty():
                waiting.append(self._answers.get_nowait())
            try:
                await self._keep(waiting)
            except IsochroneError as error:
                self.counters[error.code] += 1  # the node is asked again, and answers again

    async def _keep(self, waiting: list[TallyAccepted]) -> None:
        found: list[tuple[Chains, Writing, TallyAccepted]] = []
        for message in waiting:
            chains = self._by_chain.get(message.chain)
            writing = chains.writings[0] if chains is not None and chains.writings else None
            link = writing.drawn.pending if writing is not None else None
            if chains is None or writing is None or link is None or writing.proposal is None:
                continue  # answered twice
            if writing.drawn.id == message.chain and link.position == message.position:
                found.append((chains, writing, message))
        good = await asyncio.to_thread(self._genuine, found)
        for epoch in sorted({writing.chain.epoch for _, writing, _ in good}):
            group = [item for item in good if item[1].chain.epoch == epoch]
            await self._kept.keep(epoch, [message for _, _, message in group], tell=True)
            for chains, _, message in group:
                self.counters["accepted"] += chains.accepted(message.chain, message.position)
                self._index(chains)

    def _genuine(
        self, found: list[tuple[Chains, Writing, TallyAccepted]]
    ) -> list[tuple[Chains, Writing, TallyAccepted]]:
        good = []
        for item in found:
            _, writing, message = item
            link = writing.drawn.pending
            if link is None:
                continue
            digest = tally_head(self.deployment.domain, message.chain, link.position, link.head)
            try:
                signer = recover(digest, message.signature)
            except IsochroneError:
                signer = ""
            if signer == writing.chain.node:
                good.append(item)
            else:
                self.counters["forged"] += 1
        return good

    def _watch_room(self, now_s: float) -> None:
        if now_s - self._room_s < ROOM_S:
            return
        self._room_s = now_s
        for chain in [c for c, told in self.told.items() if told.epoch < self.epoch - 1]:
            del self.told[chain]
        reason = self._kept.look(self.epoch)
        if reason and not self._tallies.full:
            log.error("no paid work is taken: %s", reason)
        self._tallies.full = SPOOL_FULL if reason else ""
