"""A cell around a controller under test: a real fabric server, a gateway and nodes by the wire.

The gateway here speaks what gateways say on the fabric (digests, the ``nodes`` and ``services``
tables) and its nodes obey the ``leases`` table at once; the controllers are real processes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from isochrone.atlas.cities import city
from isochrone.controller.config import ControllerConfig
from isochrone.fabric.connection import Fabric
from isochrone.fabric.presence import PresencePublisher
from isochrone.fabric.server import Credentials, NatsServer, ServerSpec, client_url
from isochrone.fabric.table import Table
from isochrone.schema.decision import Decision
from isochrone.schema.digests import canonical
from isochrone.schema.documents import SERVICE, pack, seal
from isochrone.schema.identity import PrivateKey
from isochrone.schema.leadership import Leadership
from isochrone.schema.lease import Lease, LeaseStatus, Quota
from isochrone.schema.node import Capacity, Node, Offer, Resources
from isochrone.schema.place import Whereabouts
from isochrone.schema.routing import GatewayPresence, NodePresence, RoutingTable
from isochrone.schema.service import (
    AudienceShare,
    Model,
    Objective,
    ReplicaRange,
    Residency,
    Service,
    service_id,
)

CREDENTIALS = Credentials(client="c" * 16, system="s" * 16, gateway="g" * 16)
TENANT = PrivateKey(b"\x07" * 32)


async def until(condition: Callable[[], bool], within_s: float = 15.0, what: str = "") -> float:
    """Wait for a condition; returns how long it took."""
    began_s = time.monotonic()
    while not condition():
        assert time.monotonic() - began_s < within_s, f"not within {within_s} s: {what}"
        await asyncio.sleep(0.005)
    return time.monotonic() - began_s


def service(name: str = "vad", **changes: object) -> Service:
    fields: dict[str, object] = {
        "name": name,
        "revision": 1,
        "home_cell": "fra",
        "model": Model(engine="onnx", task="tensor"),
        "audience": (AudienceShare(where="DE"),),
        "objective": Objective(latency_ms=60),
        "residency": Residency(allow=("EU",), evidence="declared"),
        "resources": Resources(cpu_milli=500, memory_mib=256),
        "replicas": ReplicaRange(min=2, max=2),
        **changes,
    }
    return Service(**fields)  # type: ignore[arg-type]


def node(number: int, metro: str, provider: int = 0, cell: str = "fra", **changes: object) -> Node:
    fields: dict[str, object] = {
        "address": f"0x{number:040x}",
        "provider": f"0x{0xAA00 + provider:040x}",
        "cell": cell,
        "place": city(metro).place,
        "whereabouts": Whereabouts(country=city(metro).place.country),
        "capacity": Capacity(cpu_milli=2000, memory_mib=2048, engines=("onnx",)),
        "offer": Offer(cpu_core_microusd_per_hour=20_000, memory_gib_microusd_per_hour=2_000),
        "grant": b"",
        "revision": 1,
        **changes,
    }
    return Node(**fields)  # type: ignore[arg-type]


def end_process(
    process: subprocess.Popen[bytes], how: signal.Signals = signal.SIGTERM, within_s: float = 10.0
) -> None:
    """End a process that was started here; by force at the deadline, and only then complain."""
    try:
        process.send_signal(signal.SIGCONT)
        process.send_signal(how)
        process.wait(within_s)
    except subprocess.TimeoutExpired:
        raise AssertionError(f"{process.args} did not end within {within_s} s") from None
    finally:
        process.kill()
        process.wait()


class CellInTest:
    """A cell's fabric with one simulated gateway, as many nodes and controllers as wanted."""

    def __init__(self, folder: Path, name: str = "fra", metro: str = "frankfurt") -> None:
        self.folder = folder
        self.name = name
        self.place = city(metro).place
        self.key = PrivateKey((name.encode() * 32)[:32])
        self.nodes: dict[str, Node] = {}
        self.dead: set[str] = set()
        self.frozen_s: dict[str, float] = {}
        self.routes: list[RoutingTable] = []
        self.controllers: dict[int, subprocess.Popen[bytes]] = {}
        self.failing: set[str] = set()
        self.slow: set[str] = set()
        self._boot = "1"
        self._ending = contextlib.AsyncExitStack()

    async def start(self, server: NatsServer | None = None, **spec: object) -> None:
        fields = {
            "cell": self.name,
            "folder": str(self.folder / "nats"),
            "credentials": CREDENTIALS,
            **spec,
        }
        self.spec = ServerSpec(**fields)  # type: ignore[arg-type]
        self.server = server or await NatsServer.start(self.spec)
        self._ending.push_async_callback(lambda: self.server.stop())  # tests replace it
        self.url = client_url(self.server.host, self.server.port, CREDENTIALS)
        self.spec = msgspec.structs.replace(self.spec, port=self.server.port)
        self.fabric = await Fabric.connect([self.url], self.name, "gw", self.folder / "gw")
        self._ending.push_async_callback(self.fabric.close)
        self.services: Table[bytes] = await self.fabric.table("services", bytes, raw=True)
        self.node_table: Table[Node] = await self.fabric.table("nodes", Node)
        self.leases: Table[Lease] = await self.fabric.table("leases", Lease)
        self.quotas: Table[Quota] = await self.fabric.table("quotas", Quota)
        self.leadership: Table[Leadership] = await self.fabric.table("leadership", Leadership)
        self.decisions: Table[list[Decision]] = await self.fabric.table("decisions", list[Decision])
        self.inputs: Table[bytes] = await self.fabric.table("inputs", bytes, raw=True)
        await self.fabric.subscribe("iso.*.routes", self._on_routes)
        self.publisher = PresencePublisher(self.fabric, self._digest)
        self._ending.push_async_callback(self.publisher.close)
        self._ending.callback(self._show_logs)

    async def stop(self) -> None:
        """End everything that was started, each whatever became of the others."""
        await self._ending.aclose()

    def _show_logs(self) -> None:
        for log in sorted(self.folder.glob("controller-*/log")):
            sys.stdout.write(f"{log.parent.name} of {self.name}:\n{log.read_text()}")

    async def add(self, *nodes: Node) -> None:
        for one in nodes:
            self.nodes[one.address] = one
            await self.node_table.update(one.address, lambda _old, one=one: one)
        self.publisher.now()

    async def declare(self, declared: Service, key: PrivateKey = TENANT) -> str:
        id_ = service_id(key.address, declared.name)
        document = pack(seal(SERVICE, declared, key))
        await self.services.update(id_, lambda _old: document)
        return id_

    def kill(self, address: str) -> None:
        """The node's channel is gone; the gateway says so at once."""
        self.dead.add(address)
        self.publisher.now()

    def freeze(self, address: str) -> None:
        self.frozen_s[address] = time.monotonic()

    # --- controllers -----------------------------------------------------------------------------

    async def controller(self, number: int = 1, **changes: object) -> subprocess.Popen[bytes]:
        folder = self.folder / f"controller-{number}"
        folder.mkdir(parents=True, exist_ok=True)
        fields: dict[str, object] = {
            "key_path": str(folder / "key"),
            "cell": self.name,
            "state_dir": str(folder / "state"),
            "fabric_servers": (self.url,),
            "ready_file": str(folder / "ready"),
            "settle_s": 0.25,
            "warm_s": 0.2,
            **changes,
        }
        (folder / "config.json").write_bytes(canonical(ControllerConfig(**fields)))  # type: ignore[arg-type]
        (folder / "ready").unlink(missing_ok=True)
        with (folder / "log").open("ab") as log:
            process = subprocess.Popen(  # noqa: ASYNC220
                [sys.executable, "-m", "isochrone.controller", str(folder / "config.json")],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.controllers[number] = process
        self._ending.callback(self._end_if_running, number, process)
        await until((folder / "ready").exists, what="the controller is ready")
        return process

    def address_of(self, number: int) -> str:
        return str(
            json.loads((self.folder / f"controller-{number}" / "ready").read_bytes())["controller"]
        )

    def end_controller(self, number: int, how: signal.Signals = signal.SIGTERM) -> None:
        end_process(self.controllers.pop(number), how)

    def _end_if_running(self, number: int, process: subprocess.Popen[bytes]) -> None:
        if self.controllers.get(number) is process:
            self.end_controller(number)
        else:
            end_process(process, signal.SIGKILL)

    def log(self, number: int = 1) -> str:
        return (self.folder / f"controller-{number}" / "log").read_text()

    @property
    def leader(self) -> Leadership | None:
        entry = self.leadership.entries.get("controller")
        return entry.value if entry else None

    # --- what the cell shows ---------------------------------------------------------------------

    def serving(self, id_: str) -> list[str]:
        """Nodes of the service in the newest routes of this cell."""
        mine = [table for table in self.routes if table.cell == self.name]
        if not mine:
            return []
        newest = max(mine, key=lambda table: (table.epoch, table.sequence))
        return [r.node for s in newest.services if s.service == id_ for r in s.replicas]

    def leased(self, id_: str) -> list[str]:
        """Nodes with a lease of the service that is wanted serving."""
        return sorted(
            entry.value.node
            for entry in self.leases.entries.values()
            if entry.value.service == id_ and entry.value.desired == "serving"
        )

    def standing_by(self, id_: str) -> list[str]:
        """Nodes with a lease of the service that is wanted standby."""
        return sorted(
            entry.value.node
            for entry in self.leases.entries.values()
            if entry.value.service == id_ and entry.value.desired == "standby"
        )

    def _on_routes(self, _subject: str, data: bytes) -> None:
        self.routes.append(msgspec.json.decode(data, type=RoutingTable))

    def _digest(self, sequence: int) -> GatewayPresence:
        mine = [table for table in self.routes if table.cell == self.name]
        newest = max(((t.epoch, t.sequence) for t in mine), default=None)
        return GatewayPresence(
            gateway=self.key.address,
            cell=self.name,
            place=self.place,
            http_url=f"http://{self.name}.test",
            channel_host="127.0.0.1",
            channel_port=1,
            fingerprint="0" * 64,
            boot=self._boot,
            sequence=sequence,
            nodes=tuple(self._node(address) for address in self.nodes if address not in self.dead),
            routes_seen={self.name: newest} if newest else {},
        )

    def _node(self, address: str) -> NodePresence:
        frozen_s = self.frozen_s.get(address)
        leases = [e.value for e in self.leases.entries.values() if e.value.node == address]
        age_ms = 20.0 if frozen_s is None else 20.0 + (time.monotonic() - frozen_s) * 1000
        return NodePresence(
            node=address,
            beat_age_ms=age_ms,
            rtt_ms=4.0,
            in_flight=0,
            ejected=False,
            leases=tuple(self._status(lease) for lease in leases),
        )

    def _status(self, lease: Lease) -> LeaseStatus:
        state = lease.desired if lease.desired in ("serving", "standby") else "ended"
        if {lease.node, f"{lease.service}@{lease.node}"} & self.slow and state == "serving":
            state = "warming"
        if lease.node in self.failing and state == "serving":
            return LeaseStatus(
                lease=lease.id, revision=lease.revision, state="failed", reason="broken model"
            )
        return LeaseStatus(lease=lease.id, revision=lease.revision, state=state)  # type: ignore[arg-type]
