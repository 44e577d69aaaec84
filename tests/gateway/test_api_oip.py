"""The Open Inference Protocol, called by the real Triton client and by hand."""

from __future__ import annotations

import asyncio
import gzip
import json

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from .acting_node import ActingNode, Asked
from .http_calls import call
from .town import Town, http_port

METADATA = {
    "name": "speech",
    "versions": ["1"],
    "platform": "onnxruntime_onnx",
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 4]}],
}


def double(asked: Asked) -> None:
    """A model that doubles, speaking binary tensors as a server does."""
    if asked.ask.operation == "metadata":
        asked.answer(json.dumps(METADATA).encode())
        return
    length = int(asked.ask.headers["inference-header-content-length"])
    head = json.loads(asked.body[:length])
    array = np.frombuffer(asked.body[length:], dtype=np.float32) * 2
    blob = array.tobytes()
    answer = json.dumps(
        {
            "model_name": "speech",
            "model_version": "1",
            "outputs": [
                {
                    "name": "y",
                    "datatype": "FP32",
                    "shape": head["inputs"][0]["shape"],
                    "parameters": {"binary_data_size": len(blob)},
                }
            ],
        }
    ).encode()
    from isochrone.schema.frames import AnswerHeader, AnswerTrailer, pack

    header = AnswerHeader(
        status=200,
        headers=(
            ("content-type", "application/octet-stream"),
            ("inference-header-content-length", str(len(answer))),
        ),
    )
    asked.stream.answer(
        pack(header), answer + blob, end=True, trailer=pack(AnswerTrailer(engine_us=10))
    )


@pytest.fixture
async def node(town: Town) -> ActingNode:
    gateway = await town.gateway()
    made = await town.node(script=double, at=gateway)
    await town.route(town.service("speech", [(made, "l1")]))
    return made


def infer_with_triton(port: int, key: str, compression: str | None) -> np.ndarray:
    client = triton.InferenceServerClient(f"127.0.0.1:{port}")
    try:
        tensor = triton.InferInput("x", [1, 4], "FP32")
        tensor.set_data_from_numpy(np.arange(4, dtype=np.float32).reshape(1, 4))
        result = client.infer(
            "speech",
            [tensor],
            headers={"Authorization": f"Bearer {key}"},
            request_compression_algorithm=compression,
            response_compression_algorithm=compression,
        )
        return result.as_numpy("y")
    finally:
        client.close()


@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
async def test_the_real_client_infers(
    town: Town, node: ActingNode, compression: str | None
) -> None:
    port, key = http_port(town.gateways["gw"]), town.api_key("speech")
    answer = await asyncio.to_thread(infer_with_triton, port, key, compression)
    assert answer.tolist() == [[0.0, 2.0, 4.0, 6.0]]


async def test_the_real_client_reads_health_and_metadata(town: Town, node: ActingNode) -> None:
    port, key = http_port(town.gateways["gw"]), town.api_key("speech")
    headers = {"Authorization": f"Bearer {key}"}

    def ask() -> dict[str, object]:
        client = triton.InferenceServerClient(f"127.0.0.1:{port}")
        try:
            assert client.is_server_live(headers=headers)
            assert client.is_server_ready(headers=headers)
            assert client.is_model_ready("speech", headers=headers)
            assert client.get_server_metadata(headers=headers)["name"] == "isochrone"
            client.get_model_metadata("speech", headers=headers)
            return client.get_model_metadata("speech", "1", headers=headers)
        finally:
            client.close()

    assert await asyncio.to_thread(ask) == METADATA
    asked = [a for a in node.asked if a.ask.operation == "metadata"]
    assert len(asked) == 1, "metadata is remembered"


async def test_errors_are_in_the_protocols_format(town: Town, node: ActingNode) -> None:
    port, key = http_port(town.gateways["gw"]), town.api_key("speech")

    def ask() -> str:
        client = triton.InferenceServerClient(f"127.0.0.1:{port}")
        try:
            client.get_model_metadata("spech", headers={"Authorization": f"Bearer {key}"})
        except InferenceServerException as error:
            return str(error)
        finally:
            client.close()
        return ""

    assert "Did you mean speech?" in await asyncio.to_thread(ask)


@pytest.mark.parametrize(
    ("method", "path", "headers", "body", "status"),
    [
        ("POST", "/v2/models/speech/infer", {}, b"", 400),
        ("GET", "/v2/models/speech/infer", {}, None, 405),
        ("POST", "/v2/models/speech", {}, b"{}", 405),
        ("POST", "/v2", {}, b"{}", 405),
        ("GET", "/v2/models/speech/config", {}, None, 404),
        ("GET", "/v2/nothing", {}, None, 404),
        ("GET", "/v2/models/speech/versions/9", {}, None, 404),
        ("POST", "/v2/models/a%2Fb/infer", {}, b"{}", 404),
        ("POST", "/v2/models/speech/infer", {"content-encoding": "br"}, b"{}", 415),
        ("POST", "/v2/models/speech/infer", {"content-encoding": "gzip"}, b"no gzip", 400),
        (
            "POST",
            "/v2/models/speech/infer",
            {"inference-header-content-length": "999"},
            b"{}",
            400,
        ),
        ("POST", "/v2/models/speech/infer", {"inference-header-content-length": "x"}, b"{}", 400),
        ("POST", "/v2/models/speech/infer", {"isochrone-timeout-ms": "-1"}, b"{}", 400),
    ],
)
async def test_bad_requests(
    town: Town,
    node: ActingNode,
    method: str,
    path: str,
    headers: dict[str, str],
    body: bytes | None,
    status: int,
) -> None:
    port = http_port(town.gateways["gw"])
    answer = await call(port, method, path, body, town.api_key("speech"), headers)
    assert answer.status == status, answer
    assert isinstance(answer.json()["error"], str)
    assert not node.asked


async def test_a_gzip_bomb_is_413(town: Town, node: ActingNode) -> None:
    bomb = gzip.compress(b"\0" * (9 * 1024 * 1024))
    port = http_port(town.gateways["gw"])
    answer = await call(
        port,
        "POST",
        "/v2/models/speech/infer",
        bomb,
        town.api_key("speech"),
        {"content-encoding": "gzip"},
    )
    assert answer.status == 413
    assert not node.asked


async def test_an_oversized_body_is_413(town: Town, node: ActingNode) -> None:
    port = http_port(town.gateways["gw"])
    headers = {"content-length": str(65 * 1024 * 1024)}
    key = town.api_key("speech")
    answer = await call(port, "POST", "/v2/models/speech/infer", b"x", key, headers)
    assert answer.status == 413
    assert isinstance(answer.json()["error"], str)


async def test_an_empty_gateway_is_live_but_not_ready(town: Town) -> None:
    gateway = await town.gateway()
    port = http_port(gateway)
    assert (await call(port, "GET", "/v2/health/live")).status == 200
    assert (await call(port, "GET", "/v2/health/ready")).status == 503
    assert (await call(port, "GET", "/livez")).status == 200
    answer = await call(port, "GET", "/readyz")
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
