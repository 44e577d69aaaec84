"""Replicas that follow demand, in real processes: ``python -m bench.following --json``.

Conditions: one cell on this machine (fabric server, controller, gateway, three nodes) that serves
a model of 30 to 60 ms a request on one slot; it may have one to three replicas, and keeps one
standby. Callers come at random, few, many and few again, over the shipped path; many is ``LOAD``
times what one replica can answer, by the median time of the first few. Nodes, gateway, controller
and callers share this machine's cores, so that a second replica adds less than the first.

The last line on standard output is one JSON object. Seconds after the load rose:
``second_replica_s`` until another replica serves; after it fell: ``one_replica_s`` until one is
left (null: not within the time watched). ``fetched_bytes``: what the start of each replica that
served at the end of the load had to fetch (0: its node was a standby). Callers, in all and before,
during and after the load: ``requests``, ``failed``, ``p50_ms``, ``p95_ms`` and ``on_time_share``
(answered within the second that a request may wait, and its service).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
from bench.conditions import conditions
from bench.own_cell import OwnCell
from onnx import TensorProto, helper, numpy_helper

SERVICE = "follows"
SIZE, STEPS = 1024, 12
"""Twelve products of 256 x 1024 by 1024 x 1024 numbers: 30 to 60 ms on one core."""

ROWS = 256
LATE_MS = 1200.0
FEW_PER_S, LOAD = 1.0, 1.2
BEFORE_S, DURING_S, AFTER_S = 20.0, 60.0, 240.0

DECLARATION = """\
name: {name}
model: {{path: {model}}}
resources: {{cpus: 0.5, memory: 256MiB}}
replicas: 1..3
scaling: {{follow: true, warm: 1}}
audience: [DE]
objective: {{latency_ms: 1500}}
"""


def slow_model() -> bytes:
    """A model that is all arithmetic: what it answers does not matter."""
    weights = np.random.default_rng(0).normal(0, 1 / SIZE, (SIZE, SIZE)).astype(np.float32)
    shape = np.array([ROWS, SIZE], dtype=np.int64)
    nodes = [helper.make_node("Expand", ["x", "shape"], ["y0"])]
    nodes += [
        helper.make_node("MatMul", [f"y{step}", "w"], [f"y{step + 1}"]) for step in range(STEPS)
    ]
    nodes.append(helper.make_node("ReduceMax", [f"y{STEPS}"], ["y"], keepdims=0))
    graph = helper.make_graph(
        nodes,
        "slow",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [])],
        [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(shape, "shape")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    data: bytes = model.SerializeToString()
    return data


class Watch:
    """How many replicas serve, looked at once a second from outside."""

    def __init__(self, cell: OwnCell) -> None:
        self._cell = cell
        self.seen: list[tuple[float, int]] = []
        self.rows: list[dict[str, Any]] = []

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            told = await asyncio.to_thread(self._cell.command, "status")
            self.rows = [row for row in told["replicas"] if row["name"] == SERVICE]
            serving = sum(row["state"] == "serving" for row in self.rows)
            self.seen.append((time.monotonic(), serving))
            await asyncio.sleep(1.0)

    def first(self, after_s: float, wanted: int, *, least: bool) -> float | None:
        """When, after an instant, at least (or at most) so many served for the first time."""
        for at_s, serving in self.seen:
            if at_s >= after_s and (serving >= wanted if least else serving <= wanted):
                return round(at_s - after_s, 1)
        return None


class Callers:
    """Requests at random instants, each on its own, whatever became of those before."""

    def __init__(self, session: aiohttp.ClientSession, url: str, seed: int) -> None:
        self._session = session
        self._url = f"{url}/v2/models/{SERVICE}/infer"
        self._draw = random.Random(seed)
        self._tasks: list[asyncio.Task[tuple[float, bool]]] = []

    async def call(self, per_s: float, until_s: float) -> None:
        """Begin ``per_s`` requests a second until an instant."""
        while (now_s := time.monotonic()) < until_s:
            self._tasks.append(asyncio.create_task(self._ask()))
            await asyncio.sleep(min(self._draw.expovariate(per_s), until_s - now_s))

    async def told(self) -> dict[str, Any]:
        """The figures of all requests begun since the last call."""
        answers = await asyncio.gather(*self._tasks)
        self._tasks = []
        times_ms = sorted(ms for ms, _ in answers)
        return {
            "requests": len(answers),
            "failed": sum(not good for _, good in answers),
            "p50_ms": round(statistics.median(times_ms), 1),
            "p95_ms": round(times_ms[int(0.95 * (len(times_ms) - 1))], 1),
            "on_time_share": round(
                sum(good and ms <= LATE_MS for ms, good in answers) / len(answers), 4
            ),
        }

    async def _ask(self) -> tuple[float, bool]:
        tensor = {"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [1.0]}
        began_s = time.perf_counter()
        try:
            async with self._session.post(self._url, json={"inputs": [tensor]}) as answer:
                await answer.read()
                good = answer.status == 200
        except aiohttp.ClientError:
            good = False
        return (time.perf_counter() - began_s) * 1000, good


async def measure(cell: OwnCell, key: str, seed: int) -> dict[str, Any]:
    """Few, many and few callers; what they and an observer saw."""
    watch = Watch(cell)
    watching = asyncio.create_task(watch.run())
    headers = {"authorization": f"Bearer {key}"}
    timeout = aiohttp.ClientTimeout(total=60)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(
        headers=headers, timeout=timeout, connector=connector
    ) as session:
        callers = Callers(session, cell.url, seed)
        await callers.call(FEW_PER_S, time.monotonic() + BEFORE_S)
        before = await callers.told()
        many_per_s = LOAD * 1000 / before["p50_ms"]
        rose_s = time.monotonic()
        await callers.call(many_per_s, rose_s + DURING_S)
        fell_s = time.monotonic()
        started = [row for row in watch.rows if row["state"] == "serving"]
        during = await callers.told()
        while watch.first(fell_s, 1, least=False) is None and time.monotonic() < fell_s + AFTER_S:
            await callers.call(FEW_PER_S, time.monotonic() + 5.0)
        after = await callers.told()
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    most = max(serving for _, serving in watch.seen)
    return {
        "second_replica_s": watch.first(rose_s, 2, least=True),
        "one_replica_s": watch.first(fell_s, 1, least=False) if most > 1 else None,
        "many_per_s": round(many_per_s, 1),
        "most_replicas": most,
        "fetched_bytes": [row["fetched_bytes"] for row in started],
        "requests": before["requests"] + during["requests"] + after["requests"],
        "failed": before["failed"] + during["failed"] + after["failed"],
        "before": before,
        "during": during,
        "after": after,
    }


def run(folder: Path, seed: int) -> dict[str, Any]:
    """A cell of three nodes, measured and ended."""
    cell = OwnCell(folder)
    cell.url = cell.command("up", "--place", "frankfurt", "--port", "0")["url"]
    try:
        for name in ("second", "third"):
            cell.command("join", cell.url, "--place", "frankfurt", "--name", name, "--detach")
        (folder / "slow.onnx").write_bytes(slow_model())
        declaration = folder / "follows.yaml"
        declaration.write_text(DECLARATION.format(name=SERVICE, model=folder / "slow.onnx"))
        cell.command("apply", "-y", "--wait", "60", "-f", str(declaration))
        key = cell.command("keys", "create", "--service", SERVICE)["key"]
        return asyncio.run(measure(cell, key, seed))
    finally:
        cell.command("down")


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description="Replicas that follow demand, in real processes.")
    parser.add_argument("--json", action="store_true", help="only the JSON line")
    parser.add_argument("--seed", type=int, default=1, help="of the callers' instants")
    arguments = parser.parse_args()
    out = sys.stderr if arguments.json else sys.stdout
    print(conditions("nodes and callers on the same cores"), file=out)
    with tempfile.TemporaryDirectory() as folder:
        found = run(Path(folder), arguments.seed)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
