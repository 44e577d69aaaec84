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
import functools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import psutil
from bench.byte_path import REQUEST_BODY, BytePath, Processes, content, wait_for
from bench.byte_path_servers import ANSWER_BODY
from bench.conditions import conditions

INSTALL = ["apt-get", "install", "-y", "-q", "wrk"]
STALLED_BELOW = 10
"""Fewer answers per connection than this in one run mean that connections hang: wrk tells of no
error then."""

TARGETS = ("direct", "uvicorn", "path")
WRK_SCRIPT = """
wrk.method = "POST"
wrk.body = [[%s]]
wrk.headers["content-type"] = "application/json"
wrk.headers["authorization"] = "Bearer %s"
done = function(summary, latency, requests)
  local bad = summary.errors.connect + summary.errors.read + summary.errors.write
    + summary.errors.status + summary.errors.timeout
  print(string.format('RESULT {"rps": %%f, "count": %%d, "p50_ms": %%f, "p99_ms": %%f, "bad": %%d}',
    summary.requests / summary.duration * 1e6, summary.requests, latency:percentile(50) / 1000,
    latency:percentile(99) / 1000, bad))
end
"""


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


def load(wrk: str, script: Path, port: int, connections: int, seconds: float) -> dict[str, float]:
    """One run of wrk."""
    url = f"http://127.0.0.1:{port}/v2/models/bench/infer"
    command = [wrk, "-t1", f"-c{connections}", f"-d{seconds:g}s", "-s", str(script), url]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    line = next(line for line in text.splitlines() if line.startswith("RESULT "))
    result: dict[str, float] = json.loads(line.removeprefix("RESULT "))
    if result["bad"]:
        raise SystemExit(f"bench: {result['bad']:g} requests failed on {url}.")
    if result["count"] < STALLED_BELOW * connections:
        raise SystemExit(f"bench: connections hang on {url}: {result['rps']:.1f} requests/s.")
    return result


def cpu_s(processes: dict[str, psutil.Process]) -> dict[str, float]:
    """Processor seconds that each process has used."""
    return {name: sum(process.cpu_times()[:2]) for name, process in processes.items()}


class Rounds:
    """Runs the rounds and keeps what they found.

    ``parts``: the processes behind each target; their processor time per request is told beside
    the rates, since it depends less on what else the machine does.
    """

    def __init__(
        self, wrk: str, script: Path, ports: dict[str, int], parts: dict[str, dict[str, int]]
    ) -> None:
        self._ask = functools.partial(load, wrk, script)
        self._ports = ports
        self._parts = {
            target: {name: psutil.Process(pid) for name, pid in pids.items()}
            for target, pids in parts.items()
        }
        self._rps: dict[str, list[float]] = {target: [] for target in TARGETS}
        self._p50_ms: dict[str, list[float]] = {target: [] for target in TARGETS}
        self._cpu_us: dict[str, list[dict[str, float]]] = {target: [] for target in TARGETS}

    def run(self, count: int, seconds: float) -> None:
        """The rounds; in each, the targets at 32 connections, then the targets at one."""
        for target in TARGETS:
            self._ask(self._ports[target], 8, 1)  # connections opened, code warm
        for number in range(count):
            for target in TARGETS:
                self._many(target, seconds)
            for target in TARGETS:
                one = self._ask(self._ports[target], 1, seconds / 2)
                self._p50_ms[target].append(one["p50_ms"])
                say(
                    f"round {number + 1}/{count} {target:8} {self._rps[target][-1]:8.0f} requests/s"
                    f", one connection p50 {one['p50_ms']:.3f} ms"
                )

    def _many(self, target: str, seconds: float) -> None:
        before = cpu_s(self._parts[target])
        many = self._ask(self._ports[target], 32, seconds)
        after = cpu_s(self._parts[target])
        self._rps[target].append(many["rps"])
        self._cpu_us[target].append(
            {name: (after[name] - before[name]) / many["count"] * 1e6 for name in after}
        )

    def tell_cpu(self) -> None:
        """Print processor time per request of every process."""
        for target, found in self._cpu_us.items():
            medians = {name: statistics.median(r[name] for r in found) for name in found[0]}
            text = ", ".join(f"{name} {value:.0f}" for name, value in medians.items())
            print(f"processor microseconds per request, {target}: {text}")

    def figures(self) -> dict[str, float]:
        """Medians over the rounds; of ratio and added time, medians of each round's own."""
        rps, p50_ms = self._rps, self._p50_ms
        ratios = [path / proxy for path, proxy in zip(rps["path"], rps["uvicorn"], strict=True)]
        added_ms = [
            path - direct for path, direct in zip(p50_ms["path"], p50_ms["direct"], strict=True)
        ]
        told: dict[str, float] = {
            f"rps_{target}": round(statistics.median(rps[target]))
            for target in ("direct", "path", "uvicorn")
        }
        told["rps_path_vs_uvicorn"] = round(statistics.median(ratios), 2)
        told["added_p50_ms"] = round(statistics.median(added_ms), 3)
        return told


async def bench(wrk: str, rounds: int, seconds: float, folder: Path) -> dict[str, float]:
    """The whole run."""
    processes = Processes(folder)
    path: BytePath | None = None
    try:
        upstream_ready, proxy_ready = folder / "upstream.ready", folder / "proxy.ready"
        servers = "bench.byte_path_servers"
        upstream = processes.start("upstream", servers, "upstream", str(upstream_ready))
        upstream_port = int(await wait_for(lambda: content(upstream_ready), "the upstream"))
        url = f"http://127.0.0.1:{upstream_port}"
        proxy = processes.start("proxy", servers, "proxy", url, str(proxy_ready))
        proxy_port = int(await wait_for(lambda: content(proxy_ready), "the proxy"))
        path = BytePath(folder, processes, url)
        await path.start()
        script = folder / "request.lua"
        script.write_text(WRK_SCRIPT % (REQUEST_BODY, path.key()))
        ports = {"direct": upstream_port, "uvicorn": proxy_port, "path": path.port}
        behind = {"upstream": upstream.pid}
        parts = {
            "direct": behind,
            "uvicorn": {"proxy": proxy.pid, **behind},
            "path": {"gateway": path.pids["gateway"], "node": path.pids["node"], **behind},
        }
        work = Rounds(wrk, script, ports, parts)
        await asyncio.to_thread(work.run, rounds, seconds)
        await wait_for(path.serves, "the replica after the load")
        work.tell_cpu()
        memory = path.resident_mb()
    finally:
        processes.end()
        if path is not None:
            await path.stop()
    return {
        **work.figures(),
        **{f"mb_{name}": round(memory[name], 1) for name in ("node", "gateway", "fabric")},
    }


def about(rounds: int, seconds: float) -> str:
    """What the figures hold for."""
    return conditions(
        *(f"{name} {version(name)}" for name in ("uvloop", "uvicorn", "aiohttp", "httptools")),
        "wrk (1 thread), upstream, gateway and node share the cores",
        f"{rounds} rounds of {seconds:g} s at 32 connections and of {seconds / 2:g} s at 1",
        f"request {len(REQUEST_BODY)} B, answer {len(ANSWER_BODY)} B",
        "TLS 1.3 on the channel, API key, limits, metrics, hedging on",
        "proxy: uvicorn with uvloop and httptools, one worker, aiohttp client, no TLS, no keys",
    )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.gateway")
    parser.add_argument("--json", action="store_true", help="(always) last line is JSON")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2.0)
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
