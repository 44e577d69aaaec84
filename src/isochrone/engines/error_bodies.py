"""The two APIs' error objects, and the header that both ends of a binary request read.

Apart from the codecs, because these are all that the node's side of an engine needs of them: the
codecs import numpy, which costs 12 MB and 60 ms that only workers should pay.
"""

from __future__ import annotations

import msgspec

LENGTH_HEADER = "inference-header-content-length"
"""How long the JSON part of an OIP body with binary tensors is."""

_encode = msgspec.json.Encoder().encode


def oip_error_body(message: str) -> bytes:
    """The Open Inference Protocol's error object."""
    return bytes(_encode({"error": message}))


def openai_error_body(message: str, code: str | None = None, param: str | None = None) -> bytes:
    """The OpenAI API's error object for a fault of the request."""
    error = {"message": message, "type": "invalid_request_error", "param": param, "code": code}
    return bytes(_encode({"error": error}))
