"""What this gateway process tells the cells four times a second: who it sees, and where it is."""

from __future__ import annotations

from time import monotonic
from typing import Final

import msgspec

from isochrone.gateway.fleet import Fleet
from isochrone.gateway.known import KnownNode
from isochrone.gateway.routes import RouteBook
from isochrone.rules import health
from isochrone.schema.operator import OperatorGrant
from isochrone.schema.routing import GatewayPresence, NodePresence

BETWEEN_S: Final = 0.02
"""Digests that news cause keep this distance: twenty nodes that come at once cause one."""


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """What does not change while a process runs."""

    papers: OperatorGrant
    channel_host: str
    channel_port: int
    fingerprint: str
    boot: str


class Digests:
    """Builds presence digests."""

    def __init__(self, identity: Identity, fleet: Fleet, book: RouteBook) -> None:
        self._identity = identity
        self._fleet = fleet
        self._book = book

    def digest(self, sequence: int) -> GatewayPresence:
        """The digest of now."""
        identity, now_s = self._identity, monotonic()
        papers = identity.papers
        return GatewayPresence(
            gateway=papers.gateway,
            cell=papers.cell,
            place=papers.place,
            http_url=papers.http_url,
            channel_host=identity.channel_host,
            channel_port=identity.channel_port,
            fingerprint=identity.fingerprint,
            boot=identity.boot,
            sequence=sequence,
            nodes=tuple(
                self._node(known, now_s)
                for _, known in sorted(self._fleet.nodes.items())
                if known.line is not None and known.introduced is not None
            ),
            peers_rtt_ms={
                address: round(peer.line.rtt_ms, 3)
                for address, peer in sorted(self._fleet.peers.items())
            },
            routes_seen={
                cell: (table.epoch, table.sequence)
                for cell, table in sorted(self._book.tables.items())
            },
        )

    def _node(self, known: KnownNode, now_s: float) -> NodePresence:
        beat = known.beat
        verdict = health.verdict(known.health, now_s)
        return NodePresence(
            node=known.address,
            beat_age_ms=round((now_s - known.health.heard_s) * 1000, 1),
            rtt_ms=round(known.line.rtt_ms, 3) if known.line is not None else 0.0,
            in_flight=beat.in_flight if beat is not None else 0,
            ejected=verdict == "silent",
            leases=beat.leases if beat is not None else (),
        )
