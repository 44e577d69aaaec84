"""How long the loops of a gateway and a node are held: ``python -m bench.loop --json``.

A loop that computes answers nobody, so no callback may take more than 1 ms of the loop thread's
processor time at p99.9: engines run in processes of their own. Conditions: a real cell of this
machine serving the fraud scorer (ONNX); requests of 1 row and of 256 rows (the answers are checked)
over 8 connections, half of the rows as JSON, half as binary tensors.

How it is measured: ``loop_probe.py`` wraps every callback of the loop. uvloop calls protocols
from C, where nothing can be wrapped, so the daemons run on asyncio's own loop here, with TLS in
Python; callbacks are longer than as shipped, and the figures an upper bound. Processor time, not
wall time: what a neighbour on the same core takes does not count.

The last line on standard output is one JSON object: ``node_callback_cpu_ms_p50``, ``_p99``,
``_p999``, ``_max``, the same for ``gateway_…``, ``node_callbacks``, ``gateway_callbacks``,
``requests``, ``failed``.
"""

from __future__ import annotations

import argparse
import array
import asyncio
import json
import os
import struct
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

from bench.conditions import conditions
from bench.own_cell import FEATURES, SERVICE, own_cell

CONNECTIONS = 8
ROWS = (1, 256)
PROBE_FOLDER = Path(__file__).parent / "loop_probe"


def request(rows: int, binary: bool, key: str) -> bytes:
    """One whole HTTP request."""
    tensor: dict[str, object] = {"name": "features", "datatype": "FP32", "shape": [rows, FEATURES]}
    values = [((i * 37) % 100) / 50 - 1 for i in range(rows * FEATURES)]
    more = ""
    if binary:
        raw = struct.pack(f"<{len(values)}f", *values)
        tensor["parameters"] = {"binary_data_size": len(raw)}
        head = json.dumps({"inputs": [tensor]}).encode()
        body, more = head + raw, f"inference-header-content-length: {len(head)}\r\n"
    else:
        body = json.dumps({"inputs": [{**tensor, "data": values}]}).encode()
    return (
        f"POST /v2/models/{SERVICE}/infer HTTP/1.1\r\nhost: bench\r\n"
        f"authorization: Bearer {key}\r\ncontent-type: application/json\r\n{more}"
        f"content-length: {len(body)}\r\n\r\n"
    ).encode() + body


async def ask(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes, rows: int
) -> bool:
    """Send one request; whether the answer holds that many probabilities."""
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    lengths = [
        int(line.split(b":")[1])
        for line in head.splitlines()
        if line.lower().startswith(b"content-length:")
    ]
    if not lengths:
        raise SystemExit(f"bench: an answer without its length: {head[:200]!r}")
    body = await reader.readexactly(lengths[0])
    if not head.startswith(b"HTTP/1.1 200"):
        return False
    outputs = {tensor["name"]: tensor["data"] for tensor in json.loads(body)["outputs"]}
    found = outputs["probability"]
    return len(found) >= rows and all(0 <= value <= 1 for value in found)


async def caller(address: tuple[str, int], requests: list[tuple[bytes, int]], count: int) -> int:
    """One connection, one request after the other; how many failed."""
    reader, writer = await asyncio.open_connection(*address)
    failed = 0
    for number in range(count):
        data, rows = requests[number % len(requests)]
        failed += not await ask(reader, writer, data, rows)
    writer.close()
    return failed


async def load(url: str, key: str, count: int) -> int:
    """All connections at once; how many requests failed."""
    where = urlsplit(url)
    address = (where.hostname or "", where.port or 0)
    requests = [(request(rows, binary, key), rows) for rows in ROWS for binary in (False, True)]
    callers = [caller(address, requests, count // CONNECTIONS) for _ in range(CONNECTIONS)]
    return sum(await asyncio.gather(*callers))


def measured(folder: Path, part: str, began_s: float, ended_s: float) -> list[float]:
    """Processor milliseconds of every callback of a part during the load, sorted."""
    found: list[float] = []
    for path in folder.glob(f"{part}-*.f64"):
        samples = array.array("d")
        samples.frombytes(path.read_bytes())
        found += [
            cpu_s * 1e3
            for at_s, cpu_s in zip(samples[::2], samples[1::2], strict=True)
            if began_s <= at_s <= ended_s
        ]
    if not found:
        raise SystemExit(f"bench: the probe of the {part} wrote nothing.")
    return sorted(found)


def figures(part: str, sorted_ms: list[float]) -> dict[str, float]:
    """What is told of a part."""
    last = len(sorted_ms) - 1
    ranks = {"p50": 0.5, "p99": 0.99, "p999": 0.999, "max": 1.0}
    told = {
        f"{part}_callback_cpu_ms_{name}": round(sorted_ms[round(last * rank)], 3)
        for name, rank in ranks.items()
    }
    return {**told, f"{part}_callbacks": len(sorted_ms)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.loop")
    parser.add_argument("--json", action="store_true", help="(always) last line is JSON")
    parser.add_argument("--requests", type=int, default=4000)
    options = parser.parse_args()
    print(conditions(f"{options.requests} requests; asyncio's loop, not uvloop"), flush=True)
    with tempfile.TemporaryDirectory(prefix="isochrone-bench-") as temporary:
        samples = Path(temporary) / "samples"
        samples.mkdir()
        environment = {"LOOP_PROBE": str(samples), "PYTHONPATH": python_path()}
        with own_cell(Path(temporary) / "home", environment) as cell:
            key = cell.command("keys", "create", "--service", SERVICE)["key"]
            asyncio.run(load(cell.url, key, 200))  # code warm, connections known
            began_s = time.monotonic()
            failed = asyncio.run(load(cell.url, key, options.requests))
            ended_s = time.monotonic()
        told: dict[str, float] = {}
        for part in ("node", "gateway"):
            told |= figures(part, measured(samples, part, began_s, ended_s))
    print(json.dumps({**told, "requests": options.requests, "failed": failed}))


def python_path() -> str:
    """The probe's folder before everything that Python already looks in."""
    return os.pathsep.join([str(PROBE_FOLDER), *filter(None, [os.environ.get("PYTHONPATH")])])


if __name__ == "__main__":
    main()
