"""The other gateways, as this one knows them: whose doors to tell, whose URL to name.

What it knows comes from presence (the fabric), from the channels it holds and from its
configuration. Every answer is of now. Nothing here dials or tells anybody.
"""

from __future__ import annotations

from collections.abc import Callable

from isochrone.fabric.presence import PresenceBoard
from isochrone.gateway.config import GatewayConfig
from isochrone.gateway.fleet import Fleet
from isochrone.schema.frames import GatewayDoor
from isochrone.schema.place import Whereabouts, great_circle_km


class Neighbours:
    """Looks up gateways. ``own``: this gateway's door."""

    def __init__(
        self, config: GatewayConfig, own: GatewayDoor, fleet: Fleet, board: PresenceBoard
    ) -> None:
        self._config = config
        self._own = own
        self._fleet = fleet
        self._board = board

    def cell_doors(self) -> tuple[GatewayDoor, ...]:
        """The doors of this cell's gateway processes, this one first."""
        others = [
            GatewayDoor(
                gateway=presence.gateway,
                host=presence.channel_host,
                port=presence.channel_port,
                fingerprint=presence.fingerprint,
            )
            for presence, _ in self._board.heard(self._config.cell)
            if presence.gateway != self._own.gateway
        ]
        return (self._own, *others)

    def legal_url(self, admits: Callable[[Whereabouts], bool]) -> str:
        """The URL of the nearest gateway (by distance from here) that passes, or ""."""
        known = [(p.gateway, p.place, p.http_url) for p, _ in self._board.heard()]
        known += [(p.address, p.place, p.http_url) for p in self._fleet.peers.values()]
        known += [(p.gateway, p.place, p.http_url) for p in self._config.peers]
        where = self._fleet.places.gateway
        legal = [
            (great_circle_km(self._config.place, place), url)
            for gateway, place, url in known
            if url and admits(where(gateway, place.country))
        ]
        return min(legal)[1] if legal else ""

    def cell_url(self, cell: str) -> str:
        """The URL of a cell's gateway, or ""."""
        urls = [presence.http_url for presence, _ in self._board.heard(cell)]
        return urls[0] if urls else ""
