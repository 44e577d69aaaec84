"""How far two answers to one request lie apart, in millionths of what honest machines may differ.

Intuition: two honest replicas of one model do not give the same bytes. Processors add in another
order, fuse or do not fuse, and so the last digits differ: by some 10⁻⁶ of a tensor's size in single
precision, and more where values were rounded on the way. A cheaper model differs by far more: eight
bits instead of thirty-two by 10⁻² to 10⁻¹. Between the two lies the bound, and a distance of
1,000,000 is exactly on it.

Bounds, stated:

==================  ===============================================================================
answer              at the bound
==================  ===============================================================================
FP32, FP64          root mean square of the differences = 2·10⁻³ of the values', or the largest
                    = 2·10⁻² of the largest value
FP16                five times that
integers, BOOL      one in fifty elements is another one, or any one of fewer (a label flips
                    honestly on a tie: the referee and the count of wrong ones see to that)
BYTES, text         not the same
embedding           1 − cosine = 2·10⁻⁴, or as FP32 with 2·10⁻²
==================  ===============================================================================

Names, types and shapes must be the same, and infinities and NaNs in the same places; else
``DIFFERENT``. An error answer (status ≥ 400) is compared by nothing: the caller has none.

Cheapest lie caught: int8 instead of single precision, another model. Cheapest lie missed: half
precision instead of single is about 5·10⁻⁴ and passes, by intent: graphics cards compute so by
default. Text of a language model is for ``rules.answer_scores``.

Rules of this file: pure, no numpy (gateways do not load it); what cannot be read is different from
everything but its own bytes. Bodies are at most 1 MiB, so at most about 10⁶ numbers.
"""

from __future__ import annotations

import base64
import binascii
import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from isochrone.schema.digests import UNREADABLE

DIFFERENT: Final = 1_000_000_000
"""The distance of answers that cannot be compared number by number; also the largest there is."""

RMS_BOUND: Final = 2e-3
MOST_BOUND: Final = 2e-2
HALF: Final = 5.0
"""A bound in FP16, times that of FP32."""
COSINE_BOUND: Final = 2e-4
EMBEDDING_RMS_BOUND: Final = 2e-2
OTHERS_ONE_IN: Final = 50

LENGTH_HEADER: Final = "inference-header-content-length"

_FORMATS: Final = {
    "BOOL": "?",
    "UINT8": "B",
    "UINT16": "H",
    "UINT32": "I",
    "UINT64": "Q",
    "INT8": "b",
    "INT16": "h",
    "INT32": "i",
    "INT64": "q",
    "FP16": "e",
    "FP32": "f",
    "FP64": "d",
}


class Tensor(msgspec.Struct, frozen=True):
    """One output: its values flat, ``None`` where JSON had no number for them."""

    datatype: str
    shape: tuple[int, ...]
    values: Sequence[Any]


class _Output(msgspec.Struct):
    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, Any] = {}
    data: list[Any] | None = None


class _Answer(msgspec.Struct):
    outputs: list[_Output]


class _Embedding(msgspec.Struct):
    embedding: list[float] | str


class _Embeddings(msgspec.Struct):
    data: list[_Embedding]


_read_answer = msgspec.json.Decoder(_Answer).decode
_read_embeddings = msgspec.json.Decoder(_Embeddings).decode


def distance_ppm(
    operation: str,
    one: bytes,
    two: bytes,
    one_headers: Mapping[str, str],
    two_headers: Mapping[str, str],
) -> int:
    """The distance of two answers' bodies, 0 to ``DIFFERENT``. ``operation``: as asked.

    Headers have lower-case names (binary tensors are cut by one).
    """
    if one == two:
        return 0
    try:
        if operation == "infer":
            first, second = tensors(one, one_headers), tensors(two, two_headers)
            return _of_tensors(first, second)
        if operation == "embeddings":
            return _of_embeddings(embeddings(one), embeddings(two))
    except (ValueError, TypeError, OverflowError, struct.error, *UNREADABLE):
        pass
    return DIFFERENT


