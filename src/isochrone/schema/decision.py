"""Decision records: one allocation with its inputs, enough to replay it byte for byte.

``inputs`` is the digest of a ``PlacementInputs`` value kept beside the record under that digest.
``isochrone replay`` fetches both, runs the rule named by ``rule`` again and compares bytes.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from isochrone.schema.lease import Site
from isochrone.schema.node import Node
from isochrone.schema.place import NOWHERE, Place, Whereabouts
from isochrone.schema.service import Service


class GatewaySite(msgspec.Struct, frozen=True, kw_only=True):
    """A cell's gateway as placement sees it. ``whereabouts``: as its reader believes it."""

    cell: str
    place: Place
    http_url: str
    gateway: str = ""
    whereabouts: Whereabouts = NOWHERE


class FreeNode(msgspec.Struct, frozen=True, kw_only=True):
    """A candidate node with what is left of it. ``holds``: leases of the same service on it."""

    node: Node
    free_cpu_milli: int
    free_memory_mib: int
    free_gpus: int
    holds: int = 0
    alive: bool = True


class AudiencePoint(msgspec.Struct, frozen=True, kw_only=True):
    """A weighted point of the audience; weights of a service sum to 1."""

    place: Place
    weight: float


class PlacementInputs(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a placement looked at.

    ``client_rtt_ms[i][g]``: expected round trip from audience point i to gateway g.
    ``node_rtt_ms[g][n]``: from gateway g to node n. ``blocs``: name -> member countries, for the
    names that the residency uses, with ``blocs_version``. ``allowed_cells``: for a fit, the one
    cell; for sites, every known cell. ``sites``: a fit's granted sites. ``seed`` breaks ties.
    """

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
    """One node's fate: excluded by a rule (with the detail), or scored (lower is better)."""

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
    """What one country of the audience can expect: its gateway, p50/p95, share in objective."""

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
