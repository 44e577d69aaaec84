"""The embeddings task end to end: MiniLM in a real worker, asked as OpenAI's client asks."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines.asking import ask, infer
from isochrone.engines.engine import Engine, EngineRequest, make_engine
from isochrone.lab import inputs
from isochrone.lab.models import ModelSource, prepare
from isochrone.schema.errors import InvalidInput

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> ModelSource:
    return prepare(tmp_path_factory.mktemp("models"), ["embeddings"])["embeddings"]


@pytest.fixture
async def engine(source: ModelSource) -> AsyncIterator[Engine]:
    engine = make_engine("onnx", source.files, {"task": "embeddings", "name": "minilm"})
    await engine.start()
    yield engine
    await engine.stop()


def request(**fields: Any) -> EngineRequest:
    body = json.dumps({"model": "svc", **fields}).encode()
    return EngineRequest("svc", "embeddings", {"content-type": "application/json"}, body)


async def vectors(engine: Engine, given: Any) -> np.ndarray[Any, Any]:
    sink = await ask(engine, request(input=given, encoding_format="base64"))
    assert sink.status == 200, sink.body
    data = json.loads(sink.body)["data"]
    return np.stack([np.frombuffer(base64.b64decode(one["embedding"]), "<f4") for one in data])


async def test_a_batch_gives_what_each_text_gives_alone(engine, source) -> None:
    texts = [*inputs.SENTENCES] * 4  # more than one group of 32
    found = await vectors(engine, texts)
    alone = np.stack(inputs.embed(source, texts))
    assert found.shape == (48, 384)
    assert np.allclose(found, alone, atol=2e-6)
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)


async def test_figures_and_names(engine) -> None:
    sink = await ask(engine, request(input="hello world"))
    answer = json.loads(sink.body)
    assert answer["model"] == "svc"
    assert answer["usage"]["total_tokens"] == sink.stats.tokens_in == 4
    assert sink.stats.engine_us > 100


async def test_tokens_are_taken_between_the_special_ones(engine) -> None:
    by_text = await vectors(engine, "hello world")
    by_tokens = await vectors(engine, [7592, 2088])
    assert np.array_equal(by_text, by_tokens)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("word " * 300, "input 0 has 302 tokens, this model reads at most 256"),
        (["fine", "word " * 255], "input 1 has 257 tokens"),
        ([[1, 30522]], "tokens outside 0 to 30521"),
        ([[-1]], "tokens outside"),
        ("", "must not be empty"),
        (["word " * 200] * 100, "the request has 20200 tokens, at most 16384"),
    ],
)
async def test_what_it_cannot_read_is_a_400_in_openais_format(engine, given, reason) -> None:
    sink = await ask(engine, request(input=given))
    assert sink.status == 400
    error = json.loads(sink.body)["error"]
    assert error["type"] == "invalid_request_error"
    assert reason in error["message"]


async def test_the_longest_text_fits(engine) -> None:
    assert (await vectors(engine, "word " * 254)).shape == (1, 384)


async def test_truncation_is_an_option(source) -> None:
    options = {"task": "embeddings", "truncate": "true", "max_tokens": "8"}
    engine = make_engine("onnx", source.files, options)
    await engine.start()
    cut = await vectors(engine, ["one two three four five six seven eight nine"])
    same = await vectors(engine, ["one two three four five six"])
    await engine.stop()
    assert np.array_equal(cut, same)


async def test_the_graph_can_be_asked_for_tensors_too(engine) -> None:
    ids = np.array([[101, 7592, 2088, 102]], np.int64)
    answer = await infer(engine, {"input_ids": ids, "attention_mask": np.ones_like(ids)})
    assert np.array_equal(
        answer.outputs["sentence_embedding"], await vectors(engine, "hello world")
    )


@pytest.mark.parametrize("damage", ["tokenizer", "model"])
async def test_files_that_do_not_fit_together(source, tmp_path: Path, damage) -> None:
    files = dict(source.files)
    if damage == "tokenizer":
        files["tokenizer.json"] = tmp_path / "tokenizer.json"
        files["tokenizer.json"].write_text("{}")
        reason = "is not a tokenizer"
    else:
        files["model.onnx"] = Path(inputs.__file__).parent / "data" / "fraud.onnx"
        reason = "An embeddings model takes"
    engine = make_engine("onnx", files, {"task": "embeddings"})
    with pytest.raises(InvalidInput, match=reason):
        await engine.start()


def test_the_tokenizer_must_be_declared(source) -> None:
    files = {"model.onnx": source.files["model.onnx"]}
    with pytest.raises(InvalidInput, match=r"exactly one tokenizer\.json"):
        make_engine("onnx", files, {"task": "embeddings"})
