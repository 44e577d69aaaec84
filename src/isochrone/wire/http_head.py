"""The head of an HTTP/1.1 request: one immutable fact sheet, or the reason why it is refused.

Pure. The grammar is llhttp's, in its strict mode (bare LF, folded lines, spaces before the colon,
control characters, doubled or odd ``Content-Length``, ``Transfer-Encoding`` beside it: refused).
Here are the rules that it leaves open: which methods and versions we speak, that 1.1 names its
host once, and how the body is framed. The parser sees the head's bytes only, so nothing that
follows can be taken for part of it: where a message ends is decided in one place.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote

import httptools
import msgspec

from isochrone.schema.errors import InvalidInput, IsochroneError, TheirFault

CHUNKED: Final = -1
"""``body_bytes`` of a body whose length is told chunk by chunk."""

METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"})

# A first line may take this shape while it is still incomplete; anything else is not HTTP and is
# refused at once instead of after the head's timeout (TLS to a plain port, binary garbage).
_BEGINNING: Final = re.compile(rb"(?:[A-Z]{1,16}|[A-Z]{1,16} [!-~]*(?: [ -~]*\r?)?)\Z")
_SINGLE: Final = frozenset(
    {"host", "content-length", "transfer-encoding", "authorization", "content-type", "expect"}
)
# Names that clients really send, in the spellings they use: most need no decoding.
_COMMON: Final = {
    form: name
    for name in (
        "accept",
        "accept-encoding",
        "accept-language",
        "authorization",
        "connection",
        "content-length",
        "content-type",
        "host",
        "idempotency-key",
        "inference-header-content-length",
        "traceparent",
        "user-agent",
        "x-request-id",
    )
    for form in (name.encode(), name.title().encode())
}


class RequestHead(msgspec.Struct, frozen=True, kw_only=True):
    """What the head says. ``body_bytes`` is the length, or CHUNKED; ``minor`` the HTTP minor."""

    method: str
    raw_path: str
    path: str
    query: str
    headers: dict[str, str]
    minor: int
    keep_alive: bool
    body_bytes: int
    expects_continue: bool


class _Collector:
    """Receives llhttp's callbacks for one head."""

    __slots__ = ("fault", "headers", "target")

    def __init__(self) -> None:
        self.target = b""
        self.headers: dict[str, str] = {}
        self.fault: TheirFault | None = None

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, raw_name: bytes, raw_value: bytes) -> None:
        name = _COMMON.get(raw_name) or raw_name.decode("latin-1").lower()
        value = raw_value.decode("latin-1").strip(" \t")
        headers = self.headers
        if name in headers:
            if name in _SINGLE:
                self.fault = InvalidInput(f"The header {name} is sent twice.", code="bad_request")
            else:
                value = f"{headers[name]}, {value}"
        headers[name] = value


def parse_request_head(head: bytes, headers_max: int) -> RequestHead:
    """Read a complete head (its final empty line included).

    Raises TheirFault: 400 ``bad_request``, 405 ``method_not_allowed``, 417 ``expectation_failed``,
    431 ``headers_too_large``, 501 ``not_implemented`` (transfer coding), 505 ``http_version``.
    """
    if head.count(b"\r\n") - 2 > headers_max:
        raise too_many_headers(headers_max)
    minor = _minor_version(head[: head.find(b"\r\n")])
    collector = _Collector()
    parser = httptools.HttpRequestParser(collector)
    try:
        parser.feed_data(head)
    except httptools.HttpParserUpgrade:
        pass  # an offer to change protocols, which we may ignore; CONNECT is refused below
    except httptools.HttpParserError as error:
        raise InvalidInput(f"Not a valid HTTP request: {error}.", code="bad_request") from None
    if collector.fault is not None:
        raise collector.fault
    method = parser.get_method().decode("latin-1")
    if method not in METHODS:
        raise TheirFault(
            f"The method {method} is not served.",
            fix="Use GET, HEAD, POST, PUT, DELETE, PATCH or OPTIONS.",
            code="method_not_allowed",
            status=405,
        )
    return _interpret(method, collector.target, collector.headers, minor)


