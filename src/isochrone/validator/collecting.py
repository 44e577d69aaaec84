"""What a validator has of the records of each epoch: chains put together, documents sorted.

Intuition: gateways and nodes hand the same things over again and again, in pieces and in any order,
and strangers on the fabric may hand over anything. So nothing is believed but what two signatures
fix: a head counts once every link before it is here and hashes to it. What contradicts a signed
head is dropped; two signed heads that contradict each other are kept aside as proof of a lie.

Rules of this file: taking the same thing twice changes nothing; the result does not depend on the
order of arrival (ties are broken by bytes). No I/O, no clock. Not thread-safe: one caller at a
time.

Anybody can make keys and sign with them. So once the chain was read, only records of bonded
operators' keys are taken (``admit``), each operator's account has a share of the room (``shares``),
and what lies about without a proven head has a limit.

What it does not do: know whether a lease record tells the truth (``papers``, ``checking``). A
document is kept once per signer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from collections.abc import Collection as Keys
from functools import partial
from typing import Final

import msgspec

from isochrone.schema.documents import (
    LEASE_RECORD,
    STANDBY_RECORD,
    unpack,
    unseal,
)
from isochrone.schema.errors import IsochroneError, Unavailable
from isochrone.schema.identity import recover
from isochrone.schema.record_batch import LeaseRecord, Links, RecordBatch, SignedHead, StandbyRecord
from isochrone.schema.tally import LINK_BYTES, TallyChain, next_head
from isochrone.schema.typed_data import Domain, tally_head, tenant_count
from isochrone.validator.evidence import WORD_MAX
from isochrone.validator.shares import NOBODY, Shares

SIGNERS_MAX: Final = 16
"""Documents kept of one lease or node and epoch: a cell has at most a few controllers, and whoever
floods the fabric with made-up signers fills no memory."""

CHAIN_BYTES: Final = 32
"""A chain's id and its heads are SHA-256."""

POSITIONS_MAX: Final = 100_000
"""Links of one chain: an epoch of a day has 17,280 periods."""

FAULTS_MAX: Final = 1_000

COUNT_BYTES: Final = 256
"""What a tenant's newer count adds to a head that is here already, written generously."""

LOOSE_BYTES_MAX: Final = 256 * 1024 * 1024
"""Links that no head proves yet, of all chains together: a million periods in disorder."""


_encode = msgspec.msgpack.Encoder().encode


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """Two heads of one chain and position, both signed: somebody lied, and this proves it."""

    one: SignedHead
    other: SignedHead


class Paper(msgspec.Struct, frozen=True, kw_only=True):
    """One document: its packed bytes, its signer, and what it says."""

    packed: bytes
    signer: str
    record: LeaseRecord | StandbyRecord


class Copy:
    """One chain as far as it is here.

    ``bodies``: the links from position 1 without a gap, up to the newest proven head ``best``.
    ``counts``: who signed which count of answers (a stranger's signature gives a random signer).
    """

    __slots__ = ("best", "bodies", "chain", "counts", "loose", "waiting")

    def __init__(self) -> None:
        self.chain: TallyChain | None = None
        self.best: SignedHead | None = None
        self.bodies = b""
        self.waiting: dict[int, SignedHead] = {}
        self.loose: dict[int, bytes] = {}
        self.counts: dict[str, tuple[int, bytes]] = {}

    @property
    def loose_bytes(self) -> int:
        """What lies about."""
        return sum(map(len, self.loose.values()))

    @property
    def position(self) -> int:
        """The newest proven position; 0: none."""
        return self.best.position if self.best else 0


