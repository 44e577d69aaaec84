"""How exact and how costly emulated distances are: ``python -m bench.links --json``.

Conditions: one links process, one process that is client and echo target, everything on loopback.

1. exactness: one quiet connection per distance, 100-byte round trips, achieved minus asked;
2. cost: 200 links of 20 ms, 400 connections with one 500-byte message under way on each: processor
   time of the links process per forwarded chunk;
3. bulk: 200 MB through 100 ms of round trip.

The last line on standard output is one JSON object.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path

import psutil

from isochrone.lab.link_control import LinksProcess, start_links
from isochrone.lab.link_messages import LinkSpec
from isochrone.lab.timers import new_loop

DISTANCES_MS = (1.5, 10.0, 50.0, 100.0)
LINKS, CONNECTIONS, LOAD_S = 200, 400, 5.0
BULK_BYTES = 200 << 20


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send back what comes."""
    while data := await reader.read(1 << 18):
        writer.write(data)
        await writer.drain()
    writer.close()


async def sink(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Swallow what comes, end when it ends."""
    while await reader.read(1 << 20):
        pass
    writer.close()


async def exactness(port: int, count: int) -> list[float]:
    """Round trips over one connection, milliseconds."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    times = []
    for _ in range(count + 1):
        start = time.perf_counter()
        writer.write(b"x" * 100)
        await reader.readexactly(100)
        times.append((time.perf_counter() - start) * 1e3)
        await asyncio.sleep(0.002)
    writer.close()
    return times[1:]  # the first one pays for the connect


async def caller(port: int, until: float) -> None:
    """Exchange 500 bytes, one at a time, until the clock says so."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while time.perf_counter() < until:
        writer.write(b"x" * 500)
        await reader.readexactly(500)
    writer.close()


async def load(links: LinksProcess, ports: list[int]) -> dict[str, float]:
    """All connections at once: cost a chunk, chunks a second, lateness, memory."""
    process = psutil.Process(links.process.pid)
    before, start = process.cpu_times(), time.perf_counter()
    until = start + LOAD_S
    await asyncio.gather(*(caller(ports[i % len(ports)], until) for i in range(CONNECTIONS)))
    wall_s = time.perf_counter() - start
    after = process.cpu_times()
    used_s = after.user + after.system - before.user - before.system
    told = [link for link in links.control.list() if link.name.startswith("load-")]
    chunks = sum(link.chunks for link in told)
    return {
        "cpu_us_per_chunk": round(used_s / chunks * 1e6, 1),
        "chunks_per_s": round(chunks / wall_s),
        "late_mean_ms": round(sum(t.late_mean_ms * t.chunks for t in told) / chunks, 3),
        "late_p99_ms_median_link": round(statistics.median(t.late_p99_ms for t in told), 3),
        "mb_links": round(process.memory_info().rss / 1e6, 1),
    }


async def bulk(port: int) -> float:
    """Megabytes per second through a link."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    piece = bytes(1 << 20)
    start = time.perf_counter()
    for _ in range(BULK_BYTES // len(piece)):
        writer.write(piece)
        await writer.drain()
    writer.write_eof()
    await reader.read()  # the sink ends when it has everything
    writer.close()
    return BULK_BYTES / 1e6 / (time.perf_counter() - start)


async def measure(folder: Path) -> dict[str, object]:
    """Every figure."""
    server = await asyncio.start_server(echo, "127.0.0.1", 0, backlog=512)
    drain = await asyncio.start_server(sink, "127.0.0.1", 0)
    target = server.sockets[0].getsockname()[1]
    specs = [LinkSpec(name=f"at-{ms}", rtt_ms=ms, target_port=target) for ms in DISTANCES_MS]
    specs += [LinkSpec(name=f"load-{i}", rtt_ms=20.0, target_port=target) for i in range(LINKS)]
    sink_port = drain.sockets[0].getsockname()[1]
    specs.append(LinkSpec(name="bulk", rtt_ms=100.0, target_port=sink_port))
    result: dict[str, object] = {}
    with start_links(specs, folder) as links:
        for ms in DISTANCES_MS:
            say(f"exactness at {ms} ms")
            extra = sorted(t - ms for t in await exactness(links.ports[f"at-{ms}"], 100))
            result[f"over_p50_ms_at_{ms:g}"] = round(extra[50], 3)
            result[f"over_p99_ms_at_{ms:g}"] = round(extra[98], 3)
        say(f"{CONNECTIONS} connections over {LINKS} links for {LOAD_S:.0f} s")
        result |= await load(links, [links.ports[f"load-{i}"] for i in range(LINKS)])
        say("bulk")
        result["bulk_mb_per_s_at_100"] = round(await bulk(links.ports["bulk"]), 1)
    server.close()
    drain.close()
    return result


def say(text: str) -> None:
    """Progress, on standard error."""
    print(f"bench.links: {text} …", file=sys.stderr, flush=True)


def main() -> None:
    """Measure and print."""
    load_1 = os.getloadavg()[0]
    conditions = f"{platform.platform()}, {os.cpu_count()} cores, load {load_1:.2f} before"
    with (
        tempfile.TemporaryDirectory() as folder,
        asyncio.Runner(loop_factory=new_loop) as runner,
    ):
        result = runner.run(measure(Path(folder)))
    print(f"Conditions: {conditions}, Python {platform.python_version()}, loopback.")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
