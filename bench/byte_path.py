"""The path that ``bench.gateway`` measures, as shipped: fabric server, gateway, node.

A real fabric server, a gateway process with API keys, limits and metrics, a node process that
dials it over TLS and asks the upstream through its ``upstream`` engine. What a controller would
write (the lease, the routing table) is written by hand, so that nothing else runs on the machine.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import psutil
from bench.byte_path_servers import ANSWER_BODY

from isochrone.cell.child import ALLOCATOR
from isochrone.fabric.connection import Fabric
from isochrone.fabric.server import Credentials, NatsServer, ServerSpec, client_url
from isochrone.fabric.stream import RouteStream
from isochrone.gateway.config import GatewayConfig
from isochrone.gateway.config import Ready as GatewayReady
from isochrone.node.config import DoorAddress, NodeConfig, UpstreamServer
from isochrone.schema import apikey
from isochrone.schema.apikey import ApiGrant
from isochrone.schema.documents import NODE_GRANT, pack, seal
from isochrone.schema.identity import PrivateKey
from isochrone.schema.lease import Lease
from isochrone.schema.node import NodeGrant, Offer, Resources
from isochrone.schema.place import Place
from isochrone.schema.routing import ReplicaRoute, RoutingTable, ServiceRoute
from isochrone.schema.service import Model, Objective, Residency, service_id

CELL = "bench"
PLACE = Place(latitude=50.11, longitude=8.68, country="DE", metro="frankfurt")
REQUEST_BODY = json.dumps(
    {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 16], "data": [0.5] * 16}]}
)


class Processes:
    """What this run started; ended by process id, the last first."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._running: list[subprocess.Popen[bytes]] = []

    def start(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a Python module in a session of its own, parts as a cell starts them."""
        allocator = ALLOCATOR if arguments[0].startswith("isochrone.") else {}
        with (self.folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**allocator, **os.environ},
                start_new_session=True,
            )
        self._running.append(process)
        return process

    def end(self) -> None:
        """End all of them and wait."""
        for process in reversed(self._running):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in reversed(self._running):
            try:
                process.wait(8)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


async def wait_for(what: Callable[[], Any], name: str, deadline_s: float = 30.0) -> Any:
    """Poll until ``what`` gives something."""
    ends_s = time.monotonic() + deadline_s
    while not (found := what()):
        if time.monotonic() > ends_s:
            raise SystemExit(f"bench: {name} did not come within {deadline_s:g} s.")
        await asyncio.sleep(0.02)
    return found


def content(path: Path) -> str:
    """A file's text, "" while it does not exist."""
    return path.read_text() if path.exists() else ""


class BytePath:
    """The shipped path: fabric, gateway, node; the controller's part is written by hand."""

    def __init__(self, folder: Path, processes: Processes, upstream: str) -> None:
        self.folder = folder
        self.processes = processes
        self.upstream = upstream
        self.tenant = PrivateKey.generate()
        self.server: NatsServer
        self.fabric: Fabric
        self.pids: dict[str, int] = {}
        self.port = 0

    async def start(self) -> None:
        """Start everything and wait until the replica serves."""
        secret = Credentials(client="bench", system="bench")
        spec = ServerSpec(cell=CELL, folder=str(self.folder / "nats"), credentials=secret)
        self.server = await NatsServer.start(spec)
        url = client_url("127.0.0.1", self.server.port, secret)
        self.fabric = await Fabric.connect([url], CELL, "bench", self.folder / "fabric")
        ready = await self._start_gateway(url)
        self.port = ready.http_port
        lease = await self._start_node(ready)
        table = self._table(lease)
        leases = await self.fabric.table("leases", Lease)
        await leases.put(lease.id, lease, revision=None)
        await RouteStream(self.fabric).publish(msgspec.json.encode(table))
        self.pids |= {"fabric": self.server.pid}
        await wait_for(self.serves, "the replica")

    def key(self) -> str:
        """The bearer key of the bench's tenant."""
        grant = ApiGrant(
            services=("bench",), residency=Residency(), expires_unix_s=0, nonce=os.urandom(16)
        )
        return apikey.mint(grant, self.tenant)

    async def stop(self) -> None:
        """End the fabric; the processes end with the rest."""
        await self.fabric.close()
        await self.server.stop()

    async def _start_gateway(self, url: str) -> GatewayReady:
        ready_file = self.folder / "gateway.ready"
        config = GatewayConfig(
            key_path=str(self.folder / "gateway.key"),
            cell=CELL,
            place=PLACE,
            state_dir=str(self.folder / "gateway"),
            fabric_servers=(url,),
            ready_file=str(ready_file),
        )
        path = self.folder / "gateway.json"
        path.write_bytes(msgspec.json.encode(config))
        self.pids["gateway"] = self.processes.start("gateway", "isochrone.gateway", str(path)).pid
        await wait_for(ready_file.exists, "the gateway")
        return msgspec.json.decode(ready_file.read_bytes(), type=GatewayReady)

    async def _start_node(self, ready: GatewayReady) -> Lease:
        provider, key_path = PrivateKey.generate(), self.folder / "node.key"
        node = PrivateKey.load_or_create(key_path)
        offer = Offer(cpu_core_microusd_per_hour=20_000, memory_gib_microusd_per_hour=5_000)
        grant = NodeGrant(node=node.address, place=PLACE, offer=offer, revision=1)
        grant_path = self.folder / "grant"
        grant_path.write_bytes(pack(seal(NODE_GRANT, grant, provider)))
        door = DoorAddress(
            host=ready.channel_host, port=ready.channel_port, fingerprint=ready.fingerprint
        )
        ready_file = self.folder / "node.ready"
        config = NodeConfig(
            key_path=str(key_path),
            grant_path=str(grant_path),
            state_dir=str(self.folder / "node"),
            doors=(door,),
            upstreams={"bench": UpstreamServer(base_url=self.upstream, api="oip")},
            ready_file=str(ready_file),
        )
        path = self.folder / "node.json"
        path.write_bytes(msgspec.json.encode(config))
        self.pids["node"] = self.processes.start("node", "isochrone.node", str(path)).pid
        await wait_for(ready_file.exists, "the node")
        return Lease(
            id="bench-1",
            service=service_id(self.tenant.address, "bench"),
            service_revision=1,
            cell=CELL,
            node=node.address,
            provider=provider.address,
            model=Model(
                engine="upstream",
                task="tensor",
                options={"upstream": "bench", "upstream_model": "bench"},
            ),
            resources=Resources(cpu_milli=100, memory_mib=64),
            residency=Residency(),
            objective=Objective(latency_ms=50),
            price_microusd_per_hour=0,
            epoch=1,
            revision=1,
            desired="serving",
            decision="",
            home_cell=CELL,
        )

    def _table(self, lease: Lease) -> RoutingTable:
        replica = ReplicaRoute(
            lease=lease.id,
            lease_revision=1,
            node=lease.node,
            provider=lease.provider,
            place=PLACE,
            cell=CELL,
        )
        service = ServiceRoute(
            service=lease.service,
            tenant=self.tenant.address,
            name="bench",
            revision=1,
            task="tensor",
            engine="upstream",
            residency=Residency(),
            objective=lease.objective,
            hedge=True,
            replicas=(replica,),
        )
        return RoutingTable(cell=CELL, epoch=1, sequence=1, services=(service,))

    def serves(self) -> bool:
        """Whether the path gives the upstream's answer."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/v2/models/bench/infer",
            data=REQUEST_BODY.encode(),
            headers={"Authorization": f"Bearer {self.key()}", "isochrone-timeout-ms": "500"},
        )
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                told = json.loads(answer.read())
        except (urllib.error.URLError, OSError):
            return False
        wanted: list[dict[str, Any]] = json.loads(ANSWER_BODY)["outputs"]
        if told["outputs"] != wanted:
            raise SystemExit(f"bench: the path's answer differs from the upstream's: {told}")
        return True

    def resident_mb(self) -> dict[str, float]:
        """Resident memory of each part with its children (shared pages count in each)."""
        found = {}
        for name, pid in self.pids.items():
            process = psutil.Process(pid)
            family = [process, *process.children(recursive=True)]
            sizes = [member.memory_info().rss / 1e6 for member in family]
            found[name] = sum(sizes)
            more = f" ({len(sizes) - 1} children; alone {sizes[0]:.1f} MB)" if sizes[1:] else ""
            print(f"{name}: {found[name]:.1f} MB resident after the load{more}")
        return found