def tensors(body: bytes, headers: Mapping[str, str]) -> dict[str, Tensor]:
    """The outputs of an Open Inference Protocol answer, by name; raises ValueError and the like."""
    stated = headers.get(LENGTH_HEADER, "")
    cut = int(stated) if stated.isascii() and stated.isdigit() and len(stated) < 12 else len(body)
    blob, at = memoryview(body)[cut:], 0
    found: dict[str, Tensor] = {}
    for output in _read_answer(body[:cut]).outputs:
        shape = tuple(output.shape)
        size = output.parameters.get("binary_data_size")
        if size is None:
            values: Sequence[Any] = _flat(output.data or [])
        else:
            if not isinstance(size, int) or not 0 <= size <= len(blob) - at:
                raise ValueError("a tensor's bytes are not there")
            values = _raw(blob[at : at + size], output.datatype)
            at += size
        if len(values) != math.prod(shape) and output.datatype != "BYTES":
            raise ValueError("a tensor's size and shape disagree")
        found[output.name] = Tensor(output.datatype, shape, values)
    return found


def embeddings(body: bytes) -> list[list[float]]:
    """The vectors of an embeddings answer, in floats or base64; raises ValueError and the like."""
    found: list[list[float]] = []
    for entry in _read_embeddings(body).data:
        if isinstance(entry.embedding, str):
            try:
                raw = base64.b64decode(entry.embedding, validate=True)
            except binascii.Error as error:
                raise ValueError("not base64") from error
            found.append(list(struct.unpack(f"<{len(raw) // 4}f", raw)))
        else:
            found.append(entry.embedding)
    return found


def _raw(data: memoryview, datatype: str) -> Sequence[Any]:
    if datatype == "BYTES":
        return [bytes(data)]
    code = _FORMATS.get(datatype)
    if code is None:
        raise ValueError("unknown datatype")
    return struct.unpack(f"<{len(data) // struct.calcsize(code)}{code}", data)


def _flat(data: list[Any]) -> list[Any]:
    while data and isinstance(data[0], list):
        data = [inner for part in data for inner in (part if isinstance(part, list) else [part])]
    return data


def _of_tensors(one: Mapping[str, Tensor], two: Mapping[str, Tensor]) -> int:
    if one.keys() != two.keys():
        return DIFFERENT
    most = 0
    for name, first in one.items():
        second = two[name]
        if (first.datatype, first.shape) != (second.datatype, second.shape):
            return DIFFERENT
        most = max(most, _of_values(first.datatype, first.values, second.values))
    return most


def _of_values(datatype: str, one: Sequence[Any], two: Sequence[Any]) -> int:
    if len(one) != len(two):
        return DIFFERENT
    if datatype == "BYTES":
        return 0 if list(one) == list(two) else DIFFERENT
    if not datatype.startswith("FP"):
        others = sum(a != b for a, b in zip(one, two, strict=True))
        return 0 if not others else _ppm(max(1.5, others * OTHERS_ONE_IN / len(one)))
    slack = HALF if datatype == "FP16" else 1.0
    return _of_floats(one, two, RMS_BOUND * slack, MOST_BOUND * slack)


def _of_floats(one: Sequence[Any], two: Sequence[Any], rms: float, most: float) -> int:
    """Both measures of two vectors, the worse one in millionths of its bound."""
    differences = sums = largest = apart = 0.0
    for a, b in zip(one, two, strict=True):
        if not (_finite(a) and _finite(b)):
            if not _same(a, b):
                return DIFFERENT
            continue
        gap, size = abs(a - b), max(abs(a), abs(b))
        differences += gap * gap
        sums += size * size
        largest, apart = max(largest, size), max(apart, gap)
    if apart == 0.0:
        return 0
    if not math.isfinite(sums) or sums == 0.0:
        return DIFFERENT
    return _ppm(max(math.sqrt(differences / sums) / rms, apart / largest / most))


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _same(a: Any, b: Any) -> bool:
    return a is b or a == b or (isinstance(a, float) and isinstance(b, float) and a != a and b != b)


def _of_embeddings(one: list[list[float]], two: list[list[float]]) -> int:
    if [len(vector) for vector in one] != [len(vector) for vector in two]:
        return DIFFERENT
    most = 0
    for first, second in zip(one, two, strict=True):
        most = max(most, _of_floats(first, second, EMBEDDING_RMS_BOUND, 10 * EMBEDDING_RMS_BOUND))
        norm = math.sqrt(sum(a * a for a in first)) * math.sqrt(sum(b * b for b in second))
        if norm > 0 and math.isfinite(norm):
            cosine = sum(a * b for a, b in zip(first, second, strict=True)) / norm
            most = max(most, _ppm((1.0 - cosine) / COSINE_BOUND))
    return most


def _ppm(bounds: float) -> int:
    """Whole millionths; never beyond ``DIFFERENT``."""
    return (
        int(min(float(DIFFERENT), max(0.0, bounds) * 1e6)) if math.isfinite(bounds) else DIFFERENT
    )
