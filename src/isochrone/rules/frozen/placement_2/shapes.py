"""What ``placement/2`` read and wrote, field for field as it was (order is part of the bytes)."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

Evidence = Literal["declared", "statistical", "physical"]


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A point on Earth."""

    latitude: float
    longitude: float
    country: str
    metro: str


class Whereabouts(msgspec.Struct, frozen=True, kw_only=True):
    """What was known of where a key answers, in countries."""

    country: str
    discs: tuple[tuple[str, ...], ...] = ()
    region: tuple[str, ...] = ()


NOWHERE: Final = Whereabouts(country="")


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """A processor of a machine."""

    kind: Literal["cpu", "gpu"]
    name: str
    memory_mib: int = 0


class Resources(msgspec.Struct, frozen=True, kw_only=True):
    """What one replica occupies."""

    cpu_milli: int = 500
    memory_mib: int = 512
    gpu_count: int = 0
    gpu_milli: int = 1000
    gpu: str = ""
    gflops_min: int = 0


class Capacity(msgspec.Struct, frozen=True, kw_only=True):
    """What a node could give."""

    cpu_milli: int
    memory_mib: int
    devices: tuple[Device, ...] = ()
    engines: tuple[str, ...] = ()


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """A provider's prices in micro-US-dollars per hour, per unit of capacity."""

    cpu_core_microusd_per_hour: int
    memory_gib_microusd_per_hour: int
    gpu_microusd_per_hour: int = 0

    def price_microusd_per_hour(self, resources: Resources) -> int:
        """The price of one replica, each part rounded up to a whole micro-dollar."""
        cpu = -(-self.cpu_core_microusd_per_hour * resources.cpu_milli // 1000)
        memory = -(-self.memory_gib_microusd_per_hour * resources.memory_mib // 1024)
        gpu = -(-self.gpu_microusd_per_hour * resources.gpu_count * resources.gpu_milli // 1000)
        return cpu + memory + gpu


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """A node as its reader knew it."""

    address: str
    provider: str
    cell: str
    place: Place
    capacity: Capacity
    offer: Offer
    grant: bytes
    revision: int
    whereabouts: Whereabouts = NOWHERE
    barred: str = ""
    proven_memory_mib: int = 0
    proven_mflops: int = 0


class ModelFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a model."""

    name: str
    sha256: str
    size_bytes: int


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """A model and its engine."""

    engine: str
    task: Literal["tensor", "embeddings", "completions", "chat"]
    files: tuple[ModelFile, ...] = ()
    options: dict[str, str] = {}


class AudienceShare(msgspec.Struct, frozen=True, kw_only=True):
    """A part of the audience by name."""

    where: str
    weight: float = 1.0


class Objective(msgspec.Struct, frozen=True, kw_only=True):
    """How fast users were to be answered, milliseconds at a percentile."""

    latency_ms: float
    percentile: float = 95.0


class Residency(msgspec.Struct, frozen=True, kw_only=True):
    """Where data was allowed to go."""

    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    evidence: Evidence = "physical"


class ReplicaRange(msgspec.Struct, frozen=True, kw_only=True):
    """How many replicas at least and at most."""

    min: int = 2
    max: int = 4


class Service(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant's declaration: of it, what the rule read."""

    name: str
    revision: int
    home_cell: str
    model: Model
    audience: tuple[AudienceShare, ...]
    objective: Objective
    residency: Residency = Residency()
    resources: Resources = Resources()
    replicas: ReplicaRange = ReplicaRange()
    max_price_microusd_per_hour: int | None = None


def service_id(tenant: str, name: str) -> str:
    """The network-wide id of a service."""
    return f"{tenant}.{name}"


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """How many replicas near one metro, preferably of one provider."""

    metro: str
    replicas: int
    provider: str = ""


class GatewaySite(msgspec.Struct, frozen=True, kw_only=True):
    """A cell's gateway."""

    cell: str
    place: Place
    http_url: str
    gateway: str = ""
    whereabouts: Whereabouts = NOWHERE


class FreeNode(msgspec.Struct, frozen=True, kw_only=True):
    """A candidate node with what was left of it."""

    node: Node
    free_cpu_milli: int
    free_memory_mib: int
    free_gpus: int
    holds: int = 0
    alive: bool = True


class AudiencePoint(msgspec.Struct, frozen=True, kw_only=True):
    """A weighted point of the audience."""

    place: Place
    weight: float


class PlacementInputs(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a placement looked at."""

    kind: Literal["sites", "fit"]
    service: Service
    tenant: str
    cell: str
    epoch: int
    at_unix_ms: int
    seed: int
    blocs_version: str
    blocs: dict[str, tuple[str, ...]]
    gateways: tuple[GatewaySite, ...]
    audience: tuple[AudiencePoint, ...]
    nodes: tuple[FreeNode, ...]
    client_rtt_ms: tuple[tuple[float, ...], ...]
    node_rtt_ms: tuple[tuple[float, ...], ...]
    sites: tuple[Site, ...] = ()
    service_ms: float = 5.0


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """One node's fate."""

    node: str
    provider: str
    metro: str
    cell: str
    price_microusd_per_hour: int
    excluded_by: str = ""
    detail: str = ""
    score: float | None = None
    chosen: bool = False


class Coverage(msgspec.Struct, frozen=True, kw_only=True):
    """What one country of the audience could expect."""

    country: str
    weight: float
    gateway_url: str
    cell: str
    p50_ms: float
    p95_ms: float
    met_share: float


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """The record of one allocation."""

    rule: str
    kind: Literal["sites", "fit"]
    service: str
    service_revision: int
    cell: str
    epoch: int
    at_unix_ms: int
    inputs: str
    candidates: tuple[Candidate, ...]
    winners: tuple[str, ...]
    sites: tuple[tuple[str, Site], ...]
    coverage: tuple[Coverage, ...]
    price_microusd_per_hour: int
    unmet: tuple[str, ...]
