"""Leases and quotas: who runs what, by whose order.

Orders carry the controller's ``epoch`` (fencing token) and a ``revision``; whoever receives an
order refuses one from an older epoch, or an older revision of the same lease.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from isochrone.schema.node import Resources
from isochrone.schema.service import Model, Objective, Residency

LeaseState = Literal[
    "offered",
    "accepted",
    "fetching",
    "standby",
    "warming",
    "serving",
    "draining",
    "ended",
    "failed",
]
Desired = Literal["serving", "standby", "draining", "ended"]
"""What a controller wants of a lease. ``standby``: fetch and verify the model's files and keep
them, without an engine: the node gives up disk and nothing else."""

STATE_ORDER: tuple[LeaseState, ...] = (
    "offered",
    "accepted",
    "fetching",
    "warming",
    "serving",
    "draining",
    "ended",
)


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """One replica's contract: a service on a node at a locked price and promised objective.

    ``desired``: what the controller wants of it now; a lease is a standby for its whole life, or
    never, and a standby is not paid. ``decision``: digest of the record that chose the node (of a
    standby: that placed the replicas beside it). ``countries``: those that ``residency`` admits,
    its blocs written out for whoever has no atlas; empty: every country, if ``residency`` restricts
    nothing. ``answer_checks``: the tenant consents that answers are checked: the node keeps their
    digests.
    ``gpus``: which of the node's GPUs it may use, by their number among the node's devices.
    """

    id: str
    service: str
    service_revision: int
    cell: str
    node: str
    provider: str
    model: Model
    resources: Resources
    residency: Residency
    objective: Objective
    price_microusd_per_hour: int
    epoch: int
    revision: int
    desired: Desired
    decision: str
    home_cell: str
    countries: tuple[str, ...] = ()
    answer_checks: bool = False
    gpus: tuple[int, ...] = ()


class LeaseStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What a node says of one lease. Times are its own measurements, in milliseconds.

    ``reason`` says why when ``failed``, as ``code: sentence``; it is read in every cell and holds
    nothing of what an engine said. ``fetched_bytes`` grows while fetching, with what is
    there; once all is, it says how much had to come (0: it was there).
    """

    lease: str
    revision: int
    state: LeaseState
    reason: str = ""
    fetched_bytes: int = 0
    fetch_ms: float = 0.0
    load_ms: float = 0.0
    first_answer_ms: float = 0.0


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """How many replicas a cell should hold near one metro, preferably of one provider.

    ``provider`` keeps the spread over providers that was decided over all cells; empty: any.
    """

    metro: str
    replicas: int
    provider: str = ""


class Quota(msgspec.Struct, frozen=True, kw_only=True):
    """The home controller's grant to a cell: place this service at these sites.

    ``service_document``: the tenant's signed declaration (packed), which the cell checks itself.
    ``invitation``: the packed document that lets the cell's operator charge for the service (empty:
    it may not). ``standby``: where nodes beyond the replicas are to keep the model's files. Zero
    sites and no standby withdraws the grant.
    """

    service: str
    service_document: bytes
    home_cell: str
    cell: str
    sites: tuple[Site, ...]
    epoch: int
    revision: int
    decision: str
    invitation: bytes = b""
    standby: tuple[Site, ...] = ()
