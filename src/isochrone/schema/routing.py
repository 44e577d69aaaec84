"""What gateways route by, and what they tell the cell: routing tables and presence digests."""

from __future__ import annotations

import msgspec

from isochrone.schema.lease import LeaseStatus
from isochrone.schema.place import Place
from isochrone.schema.service import Objective, Residency, Task


class ReplicaRoute(msgspec.Struct, frozen=True, kw_only=True):
    """A serving replica: where it is and which lease lets it serve."""

    lease: str
    lease_revision: int
    node: str
    provider: str
    place: Place
    cell: str


class Starting(msgspec.Struct, frozen=True, kw_only=True):
    """What a gateway needs of a service that follows demand, while nothing of it serves.

    ``hold_s``: how long a request may be held for a replica that starts. ``starts_s``: how long the
    last starts took, from the demand to an answering replica, and ``start_s`` what to expect
    without them, in seconds. ``why_not``: why no replica can start now, as ``code: words``; empty:
    one can.
    """

    hold_s: float
    start_s: float
    starts_s: tuple[float, ...] = ()
    why_not: str = ""


class ServiceRoute(msgspec.Struct, frozen=True, kw_only=True):
    """A service as a gateway needs it: who may call it, where it may run, its replicas here.

    ``answer_checks``: the tenant consents that answers are checked (``schema.service``).
    ``starting``: told by the home cell of a service that follows demand.
    """

    service: str
    tenant: str
    name: str
    revision: int
    task: Task
    engine: str
    residency: Residency
    objective: Objective
    hedge: bool
    replicas: tuple[ReplicaRoute, ...]
    answer_checks: bool = False
    starting: Starting | None = None


class RoutingTable(msgspec.Struct, frozen=True, kw_only=True):
    """A whole cell's routes: a snapshot is its (epoch, sequence); the greater pair wins."""

    cell: str
    epoch: int
    sequence: int
    services: tuple[ServiceRoute, ...]


class NodePresence(msgspec.Struct, frozen=True, kw_only=True):
    """A node as a gateway sees it now. ``beat_age_ms`` by the gateway's monotonic clock."""

    node: str
    beat_age_ms: float
    rtt_ms: float
    in_flight: int
    ejected: bool
    leases: tuple[LeaseStatus, ...] = ()


class GatewayPresence(msgspec.Struct, frozen=True, kw_only=True):
    """A gateway process's digest, published every 250 ms on the fabric.

    ``boot`` changes at every start; ``sequence`` grows within a boot. ``channel_host`` and
    ``channel_port`` are where nodes and other gateways dial; ``fingerprint`` pins its certificate.
    ``peers_rtt_ms``: round trips to other gateways (by address) over its channels.
    """

    gateway: str
    cell: str
    place: Place
    http_url: str
    channel_host: str
    channel_port: int
    fingerprint: str
    boot: str
    sequence: int
    nodes: tuple[NodePresence, ...] = ()
    peers_rtt_ms: dict[str, float] = {}
    routes_seen: dict[str, tuple[int, int]] = {}
