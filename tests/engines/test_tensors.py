from __future__ import annotations

import numpy as np
import pytest

from isochrone.engines.tensors import RANK_MAX, from_binary, from_json, to_binary, to_json
from isochrone.schema.errors import InvalidInput


@pytest.mark.parametrize(
    ("data", "datatype", "shape", "reason"),
    [
        ([1, 2, 3], "FP32", [2, 2], "takes 4 elements, got 3"),
        ([1.5], "INT32", [1], "not INT32"),
        ([True], "INT32", [1], "not INT32"),
        ([1], "BOOL", [1], "not BOOL"),
        ([300], "UINT8", [1], "300 is beyond the range of UINT8"),
        ([-1, 255], "UINT8", [2], "-1 is beyond the range of UINT8"),
        ([70000.0], "FP16", [1], "beyond the range of FP16"),
        ([1e39], "FP32", [1], "beyond the range of FP32"),
        ([2**70], "INT64", [1], "not INT64"),
        (["a"], "FP32", [1], "not FP32"),
        ([None], "FP32", [1], "not FP32"),
        ([[1, 2], [3]], "FP32", [3], "not a regular array"),
        ([1], "BF16", [1], "'BF16' is not supported"),
        ([1], "FP32", [-1], "negative dimension"),
        ([1], "FP32", [1] * (RANK_MAX + 1), "at most"),
        ([5], "BYTES", [1], "must be text"),
        ([["a"], "b"], "BYTES", [2], "mixes lists"),
    ],
)
def test_json_that_is_not_the_tensor_is_refused(data, datatype, shape, reason) -> None:
    with pytest.raises(InvalidInput) as refused:
        from_json(data, datatype, shape)
    assert reason in refused.value.message


@pytest.mark.parametrize(
    ("data", "datatype", "shape", "reason"),
    [
        (b"\0" * 7, "FP32", [2], "takes 8 bytes, got 7"),
        (b"\2", "BOOL", [1], "0 or 1"),
        (b"\5\0\0\0abc", "BYTES", [1], "exactly 1"),
        (b"\1\0\0\0a\1\0\0\0b", "BYTES", [1], "exactly 1"),
        (b"\1\0", "BYTES", [1], "exactly 1"),
        (b"", "BYTES", [1], "exactly 1"),
    ],
)
def test_bytes_that_are_not_the_tensor_are_refused(data, datatype, shape, reason) -> None:
    with pytest.raises(InvalidInput) as refused:
        from_binary(data, datatype, shape)
    assert reason in refused.value.message


def test_whole_numbers_are_valid_floats_and_nesting_is_flattened() -> None:
    array = from_json([[1, 2], [3, 4]], "FP32", [4, 1])
    assert array.dtype == np.float32
    assert array.tolist() == [[1.0], [2.0], [3.0], [4.0]]


def test_largest_integers_survive_json() -> None:
    assert from_json([2**64 - 1], "UINT64", [1])[0] == 2**64 - 1
    assert from_json([-(2**63)], "INT64", [1])[0] == -(2**63)


def test_binary_is_read_without_a_copy() -> None:
    data = np.arange(4, dtype=np.float32).tobytes()
    array = from_binary(data, "FP32", [4])
    assert array.base is not None
    assert not array.flags.writeable


def test_binary_output_is_little_endian_whatever_the_array() -> None:
    assert to_binary(np.array([1], ">i4")) == b"\1\0\0\0"
    assert to_binary(np.arange(6).reshape(2, 3).T.astype(np.uint8)) == bytes([0, 3, 1, 4, 2, 5])


def test_bytes_that_are_not_text_have_no_json() -> None:
    array = from_binary(b"\1\0\0\0\xff", "BYTES", [1])
    with pytest.raises(InvalidInput, match="ask for binary"):
        to_json(array)
