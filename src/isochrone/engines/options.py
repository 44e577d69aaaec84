"""Each engine's options, as checked structs: declared as text, refused by name when unknown.

A declaration carries options as text (``"2"``, ``"true"``); they become numbers here, once.
``name`` and ``task`` are added by the node: the service's name and the model's task.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from isochrone.schema.errors import InvalidInput

Positive = Annotated[int, Meta(ge=1, le=1024)]
Seconds = Annotated[float, Meta(gt=0, le=3600)]


class OnnxOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of the ``onnx`` engine.

    ``threads``: of one run (1 keeps replicas on one machine apart). ``concurrency``: runs at the
    same moment, sharing the weights. ``queue_max``: requests waiting beyond those. ``device``:
    ``auto`` takes CUDA where onnxruntime really offers it. For the ``embeddings`` task:
    ``max_tokens`` of one text (a longer one is refused, or cut when ``truncate``), and
    ``batch_tokens_max`` of one request, so that none can hold a replica for minutes.
    ``load_timeout_s``: a worker that has not loaded by then is ended. ``run_timeout_s``: a run of
    that length is stopped, and a worker that does not stop it is ended.
    """

    name: str = "model"
    task: Literal["tensor", "embeddings"] = "tensor"
    threads: Positive = 1
    concurrency: Annotated[int, Meta(ge=1, le=64)] = 1
    queue_max: Annotated[int, Meta(ge=0, le=100_000)] = 256
    device: Literal["auto", "cpu", "cuda"] = "auto"
    max_tokens: Annotated[int, Meta(ge=3, le=131_072)] = 256
    batch_tokens_max: Annotated[int, Meta(ge=3, le=1 << 24)] = 16_384
    truncate: bool = False
    load_timeout_s: Seconds = 60.0
    run_timeout_s: Seconds = 60.0


class LlamaOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of the ``llamacpp`` engine.

    ``context_tokens`` is shared by ``concurrency`` parallel sequences; ``threads`` 0 leaves the
    choice to llama.cpp; ``gpu_layers`` -1 puts on a GPU what fits, where the build has one.
    ``chat_template``: a Jinja template for a model that carries none.
    """

    name: str = "model"
    task: Literal["completions", "chat"] = "completions"
    context_tokens: Annotated[int, Meta(ge=64, le=1 << 20)] = 2048
    concurrency: Annotated[int, Meta(ge=1, le=64)] = 2
    queue_max: Annotated[int, Meta(ge=0, le=100_000)] = 64
    threads: Annotated[int, Meta(ge=0, le=1024)] = 0
    gpu_layers: Annotated[int, Meta(ge=-1, le=10_000)] = -1
    chat_template: str = ""
    load_timeout_s: Seconds = 120.0


class UpstreamOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of the ``upstream`` engine. ``base_url`` and ``api_key`` are the provider's own
    settings: a tenant's declaration must never reach them.

    ``base_url``: ``http(s)://host[:port][/prefix]``, without ``/v1`` or ``/v2``. ``api``: which of
    the two APIs it speaks. ``upstream_model``: the model's name there, when it differs from
    ``name``. ``head_timeout_s``: until the answer's first byte.
    """

    base_url: str
    name: str = "model"
    task: Literal["tensor", "embeddings", "completions", "chat"] = "chat"
    api: Literal["openai", "oip"] = "openai"
    upstream_model: str = ""
    api_key: str = ""
    concurrency: Positive = 32
    queue_max: Annotated[int, Meta(ge=0, le=100_000)] = 256
    head_timeout_s: Seconds = 60.0


_Options = TypeVar("_Options")


def check_options(options: Mapping[str, Any], kind: type[_Options]) -> _Options:
    """Text or typed values → a checked struct. Raises ``InvalidInput`` naming the option."""
    try:
        return msgspec.convert(dict(options), kind, strict=False)
    except msgspec.ValidationError as error:
        known = ", ".join(field.name for field in msgspec.structs.fields(kind))  # type: ignore[arg-type]
        raise InvalidInput(
            f"Engine option refused: {error}.", fix=f"Known options: {known}."
        ) from error


def pick(files: Mapping[str, Path], suffix: str) -> Path:
    """The one file whose declared name ends in ``suffix``. Raises ``InvalidInput``."""
    found = [path for name, path in files.items() if name.endswith(suffix)]
    if len(found) != 1:
        names = ", ".join(files) or "none"
        raise InvalidInput(
            f"The model needs exactly one {suffix} file, it has: {names}.",
            fix="List the files in the declaration.",
        )
    return found[0]
