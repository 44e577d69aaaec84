"""Tally chains: every link hashed, both signatures of the last head, and what is new since.

Intuition: a signed head fixes all links before it. So a chain is proven by hashing from a hash that
is already believed (the chain's id, or the head up to which the books counted it before) to the
head that gateway and node signed, and what it earns now is the difference of two links.

What is caught: any changed, missing, added or reordered link; a head that either side did not sign,
or signed for another chain, position or deployment; counts that fall, or overflow, or contradict
each other; a gateway of another operator than the lease's; a chain that was counted already. What
is missed: counts that gateway and node both invented. Where one account stands on both sides the
rules take the tenant's own count instead.

A chain is believed from 64-bit words below 2**56, so that sums stay exact. The clock inside a link
is the gateway's word and decides nothing here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain as chained
from typing import Any

import numpy as np
import numpy.typing as npt

from isochrone.records.links import Run
from isochrone.schema.errors import IsochroneError
from isochrone.schema.identity import recover
from isochrone.schema.record_batch import SignedHead
from isochrone.schema.settlement import Usage
from isochrone.schema.tally import BUCKETS, COUNTS, LINK_BYTES, terms_digest
from isochrone.schema.typed_data import Domain, tally_head, tenant_count
from isochrone.validator.evidence import WORD_MAX, FalseRecord, KeyBook
from isochrone.validator.papers import KnownLease, LeaseKey

LATE_EPOCHS = 1
"""A chain counts in its own epoch and in the next one; ``Books.counted`` remembers as long."""

ALREADY = "it was counted already"

Words = npt.NDArray[np.uint64]
"""A link's counts, then its latency buckets."""

_FIRST = len(COUNTS) + BUCKETS
_ERRORS = [COUNTS.index(name) for name in COUNTS if name.startswith("errors_") or name == "refused"]
_REQUESTS = COUNTS.index("requests")


@dataclass(frozen=True, slots=True)
class Start:
    """From where a chain is hashed: a position, its head and its words there."""

    position: int
    head: bytes
    words: Words


def start_of(head: SignedHead, counted: Mapping[str, Usage]) -> Start:
    """Where the books before have counted the chain to, or its beginning. ``counted``: by chain."""
    before = counted.get(head.chain.id.hex())
    if before is None:
        return Start(0, head.chain.id, np.zeros(_FIRST, np.uint64))
    words = [*(getattr(before, name) for name in COUNTS), *before.latency]
    return Start(before.position, bytes.fromhex(before.head), np.array(words, np.uint64))


def check_head(
    head: SignedHead,
    leases: Mapping[LeaseKey, KnownLease],
    epoch: int,
    domain: Domain,
    keys: KeyBook,
) -> KnownLease:
    """The lease that the head counts for; raises FalseRecord unless it is both sides' word on one.

    Two recoveries, about 0.15 ms.
    """
    of = head.chain
    name = of.id.hex()
    if not epoch - LATE_EPOCHS <= of.epoch <= epoch:
        raise FalseRecord("heads", name, f"a chain of epoch {of.epoch} does not count in {epoch}")
    operator = keys.account("operator", of.gateway)
    if operator is None:
        raise FalseRecord("heads", name, "its gateway works for no bonded operator")
    lease = leases.get((of.lease, of.epoch, operator))
    if lease is None:
        raise FalseRecord("heads", name, f"there is no record of lease {of.lease} by {operator}")
    if (of.terms, of.node) != (terms_digest(lease.record.terms), lease.record.terms.node):
        raise FalseRecord("heads", name, "its node or terms are not the lease's")
    if not 0 < head.position < WORD_MAX or not 0 <= head.tenant_requests < WORD_MAX:
        raise FalseRecord("heads", name, "its position or the tenant's count is out of range")
    digest = tally_head(domain, of.id, head.position, head.head)
    _signed("heads", name, "gateway", digest, head.gateway_signature, of.gateway)
    _signed("heads", name, "node", digest, head.node_signature, of.node)
    if head.tenant_requests or head.tenant_signature:
        count = tenant_count(domain, of.id, head.tenant_requests)
        tenant = lease.record.terms.tenant
        _signed("heads", name, "tenant", count, head.tenant_signature, tenant)
    return lease


def usage_of(
    head: SignedHead, lease: KnownLease, start: Start, runs: Sequence[Run], epoch: int
) -> Usage:
    """What is new in a chain whose head was checked, from the links since ``start``.

    ``lease``: the one that it counts for. Counts are differences; the tenant's stays cumulative,
    at most the chain's requests.
    Raises FalseRecord unless the links lead from the start to the head, and for nothing new.
    """
    name = head.chain.id.hex()
    reached, position, words = start.head, start.position, start.words
    for run in runs:
        if int(run.links["position"][0]) != position + 1:
            raise FalseRecord("links", name, f"they do not begin after position {position}")
        reached, position = _hashed(reached, run.links), int(run.links["position"][-1])
        words = _grown(name, words, run)
    if (position, reached) != (head.position, head.head):
        raise FalseRecord(
            "links", name, f"they lead to another head at {position} than at {head.position} signed"
        )
    if position == start.position:
        raise FalseRecord("heads", name, ALREADY)
    fresh = [int(word) for word in words - start.words]
    return Usage(
        chain=name,
        lease=lease.name,
        gateway=head.chain.gateway,
        audience=head.chain.audience,
        session=head.chain.session,
        position=position,
        head=reached.hex(),
        **dict(zip(COUNTS, fresh, strict=False)),
        latency=tuple(fresh[len(COUNTS) :]),
        tenant_requests=min(head.tenant_requests, int(words[_REQUESTS])),
        late=head.chain.epoch < epoch,
    )


def by_chain(runs: Iterator[Run]) -> Iterator[tuple[bytes, list[Run]]]:
    """Ordered runs, those of one chain together."""
    together: list[Run] = []
    for run in chained(runs, [None]):
        if together and (run is None or run.chain != together[0].chain):
            yield together[0].chain, together
            together = []
        if run is not None:
            together.append(run)


def _hashed(head: bytes, links: npt.NDArray[Any]) -> bytes:
    """The head after these links (about 1 µs each)."""
    sha256 = hashlib.sha256
    bodies = memoryview(links.tobytes())
    for offset in range(0, len(bodies), LINK_BYTES):
        head = sha256(head + bodies[offset : offset + LINK_BYTES]).digest()
    return head


def _grown(name: str, before: Words, run: Run) -> Words:
    """The last words of a run whose counts never fall and do not contradict each other."""
    words = run.links.view(">u8").reshape(len(run.links), -1)[:, 2:].astype(np.uint64)
    falls = (words[0] < before).any() or (words[1:] < words[:-1]).any()
    last: Words = words[-1].copy()
    requests = last[_REQUESTS]
    more = last[_ERRORS].sum() > requests or last[len(COUNTS) :].sum() > requests
    if falls or (last >= WORD_MAX).any() or more:
        raise FalseRecord("links", name, f"counts fall or contradict each other by row {run.row}")
    return last


def _signed(kind: str, name: str, who: str, digest: bytes, signature: bytes, address: str) -> None:
    try:
        signer = recover(digest, signature)
    except IsochroneError as error:
        raise FalseRecord(kind, name, f"the {who}'s signature: {error.message}") from error
    if signer != address:
        raise FalseRecord(kind, name, f"the {who}'s signature is not that of {address}")
