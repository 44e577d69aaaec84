"""Noise of honest machines is inside the bound, cheaper models are outside."""

from __future__ import annotations

import base64
import json
import random
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isochrone.rules.answer_distance import DIFFERENT, LENGTH_HEADER, distance_ppm
from isochrone.rules.answers import WRONG_PPM

CHANCES = random.Random(4)
VALUES = [CHANCES.gauss(0, 1) for _ in range(256)]


def tensor(values: list[Any], datatype: str = "FP32", **fields: Any) -> bytes:
    output = {"name": "y", "datatype": datatype, "shape": [len(values)], "data": values, **fields}
    return json.dumps({"model_name": "m", "outputs": [output]}).encode()


def far(one: bytes, two: bytes, operation: str = "infer", **headers: Any) -> int:
    return distance_ppm(operation, one, two, headers, headers)


def quantised(values: list[float], levels: int = 127) -> list[float]:
    """What symmetric integers of that many levels leave of the values."""
    most = max(map(abs, values))
    return [round(value / most * levels) / levels * most for value in values]


def test_rounding_passes_and_eight_bits_do_not() -> None:
    noise = [value * (1 + CHANCES.gauss(0, 1e-5)) for value in VALUES]
    assert far(tensor(VALUES), tensor(noise)) < WRONG_PPM / 50
    half = [struct.unpack("<e", struct.pack("<e", value))[0] for value in VALUES]
    assert far(tensor(VALUES), tensor(half)) < WRONG_PPM, "by intent: graphics cards do"
    assert far(tensor(VALUES), tensor(quantised(VALUES))) > 2 * WRONG_PPM
    pruned = [0.0 if abs(value) < 0.1 else value for value in VALUES]
    assert far(tensor(VALUES), tensor(pruned)) > WRONG_PPM


def test_what_is_not_the_same_thing_is_different() -> None:
    assert far(tensor(VALUES), tensor(VALUES[:-1])) == DIFFERENT
    assert far(tensor(VALUES), tensor(VALUES, "FP64")) == DIFFERENT
    assert far(tensor(VALUES), tensor(VALUES, name="z")) == DIFFERENT
    assert far(tensor(VALUES), b"no answer") == DIFFERENT
    assert far(b"\xff", b"\xff") == 0, "the same bytes are the same answer"


def test_labels_may_flip_once_in_fifty() -> None:
    labels = [CHANCES.randrange(10) for _ in range(200)]
    flipped = [labels[0] + 1, *labels[1:]]
    assert far(tensor(labels, "INT64"), tensor(flipped, "INT64")) > WRONG_PPM / 10
    many = [label + (index % 10 == 0) for index, label in enumerate(labels)]
    assert far(tensor(labels, "INT64"), tensor(many, "INT64")) > WRONG_PPM
    assert far(tensor([3], "INT64"), tensor([4], "INT64")) > WRONG_PPM


def test_nothing_and_no_number_stand_in_the_same_places() -> None:
    gaps = [None, *VALUES[1:]]
    assert far(tensor(gaps), tensor([None, *VALUES[1:-1], VALUES[-1] * (1 + 1e-6)])) < WRONG_PPM
    assert far(tensor(gaps), tensor(VALUES)) == DIFFERENT
    assert far(tensor([0.0]), tensor([1.0])) > WRONG_PPM


def test_raw_tensors_are_read_like_json() -> None:
    def raw(values: list[float]) -> tuple[bytes, int]:
        blob = struct.pack(f"<{len(values)}f", *values)
        output = {"name": "y", "datatype": "FP32", "shape": [len(values)]}
        output["parameters"] = {"binary_data_size": len(blob)}
        head = json.dumps({"model_name": "m", "outputs": [output]}).encode()
        return head + blob, len(head)

    one, length = raw(VALUES)
    two, _ = raw([value * (1 + 1e-6) for value in VALUES])
    other, _ = raw(quantised(VALUES))
    headers = {LENGTH_HEADER: str(length)}
    assert 0 < distance_ppm("infer", one, two, headers, headers) < WRONG_PPM
    assert distance_ppm("infer", one, other, headers, headers) > WRONG_PPM
    assert distance_ppm("infer", one, tensor(VALUES), headers, {}) < WRONG_PPM


@pytest.mark.parametrize("packed", [False, True])
def test_embeddings_by_angle(packed: bool) -> None:
    def answer(vector: list[float]) -> bytes:
        raw = base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
        return json.dumps({"data": [{"embedding": raw if packed else vector}]}).encode()

    near = [value + CHANCES.gauss(0, 1e-4) for value in VALUES]
    assert far(answer(VALUES), answer(near), "embeddings") < WRONG_PPM
    off = [value + CHANCES.gauss(0, 0.05) for value in VALUES]
    assert far(answer(VALUES), answer(off), "embeddings") > WRONG_PPM
    assert far(answer(VALUES), answer(VALUES[1:]), "embeddings") == DIFFERENT


@settings(max_examples=60)
@given(st.binary(max_size=60), st.binary(max_size=60), st.sampled_from(["infer", "embeddings", ""]))
def test_nothing_raises(one: bytes, two: bytes, operation: str) -> None:
    assert 0 <= distance_ppm(operation, one, two, {LENGTH_HEADER: "9"}, {}) <= DIFFERENT


ODD = st.recursive(st.none() | st.floats() | st.text(max_size=3), st.lists, max_leaves=6)


@settings(max_examples=60)
@given(st.lists(ODD, max_size=5), st.lists(ODD, max_size=5), st.sampled_from(["FP32", "INT8", "X"]))
def test_odd_values_raise_nothing(one: list[Any], two: list[Any], datatype: str) -> None:
    assert 0 <= far(tensor(one, datatype), tensor(two, datatype)) <= DIFFERENT


def test_a_size_that_is_no_size_raises_nothing() -> None:
    for size in (-1, 10**30, "x", None, 1.5, [1]):
        odd = tensor(VALUES, parameters={"binary_data_size": size})
        assert 0 <= far(odd, tensor(VALUES)) <= DIFFERENT
        shape = tensor(VALUES, shape=[10**9, 10**9])
        assert far(shape, tensor(VALUES)) == DIFFERENT
