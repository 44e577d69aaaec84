"""The papers that a node shows in its greeting: a provider's grant, checked (pure).

The greeting has proved that the dialler owns the key of ``Hello.address``; the grant is signed by
its provider and names the node. Gateways and validators let nodes in by it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from isochrone.atlas.blocs import countries
from isochrone.schema.documents import NODE_GRANT, unpack, unseal
from isochrone.schema.errors import Forbidden, InvalidInput, Stale
from isochrone.schema.frames import Hello
from isochrone.schema.node import NodeGrant

AMOUNT_MAX: Final = 10**12
"""Of a price (a million dollars an hour) or a limit: papers are JSON, whose numbers have any length
and sign, and much that is made of them has 64 bits."""

REVISION_MAX: Final = 2**53
"""``isochrone join`` takes the clock's milliseconds."""


class NodePapers(msgspec.Struct, frozen=True):
    """A node's grant, the provider that signed it, and the packed document."""

    grant: NodeGrant
    provider: str
    packed: bytes


def check_node(hello: Hello, newest_revision: Callable[[str], int]) -> NodePapers:
    """The papers of a node; ``newest_revision(address)``: of the newest grant seen (0: none).

    Raises InvalidInput or Unauthorized (unreadable, forged, absurd numbers), Forbidden (another
    node's, no known place) or Stale (an older grant than one that was seen here).
    """
    grant, provider = unseal(unpack(hello.grant), NODE_GRANT, NodeGrant)
    if grant.node != hello.address:
        raise Forbidden("The grant names another node.", fix="Run `isochrone join` again.")
    place = grant.place
    if place.country not in countries():
        raise Forbidden(
            f"{place.country[:8]!r} is no ISO 3166 country.", fix="Correct the place of the grant."
        )
    if not place.is_on_earth:
        raise InvalidInput("The grant's place is not on Earth.", fix="Correct its coordinates.")
    _check_numbers(grant)
    if grant.revision < newest_revision(hello.address):
        raise Stale("A newer grant replaced this one.", fix="Use the newest grant.")
    return NodePapers(grant, provider, hello.grant)


def _check_numbers(grant: NodeGrant) -> None:
    offer = grant.offer
    amounts = (
        offer.cpu_core_microusd_per_hour,
        offer.memory_gib_microusd_per_hour,
        offer.gpu_microusd_per_hour,
        grant.cpu_milli_max or 0,
        grant.memory_mib_max or 0,
    )
    if not all(0 <= amount <= AMOUNT_MAX for amount in amounts):
        raise InvalidInput("The grant's prices or limits are absurd.", fix="Correct the grant.")
    if not 0 <= grant.revision <= REVISION_MAX:
        raise InvalidInput("The grant's revision is absurd.", fix="Make the grant again.")
