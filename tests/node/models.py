"""A tiny ONNX model, made here, with its questions and answers."""

from __future__ import annotations

import functools

import msgspec
import onnx
from onnx import TensorProto, helper


def _model(nodes: list[onnx.NodeProto]) -> bytes:
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    data: bytes = model.SerializeToString()
    return data


@functools.cache
def doubling() -> bytes:
    """y = x + x."""
    return _model([helper.make_node("Add", ["x", "x"], ["y"])])


def question(*values: float) -> bytes:
    """An OIP inference request for it."""
    tensor = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": list(values)}
    return msgspec.json.encode({"inputs": [tensor]})


def answered(body: bytes) -> list[float]:
    """The values of the first output."""
    values: list[float] = msgspec.json.decode(body)["outputs"][0]["data"]
    return values
