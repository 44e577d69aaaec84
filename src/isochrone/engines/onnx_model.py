"""An ONNX model, loaded: checked inputs in, arrays out. Lives in the worker process.

Intuition: everything a caller can get wrong is found before the model runs, and said as expected
against got. What onnxruntime still refuses at run time (sizes that disagree inside the graph) is
the caller's fault too; running out of memory and device errors are ours.

Rules: a model file may not read other files. onnxruntime resolves external tensors beside the
model, where a node keeps other tenants' files, so their folder is set to one that cannot exist;
models must be single files. No custom operators are ever loaded.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np
import onnxruntime

from isochrone.engines.oip import InferRequest, OutputAsk
from isochrone.engines.options import OnnxOptions
from isochrone.engines.tensors import DTYPES, Array, datatype_of
from isochrone.engines.worker_turns import Stop
from isochrone.schema.errors import InvalidInput, IsochroneError, Overloaded, Unavailable

#: onnxruntime's element types → OIP datatypes.
_DATATYPES = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}

#: Log nothing: failures come as exceptions, and callers could fill a disk with warnings.
_SEVERITY_FATAL = 4

#: Sizes that the trial run tries for free dimensions, in order: graphs with strides refuse 1, and
#: audio graphs want a window.
_WARM_SIZES = (1, 64, 576)

#: Most elements of a trial input: 4 MiB of float32.
_WARM_ELEMENTS_MAX = 1 << 20

#: Words in onnxruntime's messages that mean "no memory".
_MEMORY_WORDS = ("failed to allocate memory", "bad allocation", "bad_alloc", "out of memory")


class StoppedError(Exception):
    """The run was stopped because nobody waits for it any more."""


def make_stop() -> Stop:
    """What ends one run when its ``terminate`` is set."""
    options = onnxruntime.RunOptions()
    options.log_severity_level = _SEVERITY_FATAL
    return cast("Stop", options)


class TensorSpec(msgspec.Struct, frozen=True):
    """One input or output of a model: -1 stands for a free dimension."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    def document(self) -> dict[str, Any]:
        """As OIP metadata."""
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}


class OnnxModel:
    """A session and what it takes. ``device`` is the one it really runs on."""

    def __init__(self, path: Path, options: OnnxOptions) -> None:
        started = time.perf_counter()
        self.name = options.name
        self._session = _open(path, options)
        self.inputs = _specs(self._session.get_inputs())
        self.outputs = _specs(self._session.get_outputs())
        self.device = "cuda" if "CUDA" in self._session.get_providers()[0] else "cpu"
        self.load_ms = (time.perf_counter() - started) * 1000
        self._by_name = {spec.name: spec for spec in self.inputs}
        self._output_names = [spec.name for spec in self.outputs]

    def metadata(self) -> dict[str, object]:
        """OIP v2 model metadata."""
        return {
            "name": self.name,
            "versions": ["1"],
            "platform": "onnxruntime_onnx",
            "inputs": [spec.document() for spec in self.inputs],
            "outputs": [spec.document() for spec in self.outputs],
        }

    def check(self, request: InferRequest) -> tuple[OutputAsk, ...]:
        """The outputs to compute. Raises ``InvalidInput`` when the request does not fit."""
        for name in request.inputs:
            if name not in self._by_name:
                raise InvalidInput(f"unknown input '{name}'; the model takes {self._names()}")
        for spec in self.inputs:
            array = request.inputs.get(spec.name)
            if array is None:
                raise InvalidInput(
                    f"input '{spec.name}' is missing; the model takes {self._names()}"
                )
            _expect(spec, array)
        for ask in request.outputs:
            if ask.name not in self._output_names:
                known = ", ".join(self._output_names)
                raise InvalidInput(f"unknown output '{ask.name}'; the model gives {known}")
        return request.outputs or tuple(OutputAsk(name) for name in self._output_names)

    def run(
        self, inputs: dict[str, Array], outputs: Sequence[str], stop: Stop | None = None
    ) -> tuple[list[Array], int]:
        """Outputs in the order asked, and microseconds inside the model. ``stop``, from
        ``make_stop``, ends the run from another thread.

        Raises ``StoppedError`` when it did, ``InvalidInput`` when the graph refuses these inputs,
        ``Overloaded`` when memory ran out, ``Unavailable`` when the device failed.
        """
        fed = {n: _as_text(a) if a.dtype.kind == "O" else a for n, a in inputs.items()}
        started = time.perf_counter_ns()
        try:
            arrays = self._session.run(list(outputs), fed, stop)
        except Exception as error:
            if stop is not None and stop.terminate:
                raise StoppedError from error
            raise _mapped_run(error, self.device) from error
        engine_us = (time.perf_counter_ns() - started) // 1000
        for name, array in zip(outputs, arrays, strict=True):
            if not isinstance(array, np.ndarray):
                raise InvalidInput(f"output '{name}' is not a tensor; do not ask for it")
        return arrays, engine_us

    def warm(self) -> float:
        """Run once on zeros; milliseconds. A graph that refuses all sizes tried still counts as
        warmed: most of its memory and kernels were set up on the way."""
        started = time.perf_counter()
        for size in _WARM_SIZES:
            inputs = {spec.name: _zeros(spec, size) for spec in self.inputs}
            if any(array.size > _WARM_ELEMENTS_MAX for array in inputs.values()):
                break
            with contextlib.suppress(InvalidInput):
                self.run(inputs, self._output_names)
                break
        return (time.perf_counter() - started) * 1000

    def _names(self) -> str:
        return ", ".join(f"{s.name} ({s.datatype} {list(s.shape)})" for s in self.inputs)


