"""The upstream engine against a real server in a process of its own, over the real HTTP client."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines.asking import Collected, ask, infer_request, until
from isochrone.engines import oip
from isochrone.engines.engine import Engine, EngineRequest, make_engine
from isochrone.engines.upstream import UpstreamEngine, rename
from isochrone.schema.errors import InvalidInput, Overloaded, Unavailable
from isochrone.wire.http_client import HttpPool

pytestmark = pytest.mark.processes


class Server:
    """The test's upstream; ``stop`` and ``start`` keep its port."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [
                sys.executable,
                str(Path(__file__).parent / "upstream_app.py"),
                str(self.listener.fileno()),
            ],
            pass_fds=[self.listener.fileno()],
            start_new_session=True,
        )

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()

    def refuse_connections(self) -> None:
        self.stop()
        self.listener.close()

    def listen_again(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", self.port))
        self.start()

    def close(self) -> None:
        self.stop()
        self.listener.close()


@pytest.fixture(scope="module")
def shared_server() -> Iterator[Server]:
    with contextlib.closing(Server()) as server:
        yield server


@pytest.fixture
def own_server() -> Iterator[Server]:
    with contextlib.closing(Server()) as server:
        yield server


def pool(host: str, port: int, tls: Any) -> HttpPool:
    return HttpPool(host, port, tls=tls, connections_max=64)


def make(port: int, **options: Any) -> UpstreamEngine:
    given = {
        "base_url": f"http://127.0.0.1:{port}",
        "name": "svc",
        "upstream_model": "llama",
        **options,
    }
    engine = make_engine("upstream", {}, given, pool_factory=pool)
    assert isinstance(engine, UpstreamEngine)
    return engine


@contextlib.asynccontextmanager
async def running(port: int, **options: Any) -> AsyncIterator[UpstreamEngine]:
    engine = make(port, **options)
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop()


def completion(**fields: Any) -> EngineRequest:
    body = json.dumps({"model": "svc", **fields}).encode()
    return EngineRequest("svc", "completions", {"content-type": "application/json"}, body)


async def seen(engine: Engine) -> dict[str, Any]:
    """What the server saw, asked by a connection of its own."""
    port = engine.options.base_url.rpartition(":")[2]
    reader, writer = await asyncio.open_connection("127.0.0.1", int(port))
    writer.write(b"GET /seen HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    content = await reader.read()
    writer.close()
    await writer.wait_closed()
    return json.loads(content.partition(b"\r\n\r\n")[2])


async def test_only_the_models_name_changes_on_the_way(shared_server) -> None:
    async with running(shared_server.port, api_key="hush") as engine:
        body = b'{ "prompt" : "h\\u00e9",  "model":"svc", "x": [1.50, 1e2,  {"model": "svc"}] }'
        headers = {"content-type": "application/json", "cookie": "c", "accept": "*/*"}
        sink = await ask(engine, EngineRequest("svc", "completions", headers, body))
        assert json.loads(sink.body)["model"] == "llama"
        assert sink.status == 200
        assert (sink.stats.tokens_in, sink.stats.tokens_out) == (3, 2)
        assert 0 < sink.stats.engine_us < 20e6
        last = (await seen(engine))["requests"][-1]
        assert last["path"] == "/v1/completions"
        assert '"h\\u00e9"' in last["body"]
        assert '[1.50, 1e2,  {"model": "svc"}]' in last["body"]
        assert json.loads(last["body"]) == json.loads(body) | {"model": "llama"}
        assert last["headers"]["authorization"] == "Bearer hush"
        assert last["headers"]["accept"] == "*/*"
        assert "cookie" not in last["headers"]


async def test_a_stream_comes_piece_by_piece(shared_server) -> None:
    async with running(shared_server.port) as engine:
        sink = await ask(engine, completion(prompt="hi", stream=True))
        assert sink.headers["content-type"] == "text/event-stream"
        assert len(sink.pieces) > 1
        assert sink.body.endswith(b"data: [DONE]\n\n")
        assert sink.stats.tokens_out == 3


async def test_cancelling_closes_the_connection_and_stops_the_source(shared_server) -> None:
    async with running(shared_server.port) as engine:
        before = await seen(engine)
        sink = Collected()
        cancel = engine.submit(completion(prompt="endless", stream=True), sink)
        await until(lambda: len(sink.pieces) > 2)
        cancel()
        calls = sink.calls
        async with asyncio.timeout(10):
            while (await seen(engine))["gone"] == before["gone"]:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert sink.calls == calls
        assert engine.in_flight == 0


async def test_a_paused_answer_stops_coming(shared_server) -> None:
    async with running(shared_server.port) as engine:
        sink = Collected()
        cancel = engine.submit(completion(prompt="endless", stream=True), sink)
        await until(lambda: len(sink.pieces) > 2)
        cancel.pause()
        calls = sink.calls
        others = [ask(engine, completion(prompt="hi")) for _ in range(5)]
        await asyncio.gather(*others)
        assert sink.calls <= calls + 1
        cancel.resume()
        await until(lambda: sink.calls > calls + 5)
        cancel()


async def test_tensors_pass_through_as_bytes(shared_server) -> None:
    options = {"task": "tensor", "api": "oip", "upstream_model": "resnet"}
    async with running(shared_server.port, **options) as engine:
        assert engine.metadata() == {"name": "svc", "versions": ["3"], "inputs": []}
        request = infer_request({"x": np.arange(6, dtype=np.float32)})
        sink = await ask(engine, request)
        assert sink.body == request.body
        assert sink.headers[oip.LENGTH_HEADER] == request.headers[oip.LENGTH_HEADER]
        assert "set-cookie" not in sink.headers
        metadata = await ask(engine, EngineRequest("svc", "metadata", {}, b""))
        assert json.loads(metadata.body)["name"] == "svc"


@pytest.mark.parametrize(
    ("status", "error"),
    [(429, Overloaded), (500, Unavailable), (503, Unavailable), (401, Unavailable)],
)
async def test_the_providers_trouble_is_retried_elsewhere(shared_server, status, error) -> None:
    async with running(shared_server.port) as engine:
        with pytest.raises(error) as failed:
            await ask(engine, completion(prompt=f"status {status}"))
        assert failed.value.retry == "elsewhere"
        assert f"as asked: {status}" in failed.value.message
        assert engine.state == "ready"


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_the_callers_fault_is_passed_on(shared_server, status) -> None:
    async with running(shared_server.port) as engine:
        sink = await ask(engine, completion(prompt=f"status {status}"))
        assert sink.status == status
        assert f"as asked: {status}".encode() in sink.body


@pytest.mark.parametrize(
    ("operation", "body", "reason"),
    [
        ("completions", b"{", "malformed JSON"),
        ("completions", b"[]", "malformed JSON"),
        ("completions", b"\xff", "malformed JSON"),
        ("embeddings", b"{}", "does not answer embeddings"),
        ("infer", b"{}", "does not answer infer"),
    ],
)
async def test_what_cannot_be_sent_on_is_a_400(shared_server, operation, body, reason) -> None:
    async with running(shared_server.port) as engine:
        sink = await ask(engine, EngineRequest("svc", operation, {}, body))
        assert sink.status == 400
        assert reason.encode() in sink.body
        assert engine.in_flight == 0


async def test_no_more_than_its_concurrency_at_once(shared_server) -> None:
    async with running(shared_server.port, concurrency=2) as engine:
        before = (await seen(engine))["streaming"]
        sinks = [Collected() for _ in range(5)]
        cancels = [engine.submit(completion(prompt="endless", stream=True), sink) for sink in sinks]
        await until(lambda: all(sink.pieces for sink in sinks[:2]))
        assert (await seen(engine))["streaming"] == before + 2
        cancels[0]()
        await until(lambda: bool(sinks[2].pieces))
        assert engine.in_flight == 4
        for cancel in cancels:
            cancel()
        assert engine.in_flight == 0


async def test_an_answer_that_is_cut_off_is_an_error(own_server) -> None:
    async with running(own_server.port) as engine:
        sink = Collected()
        engine.submit(completion(prompt="cut", stream=True), sink)
        with pytest.raises(Unavailable):
            await asyncio.wait_for(sink.done, 10)
        assert sink.pieces
        assert sink.stats is None


async def test_a_server_that_goes_away_and_comes_back(own_server) -> None:
    async with running(own_server.port) as engine:
        died: list[str] = []
        engine.on_died = died.append
        await asyncio.to_thread(own_server.refuse_connections)
        with pytest.raises(Unavailable):
            await ask(engine, completion(prompt="hi"))
        assert engine.state == "restarting"
        with pytest.raises(Unavailable, match="restarting"):
            await ask(engine, completion(prompt="hi"))
        await until(lambda: len(died) >= 2)
        await asyncio.to_thread(own_server.listen_again)
        await until(lambda: engine.state == "ready")
        assert (await ask(engine, completion(prompt="hi"))).status == 200
        assert engine.report().restarts >= 1


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"upstream_model": "gpt"}, InvalidInput, "no model 'gpt', it has: llama"),
        ({"api": "oip"}, Unavailable, "answers 404"),
        ({"api": "oip", "base_url": "http://127.0.0.1:1"}, Unavailable, "127.0.0.1:1"),
    ],
)
async def test_a_start_that_cannot_work_says_what_to_correct(
    shared_server, options, error, words
) -> None:
    engine = make(shared_server.port, **options)
    with pytest.raises(error) as failed:
        await engine.start()
    assert words in failed.value.message
    assert failed.value.fix
    assert engine.state == "stopped"


@pytest.mark.parametrize(
    "url", ["ftp://x", "localhost:8000", "http://", "http://x:99999", "http://u:p@x", "http://x?q"]
)
def test_addresses_that_are_none(url) -> None:
    with pytest.raises(InvalidInput, match="not a URL"):
        make_engine("upstream", {}, {"base_url": url}, pool_factory=pool)


async def test_stop_fails_what_streams(shared_server) -> None:
    engine = make(shared_server.port)
    await engine.start()
    sink = Collected()
    engine.submit(completion(prompt="endless", stream=True), sink)
    await until(lambda: bool(sink.pieces))
    await engine.stop()
    with pytest.raises(Unavailable):
        await sink.done


def test_rename_adds_a_missing_name_and_keeps_the_order() -> None:
    request = EngineRequest("s", "completions", {}, b'{"b":1,"model":"x","a":2}')
    assert rename(request, "m") == b'{"b":1,"model":"m","a":2}'
    request = EngineRequest("s", "completions", {}, b'{"b":1}')
    assert json.loads(rename(request, "m")) == {"b": 1, "model": "m"}
