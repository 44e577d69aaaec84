from __future__ import annotations

import json

import numpy as np
import pytest

from isochrone.engines import oip
from isochrone.schema.errors import InvalidInput

ONE = {"name": "x", "datatype": "FP32", "shape": [2], "data": [1, 2]}


def body(**fields) -> bytes:
    return json.dumps({"inputs": [ONE], **fields}).encode()


def binary(size, blob: bytes, **more) -> tuple[bytes, dict[str, str]]:
    tensor = {"name": "x", "datatype": "FP32", "shape": [2]}
    more["parameters"] = {"binary_data_size": size}
    head = json.dumps({"inputs": [tensor | more]}).encode()
    return head + blob, {oip.LENGTH_HEADER: str(len(head))}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{", "malformed JSON"),
        (b"\xff\xfe", "malformed JSON"),
        (b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1],"data":' + b"[" * 5000, "deeply"),
        (b"[]", "not an inference request"),
        (b"{}", "`inputs`"),
        (body(inputs=[{"name": "x"}]), "datatype"),
        (body(inputs=[ONE, ONE]), "'x' is given twice"),
        (body(inputs=[{**ONE, "data": None}]), "neither data nor binary_data_size"),
        (body(inputs=[{**ONE, "parameters": {"binary_data_size": 8}}]), "both data and"),
        (body(inputs=[{**ONE, "shape": [3]}]), "input 'x': FP32 of shape [3] takes 3"),
        (body(inputs=[ONE] * 300), "more than 256"),
        (body(outputs=[{"name": "y"}, {"name": "y"}]), "requested twice"),
        (body(parameters={"binary_data_output": "yes"}), "must be true or false"),
        (body(parameters={"sequence_id": 7}), "'sequence_id' is not supported"),
        (body(outputs=[{"name": "y", "parameters": {"classification": 3}}]), "classification"),
        (
            body(inputs=[{**ONE, "parameters": {"shared_memory_region": "r"}}]),
            "'shared_memory_region'",
        ),
    ],
)
def test_bad_requests_say_why(content: bytes, reason: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        oip.decode_request(content, {})
    assert reason in refused.value.message


@pytest.mark.parametrize(
    ("size", "blob", "reason"),
    [
        (8, b"\0" * 7, "binary_data_size is 8, 7 bytes are left"),
        (8, b"\0" * 9, "1 bytes after the last tensor"),
        (4, b"\0" * 4, "takes 8 bytes, got 4"),
        (-8, b"\0" * 8, "must be a number of bytes"),
        (True, b"\0" * 8, "must be a number of bytes"),
        ("8", b"\0" * 8, "must be a number of bytes"),
    ],
)
def test_raw_tensors_must_add_up(size, blob: bytes, reason: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        oip.decode_request(*binary(size, blob))
    assert reason in refused.value.message


@pytest.mark.parametrize("length", ["-1", "x", "", "9" * 50, "1e3", "١"])
def test_the_length_header_must_be_a_number_within_the_body(length: str) -> None:
    with pytest.raises(InvalidInput):
        oip.decode_request(body(), {oip.LENGTH_HEADER: length})


def test_a_length_beyond_the_body_is_refused() -> None:
    with pytest.raises(InvalidInput, match="says 10000 bytes"):
        oip.decode_request(body(), {oip.LENGTH_HEADER: "10000"})


def test_compressed_bodies_are_refused_by_name() -> None:
    with pytest.raises(InvalidInput, match="'gzip'"):
        oip.decode_request(body(), {"content-encoding": "gzip"})


def test_unknown_fields_and_parameters_are_ignored() -> None:
    request = oip.decode_request(body(priority=3, parameters={"timeout": 5, "mine": "x"}), {})
    assert request.inputs["x"].tolist() == [1.0, 2.0]
    assert not request.binary_default


def test_each_output_says_how_it_wants_to_come() -> None:
    asks = [{"name": "a", "parameters": {"binary_data": True}}, {"name": "b"}]
    request = oip.decode_request(body(outputs=asks, id="7"), {})
    assert request.id == "7"
    assert request.outputs == (oip.OutputAsk("a", True), oip.OutputAsk("b", None))


def test_a_json_answer_needs_no_length_header() -> None:
    headers, parts = oip.encode_response("m", "", [("y", np.arange(3, dtype=np.int64), False)])
    assert dict(headers)["content-type"] == "application/json"
    assert oip.LENGTH_HEADER not in dict(headers)
    answer = json.loads(b"".join(parts))
    assert "id" not in answer
    assert answer["outputs"][0] == {
        "name": "y",
        "datatype": "INT64",
        "shape": [3],
        "data": [0, 1, 2],
    }