def _open(path: Path, options: OnnxOptions) -> onnxruntime.InferenceSession:
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.threads
    settings.inter_op_num_threads = 1
    settings.log_severity_level = _SEVERITY_FATAL
    # Spinning threads would steal the cores of other replicas.
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    settings.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", os.devnull
    )
    if not path.is_file():
        raise InvalidInput(f"Model file {path.name} is not there.", fix="Apply the model again.")
    try:
        session = onnxruntime.InferenceSession(
            str(path), settings, providers=_providers(options.device)
        )
    except Exception as error:
        raise _mapped_load(error, path) from error
    if options.device == "cuda" and "CUDA" not in session.get_providers()[0]:
        raise InvalidInput(
            "onnxruntime could not start the CUDA device.",
            fix="Check the driver, or set the option device to cpu.",
        )
    return session


def _providers(device: str) -> list[str]:
    offered = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    if device == "cuda" and not offered:
        raise InvalidInput(
            "This machine's onnxruntime offers no CUDA device.",
            fix="Install onnxruntime-gpu there, or set the option device to auto.",
        )
    cuda = ["CUDAExecutionProvider"] if offered and device != "cpu" else []
    return [*cuda, "CPUExecutionProvider"]


def _mapped_load(error: Exception, path: Path) -> IsochroneError:
    text = str(error)
    if isinstance(error, MemoryError) or any(word in text.lower() for word in _MEMORY_WORDS):
        return Overloaded(
            f"Not enough memory to load {path.name}.", fix="Ask for more memory in resources."
        )
    return InvalidInput(
        f"{path.name} is not a model that onnxruntime {onnxruntime.__version__} can load: "
        f"{_short(text)}.",
        fix="Export it again as one ONNX file, without external data or custom operators.",
    )


def _mapped_run(error: Exception, device: str) -> IsochroneError:
    text = str(error)
    if isinstance(error, MemoryError) or any(word in text.lower() for word in _MEMORY_WORDS):
        return Overloaded("The replica has not enough memory for this request.")
    if device != "cpu" and "CUDA" in text:
        return Unavailable(f"The device failed: {_short(text)}.")
    return InvalidInput(f"the model refuses these inputs: {_short(text)}")


def _short(text: str) -> str:
    """An onnxruntime message without its prefix, on one line, at most 300 characters."""
    line = " ".join(text.split())
    _, _, tail = line.rpartition("[ONNXRuntimeError] : ")
    return tail[:300].rstrip(". ")


def _specs(nodes: Sequence[Any]) -> tuple[TensorSpec, ...]:
    specs = []
    for node in nodes:
        datatype = _DATATYPES.get(node.type)
        if datatype is None:
            raise InvalidInput(
                f"'{node.name}' is a {node.type}, which the Open Inference Protocol lacks.",
                fix="Export the model with tensors of numbers, booleans or text only.",
            )
        shape = tuple(d if isinstance(d, int) and d >= 0 else -1 for d in node.shape or ())
        specs.append(TensorSpec(node.name, datatype, shape))
    return tuple(specs)


def _expect(spec: TensorSpec, array: Array) -> None:
    got = datatype_of(array)
    if got != spec.datatype:
        raise InvalidInput(f"input '{spec.name}' is {got}, expected {spec.datatype}")
    if not spec.shape:
        return  # a scalar or an unstated rank: onnxruntime does not check it either
    fits = len(array.shape) == len(spec.shape) and all(
        want in (-1, size) for want, size in zip(spec.shape, array.shape, strict=True)
    )
    if not fits:
        raise InvalidInput(
            f"input '{spec.name}' has shape {list(array.shape)}, expected {list(spec.shape)}"
            " (-1 is any size)"
        )


def _zeros(spec: TensorSpec, size: int) -> Array:
    shape = [size if dimension == -1 else dimension for dimension in spec.shape]
    if spec.datatype == "BYTES":
        return np.full(shape, b"", np.object_)
    return np.zeros(shape, DTYPES[spec.datatype])


def _as_text(array: Array) -> Array:
    """onnxruntime's text tensors take ``str``; the protocol carries bytes."""
    try:
        text = [element.decode() for element in array.reshape(-1).tolist()]
    except UnicodeDecodeError as error:
        raise InvalidInput("BYTES for a text input must be UTF-8") from error
    objects = np.empty(len(text), np.object_)
    objects[:] = text
    return objects.reshape(array.shape)
