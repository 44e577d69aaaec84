"""Channels to the other gateways: one each, kept, dialled by the lower address of the two.

Who is there is known from presence (and from the configuration); who may be talked to from
``allow_operators``; where one stands from the papers that it signed and shows. A dial that fails
is repeated with a growing pause while the other is heard.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable
from time import monotonic
from typing import Final

from isochrone.gateway.config import GatewayConfig, StaticPeer
from isochrone.gateway.credentials import read_papers
from isochrone.gateway.doors import DoorKeeper
from isochrone.gateway.fleet import Fleet
from isochrone.schema.errors import Forbidden, IsochroneError
from isochrone.schema.frames import Welcome
from isochrone.schema.identity import PrivateKey
from isochrone.schema.routing import GatewayPresence
from isochrone.wire.channel import Channel, ChannelHandler, ChannelLimits
from isochrone.wire.greeting import dial
from isochrone.wire.resolving import resolved

LOOK_S: Final = 0.5
"""How often missing channels are looked for."""
RETRY_FIRST_S: Final = 0.5
RETRY_MOST_S: Final = 10.0
"""Pause after a failed dial: doubles from the first to the most."""

log = logging.getLogger(__name__)


def as_peer(presence: GatewayPresence) -> StaticPeer:
    """Where a gateway that was heard is dialled."""
    return StaticPeer(
        gateway=presence.gateway,
        cell=presence.cell,
        place=presence.place,
        http_url=presence.http_url,
        host=presence.channel_host,
        port=presence.channel_port,
        fingerprint=presence.fingerprint,
    )


class PeerKeeper:
    """Dials gateways. ``heard()`` gives the presences of now."""

    def __init__(
        self,
        config: GatewayConfig,
        key: PrivateKey,
        papers: bytes,
        operators: Collection[str],
        fleet: Fleet,
        doors: DoorKeeper,
        heard: Callable[[], Iterable[GatewayPresence]],
    ) -> None:
        self._config = config
        self._key = key
        self._papers = papers
        self._operators = operators
        self._fleet = fleet
        self._doors = doors
        self._heard = heard
        self._dialling: dict[str, asyncio.Task[None]] = {}
        self._failures: dict[str, tuple[int, float]] = {}

    async def run(self) -> None:
        """Look for missing channels until cancelled."""
        try:
            while True:
                self._look(monotonic())
                await asyncio.sleep(LOOK_S)
        finally:
            tasks = list(self._dialling.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for peer in list(self._fleet.peers.values()):
                peer.line.channel.close("going_away", "The gateway is closing.")

    def wanted(self) -> dict[str, StaticPeer]:
        """The gateways that this one dials, by address."""
        known = {peer.gateway: peer for peer in self._config.peers}
        known |= {presence.gateway: as_peer(presence) for presence in self._heard()}
        return {
            address: peer
            for address, peer in known.items()
            if address in self._operators and self._key.address < address
        }

    def failures(self, address: str) -> int:
        """How many dials of a gateway have failed in a row."""
        return self._failures.get(address, (0, 0.0))[0]

    def _look(self, now_s: float) -> None:
        for address, peer in self.wanted().items():
            _, again_s = self._failures.get(address, (0, 0.0))
            if address in self._fleet.peers or address in self._dialling or now_s < again_s:
                continue
            task = asyncio.get_running_loop().create_task(self._dial(peer))
            self._dialling[address] = task

    async def _dial(self, peer: StaticPeer) -> None:
        address = peer.gateway
        try:
            host, port = resolved(self._config.resolve, peer.host, peer.port)
            await dial(
                host,
                port,
                peer.fingerprint,
                self._key,
                "gateway",
                self._papers,
                lambda channel: self._admit(channel, address),
                ChannelLimits(),
            )
        except IsochroneError as error:
            failures = self.failures(address) + 1
            pause_s = min(RETRY_MOST_S, RETRY_FIRST_S * 2.0 ** min(failures - 1, 16))
            self._failures[address] = failures, monotonic() + pause_s
            log.info("no channel to gateway %s of %s: %s", address, peer.cell, error.sentence())
        else:
            self._failures.pop(address, None)
        finally:
            self._dialling.pop(address, None)

    def _admit(self, channel: Channel, address: str) -> ChannelHandler:
        """The handler of a channel that we dialled, if the gateway meant answers and proves where
        it stands; raises IsochroneError. What presence says of its place is not asked: anybody on
        the fabric could say it."""
        welcome = channel.peer.info
        if not isinstance(welcome, Welcome) or welcome.gateway != address:
            raise Forbidden("Another gateway answers there.", code="wrong_gateway")
        papers = read_papers(welcome.papers, address)
        return self._doors.admit_gateway(channel, papers.cell, papers.place, papers.http_url)
