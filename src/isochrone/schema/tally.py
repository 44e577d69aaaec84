"""Tallies: what one replica did for one gateway, counted by both and signed by both.

Intuition: money must not depend on anybody's log. Gateway and node each count every request of a
replica; every few seconds the gateway writes the cumulative counts as one *link*, hashed over the
link before it, and both sign the newest hash (the *head*). A signed head thus fixes everything
that was counted before it, and two different heads at one position are proof of a lie.

A chain belongs to one lease, one gateway process (``session``), one audience and one epoch, and
starts at zero: a process that starts again begins a new chain, so that a crash never leads it to
sign a second digest for a position. So does a pair that could not agree: what was in dispute stays
unsigned, and unpaid. ``head[0]`` is the chain's id, ``head[i] = sha256(head[i-1] ‖
body[i])``, and ``body`` is the fixed layout ``LINK`` (big-endian, ``LINK_BYTES``).
"""

from __future__ import annotations

import hashlib
import struct
from typing import TYPE_CHECKING, Any

import msgspec

from isochrone.schema.digests import canonical, digest
from isochrone.schema.lease import Lease
from isochrone.schema.node import Resources
from isochrone.schema.service import Objective

PERIOD_S = 5.0
"""How often a link is proposed; half of what may stay unmatched."""

UNMATCHED_S_MAX = 10.0
"""Older work that the other side has not signed ends the pair's work together."""

LATENCY_BOUNDS_MS: tuple[int, ...] = (
    1, 2, 3, 5, 7, 10, 15, 20, 30, 40, 50, 75, 100, 150, 200, 300, 400, 500, 750, 1000, 2000,
    5000, 10000,
)  # fmt: skip
"""Upper bounds, inclusive; the last bucket has none. A percentile is the bound of its bucket."""

BUCKETS = len(LATENCY_BOUNDS_MS) + 1

COUNTS: tuple[str, ...] = (
    "requests",
    "errors_caller",
    "errors_replica",
    "errors_cut",
    "refused",
    "tokens_in",
    "tokens_out",
    "bytes_in",
    "bytes_out",
    "live_ms",
)
"""Cumulative counts of a link, in the layout's order.

``requests``: sent to the replica and over, however they ended; of these ``errors_caller`` were
answered 4xx, ``errors_replica`` 5xx or lost, ``errors_cut`` broke off after their first byte,
``refused`` were declined before any work. A request that its caller gave up, or a copy that another
replica overtook, is a request without error. ``live_ms``: time in which the replica was serving and
its channel answered; told by the chain of the gateway's own cell, zero in those of other audiences.
The latency runs from the request's dispatch at the gateway (of one that streams: its last byte) to
the answer's first byte there, of requests without error that were answered.
"""

LINK_WORDS = struct.Struct(f">{2 + len(COUNTS) + BUCKETS}Q")
"""A link's layout: position, at_unix_ms, ``COUNTS``, then the latency buckets, all 64 bits."""

LINK_BYTES = LINK_WORDS.size

if TYPE_CHECKING:
    LINK: Any


def __getattr__(name: str) -> Any:
    """``LINK``: the same layout as a NumPy type, made when first asked for.

    Gateways and nodes, which read this module too, do without NumPy (11 MB).
    """
    if name != "LINK":
        raise AttributeError(name)
    import numpy as np

    link = np.dtype(
        [("position", ">u8"), ("at_unix_ms", ">u8")]
        + [(count, ">u8") for count in COUNTS]
        + [("latency", ">u8", (BUCKETS,))]
    )
    globals()["LINK"] = link
    return link


class LeaseTerms(msgspec.Struct, frozen=True, kw_only=True):
    """What of a lease concerns money; a chain's id commits to it, so both signatures cover it."""

    lease: str
    service: str
    tenant: str
    cell: str
    node: str
    provider: str
    resources: Resources
    objective: Objective
    price_microusd_per_hour: int
    decision: str


def terms_of(lease: Lease) -> LeaseTerms:
    """The terms of a lease."""
    return LeaseTerms(
        lease=lease.id,
        service=lease.service,
        tenant=lease.service.split(".", 1)[0],
        cell=lease.cell,
        node=lease.node,
        provider=lease.provider,
        resources=lease.resources,
        objective=lease.objective,
        price_microusd_per_hour=lease.price_microusd_per_hour,
        decision=lease.decision,
    )


class TallyChain(msgspec.Struct, frozen=True, kw_only=True):
    """What a chain counts. ``terms``: digest of its ``LeaseTerms`` (hex).

    ``audience``: the cell whose gateway the callers reached (their side of the network).
    ``session``: 16 random bytes in hex, new for every start of the gateway's process, and for a
    chain that follows one in dispute.
    """

    epoch: int
    lease: str
    terms: str
    node: str
    gateway: str
    audience: str
    session: str

    @property
    def id(self) -> bytes:
        """The chain's id and zeroth head: SHA-256 of the canonical bytes."""
        return hashlib.sha256(canonical(self)).digest()


def next_head(head: bytes, body: bytes) -> bytes:
    """The head after one more link."""
    return hashlib.sha256(head + body).digest()


def terms_digest(terms: LeaseTerms) -> str:
    """SHA-256 hex of the terms."""
    return digest(terms)


class TallyProposal(msgspec.Struct, frozen=True, kw_only=True, tag="tally-proposal"):
    """Gateway -> node: the next link of a chain. ``chain`` is told whole at every position.

    ``body``: ``LINK_BYTES``; ``signature``: the gateway's over ``typed_data.tally_head``.
    A proposal is fsynced before it is sent and repeated unchanged until it is answered.
    """

    chain: TallyChain
    position: int
    previous: bytes
    body: bytes
    signature: bytes


class TallyAccepted(msgspec.Struct, frozen=True, kw_only=True, tag="tally-accepted"):
    """Node -> gateway, after its own fsync: the same head signed by the node."""

    chain: bytes
    position: int
    signature: bytes


class TallyRefused(msgspec.Struct, frozen=True, kw_only=True, tag="tally-refused"):
    """Node -> gateway: the node does not sign this, and why."""

    chain: bytes
    position: int
    code: str
    message: str
