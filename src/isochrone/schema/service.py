"""Services: what a tenant declares, and the model it runs."""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from isochrone.schema.digests import digest
from isochrone.schema.errors import InvalidInput
from isochrone.schema.node import Resources
from isochrone.schema.place import Evidence

NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
"""Service names: a DNS label (RFC 1123), 1-63 characters."""

REPLICAS_MAX = 1000
PRIORITY_MAX = 9
IDLE_S_MAX = 7 * 86_400.0
HOLD_S_MAX = 600.0
"""Ten minutes: longer no client, and no proxy on its way, keeps a request open."""

Task = Literal["tensor", "embeddings", "completions", "chat"]


class ModelFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a model: relative name, SHA-256 hex, size."""

    name: str
    sha256: str
    size_bytes: int


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """An AI model: engine adapter, what it can be asked, files by content, engine options.

    ``engine``: ``onnx``, ``llamacpp`` or ``upstream``. ``options`` are the engine's own, as text.
    """

    engine: str
    task: Task
    files: tuple[ModelFile, ...] = ()
    options: dict[str, str] = {}

    @property
    def digest(self) -> str:
        """The content address of the model: equal digest, equal answers."""
        return digest(self)

    @property
    def size_bytes(self) -> int:
        """The sum of its files' sizes."""
        return sum(file.size_bytes for file in self.files)


class AudienceShare(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of the audience: a city slug, ISO country, bloc or continent, with its weight."""

    where: str
    weight: float = 1.0


class Objective(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How fast users must be answered: round trip + platform + queue + service, milliseconds.

    ``latency_ms`` is to be met by ``percentile`` % of requests (50-99.9).
    """

    latency_ms: float
    percentile: float = 95.0


class Residency(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where data may go: ISO countries or blocs allowed (empty: anywhere) and denied.

    ``evidence`` is the weakest class of proof of place that is accepted (``rules.residency``); a
    residency that restricts nothing needs none.
    """

    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    evidence: Evidence = "physical"


class ReplicaRange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many replicas at least and at most, over all cells. 0 <= min <= max <= 1000, max >= 1.

    ``min`` 0: without requests the service scales to zero. ``gang``: fewer than ``min`` are of no
    use, so that all of them are placed or none.
    """

    min: int = 2
    max: int = 4
    gang: bool = False


class Scaling(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How replicas follow demand between ``ReplicaRange.min`` and ``max`` (``rules.scaling``).

    ``follow`` False: as many as placement finds worth their price, whatever the load. ``idle_s``:
    without a request for so long a service with ``min`` 0 goes to zero (at least 1 s).
    ``warm``: nodes beyond the replicas that keep the model fetched and verified, so that a start
    is only a load. ``hold_s``: how long a gateway holds a request for a replica that starts.
    """

    follow: bool = False
    idle_s: float = 300.0
    warm: int = 0
    hold_s: float = 20.0


class Service(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant's declaration, signed by the tenant as a ``service`` document.

    A higher ``revision`` replaces a lower one; ``deleted`` is the last word. ``home_cell`` is the
    cell it was posted to: its controller chooses the sites. ``home_key``: address of that cell's
    spending key (empty: it has none). Only operators whom that key has invited may charge for the
    service, so without it nobody may.

    ``answer_checks``: the tenant's consent that a few of its requests (at most one in a hundred)
    are kept for minutes at the gateway that took them and asked again of other replicas of this
    service, at its cost, to find out who answers wrongly; as many go to the second best replica.

    ``priority``: among one tenant's services and against those of tenants that have more than
    their fair share, the higher one is placed first and may take a lower one's place
    (``rules.fairness``); 0-9. ``scaling``: how replicas follow demand.
    """

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
    hedge: bool = True
    deleted: bool = False
    home_key: str = ""
    answer_checks: bool = False
    priority: int = 0
    scaling: Scaling = Scaling()

    @property
    def follows_demand(self) -> bool:
        """Whether its replicas follow demand; a ``min`` of 0 says so by itself."""
        return self.scaling.follow or self.replicas.min == 0


def check_replicas(service: Service) -> None:
    """Raises InvalidInput unless its numbers of replicas and its scaling can be meant."""
    replicas, scaling = service.replicas, service.scaling
    if not (0 <= replicas.min <= replicas.max <= REPLICAS_MAX and replicas.max >= 1):
        raise InvalidInput(
            f"replicas: {replicas.min}..{replicas.max} is out of range.",
            fix=f"Use 0 <= min <= max, and a max of 1 to {REPLICAS_MAX}.",
        )
    if not (1 <= scaling.idle_s <= IDLE_S_MAX and 0 <= scaling.hold_s <= HOLD_S_MAX):
        raise InvalidInput(
            "scaling: a time is out of range.",
            fix=f"Use an idle time of 1 s to a week and hold requests for 0-{HOLD_S_MAX:g} s.",
        )
    if not 0 <= scaling.warm <= REPLICAS_MAX or not 0 <= service.priority <= PRIORITY_MAX:
        raise InvalidInput(
            "scaling.warm or priority is out of range.",
            fix=f"Use 0-{REPLICAS_MAX} warm nodes and a priority of 0-{PRIORITY_MAX}.",
        )


def service_id(tenant: str, name: str) -> str:
    """The network-wide id of a service: ``<tenant address>.<name>``."""
    return f"{tenant}.{name}"


def check_name(name: str) -> None:
    """Raises InvalidInput unless ``name`` is a valid service name."""
    if not NAME.fullmatch(name):
        raise InvalidInput(
            f"{name[:80]!r} is not a service name.",
            fix="Use 1-63 lower-case letters, digits and inner hyphens.",
        )
