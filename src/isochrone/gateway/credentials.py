"""The papers of gateways, who open channels to each other (pure).

The greeting has proved that the dialler owns the key of ``Hello.address``; here its papers are
read. A gateway's are signed by itself, and count if its operator is known here. A node's grant is
read by ``wire.node_papers``.
"""

from __future__ import annotations

from collections.abc import Collection

from isochrone.atlas.blocs import countries
from isochrone.schema.documents import OPERATOR_GRANT, pack, seal, unpack, unseal
from isochrone.schema.errors import Forbidden
from isochrone.schema.frames import Hello
from isochrone.schema.identity import PrivateKey
from isochrone.schema.operator import OperatorGrant


def check_gateway(hello: Hello, allowed: Collection[str]) -> OperatorGrant:
    """The papers of a gateway; raises Forbidden for an unknown operator or another's papers."""
    if hello.address not in allowed:
        raise Forbidden(
            f"The operator {hello.address} is not known here.",
            fix="The operator of this cell must list it in allow_operators.",
            code="unknown_operator",
        )
    return read_papers(hello.grant, hello.address)


def read_papers(packed: bytes, address: str) -> OperatorGrant:
    """The papers of the gateway ``address``, signed by itself.

    Raises InvalidInput or Unauthorized (unreadable, forged), Forbidden (another's, no country).
    """
    grant, signer = unseal(unpack(packed), OPERATOR_GRANT, OperatorGrant)
    if signer != address or grant.gateway != address:
        raise Forbidden("The papers are another gateway's.")
    if grant.place.country not in countries():
        raise Forbidden(f"{grant.place.country[:8]!r} is no ISO 3166 country.")
    return grant


def own_papers(grant: OperatorGrant, key: PrivateKey) -> bytes:
    """What this gateway shows to whom it dials, and to who dials it."""
    return pack(seal(OPERATOR_GRANT, grant, key))
