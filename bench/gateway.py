"""Figures of the byte path: requests per second and added latency, against a plain proxy.

``python -m bench.gateway --json`` starts, on this machine and in one run: an upstream server (a
fixed 1 KB answer), the shipped path in front of it (a gateway process with API keys, limits and
metrics on, a TLS channel, a node process with the ``upstream`` engine), and a bare proxy (uvicorn,
one worker, with an aiohttp client) to the same upstream; the servers are in
``byte_path_servers.py``. ``wrk`` asks each in turn, the same request,
first with 32 connections and then with one. Rounds alternate between the three, so that a noisy
neighbour hits all alike; the median of the rounds counts (of the ratio: the median of the rounds'
own ratios, since what a round compares was measured within seconds).

What it does not measure: distance, other machines, or models. wrk, gateway, node and upstream share
the machine's cores (one process more than the proxy's path has), so absolute figures say little;
compare ratios. Before and after the load, the path's answer must be the upstream's.

The last line on standard output is one JSON object: ``rps_direct``, ``rps_path``, ``rps_uvicorn``,
``rps_path_vs_uvicorn``, ``added_p50_ms`` (one connection, path minus direct), ``mb_node``,
``mb_gateway``, ``mb_fabric`` (resident after the load, each with its children; the node as shipped,
with no model in it: its spare engine worker starts with the first ONNX lease).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import psutil
from bench.byte_path_servers import ANSWER_BODY
from bench.conditions import conditions

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
INSTALL = ["apt-get", "install", "-y", "-q", "wrk"]
STALLED_BELOW = 10
"""Fewer answers per connection than this in one run mean that connections hang: wrk tells of no
error then."""

TARGETS = ("direct", "uvicorn", "path")
REQUEST_BODY = json.dumps(
    {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 16], "data": [0.5] * 16}]}
)
WRK_SCRIPT = """
wrk.method = "POST"
wrk.body = [[%s]]
wrk.headers["content-type"] = "application/json"
wrk.headers["authorization"] = "Bearer %s"
done = function(summary, latency, requests)
  local bad = summary.errors.connect + summary.errors.read + summary.errors.write
    + summary.errors.status + summary.errors.timeout
  print(string.format('RESULT {"rps": %%f, "p50_ms": %%f, "p99_ms": %%f, "bad": %%d}',
    summary.requests / summary.duration * 1e6, latency:percentile(50) / 1000,
    latency:percentile(99) / 1000, bad))
end
"""


# -- the machinery -----------------------------------------------------------------------------


def say(text: str) -> None:
    """Progress, on standard error."""
    print(text, file=sys.stderr, flush=True)


def find_wrk(install: bool) -> str:
    """wrk's path; with ``install``, got from Debian by root. Ends the benchmark without it."""
    found = shutil.which("wrk")
    if found is None and install and os.geteuid() == 0 and shutil.which("apt-get"):
        say(f"wrk is missing; installing it: {' '.join(INSTALL)}")
        subprocess.run(INSTALL, stdout=sys.stderr, check=False)
        found = shutil.which("wrk")
    if found is None:
        raise SystemExit(f"bench: wrk is missing. As root on Debian: {' '.join(INSTALL)}")
    return found


