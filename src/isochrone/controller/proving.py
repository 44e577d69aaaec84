"""What this controller believes of nodes and gateways, written into what it looks at.

Intuition: tables and other cells' offers say what somebody claims. Before a rule looks at a node or
a gateway, its whereabouts, what was measured of it and whether it is barred are replaced by what
this controller heard of vantages and validators itself; nobody's conclusion is taken over.

Rules of this file: no I/O (``fabric.attested_feed`` brings the messages); every answer is of now.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import msgspec

from isochrone.atlas.blocs import blocs
from isochrone.fabric.attested import AttestedShelf
from isochrone.rules.residency import mask_of
from isochrone.schema.decision import FreeNode, GatewaySite
from isochrone.schema.errors import InvalidInput
from isochrone.schema.lease import Lease
from isochrone.schema.node import Node
from isochrone.schema.place import Whereabouts
from isochrone.schema.plans import CellOffers
from isochrone.schema.routing import GatewayPresence


class Proof:
    """The shelf as placement looks at it. ``epoch()``: the settlement's epoch now, for verdicts.

    ``settled()``: whether everybody who is believed has had time to speak.
    """

    def __init__(
        self,
        shelf: AttestedShelf,
        epoch: Callable[[], int],
        settled: Callable[[], bool] = lambda: True,
    ) -> None:
        self._shelf = shelf
        self._epoch = epoch
        self._settled = settled

    def node(self, told: Node) -> Node:
        """A node as this controller believes it to be."""
        shelf = self._shelf
        measured = shelf.proven(told.address)
        return msgspec.structs.replace(
            told,
            whereabouts=shelf.whereabouts(told.address, told.place.country, told.provider),
            barred=shelf.barred(told.address, self._epoch()),
            proven_memory_mib=measured.memory_mib,
            proven_mflops=measured.mflops,
        )

    def gateway(self, address: str, country: str) -> Whereabouts:
        """Where a gateway is, as far as this controller believes it."""
        return self._shelf.gateway(address, country)

    def gateways(self, heard: Iterable[GatewayPresence]) -> dict[str, Whereabouts]:
        """The same of gateways that are heard, by address."""
        return {p.gateway: self.gateway(p.gateway, p.place.country) for p in heard}

    def offers(self, told: Mapping[str, CellOffers]) -> dict[str, CellOffers]:
        """Other cells' offers, with what this controller believes of their nodes and gateways."""
        return {cell: self._offers(offers) for cell, offers in told.items()}

    def doubt(self, leases: Iterable[Lease]) -> str:
        """Why nothing may be ended now for a proof that is missing; empty: it may be."""
        if self._settled() or not any(_needs_proof(lease) for lease in leases):
            return ""
        return "vantages have not had time to say what they measured"

    def _offers(self, told: CellOffers) -> CellOffers:
        return msgspec.structs.replace(
            told,
            gateways=tuple(self._site(site) for site in told.gateways),
            nodes=tuple(self._free(free) for free in told.nodes),
        )

    def _site(self, site: GatewaySite) -> GatewaySite:
        where = self.gateway(site.gateway, site.place.country)
        return msgspec.structs.replace(site, whereabouts=where)

    def _free(self, free: FreeNode) -> FreeNode:
        return msgspec.structs.replace(free, node=self.node(free.node))


def _needs_proof(lease: Lease) -> bool:
    if lease.desired == "ended" or lease.residency.evidence == "declared":
        return False
    try:
        return mask_of(lease.residency, blocs()).restricts
    except InvalidInput:  # its countries were written out by whoever understood it
        return True
