"""Where a lease's data may be: the lease's countries, against this node and against gateways.

Intuition: the controller applied the mask when it chose the node, and gateways apply it to every
request. The node checks again with what it knows best: its own grant, and the papers that a
gateway signed and showed in its welcome. Whoever shows none stands nowhere.

Rules: the bloc names are expanded by the controller (``Lease.countries``), so a node needs no
atlas. A residency that restricts without a list of countries admits nothing (fail closed).
Evidence of places is the controller's business: a node has no means to judge it.
"""

from __future__ import annotations

from isochrone.schema.documents import OPERATOR_GRANT, unpack, unseal
from isochrone.schema.errors import IsochroneError
from isochrone.schema.frames import Welcome
from isochrone.schema.lease import Lease
from isochrone.schema.operator import OperatorGrant
from isochrone.schema.service import Residency

NOWHERE = ""
"""The country of whoever has not shown where it stands."""


def admits(lease: Lease, country: str) -> bool:
    """Whether data under the lease may be in a country (ISO code, or ``NOWHERE``)."""
    if lease.countries:
        return country in lease.countries
    return not _restricts(lease.residency)


def _restricts(residency: Residency) -> bool:
    return bool(residency.deny) or (bool(residency.allow) and "world" not in residency.allow)


def why_outside(lease: Lease, country: str, who: str) -> str:
    """One sentence on why ``who`` (as in "This node") may not have the lease's data, or empty."""
    if admits(lease, country):
        return ""
    where = f"stands in {country}" if country else "has not shown where it stands"
    return f"{who} {where}, which the lease's residency does not admit."


def country_of(welcome: object, gateway: str) -> str:
    """Where a gateway stands by the papers in its welcome; ``NOWHERE`` unless they are its own."""
    if not isinstance(welcome, Welcome) or not welcome.papers:
        return NOWHERE
    try:
        papers, signer = unseal(unpack(welcome.papers), OPERATOR_GRANT, OperatorGrant)
    except IsochroneError:
        return NOWHERE
    owner = signer == papers.gateway == gateway == welcome.gateway
    return papers.place.country if owner and papers.cell == welcome.cell else NOWHERE