def _interpret(method: str, target: bytes, headers: dict[str, str], minor: int) -> RequestHead:
    raw_path, _, query = _origin_form(target).partition("?")
    if minor == 1 and not headers.get("host"):
        raise InvalidInput("An HTTP/1.1 request must name its Host.", code="bad_request")
    expect = headers.get("expect", "").lower()
    if expect not in ("", "100-continue"):
        raise TheirFault(
            "Only Expect: 100-continue is understood.", code="expectation_failed", status=417
        )
    body_bytes = _body_length(headers, minor)
    return RequestHead(
        method=method,
        raw_path=raw_path,
        path=unquote(raw_path) if "%" in raw_path else raw_path,
        query=query,
        headers=headers,
        minor=minor,
        keep_alive=keeps_alive(headers.get("connection"), minor),
        body_bytes=body_bytes,
        expects_continue=expect != "" and minor == 1 and body_bytes != 0,
    )


def _minor_version(first_line: bytes) -> int:
    if first_line.endswith(b" HTTP/1.1"):
        return 1
    if first_line.endswith(b" HTTP/1.0"):
        return 0
    if re.search(rb" HTTP/[0-9.]+\Z", first_line):
        raise TheirFault(
            "This server speaks HTTP/1.1 and 1.0 only.", code="http_version", status=505
        )
    raise InvalidInput("The first line is not an HTTP request line.", code="bad_request")


def _origin_form(target: bytes) -> str:
    """Path and query of the request target; absolute form (sent to proxies) loses its origin."""
    text = target.decode("latin-1")
    if text.startswith("/") or text == "*":
        return text.partition("#")[0]
    _, separator, rest = text.partition("://")
    if not separator:
        raise InvalidInput("The request target must be a path.", code="bad_request")
    _, slash, path = rest.partition("/")
    return "/" + path.partition("#")[0] if slash else "/"


def keeps_alive(connection: str | None, minor: int) -> bool:
    """Whether a message with this ``Connection`` header lets the connection live on."""
    if connection is None:
        return minor == 1
    options = {option.strip() for option in connection.lower().split(",")}
    if "close" in options:
        return False
    return minor == 1 or "keep-alive" in options


def _body_length(headers: dict[str, str], minor: int) -> int:
    coding = headers.get("transfer-encoding")
    if coding is not None:
        if "content-length" in headers or minor == 0:
            raise InvalidInput(
                "Transfer-Encoding may not stand here; the body's end would be ambiguous.",
                code="bad_request",
            )
        if coding.lower() != "chunked":
            raise TheirFault(
                "Only the transfer coding chunked is understood.",
                code="not_implemented",
                status=501,
            )
        return CHUNKED
    length = headers.get("content-length")
    if length is None:
        return 0
    if not (length.isascii() and length.isdigit() and len(length) <= 18):
        raise InvalidInput("Content-Length is not a number of bytes.", code="bad_request")
    return int(length)


def check_beginning(head: bytes, head_bytes_max: int) -> None:
    """Judge an incomplete head: raises TheirFault when no further byte could make it valid."""
    if len(head) > head_bytes_max:
        raise head_too_large(head_bytes_max)
    line_end = head.find(b"\n")
    first = head if line_end < 0 else head[:line_end]
    if _BEGINNING.match(first) is None or (line_end >= 0 and not first.endswith(b"\r")):
        raise InvalidInput("This is not an HTTP/1.1 request.", code="bad_request")


def head_too_large(head_bytes_max: int) -> IsochroneError:
    """The refusal of a head beyond ``head_bytes_max``."""
    return TheirFault(
        f"The request line and headers exceed {head_bytes_max} bytes.",
        fix="Send fewer or shorter headers.",
        code="headers_too_large",
        status=431,
    )


def too_many_headers(headers_max: int) -> IsochroneError:
    """The refusal of a head with more than ``headers_max`` headers."""
    return TheirFault(
        f"The request has more than {headers_max} headers.",
        fix="Send fewer headers.",
        code="headers_too_large",
        status=431,
    )
