"""Quotas: the home cell's grant of a service to a cell, and the cell's own check of it.

A cell believes no other cell's word for anything that it can check: the declaration inside the
quota carries the tenant's signature, what is proven of the cell's own gateways is held against its
residency, and of two grants the greater ``(epoch, revision)`` stands. Who sends a quota is not
proven yet beyond its access to the fabric; what it can do is bounded by what the tenant signed.
"""

from __future__ import annotations

from collections.abc import Iterable

from isochrone.controller.declared import Declared, declared
from isochrone.rules.residency import Blocs, mask_of
from isochrone.schema.errors import (
    InvalidInput,
    Misdirected,
    Stale,
    Unauthorized,
    Unavailable,
)
from isochrone.schema.lease import Quota, Site
from isochrone.schema.place import Whereabouts


def check(
    quota: Quota, held: Quota | None, cell: str, places: Iterable[Whereabouts], blocs: Blocs
) -> Declared:
    """Whether a cell may take a quota; returns the declaration in it.

    ``held``: the one it has of this service. ``places``: where its gateways are. Raises
    Misdirected, Unauthorized, InvalidInput, Stale, or Misdirected with code ``residency``.
    """
    if quota.cell != cell:
        raise Misdirected(f"This is {cell}, and the quota is for {quota.cell[:60]}.")
    grant = declared(quota.service_document)
    if grant.id != quota.service:
        raise Unauthorized(
            f"The declaration in the quota is {grant.id}'s and not {quota.service[:120]}'s."
        )
    if grant.service.home_cell != quota.home_cell:
        raise Unauthorized(f"The home of {grant.id} is {grant.service.home_cell}.")
    if any(site.replicas < 1 for site in (*quota.sites, *quota.standby)):
        raise InvalidInput("A site of the quota has no replicas.")
    _check_age(quota, grant, held)
    if not withdrawn(quota):
        _check_mask(grant, cell, places, blocs)
    return grant


def _check_age(quota: Quota, grant: Declared, held: Quota | None) -> None:
    if held is None:
        return
    if (quota.epoch, quota.revision) < (held.epoch, held.revision):
        raise Stale(
            f"A newer quota of {quota.service} is held:"
            f" epoch {held.epoch} revision {held.revision}.",
            fix="Read the held epoch from this answer and order with a higher one.",
        )
    if grant.service.revision < declared(held.service_document).service.revision:
        raise Stale(
            f"A newer declaration of {quota.service} is held.",
            fix="Grant the declaration with the highest revision.",
        )


def _check_mask(grant: Declared, cell: str, places: Iterable[Whereabouts], blocs: Blocs) -> None:
    """Every gateway must say that it stands inside, and of one at least it must be known well
    enough: the others refuse the service's data themselves until it is."""
    known = tuple(places)
    if not known:
        raise Unavailable(
            f"{cell} hears none of its own gateways now.", fix="Send the quota again in a moment."
        )
    mask = mask_of(grant.service.residency, blocs)
    reasons = [mask.outside(place.country) for place in known]
    if not any(map(mask.admits, known)):
        reasons += [mask.reason(place) for place in known]
    for reason in filter(None, reasons):
        raise Misdirected(f"{cell} may not hold {grant.id}: {reason}.", code="residency")


def withdrawn(quota: Quota) -> bool:
    """Whether the grant is for nothing."""
    return not quota.sites and not quota.standby


def replicas_of(sites: Iterable[Site]) -> int:
    """How many replicas the sites want together."""
    return sum(site.replicas for site in sites)
