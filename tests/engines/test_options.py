from __future__ import annotations

from pathlib import Path

import pytest

from isochrone.engines.engine import make_engine
from isochrone.engines.options import OnnxOptions, UpstreamOptions, check_options, pick
from isochrone.schema.errors import InvalidInput


def test_options_declared_as_text_become_numbers() -> None:
    given = {"threads": "2", "truncate": "true", "run_timeout_s": "1.5"}
    options = check_options(given, OnnxOptions)
    assert (options.threads, options.truncate, options.run_timeout_s) == (2, True, 1.5)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"thread": "2"}, "thread"),
        ({"threads": "0"}, "threads"),
        ({"threads": "many"}, "threads"),
        ({"task": "chat"}, "task"),
        ({"device": "tpu"}, "device"),
    ],
)
def test_wrong_options_are_named_and_the_known_ones_listed(given, named) -> None:
    with pytest.raises(InvalidInput) as refused:
        check_options(given, OnnxOptions)
    assert named in refused.value.message
    assert "max_tokens" in refused.value.fix


def test_an_upstream_needs_its_address() -> None:
    with pytest.raises(InvalidInput, match="base_url"):
        check_options({}, UpstreamOptions)


@pytest.mark.parametrize("names", [[], ["a.onnx", "b.onnx"], ["a.gguf"]])
def test_exactly_one_model_file(names) -> None:
    with pytest.raises(InvalidInput, match="exactly one"):
        pick({name: Path(name) for name in names}, ".onnx")


def test_engines_that_do_not_exist_are_refused_with_the_ones_that_do() -> None:
    with pytest.raises(InvalidInput) as refused:
        make_engine("tensorrt", {}, {})
    assert "onnx, llamacpp, upstream" in refused.value.fix


def test_engines_over_http_need_a_pool() -> None:
    with pytest.raises(InvalidInput, match="pool"):
        make_engine("upstream", {}, {"base_url": "http://127.0.0.1:1"})
