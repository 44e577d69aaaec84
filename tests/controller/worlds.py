"""Worlds for tests of the pure parts: no fabric, no processes."""

from __future__ import annotations

from isochrone.controller.declared import Declared, declared
from isochrone.controller.liveness import SeenNode, Sight
from isochrone.controller.view import World
from isochrone.schema.documents import SERVICE, pack, seal
from isochrone.schema.identity import PrivateKey
from isochrone.schema.lease import Lease, LeaseStatus, Quota, Site
from isochrone.schema.node import Node
from isochrone.schema.routing import GatewayPresence
from isochrone.schema.service import Service

from .cell_in_test import TENANT, node, service

__all__ = ["TENANT", "declare", "lease", "node", "presence", "quota", "seen", "service", "world"]


def declare(one: Service, key: PrivateKey = TENANT) -> Declared:
    return declared(pack(seal(SERVICE, one, key)))


def quota(known: Declared, sites: dict[str, int], **changes: object) -> Quota:
    fields: dict[str, object] = {
        "service": known.id,
        "service_document": known.document,
        "home_cell": known.service.home_cell,
        "cell": "fra",
        "sites": tuple(Site(metro=metro, replicas=count) for metro, count in sites.items()),
        "epoch": 1,
        "revision": 1,
        "decision": "d" * 64,
        **changes,
    }
    return Quota(**fields)  # type: ignore[arg-type]


def lease(id_: str, known: Declared, on: Node, **changes: object) -> Lease:
    wanted = known.service
    fields: dict[str, object] = {
        "id": id_,
        "service": known.id,
        "service_revision": wanted.revision,
        "cell": on.cell,
        "node": on.address,
        "provider": on.provider,
        "model": wanted.model,
        "resources": wanted.resources,
        "residency": wanted.residency,
        "objective": wanted.objective,
        "price_microusd_per_hour": on.offer.price_microusd_per_hour(wanted.resources),
        "epoch": 1,
        "revision": 1,
        "desired": "serving",
        "decision": "",
        "home_cell": wanted.home_cell,
        **changes,
    }
    return Lease(**fields)  # type: ignore[arg-type]


def seen(*statuses: tuple[str, str], verdict: str = "alive", **changes: object) -> SeenNode:
    rows = tuple(LeaseStatus(lease=id_, revision=1, state=state) for id_, state in statuses)  # type: ignore[arg-type]
    return SeenNode(verdict=verdict, age_s=0.1, rtt_ms=4.0, statuses=rows, **changes)  # type: ignore[arg-type]


def presence(cell: str = "fra", metro: str = "frankfurt") -> GatewayPresence:
    return GatewayPresence(
        gateway=f"0x{1:040x}",
        cell=cell,
        place=node(0, metro).place,
        http_url=f"http://{cell}.test",
        channel_host="h",
        channel_port=1,
        fingerprint="f",
        boot="1",
        sequence=1,
    )


def world(
    nodes: dict[Node, SeenNode] | None = None,
    leases: tuple[Lease, ...] = (),
    services: tuple[Declared, ...] = (),
    quotas: tuple[Quota, ...] = (),
    doubt: str = "",
) -> World:
    known = nodes or {}
    return World(
        cell="fra",
        nodes={one.address: one for one in known},
        leases={one.id: one for one in leases},
        services={one.id: one for one in services},
        quotas={one.service: one for one in quotas},
        granted={one.service: declared(one.service_document) for one in quotas},
        sight=Sight(
            nodes={one.address: how for one, how in known.items()},
            gateways=(presence(),),
            known=(presence(),),
            doubt=doubt,
        ),
        doubt=doubt,
    )
