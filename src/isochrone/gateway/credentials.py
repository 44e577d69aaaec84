"""Who may open a channel: nodes with a provider's grant, gateways of known operators (pure).

The greeting has proved that the dialler owns the key of ``Hello.address``; here its papers are
read. A node's grant is signed by its provider and names the node, a gateway's is signed by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import msgspec

from isochrone.atlas.blocs import countries
from isochrone.schema.documents import NODE_GRANT, OPERATOR_GRANT, pack, seal, unpack, unseal
from isochrone.schema.errors import Forbidden, InvalidInput, Stale
from isochrone.schema.frames import Hello
from isochrone.schema.identity import PrivateKey
from isochrone.schema.node import NodeGrant
from isochrone.schema.operator import OperatorGrant


class NodePapers(msgspec.Struct, frozen=True):
    """A node's grant, the provider that signed it, and the packed document."""

    grant: NodeGrant
    provider: str
    packed: bytes


def check_node(hello: Hello, newest_revision: Callable[[str], int]) -> NodePapers:
    """The papers of a node; ``newest_revision(address)``: of the newest grant seen (0: none).

    Raises InvalidInput or Unauthorized (unreadable, forged), Forbidden (another node's, no known
    place) or Stale (an older grant than one that this cell has seen).
    """
    grant, provider = unseal(unpack(hello.grant), NODE_GRANT, NodeGrant)
    if grant.node != hello.address:
        raise Forbidden("The grant names another node.", fix="Run `isochrone join` again.")
    place = grant.place
    if place.country not in countries():
        raise Forbidden(
            f"{place.country[:8]!r} is no ISO 3166 country.", fix="Correct the place of the grant."
        )
    if not (-90 <= place.latitude <= 90 and -180 <= place.longitude <= 180):
        raise InvalidInput("The grant's place is not on Earth.", fix="Correct its coordinates.")
    if grant.revision < newest_revision(hello.address):
        raise Stale("A newer grant replaced this one.", fix="Use the newest grant.")
    return NodePapers(grant, provider, hello.grant)


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
    """The papers of the gateway ``address``, signed by itself; raises as ``check_node``."""
    grant, signer = unseal(unpack(packed), OPERATOR_GRANT, OperatorGrant)
    if signer != address or grant.gateway != address:
        raise Forbidden("The papers are another gateway's.")
    if grant.place.country not in countries():
        raise Forbidden(f"{grant.place.country[:8]!r} is no ISO 3166 country.")
    return grant


def own_papers(grant: OperatorGrant, key: PrivateKey) -> bytes:
    """What this gateway shows to whom it dials, and to who dials it."""
    return pack(seal(OPERATOR_GRANT, grant, key))
