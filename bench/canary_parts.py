"""The processes of ``bench.canary`` beside the gateway: nodes that write down what they see, the
model server behind them, and callers with realistic traffic.

``python -m bench.canary_parts node CONFIG OUT``, ``… upstream READY``, ``… callers CONFIG``.

The node is the shipped one; its ``on_open`` is watched, as a provider can who reads our code.
"""

from __future__ import annotations

import asyncio
import csv
import json
import random
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import msgspec

HEAD_BYTES = 24
"""Of each end of a body that the attacker looks at, byte by byte."""


class Seen(msgspec.Struct):
    """One request as its node saw it. ``at_s``: monotonic; ``wanted_s``: since the gateway last
    asked for a root of that lease (-1: never)."""

    at_s: float
    header: bytes
    size: int
    ended: bool
    in_flight: int
    digest: int
    mean: float
    spread: float
    head: bytes
    tail: bytes
    wanted_s: float


class CallersConfig(msgspec.Struct):
    """Whom the callers ask and how. ``requests``: in all; ``speed``: of the trace's clock."""

    port: int
    keys: dict[str, str]
    trace: str
    requests: int
    speed: float
    seed: int
    ready: str


# --- the node ------------------------------------------------------------------------------------


def run_node(config_path: Path, out: Path) -> None:
    """The shipped node, watched; what it saw is written when it ends."""
    import uvloop

    from isochrone.node.config import read_config
    from isochrone.node.process import Node
    from isochrone.schema.frames import AnswerRootWanted

    seen: list[Seen] = []
    wanted: dict[str, float] = {}

    async def main() -> None:
        node = Node(read_config(config_path))
        opened, told = node.on_open, node.on_control

        def on_open(stream: Any, header: bytes, body: bytes, ended: bool, *more: Any) -> Any:
            now_s = time.monotonic()
            sink = opened(stream, header, body, ended, *more)
            ask = msgspec.msgpack.decode(header)
            since = wanted.get(ask.get("lease", ""), 0.0)
            one = _seen(now_s, header, body, ended, node.serving.in_flight)
            one.wanted_s = now_s - since if since else -1.0
            seen.append(one)
            return sink

        def on_control(gateway: str, message: Any) -> None:
            if isinstance(message, AnswerRootWanted):
                wanted[message.lease] = time.monotonic()
            told(gateway, message)

        node.on_open = on_open  # type: ignore[assignment]
        node.on_control = on_control  # type: ignore[method-assign]
        await node.run()

    uvloop.run(main())
    out.write_bytes(msgspec.msgpack.encode(seen))


