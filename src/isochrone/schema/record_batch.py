"""What gateways and controllers hand to validators after an epoch: tallies, leases, standby.

Times are Unix milliseconds. Everything is immutable; what is signed is a document
(``schema.documents``) of the kind named.
"""

from __future__ import annotations

import msgspec

from isochrone.schema.tally import LeaseTerms, TallyChain


class SignedHead(msgspec.Struct, frozen=True, kw_only=True):
    """The newest head of a chain that both sides have signed, and the tenant's count, if any."""

    chain: TallyChain
    position: int
    head: bytes
    gateway_signature: bytes
    node_signature: bytes
    tenant_requests: int = 0
    tenant_signature: bytes = b""


class Links(msgspec.Struct, frozen=True, kw_only=True):
    """Links of one chain: ``bodies`` are consecutive ``LINK``s from position ``first``."""

    chain: bytes
    first: int
    bodies: bytes


class LeaseRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A controller's word on a lease in an epoch, signed as a ``lease-record`` document.

    ``served_from_unix_ms``: when it first served (its promise of live time begins). ``released``:
    when the controller asked it to drain (0: not released; then the promise runs to the end of
    the epoch, whatever happened to the node). ``node_grant`` and ``service_document``: the packed
    documents of provider and tenant that agreed to price and service. ``invitation``: the packed
    document by which the service's home asked this controller's operator to serve it.
    """

    epoch: int
    terms: LeaseTerms
    served_from_unix_ms: int
    released_unix_ms: int
    audience: dict[str, int]
    node_grant: bytes
    service_document: bytes
    invitation: bytes = b""


class Invitation(msgspec.Struct, frozen=True, kw_only=True):
    """A home cell's word that another cell's operator may charge for a service of its tenant.

    Sealed as an ``invitation`` document by the ``home_key`` of the service's declaration.
    ``controller``: address of the controller that led ``cell`` then; it speaks for its operator.
    """

    service: str
    cell: str
    controller: str


class StandbyRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A gateway's word on one node's beats in an epoch, signed as a ``standby-record`` document.

    ``free_cpu_milli``: capacity that no lease held, averaged over its live time.
    """

    epoch: int
    node: str
    provider: str
    cell: str
    metro: str
    gateway: str
    live_ms: int
    free_cpu_milli: int


class RecordBatch(msgspec.Struct, frozen=True, kw_only=True):
    """What a gateway (or a node through one) hands to the validators. Repeated until one acks."""

    epoch: int
    source: str
    heads: tuple[SignedHead, ...] = ()
    links: tuple[Links, ...] = ()
    documents: tuple[bytes, ...] = ()
    """Packed ``lease-record``, ``standby-record``, ``watch-commitment``, ``watch-opening`` and
    ``appeal`` documents."""
