"""The MiniLM sentence encoder as one ONNX file, built from its weights without torch.

Intuition: BERT is six times the same block. Writing the graph by hand with ``onnx.helper`` gives a
file that is equal to the byte wherever it is built, and lets pooling and normalisation live inside
the graph, so that the engine has nothing to compute.

Facts: 6 layers of 384, 12 heads, vocabulary 30,522, at most 512 positions (the model was trained
for 256); mean over the tokens that count, then length 1. Inputs ``input_ids`` and
``attention_mask``, INT64 [batch, tokens]; output ``sentence_embedding``, FP32 [batch, 384].
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

#: Opset 17 is the first with LayerNormalization; IR 8 is what it came with.
OPSET, IR_VERSION = 17, 8

LAYERS, HEADS, WIDTH, EPSILON = 6, 12, 384, 1e-12

#: Added to the scores of tokens that do not count: vanishes in a softmax of float32.
_MASKED = -1e9

Weights = dict[str, npt.NDArray[Any]]


class _Graph:
    """Nodes and constants in the order they are added."""

    def __init__(self, weights: Weights) -> None:
        from onnx import helper, numpy_helper

        self._make_node, self._make_tensor = helper.make_node, numpy_helper.from_array
        self.weights = weights
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}

    def constant(self, name: str, value: npt.NDArray[Any]) -> str:
        """A constant by name, added once."""
        if name not in self.constants:
            self.constants[name] = self._make_tensor(np.ascontiguousarray(value), name)
        return name

    def add(self, op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """A node with one output."""
        self.nodes.append(self._make_node(op, inputs, [output], name=output, **attributes))
        return output

    def linear(self, x: str, layer: str, output: str) -> str:
        """``x · Wᵀ + b`` with the weights of ``layer``."""
        weight = self.constant(f"{layer}.weight", self.weights[f"{layer}.weight"].T)
        bias = self.constant(f"{layer}.bias", self.weights[f"{layer}.bias"])
        product = self.add("MatMul", [x, weight], f"{output}.product")
        return self.add("Add", [product, bias], output)

    def normalised(self, x: str, layer: str, output: str) -> str:
        """Layer normalisation with the weights of ``layer``."""
        scale = self.constant(f"{layer}.weight", self.weights[f"{layer}.weight"])
        bias = self.constant(f"{layer}.bias", self.weights[f"{layer}.bias"])
        return self.add("LayerNormalization", [x, scale, bias], output, axis=-1, epsilon=EPSILON)

    def gelu(self, x: str, output: str) -> str:
        """x/2 · (1 + erf(x/√2)), the exact form that the weights were trained with."""
        root = self.constant("root_two", np.array(np.sqrt(2), np.float32))
        one, half = self._scalar("one", 1.0), self._scalar("half", 0.5)
        error = self.add("Erf", [self.add("Div", [x, root], f"{output}.scaled")], f"{output}.erf")
        shifted = self.add("Add", [error, one], f"{output}.shifted")
        product = self.add("Mul", [x, shifted], f"{output}.product")
        return self.add("Mul", [product, half], output)

    def _scalar(self, name: str, value: float) -> str:
        return self.constant(name, np.array(value, np.float32))


def build_minilm(safetensors_file: Path, onnx_file: Path) -> None:
    """Write the graph. Equal weights give equal bytes."""
    from onnx import TensorProto, helper
    from safetensors.numpy import load_file

    graph = _Graph(load_file(str(safetensors_file)))
    hidden, bias = _embed(graph), _mask_bias(graph)
    for layer in range(LAYERS):
        hidden = _block(graph, hidden, bias, f"encoder.layer.{layer}")
    _pool(graph, hidden)
    tokens, value = ["batch", "tokens"], helper.make_tensor_value_info
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "all-MiniLM-L6-v2",
            [value(name, TensorProto.INT64, tokens) for name in ("input_ids", "attention_mask")],
            [value("sentence_embedding", TensorProto.FLOAT, ["batch", WIDTH])],
            list(graph.constants.values()),
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="isochrone",
    )
    onnx_file.write_bytes(model.SerializeToString(deterministic=True))


def _embed(graph: _Graph) -> str:
    """Words + positions + the first token type, normalised."""
    weights = graph.weights
    words = graph.constant("words", weights["embeddings.word_embeddings.weight"])
    # Token types are always 0 here: their row joins the positions once and for all.
    table = weights["embeddings.position_embeddings.weight"]
    table = table + weights["embeddings.token_type_embeddings.weight"][0]
    positions = graph.constant("positions", table)
    zero, one = (graph.constant(f"index_{n}", np.array([n], np.int64)) for n in (0, 1))
    shape = graph.add("Shape", ["input_ids"], "shape")
    length = graph.add("Gather", [shape, one], "length")
    used = graph.add("Slice", [positions, zero, length], "positions.used")
    found = graph.add("Gather", [words, "input_ids"], "words.found")
    summed = graph.add("Add", [found, used], "embedded")
    return graph.normalised(summed, "embeddings.LayerNorm", "hidden")


def _mask_bias(graph: _Graph) -> str:
    """[batch, 1, 1, tokens]: 0 where a token counts, very negative where it does not."""
    axes = graph.constant("mask.axes", np.array([1, 2], np.int64))
    one = graph.constant("one", np.array(1, np.float32))
    masked = graph.constant("masked", np.array(_MASKED, np.float32))
    mask = graph.add("Cast", ["attention_mask"], "mask", to=1)
    absent = graph.add("Sub", [one, mask], "absent")
    bias = graph.add("Mul", [absent, masked], "absent.bias")
    return graph.add("Unsqueeze", [bias, axes], "bias")


def _block(graph: _Graph, x: str, bias: str, name: str) -> str:
    """Attention and feed-forward, each added to its input and normalised."""
    attended = _attention(graph, x, bias, f"{name}.attention.self")
    projected = graph.linear(attended, f"{name}.attention.output.dense", f"{name}.projected")
    summed = graph.add("Add", [projected, x], f"{name}.attention.sum")
    inner = graph.normalised(summed, f"{name}.attention.output.LayerNorm", f"{name}.attended")
    wide = graph.linear(inner, f"{name}.intermediate.dense", f"{name}.wide")
    narrow = graph.linear(
        graph.gelu(wide, f"{name}.gelu"), f"{name}.output.dense", f"{name}.narrow"
    )
    summed = graph.add("Add", [narrow, inner], f"{name}.sum")
    return graph.normalised(summed, f"{name}.output.LayerNorm", f"{name}.out")


def _attention(graph: _Graph, x: str, bias: str, name: str) -> str:
    size = WIDTH // HEADS
    split = graph.constant("heads.split", np.array([0, 0, HEADS, size], np.int64))
    joined = graph.constant("heads.joined", np.array([0, 0, WIDTH], np.int64))
    scale = graph.constant("heads.scale", np.array(np.sqrt(size), np.float32))
    parts = {}
    for part, order in (("query", [0, 2, 1, 3]), ("key", [0, 2, 3, 1]), ("value", [0, 2, 1, 3])):
        flat = graph.linear(x, f"{name}.{part}", f"{name}.{part}.flat")
        heads = graph.add("Reshape", [flat, split], f"{name}.{part}.heads")
        parts[part] = graph.add("Transpose", [heads], f"{name}.{part}.turned", perm=order)
    scores = graph.add("MatMul", [parts["query"], parts["key"]], f"{name}.scores")
    scaled = graph.add("Div", [scores, scale], f"{name}.scaled")
    masked = graph.add("Add", [scaled, bias], f"{name}.masked")
    weights = graph.add("Softmax", [masked], f"{name}.weights", axis=-1)
    mixed = graph.add("MatMul", [weights, parts["value"]], f"{name}.mixed")
    turned = graph.add("Transpose", [mixed], f"{name}.mixed.turned", perm=[0, 2, 1, 3])
    return graph.add("Reshape", [turned, joined], f"{name}.joined")


def _pool(graph: _Graph, hidden: str) -> None:
    """Mean over the tokens that count, then length 1."""
    last = graph.constant("last.axis", np.array([-1], np.int64))
    tokens = graph.constant("tokens.axis", np.array([1], np.int64))
    least = graph.constant("least", np.array(1e-9, np.float32))
    wide = graph.add("Unsqueeze", ["mask", last], "mask.wide")
    counted = graph.add("Mul", [hidden, wide], "counted")
    total = graph.add("ReduceSum", [counted, tokens], "total", keepdims=0)
    count = graph.add("ReduceSum", [wide, tokens], "count", keepdims=0)
    mean = graph.add("Div", [total, graph.add("Max", [count, least], "count.least")], "mean")
    length = graph.add("ReduceL2", [mean], "mean.length", axes=[-1], keepdims=1)
    graph.add(
        "Div", [mean, graph.add("Max", [length, least], "length.least")], "sentence_embedding"
    )
