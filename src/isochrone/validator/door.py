"""The validator's channel door: nodes come in with their grant, and can be asked.

A thin shell around ``wire.greeting``: who comes shows a provider's grant and proves its key, as at
a gateway. What a node says here is an introduction and answers; everything else is counted and
dropped, and it may open no stream. Of one node the newest channel counts.

``on`` takes handlers by message type, for whoever asks nodes something (bursts, works);
``on_lost`` is for who keeps anything of a node that is here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, Final

import msgspec

from isochrone.schema.errors import Forbidden, IsochroneError
from isochrone.schema.frames import Control, Hello, Introduce, Welcome
from isochrone.schema.node import Capacity
from isochrone.schema.place import Place
from isochrone.wire.certificate import Certificate
from isochrone.wire.channel import Channel, ChannelLimits, Stream, StreamSink
from isochrone.wire.greeting import ChannelServer, listen
from isochrone.wire.node_papers import NodePapers, check_node

LIMITS: Final = ChannelLimits(ping_interval_s=2.0, streams_max=1, channels_max=4096)
"""A validator does not wait for a node's silence: it asks, and gets no answer."""

REVISIONS_MAX: Final = 16_384
"""Newest grants remembered, of nodes that are not here now too."""

Handler = Callable[[str, Any], None]
"""``handler(node, message)``, on the event loop."""


class WatchedNode(msgspec.Struct, frozen=True, kw_only=True):
    """A node with a channel to us. ``capacity``: as it introduced itself, None before.

    ``provider``: the account that signed its grant; ``place``: where that says it stands.
    """

    address: str
    provider: str
    place: Place
    grant: bytes
    channel: Channel
    capacity: Capacity | None = None


class WatchDoor:
    """``open`` it, ``close`` it; ``nodes``: who is here, by address.

    ``on_changed(address)``: a node came, introduced itself or went. ``on_lost``: called with the
    address of one that went.
    """

    def __init__(self, key_address: str, cell: str, on_changed: Callable[[str], None]) -> None:
        self.nodes: dict[str, WatchedNode] = {}
        self.counters: Counter[str] = Counter()
        self.on_lost: list[Callable[[str], None]] = []
        self._address = key_address
        self._cell = cell
        self._on_changed = on_changed
        self._handlers: dict[type[Any], Handler] = {}
        self._revisions: dict[str, int] = {}
        self._server: ChannelServer | None = None

    def on(self, kind: type[Any], handler: Handler) -> None:
        """Let ``handler`` take messages of a type."""
        self._handlers[kind] = handler

    async def open(self, host: str, port: int, certificate: Certificate) -> int:
        """Listen; the port. Raises Unavailable when it cannot."""
        self._server = await listen(
            host,
            port,
            certificate,
            self._authorise,
            self._admit,
            LIMITS,
            gateway=self._address,
            cell=self._cell,
        )
        return self._server.port

    async def close(self) -> None:
        """Close the door and every channel."""
        if self._server is not None:
            await self._server.close()

    def _authorise(self, hello: Hello) -> tuple[object, Welcome]:
        if hello.role != "node":
            raise Forbidden("Only nodes open channels to a validator.")
        papers = check_node(hello, lambda address: self._revisions.get(address, 0))
        welcome = Welcome(
            version=hello.version, gateway=self._address, cell=self._cell, doors=(), papers=b""
        )
        return papers, welcome

    def _admit(self, channel: Channel) -> WatchedHandler:
        papers = channel.peer.info
        assert isinstance(papers, NodePapers)
        node = WatchedNode(
            address=channel.peer.address,
            provider=papers.provider,
            place=papers.grant.place,
            grant=papers.packed,
            channel=channel,
        )
        self._remember(node.address, papers.grant.revision)
        former = self.nodes.get(node.address)
        self.nodes[node.address] = node
        if former is not None:
            former.channel.close("replaced", "The node opened a newer channel.")
        self._on_changed(node.address)
        return WatchedHandler(self, node.address, channel)

    def _remember(self, address: str, revision: int) -> None:
        self._revisions.pop(address, None)
        self._revisions[address] = revision
        while len(self._revisions) > REVISIONS_MAX:
            del self._revisions[next(iter(self._revisions))]

    def heard(self, address: str, channel: Channel, message: Control) -> None:
        """A node spoke."""
        known = self.nodes.get(address)
        if known is None or known.channel is not channel:
            return
        handler = self._handlers.get(type(message))
        if handler is not None:
            handler(address, message)
        elif isinstance(message, Introduce):
            self.nodes[address] = msgspec.structs.replace(known, capacity=message.capacity)
            self._on_changed(address)
        else:
            self.counters["unexpected_control"] += 1

    def lost(self, address: str, channel: Channel) -> None:
        """A channel is gone."""
        known = self.nodes.get(address)
        if known is not None and known.channel is channel:
            del self.nodes[address]
            self._on_changed(address)
            for tell in self.on_lost:
                tell(address)


class WatchedHandler:
    """One node's channel."""

    __slots__ = ("_address", "_channel", "_door")

    def __init__(self, door: WatchDoor, address: str, channel: Channel) -> None:
        self._door = door
        self._address = address
        self._channel = channel

    def on_open(self, stream: Stream, header: bytes, body: bytes, ended: bool) -> StreamSink:
        """A node opened a stream."""
        raise Forbidden("A validator takes no streams.")

    def on_control(self, message: Control) -> None:
        """A node spoke."""
        self._door.heard(self._address, self._channel, message)

    def on_lost(self, error: IsochroneError) -> None:
        """The channel is gone."""
        self._door.lost(self._address, self._channel)
