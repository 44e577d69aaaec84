"""A city's callers: real clients (``openai``, ``tritonclient``) at an open-loop rate.

One process a city. It is told a phase on standard input (one JSON line: target, phase, seconds,
requests per second a service) and answers with one JSON line when every request of the phase has
ended. Requests start at seeded Poisson times whether or not earlier ones have been answered, so a
slow network cannot slow its own measurement down. The clients' own retries are off. Every answer
is compared with the model run alone (``lab.cases``).

    python -m isochrone.lab.callers config.json
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from isochrone.lab.cases import Case, load_cases
from isochrone.lab.records import Record

GIVE_UP_AFTER_S = 10.0
"""A caller waits this long before it records a failure; slower than 2.5 s has failed already."""


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A network to call: each service's base URL as reached from this city, and its API key."""

    base_urls: dict[str, str]
    api_keys: dict[str, str]


class CallersConfig(msgspec.Struct, frozen=True, kw_only=True):
    """``services``: names this city calls. ``cases_dir``: where ``lab.cases`` put the inputs."""

    city: str
    seed: int
    targets: dict[str, Target]
    services: tuple[str, ...]
    cases_dir: str
    records_path: str


class Phase(msgspec.Struct, frozen=True, kw_only=True):
    """A command: call ``target`` for ``seconds`` at ``rate_per_s`` for each service."""

    target: str
    phase: str
    seconds: float
    rate_per_s: dict[str, float]


class Clients:
    """The standard clients of one base URL, opened once and kept warm."""

    def __init__(self, base_url: str, keys: Mapping[str, str]) -> None:
        import aiohttp
        import tritonclient.http.aio as triton
        from openai import AsyncOpenAI

        self._answers: dict[str, Mapping[str, str]] = {}
        self.first_piece_s: dict[str, float] = {}
        self._keys = keys
        self.openai = AsyncOpenAI(
            base_url=base_url + "/v1",
            api_key="set for each call",
            max_retries=0,
            timeout=GIVE_UP_AFTER_S,
        )
        self.triton = triton.InferenceServerClient(
            base_url.removeprefix("http://"), conn_limit=100, conn_timeout=GIVE_UP_AFTER_S
        )
        # tritonclient keeps the answer's headers to itself (and its session private); the session's
        # trace shows them without changing what is sent.
        trace = aiohttp.TraceConfig()
        trace.on_request_end.append(self._keep_headers)
        trace.freeze()
        self.triton._stub.trace_configs.append(trace)

    async def _keep_headers(self, _session: Any, _context: Any, params: Any) -> None:
        request_id = params.headers.get("x-request-id", "")
        self._answers[request_id] = dict(params.response.headers)

    async def infer(self, case: Case, request_id: str) -> tuple[bool, Mapping[str, str]]:
        """One Open Inference Protocol call with binary tensors; (correct, headers)."""
        import tritonclient.http as triton

        inputs = []
        for name, array in case.inputs.items():
            tensor = triton.InferInput(name, list(array.shape), _oip_type(array))
            tensor.set_data_from_numpy(array)
            inputs.append(tensor)
        outputs = [triton.InferRequestedOutput(name) for name in case.expected]
        headers = self._headers(case.service, request_id)
        result = await self.triton.infer(
            case.service, inputs=inputs, outputs=outputs, headers=headers
        )
        answer = {name: result.as_numpy(name) for name in case.expected}
        return case.agrees(answer), self._answers.pop(request_id, {})

    async def embed(self, case: Case, request_id: str) -> tuple[bool, Mapping[str, str]]:
        """One OpenAI embeddings call; (correct, headers)."""
        raw = await self.openai.embeddings.with_raw_response.create(
            model=case.service,
            input=case.text,
            encoding_format="float",
            extra_headers=self._headers(case.service, request_id),
        )
        parsed = raw.parse()
        answer = np.asarray(parsed.data[0].embedding, dtype=np.float32)
        return case.agrees({"embedding": answer}), dict(raw.headers)

    async def complete(self, case: Case, request_id: str) -> tuple[bool, Mapping[str, str]]:
        """One streamed OpenAI completion; correct when text arrived in more than one piece.

        Its latency is that of the first piece: the rest is the language model's own time.
        """
        pieces = 0
        async with self.openai.completions.with_streaming_response.create(
            model=case.service,
            prompt=case.text,
            max_tokens=16,
            stream=True,
            extra_headers=self._headers(case.service, request_id),
        ) as raw:
            headers = dict(raw.headers)
            async for line in raw.iter_lines():
                if line.startswith("data: {"):
                    self.first_piece_s.setdefault(request_id, time.perf_counter())
                    pieces += 1
        return pieces > 1, headers

    def _headers(self, service: str, request_id: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._keys[service]}", "x-request-id": request_id}

    async def close(self) -> None:
        """Close both clients' connections."""
        await self.openai.close()
        await self.triton.close()


def _oip_type(array: np.ndarray[Any, Any]) -> str:
    from tritonclient.utils import np_to_triton_dtype

    return str(np_to_triton_dtype(array.dtype))


