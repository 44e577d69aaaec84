"""Visits: who stands behind a door, and how far it is.

A visit is a whole greeting (pin, key, grant) and a few pings, then goodbye; it introduces nothing.
Should the gateway ask something of the node meanwhile (its own home may be gone, and this gateway
may know of a replica here), it is answered like any request, and the visit ends after it.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from isochrone.node.config import DoorAddress, NodeConfig, Papers
from isochrone.node.mask import country_of
from isochrone.schema.errors import IsochroneError, Timeout
from isochrone.schema.frames import Control, GatewayDoor, Welcome
from isochrone.schema.identity import PrivateKey
from isochrone.wire.channel import Channel, ChannelLimits, Stream, StreamSink
from isochrone.wire.greeting import dial

VISIT_PINGS = 4
VISIT_S = 2.0
"""A visit takes the least of a few round trips, or what it has after two seconds."""

VISITS_MAX = 8
"""Visits at once: a node with 200 doors must not start 200 TLS handshakes together."""

VISIT_LIMITS = ChannelLimits(ping_interval_s=0.05)


OnOpen = Callable[[Stream, bytes, bytes, bool], StreamSink]
"""Takes a stream of a channel."""


class TakesStreams(Protocol):
    """Takes a stream of a gateway that stands in ``country``."""

    def __call__(
        self, stream: Stream, header: bytes, body: bytes, ended: bool, gateway: str, country: str
    ) -> StreamSink:
        """The sink of what follows."""


class Visit(msgspec.Struct, frozen=True):
    """What a visit found: the door, who stands behind it, how far it is (milliseconds)."""

    door: DoorAddress
    welcome: Welcome
    rtt_ms: float


class Surveyor:
    """Visits doors with the node's key and grant. ``on_open`` takes streams, as serving does."""

    def __init__(
        self, config: NodeConfig, key: PrivateKey, papers: Papers, on_open: TakesStreams
    ) -> None:
        self._on_open = on_open
        self._config = config
        self._key = key
        self._papers = papers

    async def visit_all(
        self, doors: Sequence[DoorAddress]
    ) -> tuple[list[Visit], dict[str, IsochroneError]]:
        """Visit these doors, a few at once: what was found, and why others stayed closed."""
        gate = asyncio.Semaphore(VISITS_MAX)
        troubles: dict[str, IsochroneError] = {}

        async def visit(door: DoorAddress) -> Visit | None:
            async with gate:
                try:
                    return await self.visit(door)
                except IsochroneError as error:
                    troubles[door.address] = error
                    return None

        found = await asyncio.gather(*map(visit, doors))
        return [one for one in found if one is not None], troubles

    async def visit(self, door: DoorAddress) -> Visit:
        """Visit one door. Raises what ``dial`` raises, or Timeout when no ping is answered."""
        host, port = self._config.dial_address(door.host, door.port)
        channel = await dial(
            host, port, door.fingerprint, self._key, "node", self._papers.packed,
            lambda channel: _Visitor(channel, self._on_open), VISIT_LIMITS,
        )  # fmt: skip
        try:
            await measured(channel)
            await silent(channel)
        finally:
            channel.close("visit", "Measured.")
        if channel.rtt_ms_min <= 0:
            raise Timeout(f"{door.address} let us in but answered no ping in {VISIT_S:g} s.")
        assert isinstance(channel.peer.info, Welcome)
        return Visit(door, channel.peer.info, channel.rtt_ms_min)


async def measured(channel: Channel) -> None:
    """Wait for a few round trips, at most ``VISIT_S``."""
    deadline_s = time.monotonic() + VISIT_S
    seen: set[float] = set()
    while not channel.closed and len(seen) < VISIT_PINGS and time.monotonic() < deadline_s:
        if channel.rtt_ms_last > 0:
            seen.add(channel.rtt_ms_last)
        await asyncio.sleep(VISIT_LIMITS.ping_interval_s / 2)


async def silent(channel: Channel) -> None:
    """Wait until nothing is under way, at most ``VISIT_S``."""
    pause_s = VISIT_LIMITS.ping_interval_s / 2
    for _ in range(round(VISIT_S / pause_s)):
        if not channel.streams_open:
            return
        await asyncio.sleep(pause_s)


def as_gateway_door(visit: Visit) -> GatewayDoor:
    """The configured door as its gateway would announce it."""
    return GatewayDoor(
        gateway=visit.welcome.gateway,
        host=visit.door.host,
        port=visit.door.port,
        fingerprint=visit.door.fingerprint,
    )


class _Visitor:
    """The handler of a visit."""

    def __init__(self, channel: Channel, on_open: TakesStreams) -> None:
        gateway = channel.peer.address
        country = country_of(channel.peer.info, gateway)
        self.on_open: OnOpen = functools.partial(on_open, gateway=gateway, country=country)

    def on_control(self, message: Control) -> None:
        """Whatever is said to a visitor is said again to whoever stays."""

    def on_lost(self, error: IsochroneError) -> None:
        """The visit is over."""
