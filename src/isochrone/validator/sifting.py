"""What a proposer may put into a manifest: the records that will pass ``checking``, and no other.

Intuition: strangers hand records over, and one false record makes a manifest false. So a proposer
runs the same checks first and leaves out what fails, each with its reason. Leaving out a *true*
record is what the other validators watch for: they know what they forwarded.

Rules of this file: the result depends on the content alone, never on the order or number of copies.
Of several records of one lease, epoch and operator the widest promise counts: whoever gave two owes
the larger one. Another operator's record of the same id is another lease. Of several heads of a
chain the newest that its links lead to counts, with the highest count that the tenant signed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from isochrone.records.links import Run
from isochrone.schema.chain_snapshot import ChainSnapshot
from isochrone.schema.deployment import Deployment
from isochrone.schema.record_batch import LeaseRecord, Links, SignedHead
from isochrone.schema.settlement import Books
from isochrone.schema.tally import LINK, LINK_BYTES
from isochrone.validator.chains import ALREADY, LATE_EPOCHS, Start, check_head, start_of, usage_of
from isochrone.validator.checking import counted_before
from isochrone.validator.evidence import FalseRecord, KeyBook
from isochrone.validator.papers import (
    FORMER_HOME,
    KnownLease,
    LeaseKey,
    check_lease,
    check_standby,
    false_lease,
    of_former_homes,
)
from isochrone.validator.watch_papers import sound_watches


@dataclass(frozen=True, slots=True)
class Sound:
    """What may count, as ``records.manifest.EpochRecords`` takes it, and what may not and why."""

    heads: tuple[SignedHead, ...]
    links: tuple[Links, ...]
    leases: tuple[bytes, ...]
    standby: tuple[bytes, ...]
    refused: tuple[FalseRecord, ...]
    watches: tuple[bytes, ...] = ()


@dataclass(slots=True)
class _Sieve:
    epoch: int
    deployment: Deployment
    keys: KeyBook
    refused: list[FalseRecord] = field(default_factory=list)


def sift(
    epoch: int,
    deployment: Deployment,
    chain: ChainSnapshot,
    books: Books | None,
    *,
    heads: Iterable[SignedHead],
    links: Mapping[bytes, Links],
    leases: Iterable[bytes],
    standby: Iterable[bytes],
    watches: Iterable[bytes] = (),
) -> Sound:
    """The records of this epoch and the late ones of the epoch before that will pass a check.

    ``links``: by chain id, from its first link or from the one after those counted before, without
    a gap, at least up to the newest head. Heads of other epochs are left out without a word.
    """
    sieve = _Sieve(epoch, deployment, KeyBook(chain.bonds))
    known, packed_of = _leases(sieve, leases)
    counted = counted_before(books)
    kept: list[tuple[SignedHead, KnownLease, Links | None]] = []
    for candidates in _by_chain(sieve, heads):
        start = start_of(candidates[0], counted)
        sound = _newest(sieve, candidates, start, links.get(candidates[0].chain.id), known)
        if sound is not None:
            kept.append(sound)
    needed = {lease.key for _, lease, _ in kept}
    return Sound(
        heads=tuple(head for head, _, _ in kept),
        links=tuple(piece for _, _, piece in kept if piece is not None),
        leases=tuple(packed_of[key] for key in sorted(known) if key[1] == epoch or key in needed),
        standby=_standby(sieve, standby),
        watches=sound_watches(epoch, watches, chain, books),
        refused=tuple(sieve.refused),
    )


def _leases(
    sieve: _Sieve, documents: Iterable[bytes]
) -> tuple[dict[LeaseKey, KnownLease], dict[LeaseKey, bytes]]:
    epochs = tuple(range(sieve.epoch - LATE_EPOCHS, sieve.epoch + 1))
    known: dict[LeaseKey, KnownLease] = {}
    packed_of: dict[LeaseKey, bytes] = {}
    for packed in sorted(set(documents), reverse=True):
        try:
            lease = check_lease(packed, epochs, sieve.keys)
        except FalseRecord as error:
            sieve.refused.append(error)
            continue
        before = known.get(lease.key)
        if before is None or _breadth(lease.record) > _breadth(before.record):
            known[lease.key], packed_of[lease.key] = lease, packed
    for key in sorted(of_former_homes(known.values())):
        sieve.refused.append(false_lease(known.pop(key), FORMER_HOME))
    return known, packed_of


def _breadth(record: LeaseRecord) -> tuple[bool, bool, int, int]:
    """How much a record promises: served at all, never released, released late, served early."""
    served, released = record.served_from_unix_ms, record.released_unix_ms
    return served > 0, not released, released, -served


def _by_chain(sieve: _Sieve, heads: Iterable[SignedHead]) -> list[list[SignedHead]]:
    """Heads that may count, chain by chain in order of ids, the newest first."""
    chains: dict[bytes, list[SignedHead]] = {}
    for head in heads:
        if sieve.epoch - LATE_EPOCHS <= head.chain.epoch <= sieve.epoch:
            chains.setdefault(head.chain.id, []).append(head)
    return [
        sorted(chains[key], key=lambda h: (-h.position, -h.tenant_requests, _bytes_of(h)))
        for key in sorted(chains)
    ]


def _bytes_of(head: SignedHead) -> bytes:
    return head.head + head.gateway_signature + head.node_signature + head.tenant_signature


def _newest(
    sieve: _Sieve,
    candidates: list[SignedHead],
    start: Start,
    links: Links | None,
    known: Mapping[LeaseKey, KnownLease],
) -> tuple[SignedHead, KnownLease, Links | None] | None:
    """The first candidate that passes, with the links it needs; None when none does."""
    for head in candidates:
        try:
            lease = check_head(head, known, sieve.epoch, sieve.deployment.domain, sieve.keys)
            piece = _piece(head, start, links)
            usage_of(head, lease, start, _runs(piece), sieve.epoch)
        except FalseRecord as error:
            if error.why != ALREADY:
                sieve.refused.append(error)
            continue
        return head, lease, piece
    return None


def _piece(head: SignedHead, start: Start, links: Links | None) -> Links | None:
    """The links after the start up to the head; None when there are none between."""
    if head.position <= start.position:
        return None
    name = head.chain.id
    if links is None or links.chain != name or not 1 <= links.first <= start.position + 1:
        raise FalseRecord("links", name.hex(), f"they do not begin after position {start.position}")
    bodies = links.bodies[(start.position + 1 - links.first) * LINK_BYTES :]
    bodies = bodies[: (head.position - start.position) * LINK_BYTES]
    return Links(chain=name, first=start.position + 1, bodies=bodies)


def _runs(piece: Links | None) -> list[Run]:
    if piece is None or not piece.bodies:
        return []
    whole = len(piece.bodies) - len(piece.bodies) % LINK_BYTES
    return [Run(piece.chain, 0, np.frombuffer(piece.bodies[:whole], LINK))]


def _standby(sieve: _Sieve, documents: Iterable[bytes]) -> tuple[bytes, ...]:
    kept: dict[tuple[str, str], bytes] = {}
    for packed in sorted(set(documents)):
        try:
            record = check_standby(packed, sieve.epoch, sieve.deployment.epoch_s * 1000, sieve.keys)
        except FalseRecord as error:
            sieve.refused.append(error)
            continue
        kept.setdefault((record.node, record.gateway), packed)
    return tuple(kept[key] for key in sorted(kept))
