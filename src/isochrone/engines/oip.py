"""Open Inference Protocol v2 (KServe, Triton): requests and answers as bytes, both ways.

Intuition: one JSON object names the tensors. With the binary tensor extension the JSON is a prefix
of ``Inference-Header-Content-Length`` bytes and the tensors follow it raw, in order. Both forms may
mix in one request, tensor by tensor.

Rules: pure. Decoding refuses anything that does not add up (names twice, data twice, bytes left
over, sizes that disagree) with ``InvalidInput`` whose message says expected and got; the message
becomes the protocol's error body, ``{"error": "..."}``. Fields that we do not know are ignored, as
the protocol asks; parameters that would change the meaning (shared memory, classification) are
refused.

It does not know what a model wants: see ``OnnxModel.check``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from isochrone.engines.error_bodies import LENGTH_HEADER as LENGTH_HEADER
from isochrone.engines.tensors import (
    Array,
    count,
    datatype_of,
    from_binary,
    from_json,
    to_binary,
    to_json,
)
from isochrone.schema.errors import InvalidInput

#: Most tensors in one request: no model here has ten inputs, and each costs work to refuse.
TENSORS_MAX = 256

#: Parameters that change what a request means and that nothing here implements.
_REFUSED = ("shared_memory_region", "classification", "sequence_id")


class OutputAsk(msgspec.Struct, frozen=True):
    """One output that the caller wants; ``binary`` None means the request's default."""

    name: str
    binary: bool | None = None


class InferRequest(msgspec.Struct, frozen=True):
    """A decoded request. ``outputs`` empty means all of them, in the model's order.
    ``binary_default``: outputs that do not say otherwise are answered as raw bytes."""

    id: str
    inputs: dict[str, Array]
    outputs: tuple[OutputAsk, ...]
    binary_default: bool


class InferResponse(msgspec.Struct, frozen=True):
    """A decoded answer."""

    id: str
    model_name: str
    outputs: dict[str, Array]


class _Tensor(msgspec.Struct):
    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, Any] = {}
    data: list[Any] | None = None


class _Ask(msgspec.Struct):
    name: str
    parameters: dict[str, Any] = {}


class _Request(msgspec.Struct):
    inputs: list[_Tensor]
    id: str = ""
    outputs: list[_Ask] = []
    parameters: dict[str, Any] = {}


class _Response(msgspec.Struct):
    model_name: str
    outputs: list[_Tensor]
    id: str = ""


_request_decoder = msgspec.json.Decoder(_Request)
_response_decoder = msgspec.json.Decoder(_Response)
_encode = msgspec.json.Encoder().encode


def decode_request(body: bytes | memoryview, headers: Mapping[str, str]) -> InferRequest:
    """Bytes → request. ``headers`` has lower-case names. Raises ``InvalidInput``."""
    encoding = headers.get("content-encoding", "identity")
    if encoding != "identity":
        raise InvalidInput(f"content-encoding '{encoding}' is not supported; send it plain")
    document, blob = _cut(body, headers)
    request = _parse(_request_decoder, document)
    if len(request.inputs) > TENSORS_MAX or len(request.outputs) > TENSORS_MAX:
        raise InvalidInput(f"more than {TENSORS_MAX} inputs or outputs")
    _refuse_unimplemented(request.parameters)
    for ask in request.outputs:
        _refuse_unimplemented(ask.parameters)
    asks = tuple(OutputAsk(o.name, _flag(o.parameters, "binary_data")) for o in request.outputs)
    if len({ask.name for ask in asks}) != len(asks):
        raise InvalidInput("an output is requested twice")
    return InferRequest(
        id=request.id,
        inputs=_tensors(request.inputs, blob, "input"),
        outputs=asks,
        binary_default=bool(_flag(request.parameters, "binary_data_output")),
    )


def encode_response(
    model_name: str,
    request_id: str,
    outputs: Sequence[tuple[str, Array, bool]],
    *,
    model_version: str = "1",
) -> tuple[list[tuple[str, str]], list[bytes]]:
    """``(name, array, binary)`` outputs → headers and body parts, to be written in order.

    Raises ``InvalidInput`` for an output that JSON cannot carry.
    """
    documents, blobs = [], []
    for name, array, binary in outputs:
        document, blob = _describe(name, array, binary)
        documents.append(document)
        blobs.append(blob)
    answer: dict[str, Any] = {"model_name": model_name, "model_version": model_version}
    if request_id:
        answer["id"] = request_id
    return _assemble(answer | {"outputs": documents}, blobs)


