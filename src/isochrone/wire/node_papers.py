"""The papers that a node shows in its greeting: a provider's grant, checked (pure).

The greeting has proved that the dialler owns the key of ``Hello.address``; the grant is signed by
its provider and names the node. Gateways and validators let nodes in by it.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from isochrone.atlas.blocs import countries
from isochrone.schema.documents import NODE_GRANT, unpack, unseal
from isochrone.schema.errors import Forbidden, InvalidInput, Stale
from isochrone.schema.frames import Hello
from isochrone.schema.node import NodeGrant


class NodePapers(msgspec.Struct, frozen=True):
    """A node's grant, the provider that signed it, and the packed document."""

    grant: NodeGrant
    provider: str
    packed: bytes


def check_node(hello: Hello, newest_revision: Callable[[str], int]) -> NodePapers:
    """The papers of a node; ``newest_revision(address)``: of the newest grant seen (0: none).

    Raises InvalidInput or Unauthorized (unreadable, forged), Forbidden (another node's, no known
    place) or Stale (an older grant than one that was seen here).
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
