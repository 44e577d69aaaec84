"""A small network for tests: a real fabric server, gateways in this process, acting nodes.

The controller's part (leases, routing tables) is written here by hand, through the real fabric.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec

from isochrone.fabric.connection import Fabric
from isochrone.fabric.server import Credentials, NatsServer, ServerSpec, client_url
from isochrone.fabric.stream import RouteStream
from isochrone.gateway.config import GatewayConfig, GatewayLimits
from isochrone.gateway.process import Gateway
from isochrone.schema import apikey
from isochrone.schema.apikey import ApiGrant
from isochrone.schema.frames import GatewayDoor
from isochrone.schema.identity import PrivateKey
from isochrone.schema.lease import Lease
from isochrone.schema.node import Resources
from isochrone.schema.place import Place
from isochrone.schema.routing import ReplicaRoute, RoutingTable, ServiceRoute
from isochrone.schema.service import Model, Objective, Residency, service_id

from .acting_node import ActingNode, Script, echo

FRANKFURT = Place(latitude=50.11, longitude=8.68, country="DE", metro="frankfurt")
PARIS = Place(latitude=48.86, longitude=2.35, country="FR", metro="paris")
MADRID = Place(latitude=40.42, longitude=-3.7, country="ES", metro="madrid")
WASHINGTON = Place(latitude=38.9, longitude=-77.04, country="US", metro="washington")
TOKYO = Place(latitude=35.68, longitude=139.69, country="JP", metro="tokyo")
EU = Residency(allow=("EU",), evidence="declared")
WORLD = Residency()


async def until(what: Callable[[], Any], deadline_s: float = 10.0) -> Any:
    """Wait for a condition."""
    ends_s = time.monotonic() + deadline_s
    while not (found := what()):
        if time.monotonic() > ends_s:
            raise AssertionError("waited in vain")
        await asyncio.sleep(0.005)
    return found


class Town:
    """Everything of one test; ``close`` leaves nothing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.credentials = Credentials(client="c", system="s")
        self.tenant = PrivateKey.generate()
        self.keys: dict[str, PrivateKey] = {}
        self.gateways: dict[str, Gateway] = {}
        self.nodes: list[ActingNode] = []
        self.closers: list[Callable[[], None]] = []
        self.server: NatsServer | None = None
        self.fabric: Fabric
        self._sequence = 0
        self._fabrics: dict[str, Fabric] = {}

    async def open(self) -> None:
        """Start the fabric server."""
        await self.start_server()
        self.fabric = await self.fabric_of("fra")

    async def start_server(self) -> None:
        port = self.server.port if self.server is not None else 0
        spec = ServerSpec(
            cell="fra", folder=str(self.folder / "nats"), credentials=self.credentials, port=port
        )
        self.server = await NatsServer.start(spec)

    async def fabric_of(self, cell: str) -> Fabric:
        """The test's own connection, in a cell's name (all use one server here)."""
        if cell not in self._fabrics:
            self._fabrics[cell] = await Fabric.connect(
                [self.url], cell, "test", self.folder / f"test-{cell}", domain="fra"
            )
        return self._fabrics[cell]

    @property
    def url(self) -> str:
        assert self.server is not None
        return client_url("127.0.0.1", self.server.port, self.credentials)

    def config(
        self, name: str, place: Place, *, cell: str = "fra", **settings: Any
    ) -> GatewayConfig:
        """A gateway's configuration; all gateways of the town know each other."""
        folder = self.folder / name
        key = PrivateKey.load_or_create(folder / "key")
        self.keys[name] = key
        settings.setdefault("fabric_servers", (self.url,) if self.server is not None else ())
        settings.setdefault("fabric_domain", "fra")
        return GatewayConfig(
            key_path=str(folder / "key"),
            cell=cell,
            place=place,
            state_dir=str(folder / "state"),
            **settings,
        )

    async def gateway(
        self,
        name: str = "gw",
        place: Place = FRANKFURT,
        *,
        cell: str = "fra",
        friends: Iterable[str] = (),
        limits: GatewayLimits | None = None,
        **settings: Any,
    ) -> Gateway:
        """Start a gateway; ``friends``: names of gateways whose channels it takes."""
        known = [
            PrivateKey.load_or_create(self.folder / friend / "key").address for friend in friends
        ]
        config = self.config(name, place, cell=cell, allow_operators=tuple(known), **settings)
        if limits is not None:
            config = msgspec.structs.replace(config, limits=limits)
        gateway = Gateway(config)
        self.gateways[name] = gateway
        await gateway.start()
        return gateway

    async def node(
        self,
        place: Place = FRANKFURT,
        script: Script = echo,
        *,
        at: Gateway | Iterable[Gateway] = (),
        provider: PrivateKey | None = None,
    ) -> ActingNode:
        """A node with channels to the given gateways."""
        node = ActingNode(place, script, provider=provider)
        self.nodes.append(node)
        for gateway in [at] if isinstance(at, Gateway) else at:
            await node.dial(door_of(gateway))
            await until(lambda g=gateway: known_beat(g, node.address))
        return node

    def api_key(
        self, *services: str, residency: Residency = WORLD, tenant: PrivateKey | None = None
    ) -> str:
        """A bearer string."""
        grant = ApiGrant(
            services=services, residency=residency, expires_unix_s=0, nonce=b"0123456789abcdef"
        )
        return apikey.mint(grant, tenant or self.tenant)

    def service(
        self,
        name: str,
        replicas: Iterable[tuple[ActingNode, str]],
        *,
        cell: str = "fra",
        residency: Residency = WORLD,
        task: Any = "tensor",
        hedge: bool = False,
        revision: int = 1,
        tenant: PrivateKey | None = None,
        answer_checks: bool = False,
    ) -> ServiceRoute:
        """A service with replicas (node, lease id), which the nodes say they serve."""
        routes = []
        for node, lease in replicas:
            node.serve(lease)
            routes.append(
                ReplicaRoute(
                    lease=lease,
                    lease_revision=1,
                    node=node.address,
                    provider=node.provider.address,
                    place=node.place,
                    cell=cell,
                )
            )
        owner = (tenant or self.tenant).address
        return ServiceRoute(
            service=service_id(owner, name),
            tenant=owner,
            name=name,
            revision=revision,
            task=task,
            engine="onnx",
            residency=residency,
            objective=Objective(latency_ms=50),
            hedge=hedge,
            replicas=tuple(routes),
            answer_checks=answer_checks,
        )

    async def route(self, *services: ServiceRoute, cell: str = "fra") -> RoutingTable:
        """Publish a cell's routing table and wait until every gateway uses it."""
        self._sequence += 1
        table = RoutingTable(cell=cell, epoch=1, sequence=self._sequence, services=services)
        stream = RouteStream(await self.fabric_of(cell))
        assert await stream.publish(msgspec.json.encode(table))
        for gateway in self.gateways.values():
            await until(lambda g=gateway: g.book.tables.get(cell) == table)
        for gateway in self.gateways.values():
            for service in services:
                await self._served(gateway, service)
        return table

    async def _served(self, gateway: Gateway, service: ServiceRoute) -> None:
        """Until the beats that say "serving" have arrived where the channels are."""
        for replica in service.replicas:
            known = gateway.fleet.nodes.get(replica.node)
            if known is not None and known.line is not None:
                await until(lambda k=known, r=replica: r.lease in k.statuses)

    async def close(self) -> None:
        for closer in self.closers:
            closer()
        for gateway in self.gateways.values():
            await gateway.close()
        for node in self.nodes:
            await node.close()
        for fabric in self._fabrics.values():
            await fabric.close()
        if self.server is not None:
            await self.server.stop()


def door_of(gateway: Gateway) -> GatewayDoor:
    return gateway.doors.doors[0]


def known_beat(gateway: Gateway, address: str) -> bool:
    known = gateway.fleet.nodes.get(address)
    return known is not None and known.beat is not None and known.introduced is not None


def http_port(gateway: Gateway) -> int:
    assert gateway.http is not None
    return gateway.http.port


def lease_of(
    node: ActingNode,
    service: str,
    lease: str,
    model: Model,
    *,
    cell: str = "fra",
    residency: Residency = WORLD,
    epoch: int = 1,
    revision: int = 1,
    home_cell: str = "fra",
) -> Lease:
    """A lease as a controller would write it."""
    return Lease(
        id=lease,
        service=service,
        service_revision=1,
        cell=cell,
        node=node.address,
        provider=node.provider.address,
        model=model,
        resources=Resources(),
        residency=residency,
        objective=Objective(latency_ms=50),
        price_microusd_per_hour=100,
        epoch=epoch,
        revision=revision,
        desired="serving",
        decision="",
        home_cell=home_cell,
    )
