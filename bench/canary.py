"""Whether a node can tell that a request is a check: ``python -m bench.canary --json``.

A cell in a box: the fabric, the shipped gateway, three shipped nodes of two providers with three
services each, a model server behind them, callers in a process of their own (sizes and timing of
the Azure 2023 trace, sped up; speech tensors in sessions; forty kinds of clients with their own
headers, ids and time limits), and a validator that has answers checked as fast as the gateway
allows. Each node writes down all that it sees of a request when it arrives; an attacker who reads
our code (``canary_attack``) trains on the first half of what they saw and is judged on the second.

So that the bound is narrow, more is checked than in earnest: six of a hundred requests instead of
one, roots every second and a half. Then everything again, shorter, with one planted
leak (a header that only checks carry), which the same attacker must find.

What it does not show: bodies that carry their own time or number; nodes that tell each other.

The last line is one JSON object: ``auc``, ``auc_upper95``, ``leak_auc``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec
from bench.byte_path import PLACE, Processes, content, wait_for
from bench.canary_attack import Judged, attack
from bench.canary_parts import CallersConfig, Seen
from bench.conditions import conditions

from isochrone.fabric.connection import Fabric
from isochrone.fabric.server import Credentials, NatsServer, ServerSpec, client_url
from isochrone.fabric.stream import RouteStream
from isochrone.gateway import answer_roots
from isochrone.gateway.config import GatewayConfig, GatewayLimits
from isochrone.gateway.process import Gateway
from isochrone.node.config import DoorAddress, NodeConfig, UpstreamServer
from isochrone.schema import apikey
from isochrone.schema.apikey import ApiGrant
from isochrone.schema.documents import NODE_GRANT, pack, seal
from isochrone.schema.identity import PrivateKey
from isochrone.schema.lease import Lease
from isochrone.schema.node import NodeGrant, Offer, Resources
from isochrone.schema.routing import ReplicaRoute, RoutingTable, ServiceRoute
from isochrone.schema.service import Model, Objective, Residency, Task, service_id
from isochrone.validator.answers import Answers

CELL = "bench"
SERVICES: dict[str, Task] = {"conv": "completions", "code": "completions", "speech": "tensor"}
SHARE = 0.06
ROOT_S = 1.5
NODES = 3
MODULE = "bench.canary_parts"


class Town:
    """Everything of one run."""

    def __init__(self, folder: Path, leak: bool) -> None:
        self.folder = folder
        self.leak = leak
        self.processes = Processes(folder)
        self.tenant = PrivateKey.generate()
        self.validator = PrivateKey.generate()
        self.providers = [PrivateKey.generate() for _ in range(2)]
        self.nodes: list[tuple[PrivateKey, PrivateKey, subprocess.Popen[bytes]]] = []
        self.replayed: set[str] = set()
        self.server: NatsServer
        self.fabric: Fabric
        self.gateway: Gateway

    async def start(self) -> None:
        """Fabric, gateway, nodes, replicas that serve."""
        secret = Credentials(client="bench", system="bench")
        spec = ServerSpec(cell=CELL, folder=str(self.folder / "nats"), credentials=secret)
        self.server = await NatsServer.start(spec)
        url = client_url("127.0.0.1", self.server.port, secret)
        self.fabric = await Fabric.connect([url], CELL, "bench", self.folder / "fabric")
        self.gateway = Gateway(
            GatewayConfig(
                key_path=str(self.folder / "gateway.key"),
                cell=CELL,
                place=PLACE,
                state_dir=str(self.folder / "gateway"),
                fabric_servers=(url,),
                validators=(self.validator.address,),
                limits=GatewayLimits(answer_checks_share=SHARE),
            )
        )
        await self.gateway.start()
        self._watch()
        ready = self.folder / "upstream.ready"
        self.processes.start("upstream", MODULE, "upstream", str(ready))
        port = int(await wait_for(lambda: content(ready), "the model server"))
        for number in range(NODES):
            self._start_node(number, f"http://127.0.0.1:{port}")
        leases = await self.fabric.table("leases", Lease)
        for lease in self._leases():
            await leases.put(lease.id, lease, revision=None)
        await RouteStream(self.fabric).publish(msgspec.json.encode(self._table()))
        await wait_for(self._serves, "the replicas")

    def _watch(self) -> None:
        """Note which requests are checks; with ``leak``, give them away."""
        sender, numbers = self.gateway.replays._sender, self.gateway.numbers
        town, checks, name = self, set[int](), numbers.name
        send = self.gateway.dispatcher._send

        def watched(flight: Any, *more: Any, **settings: Any) -> bool:
            def named() -> str:
                told = name()
                if flight.number in checks:
                    town.replayed.add(told)
                return told

            numbers.name = named  # type: ignore[method-assign]
            return send(flight, *more, **settings)

        self.gateway.dispatcher._send = watched  # type: ignore[method-assign]

        class Watched:
            """A dispatcher that is looked at."""

            def submit(self, flight: Any) -> None:
                """Send it."""
                checks.add(flight.number)
                if town.leak:
                    flight.headers = {**flight.headers, "accept-charset": "utf-8"}
                sender.submit(flight)

        self.gateway.replays._sender = Watched()

    def _start_node(self, number: int, upstream: str) -> None:
        key_path = self.folder / f"node{number}.key"
        key, provider = PrivateKey.load_or_create(key_path), self.providers[number % 2]
        offer = Offer(cpu_core_microusd_per_hour=20_000, memory_gib_microusd_per_hour=5_000)
        grant = NodeGrant(node=key.address, place=PLACE, offer=offer, revision=1)
        grant_path = self.folder / f"node{number}.grant"
        grant_path.write_bytes(pack(seal(NODE_GRANT, grant, provider)))
        door = self.gateway.doors.doors[0]
        config = NodeConfig(
            key_path=str(key_path),
            grant_path=str(grant_path),
            state_dir=str(self.folder / f"node{number}"),
            doors=(DoorAddress(host=door.host, port=door.port, fingerprint=door.fingerprint),),
            upstreams={
                "oip": UpstreamServer(base_url=upstream, api="oip"),
                "openai": UpstreamServer(base_url=upstream, api="openai"),
            },
        )
        path = self.folder / f"node{number}.json"
        path.write_bytes(msgspec.json.encode(config))
        out = self.folder / f"node{number}.seen"
        process = self.processes.start(f"node{number}", MODULE, "node", str(path), str(out))
        self.nodes.append((key, provider, process))

    def _leases(self) -> list[Lease]:
        return [
            Lease(
                id=f"{name}-{number}",
                service=service_id(self.tenant.address, name),
                service_revision=1,
                cell=CELL,
                node=key.address,
                provider=provider.address,
                model=Model(
                    engine="upstream",
                    task=task,
                    options={
                        "upstream": "oip" if task == "tensor" else "openai",
                        "upstream_model": "bench",
                    },
                ),
                resources=Resources(cpu_milli=10, memory_mib=16),
                residency=Residency(),
                objective=Objective(latency_ms=50),
                price_microusd_per_hour=0,
                epoch=1,
                revision=1,
                desired="serving",
                decision="",
                home_cell=CELL,
                answer_checks=True,
            )
            for name, task in SERVICES.items()
            for number, (key, provider, _) in enumerate(self.nodes)
        ]

    def _table(self) -> RoutingTable:
        services = []
        for name, task in SERVICES.items():
            id_ = service_id(self.tenant.address, name)
            rows = tuple(
                ReplicaRoute(
                    lease=lease.id,
                    lease_revision=1,
                    node=lease.node,
                    provider=lease.provider,
                    place=PLACE,
                    cell=CELL,
                )
                for lease in self._leases()
                if lease.service == id_
            )
            services.append(
                ServiceRoute(
                    service=id_,
                    tenant=self.tenant.address,
                    name=name,
                    revision=1,
                    task=task,
                    engine="upstream",
                    residency=Residency(),
                    objective=Objective(latency_ms=50),
                    hedge=True,
                    replicas=rows,
                    answer_checks=True,
                )
            )
        return RoutingTable(cell=CELL, epoch=1, sequence=1, services=tuple(services))

    def _serves(self) -> bool:
        known = self.gateway.fleet.nodes
        return all(
            lease.node in known
            and lease.id in known[lease.node].statuses
            and known[lease.node].statuses[lease.id].state == "serving"
            for lease in self._leases()
        )

    async def run(self, requests: int, speed: float, trace: Path) -> None:
        """Callers and validator, until the callers are done."""
        checking = [asyncio.create_task(self._check(key.address)) for key, _, _ in self.nodes]
        assert self.gateway.http is not None
        config = CallersConfig(
            port=self.gateway.http.port,
            keys={name: self._key(name) for name in SERVICES},
            trace=str(trace),
            requests=requests,
            speed=speed,
            seed=7,
            ready=str(self.folder / "callers.ready"),
        )
        path = self.folder / "callers.json"
        path.write_bytes(msgspec.json.encode(config))
        callers = self.processes.start("callers", MODULE, "callers", str(path))
        await wait_for(lambda: callers.poll() is not None, "the callers' end", 240.0)
        for task in checking:
            task.cancel()
        await asyncio.gather(*checking, return_exceptions=True)
        if callers.returncode:
            raise SystemExit(f"bench: the callers failed: {content(self.folder / 'callers.log')}")

    async def _check(self, node: str) -> None:
        answers = Answers(self.fabric, self.validator, lambda _: CELL, patience_s=4.0, poll_s=0.5)
        while True:
            await answers.check(node, [secrets.token_bytes(32) for _ in range(32)])

    def _key(self, service: str) -> str:
        grant = ApiGrant(
            services=(service,),
            residency=Residency(),
            expires_unix_s=0,
            nonce=secrets.token_bytes(16),
        )
        return apikey.mint(grant, self.tenant)

    def seen(self) -> list[list[Seen]]:
        """End the nodes; what each saw."""
        for _, _, process in self.nodes:
            process.send_signal(signal.SIGTERM)
        for _, _, process in self.nodes:
            process.wait(20)
        return [
            msgspec.msgpack.decode(
                (self.folder / f"node{number}.seen").read_bytes(), type=list[Seen]
            )
            for number in range(NODES)
        ]

    async def stop(self) -> None:
        """Nothing is left."""
        await self.gateway.close()
        self.processes.end()
        await self.fabric.close()
        await self.server.stop()


async def bench(folder: Path, requests: int, speed: float, trace: Path, leak: bool) -> Judged:
    """One run."""
    folder.mkdir(parents=True)
    town = Town(folder, leak)
    try:
        await town.start()
        await town.run(requests, speed, trace)
        seen = await asyncio.to_thread(town.seen)
    finally:
        await town.stop()
    (folder / "replayed.json").write_text(json.dumps(sorted(town.replayed)))
    judged = attack(seen, town.replayed)
    told = "with a planted leak" if leak else "as shipped"
    print(
        f"{told}: {sum(map(len, seen))} requests at {NODES} nodes, {len(town.replayed)} of them "
        f"checks; held out {judged.held_out} with {judged.replays} checks; "
        f"AUC {judged.auc:.4f}, upper 95 % bound {judged.upper95:.4f}",
        flush=True,
    )
    return judged


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.canary")
    parser.add_argument("--json", action="store_true", help="(always) last line is JSON")
    parser.add_argument("--requests", type=int, default=23_000)
    parser.add_argument("--speed", type=float, default=20.0, help="times the trace's clock")
    parser.add_argument("--data", default="../shared/data", help="folder of the shared data")
    parser.add_argument("--folder", help="keep what nodes saw here, not in a temporary folder")
    options = parser.parse_args()
    trace = Path(options.data) / "llm_requests_azure2023.csv"
    answer_roots.ROOT_S = ROOT_S  # type: ignore[misc]
    print(
        conditions(
            f"{options.requests} requests at {options.speed:g} times the trace's clock",
            f"{SHARE:g} of them asked again at most, roots every {ROOT_S:g} s",
            "gateway in the bench's process, nodes, model server and callers in theirs",
        ),
        flush=True,
    )
    with tempfile.TemporaryDirectory(prefix="isochrone-bench-") as temporary:
        folder = Path(options.folder or temporary)
        honest = asyncio.run(bench(folder / "a", options.requests, options.speed, trace, False))
        fewer = max(1_000, options.requests // 4)
        leaking = asyncio.run(bench(folder / "b", fewer, options.speed, trace, True))
    figures = {"auc": honest.auc, "auc_upper95": honest.upper95, "leak_auc": leaking.auc}
    figures = {name: round(value, 4) for name, value in figures.items()}
    print(json.dumps({**figures, "held_out": honest.held_out, "held_out_checks": honest.replays}))
    sys.stdout.flush()


if __name__ == "__main__":
    main()
