from __future__ import annotations

import base64
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types import CreateEmbeddingResponse

from isochrone.engines import openai_embeddings as api
from isochrone.schema.errors import InvalidInput


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("one", ("one",)),
        (["one", "two"], ("one", "two")),
        ([1, 2], ([1, 2],)),
        ([[1], [2, 3]], ([1], [2, 3])),
    ],
)
def test_the_four_forms_of_input(given, expected) -> None:
    body = json.dumps({"input": given, "model": "m", "user": "ignored"}).encode()
    assert api.decode_request(body) == api.EmbeddingsRequest(expected, "m", "float")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"{", "malformed JSON"),
        (b"{}", "`input`"),
        (b'{"input": 5}', "not an embeddings request"),
        (b'{"input": ""}', "must not be empty"),
        (b'{"input": []}', "must not be empty"),
        (b'{"input": ["a", ""]}', "must not be empty"),
        (b'{"input": [[]]}', "must not be empty"),
        (b'{"input": ["a", 1]}', "must be text, a list of texts"),
        (b'{"input": [true]}', "must be text, a list of texts"),
        (b'{"input": [1.5]}', "must be text, a list of texts"),
        (b'{"input": "a", "encoding_format": "hex"}', "encoding_format"),
        (b'{"input": "a", "dimensions": 64}', "'dimensions' is not supported"),
        (b'{"input": ' + b"[" * 5000, "deeply"),
        (json.dumps({"input": ["a"] * 2049}).encode(), "at most 2048"),
    ],
)
def test_bad_requests_say_why(body, reason) -> None:
    with pytest.raises(InvalidInput) as refused:
        api.decode_request(body)
    assert reason in refused.value.message


def test_answers_are_what_the_official_client_reads() -> None:
    vectors = np.random.default_rng(3).random((2, 4), np.float32)
    floats = api.encode_response(vectors, "m", "float", 9)
    response = CreateEmbeddingResponse.model_validate_json(floats, strict=True)
    assert [one.index for one in response.data] == [0, 1]
    assert response.usage.prompt_tokens == response.usage.total_tokens == 9
    found = np.array([one.embedding for one in response.data], np.float32)
    assert np.array_equal(found, vectors)
    packed = json.loads(api.encode_response(vectors, "m", "base64", 9))["data"]
    found = [np.frombuffer(base64.b64decode(one["embedding"]), np.float32) for one in packed]
    assert np.array_equal(np.stack(found), vectors)


@given(st.binary(max_size=100))
def test_random_bytes_are_only_ever_refused(body) -> None:
    try:
        api.decode_request(body)
    except InvalidInput:
        return
