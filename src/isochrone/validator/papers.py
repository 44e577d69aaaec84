"""Lease records, standby records and vouchers: who signed them, and whether they agree.

Intuition: a lease record moves a tenant's money to a provider, so it must carry both their
signatures: the tenant's declaration that names objective and size, the provider's grant that names
the price. Both are public, so a third paper says that this operator was asked at all: the
invitation of the home whose key the tenant named. The controller that wrote the record only joins
them, and answers for the times it tells with its operator's bond: a stranger's record counts for
nothing.

What is caught: a price that the provider never granted or a service that the tenant never declared,
terms that differ from either, a node of another provider, a record signed by a key without a bonded
operator, an operator that nobody invited, or whose home is no longer the service's
(``of_former_homes``). What is missed: a controller that lies about when a lease served or was
released (its word is all there is; where gateway and node counted live time, the smaller number
pays), that shows an older declaration of the same home or an older grant than the newest, that
was invited once and no longer holds a quota, or that shifts the audience's weights: they only
decide which places' pools get the fee.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import TypeVar

import msgspec

from isochrone.schema.documents import (
    LEASE_RECORD,
    NODE_GRANT,
    SERVICE,
    STANDBY_RECORD,
    unpack,
    unseal,
)
from isochrone.schema.errors import IsochroneError
from isochrone.schema.identity import is_address, recover
from isochrone.schema.invitations import invited
from isochrone.schema.node import NodeGrant
from isochrone.schema.record_batch import LeaseRecord, StandbyRecord
from isochrone.schema.service import Service, service_id
from isochrone.schema.settlement import Voucher
from isochrone.schema.typed_data import Domain, voucher
from isochrone.validator.evidence import WORD_MAX, FalseRecord, KeyBook

T = TypeVar("T")

PAPERS_CACHED = 20_000
"""Declarations and grants repeat from lease to lease and from epoch to epoch; each is 1 kB."""


_WORD = re.compile("[0-9a-f]{64}")


LeaseKey = tuple[str, int, str]
"""A lease's id, the epoch and the account of the operator that says so."""


def lease_name(lease: str, operator: str) -> str:
    """A lease's name in the books: its id, and the account of the operator that gave it."""
    return f"{lease}@{operator}"


class KnownLease(msgspec.Struct, frozen=True, kw_only=True):
    """A lease record that holds, and the operator whose controller signed it.

    Ids of leases are made by their operators, so another operator can use the same one, by chance
    or to push the true record aside. In the books a lease is therefore called by both (``name``):
    nobody's record touches what another operator's leases earned or hold.
    """

    record: LeaseRecord
    operator: str
    declared: Service

    @property
    def key(self) -> LeaseKey:
        """What may stand once."""
        return self.record.terms.lease, self.record.epoch, self.operator

    @property
    def name(self) -> str:
        """The lease's name in the books."""
        return lease_name(self.record.terms.lease, self.operator)

    @property
    def booked(self) -> LeaseRecord:
        """The record under the name that it has in the books."""
        terms = msgspec.structs.replace(self.record.terms, lease=self.name)
        return msgspec.structs.replace(self.record, terms=terms)


def check_lease(packed: bytes, epochs: tuple[int, ...], keys: KeyBook) -> KnownLease:
    """The lease that a packed document proves; raises FalseRecord.

    ``epochs``: those whose records count now.
    """
    record, signer = _opened("leases", packed, LEASE_RECORD, LeaseRecord)
    terms = record.terms
    name = f"lease {terms.lease} of epoch {record.epoch}"

    def refuse(why: str) -> FalseRecord:
        return FalseRecord("leases", name, why)

    if record.epoch not in epochs:
        raise refuse("its epoch does not count now")
    operator = keys.account("operator", signer)
    if operator is None:
        raise refuse(f"its signer {signer} is no bonded operator's key")
    released = record.released_unix_ms
    if record.served_from_unix_ms < 0 or (released and released < record.served_from_unix_ms):
        raise refuse("it was released before it served")
    if max(record.served_from_unix_ms, released) >= WORD_MAX:
        raise refuse("its times are out of range")
    if not all(0 < weight < WORD_MAX for weight in record.audience.values()):
        raise refuse("a weight of its audience is out of range")
    try:
        service, tenant = _service(record.service_document)
        grant, provider = _grant(record.node_grant)
    except IsochroneError as error:
        raise refuse(error.message.rstrip(".")) from error
    if (terms.tenant, terms.service) != (tenant, service_id(tenant, service.name)):
        raise refuse(f"its service was declared by {tenant} as {service.name}")
    if (terms.objective, terms.resources) != (service.objective, service.resources):
        raise refuse("its objective or resources are not those declared")
    if (terms.provider, terms.node) != (provider, grant.node):
        raise refuse(f"its node's grant is {provider}'s for {grant.node}")
    price = grant.offer.price_microusd_per_hour(terms.resources)
    if terms.price_microusd_per_hour != price or not 0 <= price < WORD_MAX:
        raise refuse(f"its price is {terms.price_microusd_per_hour}, the grant's {price}")
    ceiling = service.max_price_microusd_per_hour
    if ceiling is not None and price > ceiling:
        raise refuse(f"its price is {price}, the tenant's highest {ceiling}")
    uninvited = _uninvited(record, service, operator, keys)
    if uninvited:
        raise refuse(uninvited)
    return KnownLease(record=record, operator=operator, declared=service)