class Collection:
    """Chains by id, documents by what they are about. ``refused``: records that prove nothing;
    ``strange``: those by keys that nobody bonded for, perhaps not yet; ``over``: those for which
    their operator's share had no room, ``crowded``: whose those were.

    ``shares``: who may fill how much; None: there is room for all.
    """

    def __init__(self, domain: Domain, shares: Shares | None = None) -> None:
        self._domain = domain
        self._shares = shares
        self.chains: dict[bytes, Copy] = {}
        self.papers: dict[tuple[str, int, str], dict[str, Paper]] = {}
        self.faults: list[Fault] = []
        self.refused = 0
        self.strange = 0
        self.over = 0
        self.crowded: set[str] = set()
        self._changes = 0
        self._loose_bytes = 0
        self._operators: Keys[str] | None = None
        self._epoch = 0

    def admit(self, operators: Keys[str]) -> None:
        """From now on only records by these keys are taken; those of others go."""
        self._operators = operators
        self.chains = {
            key: copy
            for key, copy in self.chains.items()
            if copy.chain is None or copy.chain.gateway in operators
        }
        for about, papers in list(self.papers.items()):
            self.papers[about] = {who: papers[who] for who in papers if who in operators}
            if not self.papers[about]:
                del self.papers[about]
        self._loose_bytes = sum(copy.loose_bytes for copy in self.chains.values())

    def add(self, batch: RecordBatch) -> RecordBatch | None:
        """Take a batch; what of it was new, None when nothing was.

        What is not of the batch's epoch is left out. Raises Unavailable when too much lies about
        already: the batch should come again.
        """
        self._check_loose(batch.links)
        self._epoch = batch.epoch
        ours = [head for head in batch.heads if head.chain.epoch == batch.epoch]
        self.refused += len(batch.heads) - len(ours)
        touched: list[Copy | None] = []

        def is_new(change: Callable[[], Copy | None]) -> bool:
            before = self._changes
            touched.append(change())
            return self._changes != before

        heads = [head for head in ours if is_new(partial(self._take_head, head))]
        links = [one for one in batch.links if is_new(partial(self._take_links, one))]
        for copy in touched:
            if copy is not None:
                self._prove(copy)
        links = [one for one in links if self._charge_links(one)]
        documents = [one for one in batch.documents if is_new(partial(self._take_document, one))]
        if not heads and not links and not documents:
            return None
        return msgspec.structs.replace(
            batch, heads=tuple(heads), links=tuple(links), documents=tuple(documents)
        )

    def incomplete(self, epoch: int) -> set[str]:
        """Gateways that signed a head of that epoch which waits for links that are not here."""
        return {
            copy.chain.gateway
            for copy in self.chains.values()
            if copy.waiting and copy.chain is not None and copy.chain.epoch == epoch
        }

    def of(self, epoch: int) -> Iterator[Copy]:
        """The chains of an epoch that have a proven head, by id."""
        for key in sorted(self.chains):
            copy = self.chains[key]
            if copy.best is not None and copy.best.chain.epoch == epoch:
                yield copy

    def documents(self, kind: str, epoch: int) -> Iterator[tuple[str, list[Paper]]]:
        """What the documents of a kind and epoch are about, each with its papers by signer."""
        for name, when, about in sorted(self.papers):
            if name == kind and when == epoch:
                papers = self.papers[name, when, about]
                yield about, [papers[signer] for signer in sorted(papers)]

    def forget_before(self, epoch: int) -> None:
        """Drop what belongs to earlier epochs; links that no head ever came for go as well."""
        self.chains = {
            key: copy
            for key, copy in self.chains.items()
            if copy.chain is not None and copy.chain.epoch >= epoch
        }
        self.papers = {key: papers for key, papers in self.papers.items() if key[1] >= epoch}
        self._loose_bytes = sum(copy.loose_bytes for copy in self.chains.values())

    # --- chains ----------------------------------------------------------------------------------

    def _take_links(self, links: Links) -> Copy | None:
        count, rest = divmod(len(links.bodies), LINK_BYTES)
        last = links.first + count - 1
        fits = links.first >= 1 and last <= POSITIONS_MAX and len(links.chain) == CHAIN_BYTES
        if rest or not count or not fits:
            self.refused += 1
            return None
        copy = self.chains.get(links.chain) or Copy()
        before = copy.loose.get(links.first, b"")
        if last <= copy.position or before == links.bodies:
            return None
        more = len(links.bodies) - len(before)
        owner = copy.chain.gateway if copy.chain is not None else NOBODY
        if owner != NOBODY and not self._fits(owner, len(links.bodies)):
            return None
        if more >= 0:
            self.chains[links.chain] = copy
            copy.loose[links.first] = links.bodies
            self._loose_bytes += more
            self._changes += 1
        return copy

    def _check_loose(self, pieces: Iterable[Links]) -> None:
        """Raises Unavailable before anything is taken when too much would lie about."""
        more = 0
        for links in pieces:
            copy = self.chains.get(links.chain)
            before = copy.loose.get(links.first, b"") if copy is not None else b""
            last = links.first + len(links.bodies) // LINK_BYTES - 1
            if before != links.bodies and (copy is None or last > copy.position):
                more += len(links.bodies) - len(before)
        if more > 0 and self._loose_bytes + more > LOOSE_BYTES_MAX:
            raise Unavailable(
                f"Over {LOOSE_BYTES_MAX} bytes of links wait for heads.",
                fix="Hand them over again, heads first.",
                code="too_many_links",
            )

    def _charge_links(self, links: Links) -> bool:
        """Whether links that were new are kept: on their operator's account if a head proves them.

        Links are not signed, anybody can make some up for any chain: until then they are nobody's,
        and go again when the pool is full.
        """
        copy = self.chains[links.chain]
        start = (links.first - 1) * LINK_BYTES
        if copy.chain is not None and copy.bodies.startswith(links.bodies, start):
            if self._shares is not None:
                self._shares.fill(self._epoch, copy.chain.gateway, len(links.bodies))
            return True
        if copy.loose.get(links.first) != links.bodies:
            return False  # a head has disproved them
        if self._has_room(NOBODY, len(links.bodies)):
            return True
        del copy.loose[links.first]
        self._loose_bytes -= len(links.bodies)
        if copy.chain is None and not copy.loose:
            del self.chains[links.chain]
        return False

    def _take_head(self, head: SignedHead) -> Copy | None:
        copy = self.chains.get(head.chain.id)
        known = None
        if copy is not None:
            at_end = head.position == copy.position
            known = copy.best if at_end else copy.waiting.get(head.position)
        if known is not None and known.head == head.head:
            assert copy is not None
            self._take_count(copy, head)
            return None
        if copy is not None and head.position < copy.position:
            return None
        fits = 1 <= head.position <= POSITIONS_MAX and len(head.head) == CHAIN_BYTES
        if not fits or not self._admits(head.chain.gateway) or not self._signed(head):
            self.refused += 1
            return None
        if known is not None:
            self._fault(known, head)
            return None
        if not self._has_room(head.chain.gateway, len(_encode(head))):
            return None
        copy = self.chains.setdefault(head.chain.id, Copy())
        copy.chain = head.chain
        copy.waiting[head.position] = head
        self._changes += 1
        self._take_count(copy, head)
        return copy

    def _take_count(self, copy: Copy, head: SignedHead) -> None:
        if not 0 < head.tenant_requests < WORD_MAX:
            return
        digest = tenant_count(self._domain, head.chain.id, head.tenant_requests)
        try:
            signer = recover(digest, head.tenant_signature)
        except IsochroneError:
            self.refused += 1
            return
        requests, _ = copy.counts.get(signer, (0, b""))
        is_more = head.tenant_requests > requests
        if is_more and (requests or len(copy.counts) < SIGNERS_MAX):
            if not self._has_room(head.chain.gateway, COUNT_BYTES):
                return
            copy.counts[signer] = (head.tenant_requests, head.tenant_signature)
            self._changes += 1

    def _admits(self, key: str) -> bool:
        if self._operators is None or key in self._operators:
            return True
        self.strange += 1
        return False

    def _has_room(self, key: str, size_bytes: int) -> bool:
        """Whether so much of a key's records is kept; then it counts as kept."""
        if not self._fits(key, size_bytes):
            return False
        if self._shares is not None:
            self._shares.fill(self._epoch, key, size_bytes)
        return True

    def _fits(self, key: str, size_bytes: int) -> bool:
        if self._shares is None or self._shares.fits(key, size_bytes):
            return True
        self.over += 1
        self.crowded.add(self._shares.account(key))
        return False

    def _signed(self, head: SignedHead) -> bool:
        digest = tally_head(self._domain, head.chain.id, head.position, head.head)
        try:
            by_gateway = recover(digest, head.gateway_signature) == head.chain.gateway
            return by_gateway and recover(digest, head.node_signature) == head.chain.node
        except IsochroneError:
            return False

    def _prove(self, copy: Copy) -> None:
        """Move the proven end to the highest head that the links hash to."""
        if copy.chain is None or not copy.waiting:
            return
        self._loose_bytes -= copy.loose_bytes
        bodies = _joined(copy)
        heads = _heads(copy.chain.id, bodies, max(copy.waiting))
        reached = [position for position in copy.waiting if position < len(heads)]
        proven = [
            position for position in reached if heads[position] == copy.waiting[position].head
        ]
        if proven:
            end = max(proven)
            copy.best = copy.waiting[end]
            copy.bodies = bodies[: end * LINK_BYTES]
            copy.waiting = {at: head for at, head in copy.waiting.items() if at > end}
            copy.loose = {
                first: piece
                for first, piece in copy.loose.items()
                if first + len(piece) // LINK_BYTES - 1 > end
            }
        elif reached:
            copy.loose = {}  # not this chain's links: whoever has the right ones sends them again
        self._loose_bytes += copy.loose_bytes

    def _fault(self, one: SignedHead, other: SignedHead) -> None:
        fault = Fault(one=one, other=other)
        if len(self.faults) < FAULTS_MAX and fault not in self.faults:
            self._changes += 1
            self.faults.append(fault)

    # --- documents -------------------------------------------------------------------------------

    def _take_document(self, packed: bytes) -> None:
        paper = read_paper(packed)
        if paper is None or paper.record.epoch != self._epoch or not self._admits(paper.signer):
            self.refused += 1
            return
        kept = self.papers.get(_about(paper), {})
        known = kept.get(paper.signer)
        if (known is None and len(kept) < SIGNERS_MAX) or (known and packed < known.packed):
            if not self._has_room(paper.signer, len(packed)):
                return
            self.papers[_about(paper)] = kept
            kept[paper.signer] = paper
            self._changes += 1


