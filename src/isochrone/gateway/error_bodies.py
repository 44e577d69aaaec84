"""Errors in each API's own format, chosen by the request's path.

OpenAI: ``{"error": {"message", "type", "code", "param"}}``. Open Inference Protocol:
``{"error": "…"}``. Administration: ``AdminErrorBody``. What is to be done next is part of the
message everywhere, so that a person sees it whichever client was used.
"""

from __future__ import annotations

from typing import Final

import msgspec

from isochrone.schema.admin import PREFIX, AdminError, AdminErrorBody
from isochrone.schema.errors import IsochroneError

Answer = tuple[int, list[tuple[str, str]], bytes]

JSON: Final = ("content-type", "application/json")
RETRY_AFTER_S: Final = 1
"""Told with 429 and 503 when nobody knows better: a replacement serves within seconds, a queue
drains faster."""
GATEWAY_HEADER: Final = "isochrone-gateway"
"""With 421: the URL of a gateway that may serve the request."""

_encode = msgspec.json.Encoder().encode

_OPENAI_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "invalid_request_error",
    405: "invalid_request_error",
    413: "invalid_request_error",
    415: "invalid_request_error",
    421: "misdirected_error",
    429: "rate_limit_error",
    431: "invalid_request_error",
    503: "overloaded_error",
    504: "timeout_error",
}
_PARAMS: Final = {"model_not_found": "model"}


class MissingBlobs(IsochroneError):
    """A declaration whose model files are not all in the store yet."""

    code = "blobs_missing"
    status = 409
    retry = "here"

    def __init__(self, message: str, *, fix: str, missing: tuple[str, ...]) -> None:
        super().__init__(message, fix=fix)
        self.missing = missing


class Elsewhere(IsochroneError):
    """A request that another gateway may serve; ``url`` names it ("" when none is known)."""

    code = "misdirected"
    status = 421
    retry = "elsewhere"

    def __init__(self, message: str, *, fix: str, url: str) -> None:
        super().__init__(message, fix=fix)
        self.url = url


class NotAllowed(IsochroneError):
    """A method that this path does not have; ``allow`` lists those it has."""

    code = "method_not_allowed"
    status = 405

    def __init__(self, method: str, allow: str) -> None:
        super().__init__(f"This path does not take {method[:20]}.", fix=f"Use {allow}.")
        self.allow = allow


def error_answer(path: str, error: IsochroneError) -> Answer:
    """Status, headers and body for an error on ``path`` ("" when it is unknown)."""
    headers = [JSON]
    if error.status in (429, 503):
        headers.append(("retry-after", str(error.retry_after_s or RETRY_AFTER_S)))
    if isinstance(error, NotAllowed):
        headers.append(("allow", error.allow))
    if isinstance(error, Elsewhere) and error.url:
        headers.append((GATEWAY_HEADER, error.url))
    if error.status == 401:
        headers.append(("www-authenticate", "Bearer"))
    return error.status, headers, _body(path, error)


def _body(path: str, error: IsochroneError) -> bytes:
    if path.startswith("/v2"):
        return _encode({"error": error.sentence()})
    if path.startswith(PREFIX):
        missing = error.missing if isinstance(error, MissingBlobs) else ()
        told = AdminError(
            code=error.code,
            message=error.message,
            fix=error.fix,
            retry=error.retry,
            missing=missing,
        )
        return _encode(AdminErrorBody(error=told))
    kind = _OPENAI_TYPES.get(error.status)
    if kind is None:
        kind = "invalid_request_error" if error.status < 500 else "server_error"
    told_openai = {
        "message": error.sentence(),
        "type": kind,
        "code": error.code,
        "param": _PARAMS.get(error.code),
    }
    return _encode({"error": told_openai})
