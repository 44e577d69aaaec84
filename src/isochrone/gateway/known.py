"""What a gateway knows of one node and of one other gateway; fleet.py acts on it."""

from __future__ import annotations

from typing import Protocol

from isochrone.gateway.lines import Line
from isochrone.rules import health
from isochrone.schema.frames import Beat, Introduce
from isochrone.schema.lease import LeaseStatus
from isochrone.schema.node import NodeGrant
from isochrone.schema.place import Place
from isochrone.schema.routing import NodePresence


class Asked(Protocol):
    """A request under way at a node, as the fleet sees it."""

    def fell_silent(self) -> None:
        """Its node fell silent: go elsewhere."""


class Sighting:
    """A node in another gateway's newest digest, which arrived at ``at_s``."""

    __slots__ = ("at_s", "presence")

    def __init__(self, presence: NodePresence, at_s: float) -> None:
        self.presence = presence
        self.at_s = at_s

    def beat_age_s(self, now_s: float) -> float:
        """How old its last beat is: by that gateway's clock, then by ours."""
        return self.presence.beat_age_ms / 1000 + now_s - self.at_s


class KnownNode:
    """A node: our channel to it (``line``), or the gateways that see it (``via``)."""

    __slots__ = (
        "address",
        "beat",
        "country",
        "foreign",
        "grant",
        "health",
        "introduced",
        "line",
        "packed",
        "place",
        "provider",
        "silent_at_s",
        "statuses",
        "tries",
        "via",
    )

    def __init__(self, address: str, now_s: float) -> None:
        self.address = address
        self.provider = ""
        self.place: Place | None = None
        self.grant: NodeGrant | None = None
        self.packed = b""
        self.line: Line | None = None
        self.introduced: Introduce | None = None
        self.beat: Beat | None = None
        self.statuses: dict[str, LeaseStatus] = {}
        self.foreign = 0
        self.country = ""
        self.health = health.fresh(now_s)
        self.silent_at_s = 0.0
        self.tries: dict[Asked, None] = {}
        self.via: dict[str, Sighting] = {}

    def live(self, event: health.Event, now_s: float) -> None:
        """Step the failure detector; ``silent_at_s`` is when its verdict turns by itself."""
        state = self.health = health.step(self.health, event, now_s)
        self.silent_at_s = 0.0 if state.lost else state.heard_s + health.silence_limit_s(state)


class KnownPeer:
    """Another gateway that we hold a channel to."""

    __slots__ = ("address", "cell", "http_url", "line", "place")

    def __init__(
        self, address: str, cell: str, place: Place, line: Line, http_url: str = ""
    ) -> None:
        self.address = address
        self.cell = cell
        self.place = place
        self.line = line
        self.http_url = http_url

    def there(self, now_s: float) -> bool:
        """Whether it lives: its channel carries pings four times a second."""
        return now_s - self.line.channel.last_heard <= health.SILENCE_MAX_S
