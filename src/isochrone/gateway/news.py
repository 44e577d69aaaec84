"""What arrives at a gateway by the fabric and by its doors, handed to whom it concerns.

Routing tables and other gateways' presence change what requests may do; offers are kept for who
looks; a change of a node here is told to the cells at once, not only with the next digest.

Rules: what cannot be read, or speaks for another cell, is counted and dropped; presence counts only
from the operators that the configuration names.
"""

from __future__ import annotations

import asyncio
from time import monotonic

import msgspec

from isochrone.fabric.presence import PresencePublisher
from isochrone.gateway.digests import BETWEEN_S
from isochrone.gateway.parts import Parts
from isochrone.schema.digests import UNREADABLE
from isochrone.schema.routing import GatewayPresence, RoutingTable

_decode_table = msgspec.json.Decoder(RoutingTable).decode


class News:
    """Takes what arrives. ``publisher``: publishes this gateway's digests, once it is there."""

    def __init__(self, parts: Parts) -> None:
        self.publisher: PresencePublisher | None = None
        self._parts = parts
        self._digest_due: asyncio.TimerHandle | None = None

    def routes(self, cell: str, data: bytes) -> None:
        """A cell's routing table."""
        book = self._parts.book
        try:
            table = _decode_table(data)
        except UNREADABLE:
            book.counters["unreadable"] += 1
            return
        if table.cell != cell:
            book.counters["wrong_cell"] += 1
            return
        self._parts.heard_s[cell] = monotonic()
        book.offer(table)

    def offers(self, subject: str, data: bytes) -> None:
        """What a cell's controller offers the others (``iso.<cell>.offers``)."""
        self._parts.views.offers[subject.split(".")[1]] = data

    def presence(self, presence: GatewayPresence) -> None:
        """Another gateway's digest."""
        parts = self._parts
        if presence.gateway == parts.key.address or presence.gateway not in parts.operators:
            return
        parts.fleet.digest(presence, monotonic())

    def node_changed(self, address: str) -> None:
        """A node came, went, introduced itself or changed a lease: tell, order, write."""
        parts = self._parts
        parts.tables.node_changed(address)
        parts.tables.orders.send(address)
        parts.signer.soon()
        parts.vantage.node_changed(address)
        if self._digest_due is None and self.publisher is not None:
            self._digest_due = parts.loop.call_later(BETWEEN_S, self._digest_now)

    def stop(self) -> None:
        """Call off a digest that is due."""
        if self._digest_due is not None:
            self._digest_due.cancel()

    def _digest_now(self) -> None:
        self._digest_due = None
        if self.publisher is not None:
            self.publisher.now()