class Processes:
    """What this run started; ended by process id, the last first."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._running: list[subprocess.Popen[bytes]] = []

    def start(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a Python module in a session of its own."""
        with (self.folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
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


class Path3:
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


def load(wrk: str, script: Path, port: int, connections: int, seconds: float) -> dict[str, float]:
    """One run of wrk."""
    url = f"http://127.0.0.1:{port}/v2/models/bench/infer"
    command = [wrk, "-t1", f"-c{connections}", f"-d{seconds:g}s", "-s", str(script), url]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    line = next(line for line in text.splitlines() if line.startswith("RESULT "))
    result: dict[str, float] = json.loads(line.removeprefix("RESULT "))
    if result["bad"]:
        raise SystemExit(f"bench: {result['bad']:g} requests failed on {url}.")
    if result["rps"] * seconds < STALLED_BELOW * connections:
        raise SystemExit(f"bench: connections hang on {url}: {result['rps']:.1f} requests/s.")
    return result


def measure(
    wrk: str, script: Path, ports: dict[str, int], rounds: int, seconds: float
) -> dict[str, float]:
    """Medians over the rounds."""
    rps: dict[str, list[float]] = {target: [] for target in TARGETS}
    p50_ms: dict[str, list[float]] = {target: [] for target in TARGETS}
    for number in range(rounds):
        for target in TARGETS:
            many = load(wrk, script, ports[target], 32, seconds)
            one = load(wrk, script, ports[target], 1, seconds)
            rps[target].append(many["rps"])
            p50_ms[target].append(one["p50_ms"])
            say(
                f"round {number + 1}/{rounds} {target:8} {many['rps']:8.0f} requests/s "
                f"(p99 {many['p99_ms']:.2f} ms), one connection p50 {one['p50_ms']:.3f} ms"
            )
    ratios = [path / proxy for path, proxy in zip(rps["path"], rps["uvicorn"], strict=True)]
    added_ms = [
        path - direct for path, direct in zip(p50_ms["path"], p50_ms["direct"], strict=True)
    ]
    return {
        **{f"rps_{target}": round(statistics.median(rps[target])) for target in TARGETS},
        "rps_path_vs_uvicorn": round(statistics.median(ratios), 2),
        "added_p50_ms": round(statistics.median(added_ms), 3),
    }


async def bench(wrk: str, rounds: int, seconds: float, folder: Path) -> dict[str, float]:
    """The whole run."""
    processes = Processes(folder)
    path: Path3 | None = None
    try:
        upstream_ready, proxy_ready = folder / "upstream.ready", folder / "proxy.ready"
        processes.start("upstream", "bench.byte_path_servers", "upstream", str(upstream_ready))
        upstream_port = int(await wait_for(lambda: content(upstream_ready), "the upstream"))
        upstream = f"http://127.0.0.1:{upstream_port}"
        processes.start("proxy", "bench.byte_path_servers", "proxy", upstream, str(proxy_ready))
        proxy_port = int(await wait_for(lambda: content(proxy_ready), "the proxy"))
        path = Path3(folder, processes, upstream)
        await path.start()
        script = folder / "request.lua"
        script.write_text(WRK_SCRIPT % (REQUEST_BODY, path.key()))
        ports = {"direct": upstream_port, "uvicorn": proxy_port, "path": path.port}
        for target in TARGETS:
            load(wrk, script, ports[target], 8, 1)  # connections opened, code warm
        figures = await asyncio.to_thread(measure, wrk, script, ports, rounds, seconds)
        await wait_for(path.serves, "the replica after the load")
        memory = path.resident_mb()
    finally:
        processes.end()
        if path is not None:
            await path.stop()
    order = ("rps_direct", "rps_path", "rps_uvicorn", "rps_path_vs_uvicorn", "added_p50_ms")
    return {
        **{name: figures[name] for name in order},
        **{f"mb_{name}": round(memory[name], 1) for name in ("node", "gateway", "fabric")},
    }


def about(rounds: int, seconds: float) -> str:
    """What the figures hold for."""
    return conditions(
        *(f"{name} {version(name)}" for name in ("uvloop", "uvicorn", "aiohttp", "httptools")),
        "wrk (1 thread), upstream, gateway and node share the cores",
        f"{rounds} rounds of {seconds:g} s at 32 connections and at 1",
        f"request {len(REQUEST_BODY)} B, answer {len(ANSWER_BODY)} B",
        "TLS 1.3 on the channel, API key, limits, metrics, hedging on",
        "proxy: uvicorn with uvloop and httptools, one worker, aiohttp client, no TLS, no keys",
    )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.gateway")
    parser.add_argument("--json", action="store_true", help="(always) last line is JSON")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--install-wrk", action="store_true", help="get wrk with apt-get, as root")
    parser.add_argument("--folder", help="keep logs here instead of a temporary folder")
    options = parser.parse_args()
    wrk = find_wrk(options.install_wrk)
    print(about(options.rounds, options.seconds), flush=True)
    with tempfile.TemporaryDirectory(prefix="isochrone-bench-") as temporary:
        folder = Path(options.folder or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        figures = asyncio.run(bench(wrk, options.rounds, options.seconds, folder))
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