def read_paper(packed: bytes) -> Paper | None:
    """A lease or standby record with a valid signature; None for anything else."""
    record: LeaseRecord | StandbyRecord
    try:
        document = unpack(packed)
        if document.kind == LEASE_RECORD:
            record, signer = unseal(document, LEASE_RECORD, LeaseRecord)
        else:
            record, signer = unseal(document, STANDBY_RECORD, StandbyRecord)
    except IsochroneError:
        return None
    if isinstance(record, StandbyRecord) and record.gateway != signer:
        return None
    return Paper(packed=packed, signer=signer, record=record)


def batches_of(collection: Collection, epoch: int, source: str) -> Iterator[RecordBatch]:
    """Everything of an epoch, in an order that depends on the content alone; a chain a batch."""
    for copy in collection.of(epoch):
        best = copy.best
        assert best is not None
        counts = sorted(copy.counts.values()) or [(0, b"")]
        heads = tuple(
            msgspec.structs.replace(best, tenant_requests=requests, tenant_signature=signature)
            for requests, signature in counts
        )
        links = (Links(chain=best.chain.id, first=1, bodies=copy.bodies),)
        yield RecordBatch(epoch=epoch, source=source, heads=heads, links=links)
    for kind in (LEASE_RECORD, STANDBY_RECORD):
        for _, papers in collection.documents(kind, epoch):
            documents = tuple(paper.packed for paper in papers)
            yield RecordBatch(epoch=epoch, source=source, documents=documents)


def _about(paper: Paper) -> tuple[str, int, str]:
    record = paper.record
    if isinstance(record, LeaseRecord):
        return LEASE_RECORD, record.epoch, record.terms.lease
    return STANDBY_RECORD, record.epoch, f"{record.node}/{record.gateway}"


def _joined(copy: Copy) -> bytes:
    """The proven links and those that follow without a gap."""
    bodies = copy.bodies
    for first in sorted(copy.loose):
        have = len(bodies) // LINK_BYTES
        piece = copy.loose[first]
        if first <= have + 1 and first + len(piece) // LINK_BYTES - 1 > have:
            bodies += piece[(have + 1 - first) * LINK_BYTES :]
    return bodies


def _heads(chain: bytes, bodies: bytes, last: int) -> list[bytes]:
    """Head at each position from 0, as far as there are links."""
    heads = [chain]
    for start in range(0, min(len(bodies), last * LINK_BYTES), LINK_BYTES):
        heads.append(next_head(heads[-1], bodies[start : start + LINK_BYTES]))
    return heads