def _number(headers: Mapping[str, str], name: str, default: float = 0.0) -> float:
    try:
        return float(headers[name])
    except (KeyError, ValueError):
        return default


def _timings_ms(headers: Mapping[str, str]) -> dict[str, float]:
    """Server-Timing as {name: duration in ms}."""
    found = {}
    for part in headers.get("server-timing", "").split(","):
        name, _, rest = part.strip().partition(";dur=")
        if rest:
            found[name] = float(rest)
    return found


def _seen_in(raw_headers: Mapping[str, str]) -> dict[str, Any]:
    """A record's fields that the answer's headers carry."""
    headers = {name.lower(): value for name, value in raw_headers.items()}
    timings = _timings_ms(headers)
    return {
        "node": headers.get("isochrone-node", ""),
        "place": headers.get("isochrone-place", ""),
        "jurisdiction": headers.get("isochrone-jurisdiction", ""),
        "cell": headers.get("isochrone-cell", ""),
        "attempts": int(_number(headers, "isochrone-attempts")),
        "overhead_ms": _number(headers, "isochrone-overhead-ms"),
        "network_ms": timings.get("network", 0.0),
        "engine_ms": timings.get("engine", 0.0),
        "queue_ms": timings.get("queue", 0.0),
        "reroute_ms": _number(headers, "isochrone-reroute-ms", -1.0),
    }


class Callers:
    """Runs phases and writes one record a request."""

    def __init__(self, config: CallersConfig) -> None:
        self._config = config
        self._clients: dict[tuple[str, str], Clients] = {}
        for name, target in config.targets.items():
            for url in sorted(set(target.base_urls.values())):
                self._clients[name, url] = Clients(url, target.api_keys)
        self._cases = {s: load_cases(Path(config.cases_dir), s) for s in config.services}
        self._random = random.Random(f"{config.seed}/{config.city}")
        self._file = open(config.records_path, "ab", buffering=0)  # noqa: SIM115 - closed at exit
        self._count = 0

    async def run(self, phase: Phase) -> int:
        """Run one phase to the end of its last request; returns how many were sent."""
        started = time.monotonic()
        offered = self._config.targets[phase.target].base_urls
        plan = sorted(
            (at_s, service)
            for service, rate in phase.rate_per_s.items()
            if service in offered
            for at_s in self._arrivals(rate, phase.seconds)
        )
        running = []
        for at_s, service in plan:
            await asyncio.sleep(max(0.0, started + at_s - time.monotonic()))
            running.append(asyncio.create_task(self._call(phase, service)))
        await asyncio.gather(*running)
        return len(plan)

    def _arrivals(self, rate_per_s: float, seconds: float) -> list[float]:
        times: list[float] = []
        at_s = self._random.expovariate(rate_per_s) if rate_per_s > 0 else seconds
        while at_s < seconds:
            times.append(at_s)
            at_s += self._random.expovariate(rate_per_s)
        return times

    async def _call(self, phase: Phase, service: str) -> None:
        cases = self._cases[service]
        case = cases[self._count % len(cases)]
        self._count += 1
        request_id = f"{self._config.city}-{self._count}"
        url = self._config.targets[phase.target].base_urls[service]
        clients = self._clients[phase.target, url]
        call = {"embeddings": clients.embed, "completions": clients.complete}.get(
            case.task, clients.infer
        )
        sent_unix_s, started = time.time(), time.perf_counter()
        error, correct = "", False
        headers: Mapping[str, str] = {}
        try:
            async with asyncio.timeout(GIVE_UP_AFTER_S):
                correct, headers = await call(case, request_id)
        except Exception as problem:  # whatever a client raises is a failed request
            error = f"{type(problem).__name__}: {problem}"[:300]
        answered = clients.first_piece_s.pop(request_id, time.perf_counter())
        record = Record(
            target=phase.target,
            phase=phase.phase,
            city=self._config.city,
            service=service,
            request_id=request_id,
            sent_unix_s=sent_unix_s,
            latency_ms=(answered - started) * 1e3,
            error=error,
            correct=correct,
            **_seen_in(headers),
        )
        self._file.write(msgspec.json.encode(record) + b"\n")

    async def close(self) -> None:
        """Close clients and the record file."""
        for clients in self._clients.values():
            await clients.close()
        self._file.close()


async def _serve(config: CallersConfig) -> None:
    callers = Callers(config)
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    print('{"ready": true}', flush=True)
    try:
        while line := await reader.readline():
            phase = msgspec.json.decode(line, type=Phase)
            sent = await callers.run(phase)
            answer = {"done": phase.phase, "sent": sent}
            print(msgspec.json.encode(answer).decode(), flush=True)
    finally:
        await callers.close()


def main() -> None:
    """Entry: the one argument is the path of a CallersConfig as JSON."""
    config = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=CallersConfig)
    asyncio.run(_serve(config))


if __name__ == "__main__":
    main()