def encode_request(
    inputs: Mapping[str, Array],
    *,
    request_id: str = "",
    outputs: Sequence[OutputAsk] = (),
    binary: bool = True,
    binary_output: bool = False,
) -> tuple[list[tuple[str, str]], list[bytes]]:
    """A caller's side of ``decode_request``: headers and body parts."""
    documents, blobs = [], []
    for name, array in inputs.items():
        document, blob = _describe(name, array, binary)
        documents.append(document)
        blobs.append(blob)
    request: dict[str, Any] = {"inputs": documents}
    if request_id:
        request["id"] = request_id
    if outputs:
        request["outputs"] = [
            {"name": ask.name}
            | ({} if ask.binary is None else {"parameters": {"binary_data": ask.binary}})
            for ask in outputs
        ]
    if binary_output:
        request["parameters"] = {"binary_data_output": True}
    return _assemble(request, blobs)


def decode_response(body: bytes | memoryview, headers: Mapping[str, str]) -> InferResponse:
    """A caller's side of ``encode_response``. Raises ``InvalidInput``."""
    document, blob = _cut(body, headers)
    response = _parse(_response_decoder, document)
    return InferResponse(
        response.id, response.model_name, _tensors(response.outputs, blob, "output")
    )


def _cut(body: bytes | memoryview, headers: Mapping[str, str]) -> tuple[memoryview, memoryview]:
    """JSON and raw tensors."""
    view = memoryview(body)
    stated = headers.get(LENGTH_HEADER)
    if stated is None:
        return view, view[len(view) :]
    if not (stated.isascii() and stated.isdigit() and len(stated) <= len(str(2**63))):
        raise InvalidInput(f"{LENGTH_HEADER} is not a number: '{stated[:40]}'")
    length = int(stated)
    if length > len(view):
        raise InvalidInput(f"{LENGTH_HEADER} says {length} bytes, the body has {len(view)}")
    return view[:length], view[length:]


def _parse(decoder: msgspec.json.Decoder[Any], document: memoryview) -> Any:
    try:
        return decoder.decode(document)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"not an inference request: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"malformed JSON: {error}") from error
    except RecursionError:
        raise InvalidInput("malformed JSON: nested too deeply") from None


def _tensors(found: list[_Tensor], blob: memoryview, what: str) -> dict[str, Array]:
    arrays: dict[str, Array] = {}
    offset = 0
    for tensor in found:
        if tensor.name in arrays:
            raise InvalidInput(f"{what} '{tensor.name}' is given twice")
        size = _blob_size(tensor)
        try:
            if size is None:
                arrays[tensor.name] = from_json(tensor.data or [], tensor.datatype, tensor.shape)
                continue
            if offset + size > len(blob):
                raise InvalidInput(
                    f"binary_data_size is {size}, {len(blob) - offset} bytes are left"
                )
            raw = blob[offset : offset + size]
            arrays[tensor.name] = from_binary(raw, tensor.datatype, tensor.shape)
        except InvalidInput as error:
            raise InvalidInput(f"{what} '{tensor.name}': {error.message}") from error
        offset += size
    if offset != len(blob):
        raise InvalidInput(f"{len(blob) - offset} bytes after the last tensor belong to none")
    return arrays


def _blob_size(tensor: _Tensor) -> int | None:
    """Bytes of this tensor in the blob; None when its data is in the JSON."""
    _refuse_unimplemented(tensor.parameters)
    size = tensor.parameters.get("binary_data_size")
    if size is None:
        if tensor.data is None and count(tensor.shape):
            raise InvalidInput(f"tensor '{tensor.name}' has neither data nor binary_data_size")
        return None
    if tensor.data is not None:
        raise InvalidInput(f"tensor '{tensor.name}' has both data and binary_data_size")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise InvalidInput(f"tensor '{tensor.name}': binary_data_size must be a number of bytes")
    return size


def _flag(parameters: Mapping[str, Any], name: str) -> bool | None:
    value = parameters.get(name)
    if value is not None and not isinstance(value, bool):
        raise InvalidInput(f"parameter '{name}' must be true or false")
    return value


def _refuse_unimplemented(parameters: Mapping[str, Any]) -> None:
    for name in _REFUSED:
        if parameters.get(name):
            raise InvalidInput(f"parameter '{name}' is not supported here")


def _describe(name: str, array: Array, binary: bool) -> tuple[dict[str, Any], bytes]:
    document: dict[str, Any] = {
        "name": name,
        "datatype": datatype_of(array),
        "shape": list(array.shape),
    }
    if not binary:
        return document | {"data": to_json(array)}, b""
    blob = to_binary(array)
    return document | {"parameters": {"binary_data_size": len(blob)}}, blob


def _assemble(
    document: dict[str, Any], blobs: list[bytes]
) -> tuple[list[tuple[str, str]], list[bytes]]:
    head = bytes(_encode(document))
    length = len(head) + sum(map(len, blobs))
    binary = any("parameters" in tensor for tensor in document.get("outputs", ()))
    binary = binary or any("parameters" in tensor for tensor in document.get("inputs", ()))
    if not binary:
        headers = [("content-type", "application/json"), ("content-length", str(length))]
        return headers, [head]
    return [
        ("content-type", "application/octet-stream"),
        ("content-length", str(length)),
        (LENGTH_HEADER, str(len(head))),
    ], [head, *(blob for blob in blobs if blob)]