def _uninvited(record: LeaseRecord, service: Service, operator: str, keys: KeyBook) -> str:
    """Why the operator may not charge for the service; empty: the service's home invited it.

    An invitation names a controller and speaks to its operator: all keys of one account may use it,
    so that a change of leader inside a cell costs nobody anything.
    """
    try:
        invitation = invited(record.invitation, service, record.terms.service)
    except IsochroneError as error:
        return error.message.rstrip(".")
    if keys.account("operator", invitation.controller) != operator:
        return f"its invitation is for {invitation.controller}, of another operator"
    if invitation.cell != record.terms.cell:
        return f"its invitation is for the cell {invitation.cell[:60]}"
    return ""


def false_lease(lease: KnownLease, why: str) -> FalseRecord:
    """That a record which holds by itself does not beside the others."""
    terms = lease.record.terms
    return FalseRecord("leases", f"lease {terms.lease} of epoch {lease.record.epoch}", why)


FORMER_HOME = "a newer declaration shown names another home"


def of_former_homes(leases: Iterable[KnownLease]) -> frozenset[LeaseKey]:
    """Those whose declaration names another home key than the newest declaration shown.

    A tenant that has moved is at home in one place only: whoever was invited by an earlier home
    cannot go on charging by the declaration of then.
    """
    known = tuple(leases)
    newest: dict[str, tuple[int, str]] = {}
    for lease in known:
        told = (lease.declared.revision, lease.declared.home_key)
        service = lease.record.terms.service
        newest[service] = max(told, newest.get(service, told))
    return frozenset(
        lease.key
        for lease in known
        if lease.declared.home_key != newest[lease.record.terms.service][1]
    )


def check_standby(packed: bytes, epoch: int, epoch_ms: int, keys: KeyBook) -> StandbyRecord:
    """The standby that a packed document proves; raises FalseRecord. ``epoch_ms``: an epoch's."""
    record, signer = _opened("standby", packed, STANDBY_RECORD, StandbyRecord)
    name = f"node {record.node} seen by {record.gateway}"

    def refuse(why: str) -> FalseRecord:
        return FalseRecord("standby", name, why)

    if record.epoch != epoch:
        raise refuse(f"it is of epoch {record.epoch}")
    if signer != record.gateway:
        raise refuse(f"it is signed by {signer}")
    if keys.account("operator", signer) is None:
        raise refuse("its signer is no bonded operator's key")
    if keys.account("provider", record.node) not in (None, record.provider):
        raise refuse(f"its node works for another provider than {record.provider}")
    if not 0 <= record.live_ms <= epoch_ms or not 0 <= record.free_cpu_milli < WORD_MAX:
        raise refuse("its numbers are out of range")
    return record


def check_voucher(given: Voucher, domain: Domain) -> None:
    """Raises FalseRecord unless the key signed exactly this voucher, for this deployment."""
    name = f"{given.tenant} {given.purpose}"
    if not is_address(given.tenant) or not _WORD.fullmatch(given.purpose):
        raise FalseRecord("vouchers", name, "its tenant or purpose is not written as it must be")
    try:
        purpose = bytes.fromhex(given.purpose)
        digest = voucher(domain, given.tenant, purpose, given.cumulative_microusd)
        signer = recover(digest, given.signature)
    except (ValueError, OverflowError) as error:
        raise FalseRecord("vouchers", name, "it is not a voucher") from error
    except IsochroneError as error:
        raise FalseRecord("vouchers", name, error.message.rstrip(".")) from error
    if signer != given.key:
        raise FalseRecord("vouchers", name, f"it is signed by {signer}, not by {given.key}")


def _opened(kind: str, packed: bytes, document: str, content: type[T]) -> tuple[T, str]:
    """A document's content and signer; raises FalseRecord."""
    try:
        return unseal(unpack(packed), document, content)
    except IsochroneError as error:
        raise FalseRecord(kind, f"document of {len(packed)} bytes", error.message) from error


@lru_cache(maxsize=PAPERS_CACHED)
def _service(packed: bytes) -> tuple[Service, str]:
    return unseal(unpack(packed), SERVICE, Service)


@lru_cache(maxsize=PAPERS_CACHED)
def _grant(packed: bytes) -> tuple[NodeGrant, str]:
    return unseal(unpack(packed), NODE_GRANT, NodeGrant)
