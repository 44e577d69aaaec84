"""What this cell's controller says of its leases in an epoch: promised from when, until when.

Intuition: a tenant was promised live time by whoever gave the lease. The promise begins when the
replica first serves and ends when the *controller* lets it go, never because a node died: a node
that vanishes owes the rest of its epoch. So the book watches the table of leases and writes down
three moments of each: first serving, released, last seen wanted. A fourth says since when the
service's home has invited this cell to charge: nothing is told of epochs before, as nobody would
believe it.

A record of an epoch depends on what happened before that epoch's end only, so it is the same
whenever it is made, and its signature as well. The papers alone may be newer: when the home invites
another controller of this cell, or the tenant has named another home key.

Rules of this file: pure; ``now_unix_ms`` is an argument. Not here: disk and fabric
(``lease_telling.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import msgspec

from isochrone.atlas.audience import audience_points
from isochrone.controller.declared import declared
from isochrone.controller.view import World
from isochrone.schema.deployment import Deployment
from isochrone.schema.errors import IsochroneError
from isochrone.schema.invitations import invited
from isochrone.schema.lease import Lease
from isochrone.schema.record_batch import LeaseRecord
from isochrone.schema.service import Service
from isochrone.schema.tally import LeaseTerms, terms_of

AUDIENCE_PARTS = 10_000
"""An audience's weights are told in whole ten-thousandths."""


class Watched(msgspec.Struct, frozen=True, kw_only=True):
    """One lease that served: its terms, its papers and its three moments (Unix ms).

    ``released_unix_ms`` 0: not released. ``seen_unix_ms``: when it was last wanted.
    ``invited_unix_ms``: since when there is an ``invitation`` (empty: there is none).
    """

    terms: LeaseTerms
    node_grant: bytes
    service_document: bytes
    served_from_unix_ms: int
    released_unix_ms: int = 0
    seen_unix_ms: int = 0
    invitation: bytes = b""
    invited_unix_ms: int = 0


Book = Mapping[str, Watched]
"""By lease id."""


def looked(book: Book, world: World, now_unix_ms: int) -> Book:
    """The book after a look at the world; the same object when nothing is new but the time."""
    new = dict(book)
    for key in world.leases:
        after = _after(book.get(key), world.leases[key], world, now_unix_ms)
        if after is not None:
            new[key] = after
    return new


def _after(before: Watched | None, lease: Lease, world: World, now_ms: int) -> Watched | None:
    if lease.desired == "serving":
        if before is None:
            return _begun(lease, world, now_ms)
        if before.released_unix_ms:
            return before
        seen = msgspec.structs.replace(before, seen_unix_ms=max(before.seen_unix_ms, now_ms))
        return _invited(seen, world, now_ms)
    if before is None or before.released_unix_ms or _broke(lease, world):
        return before
    return msgspec.structs.replace(before, released_unix_ms=now_ms)


def _begun(lease: Lease, world: World, now_ms: int) -> Watched | None:
    status = world.status(lease)
    node = world.nodes.get(lease.node)
    grant = world.granted.get(lease.service)
    if status is None or status.state != "serving" or node is None or grant is None:
        return None
    begun = Watched(
        terms=terms_of(lease),
        node_grant=node.grant,
        service_document=grant.document,
        served_from_unix_ms=now_ms,
        seen_unix_ms=now_ms,
    )
    return _invited(begun, world, now_ms)


def _invited(row: Watched, world: World, now_ms: int) -> Watched:
    """The row with the quota's invitation, and with the declaration that it goes with."""
    quota = world.quotas.get(row.terms.service)
    if quota is None or quota.invitation in (b"", row.invitation):
        return row
    newest, document = world.granted[row.terms.service].service, row.service_document
    try:
        invited(quota.invitation, newest, row.terms.service)
        if declared(document).service.home_key != newest.home_key:
            document = quota.service_document
    except IsochroneError:
        return row  # a home that gives what nobody believes is as good as one that gives nothing
    if document != row.service_document and not _agree(row.terms, newest):
        return row
    return msgspec.structs.replace(
        row,
        service_document=document,
        invitation=quota.invitation,
        invited_unix_ms=row.invited_unix_ms if row.invitation else now_ms,
    )


def _agree(terms: LeaseTerms, service: Service) -> bool:
    """Whether a lease stands under a later declaration as it did under its first."""
    ceiling = service.max_price_microusd_per_hour
    dear = ceiling is not None and terms.price_microusd_per_hour > ceiling
    return (terms.objective, terms.resources) == (service.objective, service.resources) and not dear


def _broke(lease: Lease, world: World) -> bool:
    """Whether a lease goes because its node or replica failed, which releases nobody."""
    status = world.status(lease)
    failed = status is not None and status.state == "failed"
    return failed or world.sight.verdict(lease.node) != "alive"


def records_of(book: Book, deployment: Deployment, epoch: int) -> tuple[LeaseRecord, ...]:
    """The records of an epoch that is over, by lease id."""
    start_ms, end_ms = deployment.start_unix_ms(epoch), deployment.start_unix_ms(epoch + 1)
    records = []
    for key in sorted(book):
        row = book[key]
        released_ms = row.released_unix_ms if row.released_unix_ms < end_ms else 0
        stood = row.served_from_unix_ms < end_ms and row.seen_unix_ms >= start_ms
        chargeable = row.invitation and row.invited_unix_ms < end_ms
        if not stood or not chargeable or 0 < released_ms <= start_ms:
            continue
        records.append(
            LeaseRecord(
                epoch=epoch,
                terms=row.terms,
                served_from_unix_ms=row.served_from_unix_ms,
                released_unix_ms=released_ms,
                audience=audience_weights(row.service_document),
                node_grant=row.node_grant,
                service_document=row.service_document,
                invitation=row.invitation,
            )
        )
    return tuple(records)


def without_before(book: Book, unix_ms: int) -> Book:
    """The book without what was last wanted before a moment."""
    return {key: row for key, row in book.items() if row.seen_unix_ms >= unix_ms}


@lru_cache(maxsize=4096)
def _weights(document: bytes) -> tuple[tuple[str, int], ...]:
    try:
        points = audience_points(declared(document).service.audience)
    except IsochroneError:
        return ()
    weights = {point.place.metro: round(point.weight * AUDIENCE_PARTS) for point in points}
    return tuple((metro, weights[metro]) for metro in sorted(weights) if weights[metro] > 0)


def audience_weights(document: bytes) -> dict[str, int]:
    """Metro → weight of a declaration's audience; empty for one that cannot be read.

    Weights are rounded each by itself and need not sum to 10,000: shares are taken of their sum.
    """
    return dict(_weights(document))
