"""Decision records: one allocation with its inputs, enough to replay it byte for byte.

``inputs`` is the digest of a ``PlacementInputs`` value kept beside the record under that digest.
``isochrone replay`` fetches both, runs the rule named by ``rule`` again and compares bytes.

Fields that came later are ``UNSET`` in older records, so that these keep their bytes, and with
them their digests, whoever reads and writes them again.
"""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from isochrone.schema.lease import Site
from isochrone.schema.node import Node, Resources
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
    """A candidate node with what is left of it. ``holds``: leases of the same service on it.

    ``free_gpu_milli``: thousandths left of each of its GPUs, by number (``rules.devices``);
    ``held_gpu_milli``: what the service's own leases have of them. ``gpus``: those that a replica
    of what is declared now has there, which it keeps. ``fit_cost``: of a fit, how much of the
    node's use a replica would break, in steps of 60 thousandths of a GPU, negative where it takes
    what nobody else could use; ``fit_gpus``: the GPUs that it would get (``rules.fit_costs``).
    UNSET where nothing was worked out.
    """

    node: Node
    free_cpu_milli: int
    free_memory_mib: int
    free_gpu_milli: tuple[int, ...] = ()
    held_gpu_milli: tuple[int, ...] = ()
    gpus: tuple[int, ...] = ()
    holds: int = 0
    alive: bool = True
    fit_cost: int | UnsetType = UNSET
    fit_gpus: tuple[int, ...] | UnsetType = UNSET

    @property
    def free_gpus(self) -> int:
        """Its whole free GPUs."""
        return sum(milli >= 1000 for milli in self.free_gpu_milli)


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """What replicas of one kind occupy, and how many of them a cell was asked for."""

    resources: Resources
    count: int


class Cleared(msgspec.Struct, frozen=True, kw_only=True):
    """A node that the service is to leave, and why: somebody needs the room.

    ``at_once``: also when nothing else serves instead; else only after another replica does.
    """

    node: str
    reason: str
    at_once: bool = False


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
    ``grants``: for sites, the cells, metros and providers that a decision on all services together
    has given this one, whose digest is ``joint``. ``shapes``: what the cell is asked for in all
    (how full a node may become, so that the others still fit). ``cleared``: nodes to be left.
    ``wanted``: for sites, how many replicas demand asks for; None: as the declaration says.
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
    grants: tuple[tuple[str, Site], ...] = ()
    joint: str = ""
    shapes: tuple[Shape, ...] = ()
    cleared: tuple[Cleared, ...] = ()
    wanted: int | None = None


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
    """The record of one allocation.

    ``devices``: of a fit, each winner's GPUs by number (``placement/3``). ``joint``: digest of the
    decision on all services together that this one follows.
    """

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
    devices: dict[str, tuple[int, ...]] | UnsetType = UNSET
    joint: str | UnsetType = UNSET