def _seen(now_s: float, header: bytes, body: bytes, ended: bool, in_flight: int) -> Seen:
    few = body[:: max(1, len(body) // 512)]
    mean = sum(few) / max(1, len(few))
    return Seen(
        at_s=now_s,
        header=header,
        size=len(body),
        ended=ended,
        in_flight=in_flight,
        digest=zlib.crc32(body),
        mean=mean,
        spread=sum((value - mean) ** 2 for value in few) / max(1, len(few)),
        head=body[:HEAD_BYTES],
        tail=body[-HEAD_BYTES:],
        wanted_s=-1.0,
    )


# --- the model server ----------------------------------------------------------------------------


def run_upstream(ready: Path) -> None:
    """OIP and OpenAI answers after the time that a model might take."""
    import uvloop

    from isochrone.wire.http_server import Exchange, Limits, serve

    headers = [("content-type", "application/json")]
    about = json.dumps({"name": "bench", "versions": ["1"], "data": [{"id": "bench"}]}).encode()
    output = {"name": "y", "datatype": "FP32", "shape": [1, 4], "data": [0.25] * 4}
    tensor = json.dumps({"model_name": "bench", "outputs": [output]}).encode()
    text = json.dumps({"choices": [{"text": "so it is", "index": 0}]}).encode()

    async def main() -> None:
        loop = asyncio.get_running_loop()

        def app(exchange: Exchange) -> None:
            if exchange.method != "POST":
                exchange.respond(200, headers, about)
                return
            answer = tensor if exchange.path.endswith("/infer") else text

            def body(data: bytes) -> None:
                wait_s = 0.002 + len(data) * 4e-7 + random.expovariate(1 / 0.003)
                loop.call_later(wait_s, respond)

            def respond() -> None:
                if not exchange.finished:
                    exchange.respond(200, headers, answer)

            exchange.read_body(body)

        server = await serve(
            app, "127.0.0.1", 0, Limits(), on_bad_request=lambda _path, e: (e.status, [], b"")
        )
        ready.write_text(str(server.port))
        await asyncio.Event().wait()

    uvloop.run(main())


# --- the callers ---------------------------------------------------------------------------------


class Profile:
    """One kind of client: the headers it sends, how it names requests, what it writes."""

    def __init__(self, number: int, chances: random.Random) -> None:
        self.number = number
        self.ids = chances.random() < 0.3
        self.headers = {"content-type": "application/json"}
        if chances.random() < 0.4:
            self.headers["accept"] = chances.choice(("application/json", "*/*"))
        if chances.random() < 0.3:
            self.headers["isochrone-timeout-ms"] = str(chances.choice((2000, 5000, 10_000)))
        self.words = [f"{chances.getrandbits(24):x}" for _ in range(60)]
        self.options = {"max_tokens": chances.choice((64, 128, 256)), "temperature": 0}


def run_callers(config: CallersConfig) -> None:
    """Two thirds are language requests of the trace, sizes and timing; one third are tensors from
    sessions that send a chunk every few tens of milliseconds."""
    asyncio.run(_call_all(config))


async def _call_all(config: CallersConfig) -> None:
    import aiohttp

    chances = random.Random(config.seed)
    profiles = [Profile(number, chances) for number in range(40)]
    lines = Path(config.trace).read_text().splitlines()[: config.requests * 2 // 3 + 1]
    rows = list(csv.DictReader(lines))
    plan: list[tuple[float, str, int]] = [
        (float(row["t_s"]) / config.speed, row["service"], int(row["prompt_tokens"]))
        for row in rows
    ]
    length_s = plan[-1][0]
    while len(plan) < config.requests:
        at_s, chunk = chances.random() * length_s, chances.choice((256, 512, 768, 1536))
        for number in range(chances.randrange(5, 40)):
            plan.append((at_s + number * 0.032 + chances.random() * 0.004, "speech", chunk))
    plan.sort()
    Path(config.ready).write_text(str(length_s))
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        began_s, tasks, failed = time.monotonic(), set(), 0
        for at_s, service, size in plan:
            wait_s = began_s + at_s - time.monotonic()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            profile = profiles[min(39, int(chances.expovariate(1 / 8)))]
            task = asyncio.create_task(_call(session, config, profile, service, size, chances))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        for done in await asyncio.gather(*tasks, return_exceptions=True):
            failed += done is not None
    print(f"callers: {len(plan)} requests in {length_s:.0f} s, {failed} of the last failed")


async def _call(
    session: Any,
    config: CallersConfig,
    profile: Profile,
    service: str,
    size: int,
    chances: random.Random,
) -> None:
    path, body = _request(profile, service, size, chances)
    headers = {"authorization": f"Bearer {config.keys[service]}", **profile.headers}
    if profile.ids:
        headers["x-request-id"] = f"{chances.getrandbits(64):016x}"
    url = f"http://127.0.0.1:{config.port}{path}"
    async with session.post(url, data=body, headers=headers) as answer:
        await answer.read()


def _request(
    profile: Profile, service: str, size: int, chances: random.Random
) -> tuple[str, bytes]:
    if service == "speech":
        rows = chances.choice((1, 1, 1, 2, 4))
        data = [round(chances.gauss(0, 0.1), 4) for _ in range(size * rows // 8)]
        tensor = {"name": "x", "datatype": "FP32", "shape": [rows, size // 8], "data": data}
        return "/v2/models/speech/infer", json.dumps({"inputs": [tensor]}).encode()
    words = [chances.choice(profile.words) for _ in range(max(1, size * 2 // 3))]
    document = {"model": service, "prompt": " ".join(words), **profile.options}
    return "/v1/completions", json.dumps(document).encode()


def main() -> None:
    """See the top of this file."""
    if sys.argv[1] == "node":
        run_node(Path(sys.argv[2]), Path(sys.argv[3]))
    elif sys.argv[1] == "upstream":
        run_upstream(Path(sys.argv[2]))
    else:
        run_callers(msgspec.json.decode(Path(sys.argv[2]).read_bytes(), type=CallersConfig))


if __name__ == "__main__":
    main()
