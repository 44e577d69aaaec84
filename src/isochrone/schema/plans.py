"""What cells tell each other and their gateways about placement, before and after the orders.

Three conversations: a gateway asks its controller where a declaration *would* go (``PlanAnswer``),
every cell tells the others what it has free (``CellOffers``), and a cell answers the quota that a
home controller grants it (``QuotaAnswer``). All of them are snapshots: the newest one replaces
what was said before. Prices are micro-US-dollars per hour, times milliseconds.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from isochrone.schema.decision import Coverage, FreeNode, GatewaySite
from isochrone.schema.lease import Desired, LeaseState
from isochrone.schema.place import Evidence


class PlanSite(msgspec.Struct, frozen=True, kw_only=True):
    """One replica of a plan: the node it would run on and its price.

    ``rtt_ms``: the round trip expected from its cell's gateway. ``evidence``: how its place is
    known. ``kept``: it runs there already.
    """

    cell: str
    metro: str
    country: str
    provider: str
    node: str
    price_microusd_per_hour: int
    evidence: Evidence
    rtt_ms: float
    kept: bool = False


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Where a service would go now, for whom that is how fast, and what could not be met.

    ``coverage``: one row per audience country with its base URL (``gateway_url``), p50/p95 and
    the share of its audience inside the objective. ``base_urls``: every gateway that may serve
    the service (cell -> URL). ``unmet``: reasons as ``code: words``; the plan can still be applied.
    ``blocking``: the reasons among them for which the declaration should be refused whole (no legal
    place, nobody inside the objective, nothing affordable); empty: it may be applied.
    ``evidence_note``: one sentence for people on how the places are known. ``rule``: the version
    of the placement rule; ``inputs``: digest of what it looked at (kept only once it is applied).
    """

    service: str
    name: str
    revision: int
    home_cell: str
    rule: str
    inputs: str
    sites: tuple[PlanSite, ...]
    coverage: tuple[Coverage, ...]
    base_urls: dict[str, str]
    price_microusd_per_hour: int
    max_price_microusd_per_hour: int | None
    met_share: float
    unmet: tuple[str, ...]
    blocking: tuple[str, ...] = ()
    evidence_note: str


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """An error in words and codes, as ``IsochroneError`` carries it."""

    code: str
    message: str
    fix: str = ""
    status: int = 400
    retry: Literal["here", "elsewhere", "never"] = "never"


class PlanAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The reply on ``iso.<cell>.plan``: exactly one of the two is set."""

    plan: Plan | None = None
    refusal: Refusal | None = None


class HeldReplica(msgspec.Struct, frozen=True, kw_only=True):
    """A replica that a cell holds: its lease, where it is, and the state its node reported.

    One that is ``desired`` standby only keeps the model's files.
    ``alive`` is False while its node is not heard by any gateway of the cell.
    """

    service: str
    service_revision: int
    lease: str
    node: str
    provider: str
    metro: str
    state: LeaseState
    desired: Desired
    price_microusd_per_hour: int
    alive: bool = True
    reason: str = ""


class GatewayWay(msgspec.Struct, frozen=True, kw_only=True):
    """A round trip that a gateway measured to another one, both by address; milliseconds."""

    gateway: str
    peer: str
    rtt_ms: float


class CellOffers(msgspec.Struct, frozen=True, kw_only=True):
    """What a cell has: its gateways' site, its nodes and what is free on each, its replicas.

    ``nodes`` carry ``holds`` 0: how many replicas of a service a node holds is counted from
    ``replicas``, and what they occupy is already taken off what is free. ``rtt_ms``: measured
    round trip from the cell's gateways to a node, where one was measured. ``trustworthy`` False:
    the cell doubts its own view; nobody should move anything because of it. ``granted``: the
    services it holds a quota of. ``controller``: address of the controller that leads it, whom the
    homes of its services invite to charge. ``ways``: what its gateways measured to other cells'
    gateways. The greater ``(epoch, sequence)`` of a cell wins.
    """

    cell: str
    epoch: int
    sequence: int
    trustworthy: bool
    gateways: tuple[GatewaySite, ...]
    nodes: tuple[FreeNode, ...]
    rtt_ms: dict[str, float]
    replicas: tuple[HeldReplica, ...]
    granted: tuple[str, ...] = ()
    controller: str = ""
    ways: tuple[GatewayWay, ...] = ()


class QuotaAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A cell's answer to a quota: taken or refused with a code, and how far it has come.

    Codes of a refusal: ``unauthorized`` (signature), ``residency`` (own country not admitted),
    ``stale`` (older epoch or revision than the one held), ``misdirected`` (another cell's quota),
    ``unavailable`` (no leader here, or its fabric is away). ``unmet``: why the cell could not
    place all that was granted.
    """

    cell: str
    service: str
    accepted: bool
    code: str = ""
    message: str = ""
    epoch: int = 0
    revision: int = 0
    replicas: tuple[HeldReplica, ...] = ()
    unmet: tuple[str, ...] = ()
