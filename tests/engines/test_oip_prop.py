"""Round trips, through our own code and against Triton's own client."""

from __future__ import annotations

import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tritonclient.http import InferInput, InferRequestedOutput, InferResult
from tritonclient.http._utils import _get_inference_request

from isochrone.engines import oip
from isochrone.engines.tensors import DTYPES, datatype_of
from isochrone.schema.errors import InvalidInput

NAMES = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=8)


@st.composite
def arrays(draw):
    datatype = draw(st.sampled_from(sorted(DTYPES)))
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=4))
    if datatype == "BYTES":
        size = int(np.prod(shape))
        array = np.empty(size, np.object_)
        texts = draw(st.lists(st.text(max_size=6), min_size=size, max_size=size))
        array[:] = [text.encode() for text in texts]
        return array.reshape(shape)
    dtype = DTYPES[datatype]
    options = {"allow_nan": False, "allow_infinity": False} if dtype.kind == "f" else {}
    return draw(hnp.arrays(dtype, shape, elements=hnp.from_dtype(dtype, **options)))


TENSORS = st.dictionaries(NAMES, arrays(), min_size=1, max_size=4)


def same(left, right) -> bool:
    return left.keys() == right.keys() and all(
        left[name].shape == right[name].shape
        and datatype_of(left[name]) == datatype_of(right[name])
        and np.array_equal(left[name], right[name])
        for name in left
    )


@given(TENSORS, st.booleans())
def test_requests_round_trip(tensors, binary: bool) -> None:
    headers, parts = oip.encode_request(tensors, request_id="r", binary=binary)
    request = oip.decode_request(b"".join(parts), dict(headers))
    assert request.id == "r"
    assert same(request.inputs, tensors)


@given(TENSORS, st.data())
def test_answers_round_trip_with_mixed_encodings(tensors, data) -> None:
    outputs = [(name, array, data.draw(st.booleans())) for name, array in tensors.items()]
    headers, parts = oip.encode_response("model", "r", outputs)
    body = b"".join(parts)
    assert dict(headers)["content-length"] == str(len(body))
    response = oip.decode_response(body, dict(headers))
    assert (response.id, response.model_name) == ("r", "model")
    assert same(response.outputs, tensors)


@given(TENSORS, st.data())
def test_what_the_triton_client_sends_is_what_we_read(tensors, data) -> None:
    inputs = []
    for name, array in tensors.items():
        tensor = InferInput(name, list(array.shape), datatype_of(array))
        half = array.dtype == np.float16  # the client sends halves only as raw bytes
        tensor.set_data_from_numpy(array, binary_data=half or data.draw(st.booleans()))
        inputs.append(tensor)
    wanted = data.draw(st.lists(NAMES, unique=True, max_size=3))
    outputs = [InferRequestedOutput(name, binary_data=data.draw(st.booleans())) for name in wanted]
    body, length = _get_inference_request(
        inputs, "id", outputs, 0, False, False, 0, None, {"x": "y"}
    )
    headers = {} if length is None else {oip.LENGTH_HEADER: str(length)}
    request = oip.decode_request(body, headers)
    assert same(request.inputs, tensors)
    assert [ask.name for ask in request.outputs] == wanted
    assert request.binary_default is (not wanted)


@given(TENSORS, st.booleans())
def test_what_we_answer_is_what_the_triton_client_reads(tensors, binary: bool) -> None:
    outputs = [(name, array, binary) for name, array in tensors.items()]
    headers, parts = oip.encode_response("model", "r", outputs)
    length = dict(headers).get(oip.LENGTH_HEADER)
    result = InferResult.from_response_body(
        b"".join(parts), header_length=None if length is None else int(length)
    )
    for name, array in tensors.items():
        got = result.as_numpy(name)
        if datatype_of(array) == "BYTES":
            got = np.array(
                [e.encode() if isinstance(e, str) else e for e in got.reshape(-1)], np.object_
            ).reshape(array.shape)
        assert np.array_equal(got, array)


VALID = json.dumps(
    {
        "id": "1",
        "inputs": [
            {"name": "x", "datatype": "FP32", "shape": [2], "data": [1, 2]},
            {"name": "y", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 5}},
        ],
        "outputs": [{"name": "z", "parameters": {"binary_data": True}}],
    }
).encode()


@given(st.binary(max_size=200), st.text(max_size=12))
def test_random_bytes_are_only_ever_refused(body: bytes, length: str) -> None:
    for headers in ({}, {oip.LENGTH_HEADER: length}, {oip.LENGTH_HEADER: "10"}):
        try:
            oip.decode_request(body, headers)
        except InvalidInput:
            continue


@given(st.data())
def test_damaged_requests_are_read_or_refused_never_anything_else(data) -> None:
    body = bytearray(VALID + b"\1\0\0\0a")
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(body) - 1))
        body[place] = data.draw(st.sampled_from(b'0129-"{}[],:.eEtfn\\x\x00\xff'))
    try:
        request = oip.decode_request(bytes(body), {oip.LENGTH_HEADER: str(len(VALID))})
    except InvalidInput:
        return
    assert all(isinstance(array, np.ndarray) for array in request.inputs.values())
