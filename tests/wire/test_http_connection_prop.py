"""The server's connection, fed bytes without a socket: any split gives the same answers."""

from __future__ import annotations

import asyncio

import h11
from hypothesis import given, settings
from hypothesis import strategies as st

from isochrone.wire.http_connection import HttpConnection
from isochrone.wire.http_exchange import Exchange
from isochrone.wire.http_service import Limits, Service

from .doubles import plain_refusal


class MemoryTransport(asyncio.Transport):
    """Takes what is written; knows whether it is read and open."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.open = True
        self.ended = False
        self.reading = True

    def write(self, data) -> None:
        assert self.open
        assert not self.ended
        self.written += data

    def set_write_buffer_limits(self, high=None, low=None) -> None:
        pass

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True

    def close(self) -> None:
        self.open = False

    abort = close


def stream(exchange: Exchange, body: bytes) -> None:
    exchange.start(200, [])
    exchange.write(body)
    exchange.finish()


def app(exchange: Exchange) -> None:
    if exchange.path == "/early":
        exchange.respond(401, [], b"early")
    elif exchange.path == "/stream":
        exchange.read_body(lambda body: stream(exchange, body))
    else:
        exchange.read_body(
            lambda body: exchange.respond(200, [], b"%b %b" % (exchange.path.encode(), body))
        )


def serve(parts: list[bytes]) -> tuple[bytes, bool]:
    """The answers to these reads, and whether the connection is still good."""
    loop = asyncio.new_event_loop()
    try:
        service = Service(app, plain_refusal, Limits(body_bytes_max=1000), loop)
        connection = HttpConnection(service)
        transport = MemoryTransport()
        connection.connection_made(transport)
        for part in parts:
            if part and transport.open:
                connection.data_received(part)
        connection.connection_lost(None)
        assert service.open == 0
        return bytes(transport.written), transport.open and not transport.ended
    finally:
        loop.close()


def split(raw: bytes, cuts: list[int]) -> list[bytes]:
    inside = sorted(cut % (len(raw) + 1) for cut in cuts)
    return [raw[a:b] for a, b in zip([0, *inside], [*inside, len(raw)], strict=True)]


def read_by_h11(answers: bytes, requests: list[bytes]) -> bytes:
    """What h11 as a client makes of the answers: all of them, whole; returns the bytes it took."""
    left = answers
    for raw in requests:
        client = h11.Connection(h11.CLIENT)
        method = raw.lstrip().split(b" ")[0].decode()
        client.send(h11.Request(method=method, target="/", headers=[("host", "h")]))
        client.send(h11.EndOfMessage())
        client.receive_data(left)
        while not isinstance(event := client.next_event(), h11.EndOfMessage):
            assert isinstance(event, h11.Response | h11.Data)
        left = client.trailing_data[0]
    assert left == b""
    return answers


BODY = st.binary(max_size=40)
PATH = st.sampled_from([b"/a", b"/stream", b"/early"])


@st.composite
def request(draw) -> bytes:
    path, body = draw(PATH), draw(BODY)
    host = b"Host: h\r\n"
    kind = draw(st.sampled_from(["length", "chunked", "get", "1.0"]))
    if kind == "length":
        return b"POST %b HTTP/1.1\r\n%bContent-Length: %d\r\n\r\n%b" % (path, host, len(body), body)
    if kind == "chunked":
        head = b"POST %b HTTP/1.1\r\n%bTransfer-Encoding: chunked\r\n\r\n" % (b"/a", host)
        return head + (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + b"0\r\n\r\n"
    if kind == "get":
        return b"\r\nGET %b HTTP/1.1\r\n%b\r\n" % (path, host)
    return b"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"


@given(st.lists(request(), max_size=6), st.lists(st.integers(0, 10_000), max_size=10))
def test_any_split_of_pipelined_requests_gets_the_same_answers(requests, cuts):
    raw = b"".join(requests)
    whole = serve([raw])
    assert whole[1]
    assert serve(split(raw, cuts)) == whole
    assert serve([raw[n : n + 1] for n in range(len(raw))]) == whole
    assert read_by_h11(whole[0], requests) == whole[0]


def test_empty_lines_before_a_request_are_forgiven_however_they_are_cut():
    raw = b"\r\n\r\n\r\nGET /a HTTP/1.1\r\nHost: h\r\n\r\n"
    whole = serve([raw])
    assert whole[0].startswith(b"HTTP/1.1 200")
    for cut in range(1, len(raw)):
        assert serve([raw[:cut], raw[cut:]]) == whole


@settings(max_examples=300)
@given(
    st.lists(request(), max_size=2),
    st.integers(0, 200),
    st.binary(min_size=1, max_size=6),
    st.lists(st.integers(0, 10_000), max_size=4),
)
def test_damaged_requests_are_answered_or_refused_never_a_crash(requests, at, noise, cuts):
    raw = b"".join(requests)
    at %= len(raw) + 1
    damaged = raw[:at] + noise + raw[at:]
    answers, good = serve(split(damaged, cuts))
    refused = any(b"HTTP/1.1 %d" % status in answers for status in (400, 413, 501, 505))
    assert not (refused and good), "a connection that was refused something stays open"
    assert serve([damaged])[0].split(b"\r\n")[0] == answers.split(b"\r\n")[0]
