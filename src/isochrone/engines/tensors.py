"""Tensors of the Open Inference Protocol as numpy arrays: three encodings, one meaning.

Intuition: a tensor arrives as JSON numbers or as raw little-endian bytes; both must give the same
array or a refusal that names expected and got. Nothing is rounded, wrapped or truncated in
silence: 1.5 is not an INT32 and 300 is not a UINT8.

Rules: pure. ``BYTES`` elements are length-prefixed (u32) in binary and text in JSON. FP16 in JSON
is accepted and answered as numbers. Not-a-number and infinities have no JSON: they are answered as
``null``, so ask for binary where they matter.

It knows no models: whether a tensor is wanted is decided in ``oip.py``.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from isochrone.schema.errors import InvalidInput

Array = npt.NDArray[Any]

#: OIP datatype → numpy type, little-endian on the wire whatever the machine.
DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype("<u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("<i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "BYTES": np.dtype(np.object_),
}

_NAMES = {dtype.newbyteorder("="): name for name, dtype in DTYPES.items()}

#: Most dimensions of a tensor: numpy's own limit is 64, real models stop at 6.
RANK_MAX = 32

_LENGTH = struct.Struct("<I")


def datatype_of(array: Array) -> str:
    """The OIP datatype of an array; text and byte arrays are ``BYTES``."""
    if array.dtype.kind in "OSU":
        return "BYTES"
    try:
        return _NAMES[array.dtype.newbyteorder("=")]
    except KeyError:
        raise InvalidInput(f"numpy type {array.dtype} has no OIP datatype.") from None


def count(shape: Sequence[int]) -> int:
    """Number of elements. Raises ``InvalidInput`` on a negative or absurd shape."""
    if len(shape) > RANK_MAX:
        raise InvalidInput(f"shape has {len(shape)} dimensions, at most {RANK_MAX} are allowed")
    total = 1
    for size in shape:
        if size < 0:
            raise InvalidInput(f"shape {list(shape)} has a negative dimension")
        total *= size
    return total


def dtype_named(datatype: str) -> np.dtype[Any]:
    """Raises ``InvalidInput`` for a datatype that is unknown or unsupported (BF16)."""
    try:
        return DTYPES[datatype]
    except KeyError:
        known = ", ".join(DTYPES)
        raise InvalidInput(f"datatype '{datatype}' is not supported; use one of {known}") from None


def from_binary(data: bytes | memoryview, datatype: str, shape: Sequence[int]) -> Array:
    """Raw little-endian bytes → array, without a copy where possible."""
    dtype, elements = dtype_named(datatype), count(shape)
    if datatype == "BYTES":
        return _objects(_split_bytes(data, elements), shape)
    expected = elements * dtype.itemsize
    if len(data) != expected:
        raise InvalidInput(
            f"{datatype} of shape {list(shape)} takes {expected} bytes, got {len(data)}"
        )
    if datatype == "BOOL":
        flags = np.frombuffer(data, np.uint8)
        if flags.size and flags.max() > 1:
            raise InvalidInput("BOOL bytes must be 0 or 1")
        return flags.view(np.bool_).reshape(shape)
    return np.frombuffer(data, dtype).reshape(shape)


def to_binary(array: Array) -> bytes:
    """Array → raw little-endian bytes; the inverse of ``from_binary``."""
    datatype = datatype_of(array)
    if datatype != "BYTES":
        return np.ascontiguousarray(array, DTYPES[datatype]).tobytes()
    parts: list[bytes] = []
    for element in array.reshape(-1).tolist():
        raw = element.encode() if isinstance(element, str) else bytes(element)
        parts += (_LENGTH.pack(len(raw)), raw)
    return b"".join(parts)


def from_json(data: list[Any], datatype: str, shape: Sequence[int]) -> Array:
    """JSON numbers (flat or nested, row-major), booleans or text → array."""
    dtype, elements = dtype_named(datatype), count(shape)
    if datatype == "BYTES":
        flat = _flatten(data)
        if not all(isinstance(element, str) for element in flat):
            raise InvalidInput("BYTES data in JSON must be text")
        _expect_count(len(flat), elements, datatype, shape)
        return _objects([element.encode() for element in flat], shape)
    try:
        raw = np.asarray(data)
    except (ValueError, OverflowError) as error:
        raise InvalidInput("data is not a regular array of numbers") from error
    if datatype == "UINT64" and raw.dtype.kind == "f":
        raw = _large_integers(data)  # numpy takes a mix of small and huge integers for floats
    _expect_count(raw.size, elements, datatype, shape)
    if elements:
        _expect_exact(raw, datatype, dtype)
    with np.errstate(over="ignore"):
        array = raw.astype(dtype).reshape(shape)
    if dtype.kind == "f" and elements and not np.isfinite(array).all():
        raise InvalidInput(f"a number is beyond the range of {datatype}")
    return array


def to_json(array: Array) -> list[Any]:
    """Array → flat list for JSON. Raises ``InvalidInput`` for bytes that are not text."""
    if datatype_of(array) != "BYTES":
        flat: list[Any] = array.reshape(-1).tolist()
        return flat
    try:
        return [e if isinstance(e, str) else bytes(e).decode() for e in array.reshape(-1).tolist()]
    except UnicodeDecodeError as error:
        raise InvalidInput("this output is not text; ask for binary data") from error


def _expect_count(got: int, expected: int, datatype: str, shape: Sequence[int]) -> None:
    if got != expected:
        raise InvalidInput(
            f"{datatype} of shape {list(shape)} takes {expected} elements, got {got}"
        )


def _expect_exact(raw: Array, datatype: str, dtype: np.dtype[Any]) -> None:
    """Every element must be a value of the datatype, not merely convertible to one."""
    allowed = {"b": "b", "f": "fiu", "i": "iu", "u": "iu"}[dtype.kind]
    if raw.dtype.kind not in allowed:
        raise InvalidInput(f"data has elements that are not {datatype}")
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        low, high = int(raw.min()), int(raw.max())
        if low < limits.min or high > limits.max:
            worst = low if low < limits.min else high
            raise InvalidInput(f"{worst} is beyond the range of {datatype}")


def _large_integers(data: list[Any]) -> Array:
    raw = np.array(data, np.object_)
    if not all(type(element) is int and 0 <= element < 2**64 for element in raw.reshape(-1)):
        raise InvalidInput("data has elements that are not UINT64")
    return raw.astype(np.uint64)


def _flatten(data: list[Any]) -> list[Any]:
    """Nested lists → flat. Iterative: depth comes from the network."""
    for _ in range(RANK_MAX):
        nested = sum(isinstance(element, list) for element in data)
        if not nested:
            return data
        if nested < len(data):
            raise InvalidInput("data mixes lists and elements")
        data = [inner for element in data for inner in element]
    raise InvalidInput(f"data is nested deeper than {RANK_MAX} lists")


def _objects(elements: list[bytes], shape: Sequence[int]) -> Array:
    array = np.empty(len(elements), np.object_)
    array[:] = elements
    return array.reshape(shape)


def _split_bytes(data: bytes | memoryview, elements: int) -> list[bytes]:
    found: list[bytes] = []
    view, offset = memoryview(data), 0
    while offset < len(view):
        if len(found) == elements or offset + _LENGTH.size > len(view):
            break
        (length,) = _LENGTH.unpack_from(view, offset)
        offset += _LENGTH.size + length
        if offset > len(view):
            break
        found.append(bytes(view[offset - length : offset]))
    if len(found) != elements or offset != len(view):
        raise InvalidInput(f"BYTES data does not hold exactly {elements} length-prefixed elements")
    return found
