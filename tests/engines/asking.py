"""What the engine tests share: a sink that collects, tiny models, a running engine."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from onnx import TensorProto, helper, numpy_helper

from isochrone.engines import oip
from isochrone.engines.engine import Engine, EngineRequest, EngineStats
from isochrone.schema.errors import IsochroneError

DEADLINE_S = 20.0

_THERE_BEFORE: set[psutil.Process] = set()


def begin_counting() -> None:
    """From now on ``children`` counts; what runs already is another test's."""
    _THERE_BEFORE.clear()
    _THERE_BEFORE.update(psutil.Process().children(recursive=True))


def children() -> list[psutil.Process]:
    """Processes that this test has started and that are still there."""
    now = psutil.Process().children(recursive=True)
    return [child for child in now if child not in _THERE_BEFORE]


def end_children() -> None:
    """Kill what a failed test has left, so that it fails alone."""
    for child in children():
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()


class Collected:
    """A sink that keeps everything; ``await done`` waits for the end or raises the error."""

    def __init__(self) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.status = 0
        self.headers: dict[str, str] = {}
        self.pieces: list[bytes] = []
        self.stats: EngineStats | None = None
        self.calls = 0

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    def on_head(self, status: int, headers: Sequence[tuple[str, str]]) -> None:
        self.calls += 1
        self.status, self.headers = status, dict(headers)

    def on_data(self, data: bytes) -> None:
        self.calls += 1
        self.pieces.append(data)

    def on_end(self, stats: EngineStats) -> None:
        self.calls += 1
        self.stats = stats
        self.done.set_result(None)

    def on_error(self, error: IsochroneError) -> None:
        self.calls += 1
        self.done.set_exception(error)


def infer_request(inputs: Mapping[str, Any], **settings: Any) -> EngineRequest:
    """An OIP request with binary tensors, answered in binary."""
    deadline_s = settings.pop("deadline_s", None)
    settings.setdefault("binary_output", True)
    headers, parts = oip.encode_request(inputs, **settings)
    return EngineRequest("test", "infer", dict(headers), b"".join(parts), deadline_s)


async def ask(engine: Engine, request: EngineRequest) -> Collected:
    """Submit and wait for the end."""
    sink = Collected()
    engine.submit(request, sink)
    await asyncio.wait_for(sink.done, DEADLINE_S)
    return sink


async def infer(engine: Engine, inputs: Mapping[str, Any], **settings: Any) -> oip.InferResponse:
    """A 200 answer, decoded."""
    sink = await ask(engine, infer_request(inputs, **settings))
    assert sink.status == 200, sink.body
    return oip.decode_response(sink.body, sink.headers)


async def until(condition: Callable[[], bool], deadline_s: float = DEADLINE_S) -> None:
    """Wait for a condition, looking every 5 ms; fails at the deadline."""
    async with asyncio.timeout(deadline_s):
        while not condition():  # noqa: ASYNC110  (what is awaited happens in other processes)
            await asyncio.sleep(0.005)


def write_model(path: Path, nodes: list[Any], inputs: list[Any], outputs: list[Any]) -> Path:
    """A graph without weights as a file."""
    graph = helper.make_graph(nodes, "test", inputs, outputs)
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="tests"
    )
    path.write_bytes(model.SerializeToString())
    return path


def adder(folder: Path) -> Path:
    """``sum = left + right`` and ``double = left * 2`` over FP32 [batch, 3]."""
    value = helper.make_tensor_value_info
    shape = ["batch", 3]
    return write_model(
        folder / "adder.onnx",
        [
            helper.make_node("Add", ["left", "right"], ["sum"]),
            helper.make_node("Add", ["left", "left"], ["double"]),
        ],
        [value(name, TensorProto.FLOAT, shape) for name in ("left", "right")],
        [value(name, TensorProto.FLOAT, shape) for name in ("sum", "double")],
    )


def echo(folder: Path, element: int) -> Path:
    """``y = x`` of any shape, for one element type."""
    value = helper.make_tensor_value_info
    return write_model(
        folder / f"echo{element}.onnx",
        [helper.make_node("Identity", ["x"], ["y"])],
        [value("x", element, ["n"])],
        [value("y", element, ["n"])],
    )


def slow(folder: Path) -> Path:
    """Counts to ``rounds`` in a loop: about a microsecond a round."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go_on"]),
            helper.make_node("Add", ["total", "step"], ["total_out"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("total", TensorProto.INT64, []),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("total_out", TensorProto.INT64, []),
        ],
        [numpy_helper.from_array(np.array(1, np.int64), "step")],
    )
    graph = helper.make_graph(
        [helper.make_node("Loop", ["rounds", "true", "zero"], ["total"], body=body)],
        "slow",
        [helper.make_tensor_value_info("rounds", TensorProto.INT64, [])],
        [helper.make_tensor_value_info("total", TensorProto.INT64, [])],
        [
            numpy_helper.from_array(np.array(True), "true"),
            numpy_helper.from_array(np.array(0, np.int64), "zero"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = folder / "slow.onnx"
    path.write_bytes(model.SerializeToString())
    return path
