"""OpenAI's ``/v1/embeddings`` as bytes: request and answer.

Rules: pure. ``dimensions`` is refused, since cutting a vector changes its meaning for a model that
was not trained for it. Fields that only inform (``user``) are ignored. Vectors are float32; in
``base64`` they are little-endian bytes, as the official client expects by default.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from isochrone.engines.tensors import Array
from isochrone.schema.errors import InvalidInput

#: Most inputs in one request, the official API's own limit.
INPUTS_MAX = 2048


class EmbeddingsRequest(msgspec.Struct, frozen=True):
    """A request: each input is text or token ids. ``model`` is echoed in the answer."""

    inputs: tuple[str | list[int], ...]
    model: str
    encoding_format: Literal["float", "base64"]


class _Body(msgspec.Struct):
    input: str | list[Any]
    model: str = ""
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Any = None


_decoder = msgspec.json.Decoder(_Body)
_encode = msgspec.json.Encoder().encode


def decode_request(body: bytes | memoryview) -> EmbeddingsRequest:
    """Bytes → request. Raises ``InvalidInput`` with the reason."""
    try:
        parsed = _decoder.decode(body)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"not an embeddings request: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"malformed JSON: {error}") from error
    except RecursionError:
        raise InvalidInput("malformed JSON: nested too deeply") from None
    if parsed.dimensions is not None:
        raise InvalidInput("'dimensions' is not supported by this model; leave it out")
    inputs = _inputs(parsed.input)
    if not inputs or any(not one for one in inputs):
        raise InvalidInput("'input' must not be empty")
    if len(inputs) > INPUTS_MAX:
        raise InvalidInput(f"'input' has {len(inputs)} elements, at most {INPUTS_MAX} are allowed")
    return EmbeddingsRequest(inputs, parsed.model, parsed.encoding_format)


def encode_response(
    vectors: Array, model: str, encoding_format: Literal["float", "base64"], tokens: int
) -> bytes:
    """Vectors, one row an input → the answer's body."""
    data = [
        {"object": "embedding", "index": index, "embedding": _vector(row, encoding_format)}
        for index, row in enumerate(vectors)
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return bytes(_encode({"object": "list", "data": data, "model": model, "usage": usage}))


def _inputs(found: str | list[Any]) -> tuple[str | list[int], ...]:
    """The four forms of ``input``: text, texts, tokens, lists of tokens."""
    if isinstance(found, str):
        return (found,)
    if all(isinstance(one, str) for one in found):
        return tuple(found)
    if _is_tokens(found):
        return (found,)
    if all(isinstance(one, list) and _is_tokens(one) for one in found):
        return tuple(found)
    raise InvalidInput("'input' must be text, a list of texts, tokens, or a list of tokens")


def _is_tokens(found: Sequence[Any]) -> bool:
    return all(isinstance(one, int) and not isinstance(one, bool) for one in found)


def _vector(row: Array, encoding_format: Literal["float", "base64"]) -> list[float] | str:
    if encoding_format == "base64":
        return base64.b64encode(row.astype("<f4").tobytes()).decode()
    numbers: list[float] = row.tolist()
    return numbers
