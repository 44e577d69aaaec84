"""The head of an HTTP/1.1 answer, for the client: pure, strict by llhttp's grammar."""

from __future__ import annotations

from typing import Final

import httptools
import msgspec

from isochrone.schema.errors import InvalidInput
from isochrone.wire.http_head import CHUNKED, keeps_alive

UNTIL_CLOSE: Final = -2
"""``body_bytes`` of a body that ends with the connection."""

# Answers that have no body by definition, besides every 1xx (RFC 9110, 6.4.1).
_BODYLESS: Final = frozenset({204, 304})


class AnswerHead(msgspec.Struct, frozen=True, kw_only=True):
    """Status, headers (lower-case names, repeated ones joined), and how the body is framed."""

    status: int
    headers: dict[str, str]
    keep_alive: bool
    body_bytes: int


class _Collector:
    """Receives llhttp's callbacks for one head."""

    __slots__ = ("headers",)

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}

    def on_header(self, raw_name: bytes, raw_value: bytes) -> None:
        name = raw_name.decode("latin-1").lower()
        value = raw_value.decode("latin-1").strip(" \t")
        headers = self.headers
        headers[name] = f"{headers[name]}, {value}" if name in headers else value


def parse_answer_head(head: bytes, method: str) -> AnswerHead:
    """Read a complete head (its final empty line included) of an answer to ``method``.

    Raises InvalidInput, code ``bad_answer``.
    """
    collector = _Collector()
    parser = httptools.HttpResponseParser(collector)
    try:
        parser.feed_data(head)
    except httptools.HttpParserUpgrade:
        pass  # nobody asked for an upgrade: the status (101) is refused by the client
    except httptools.HttpParserError as error:
        raise InvalidInput(f"Not a valid HTTP answer: {error}.", code="bad_answer") from None
    version = parser.get_http_version()
    if version not in ("1.1", "1.0"):
        raise InvalidInput(f"An answer in HTTP/{version}.", code="bad_answer")
    headers = collector.headers
    status = int(parser.get_status_code())
    body_bytes = _body_length(status, method, headers)
    minor = 1 if version == "1.1" else 0
    return AnswerHead(
        status=status,
        headers=headers,
        keep_alive=body_bytes != UNTIL_CLOSE and keeps_alive(headers.get("connection"), minor),
        body_bytes=body_bytes,
    )


def _body_length(status: int, method: str, headers: dict[str, str]) -> int:
    if method == "HEAD" or status < 200 or status in _BODYLESS:
        return 0
    coding = headers.get("transfer-encoding")
    if coding is not None:
        if coding.lower() != "chunked" or "content-length" in headers:
            raise InvalidInput(f"An answer in transfer coding {coding[:40]!r}.", code="bad_answer")
        return CHUNKED
    length = headers.get("content-length")
    if length is None:
        return UNTIL_CLOSE
    if not (length.isascii() and length.isdigit() and len(length) <= 18):
        raise InvalidInput("An answer's content-length is not a number.", code="bad_answer")
    return int(length)
