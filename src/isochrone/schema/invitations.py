"""Whether a service's home has invited somebody to charge for it.

Intuition: a tenant's declaration is public, and so is a provider's grant; with both in hand any
operator could claim to have served a service, and be paid from its deposit. So a lease counts only
with an *invitation*: the word of the key that the tenant itself has named as its home's. The home
gives it to the cells among which it has spread the service, and to nobody else.

What an invitation does not say is until when: a cell that was invited once stays so, until the
tenant names another key. What it may move is bounded by its bond and by what the home's controller
knows of its replicas.
"""

from __future__ import annotations

from functools import lru_cache

from isochrone.schema.documents import INVITATION, unpack, unseal
from isochrone.schema.errors import Unauthorized
from isochrone.schema.record_batch import Invitation
from isochrone.schema.service import Service

INVITATIONS_CACHED = 20_000
"""They repeat from lease to lease and from epoch to epoch; each is half a kilobyte."""


def invited(packed: bytes, service: Service, id_: str) -> Invitation:
    """The invitation in a packed document, if the home of ``service`` gave it for the service.

    ``id_``: the service's network-wide id. Raises Unauthorized for another's or none, InvalidInput
    for an unreadable one.
    """
    if not service.home_key:
        raise Unauthorized(
            "Its declaration names no home key.",
            fix="Apply the declaration again at a cell that settles.",
        )
    if not packed:
        raise Unauthorized("It has no invitation.")
    invitation, signer = _opened(packed)
    if signer != service.home_key:
        raise Unauthorized(f"Its invitation is {signer}'s, the home's key is {service.home_key}.")
    if invitation.service != id_:
        raise Unauthorized(f"Its invitation is for the service {invitation.service[:120]}.")
    return invitation


@lru_cache(maxsize=INVITATIONS_CACHED)
def _opened(packed: bytes) -> tuple[Invitation, str]:
    return unseal(unpack(packed), INVITATION, Invitation)
