"""The request head against another implementation: h11 as an oracle, and noise."""

from __future__ import annotations

import h11
from hypothesis import example, given
from hypothesis import strategies as st

from isochrone.schema.errors import TheirFault
from isochrone.wire.http_head import (
    CHUNKED,
    METHODS,
    RequestHead,
    check_beginning,
    parse_request_head,
)

TOKEN = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_!~", min_size=1)
VALUE = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"))
ODD_LINES = st.sampled_from(
    [
        "Content-Length: 5",
        "Content-Length: 6",
        "Content-Length: -1",
        "Content-Length:\t7\t",
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: Chunked",
        "Transfer-Encoding: gzip, chunked",
        "Host: other",
        "X : y",
        " X: y",
        "X: y\0",
        "X: y\rz",
        "X",
        "Connection: close",
        "Connection: keep-alive, x",
        "Expect: 100-continue",
    ]
)


def ours(raw: bytes) -> RequestHead | None:
    try:
        return parse_request_head(raw, 100)
    except TheirFault:
        return None


def oracle(raw: bytes) -> h11.Request | None:
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    connection.receive_data(raw)
    try:
        event = connection.next_event()
    except h11.RemoteProtocolError:
        return None
    return event if isinstance(event, h11.Request) else None


@given(
    method=st.sampled_from(sorted(METHODS)),
    path=st.text("abc/%20.~-", max_size=20),
    query=st.text("a=1&b", max_size=10),
    lines=st.lists(st.one_of(st.builds("{}: {}".format, TOKEN, VALUE), ODD_LINES), max_size=8),
    minor=st.sampled_from("01"),
    hosted=st.booleans(),
)
@example("POST", "", "", ["Content-Length: 5", "Transfer-Encoding: chunked"], "1", True)
def test_whatever_we_accept_h11_reads_the_same_way(method, path, query, lines, minor, hosted):
    host = ["Host: h"] if hosted else []
    target = f"/{path}?{query}" if query else f"/{path}"
    text = "\r\n".join([f"{method} {target} HTTP/1.{minor}", *host, *lines]) + "\r\n\r\n"
    raw = text.encode("latin-1")
    head = ours(raw)
    if head is None:
        return
    request = oracle(raw)
    assert request is not None, "h11 refuses what we accept"
    assert head.method == request.method.decode()
    assert head.raw_path == f"/{path}"
    assert head.query == query
    expected: dict[str, str] = {}
    for raw_name, raw_value in request.headers:
        name, value = raw_name.decode(), raw_value.decode("latin-1")
        expected[name] = f"{expected[name]}, {value}" if name in expected else value
    # h11 checks transfer-encoding and rewrites it in lower case
    assert {**head.headers, "transfer-encoding": ""} == {**expected, "transfer-encoding": ""}
    lengths = {value for name, value in request.headers if name == b"content-length"}
    chunked = any(name == b"transfer-encoding" for name, _ in request.headers)
    if chunked:
        assert head.body_bytes == CHUNKED
        assert not lengths
    else:
        assert head.body_bytes == int(next(iter(lengths), b"0"))


@given(
    lines=st.lists(st.builds("{}: {}".format, TOKEN, st.text("abc xyz", max_size=9)), max_size=8)
)
def test_plain_requests_are_accepted_by_both(lines):
    special = ("host", "content-length", "transfer-encoding", "expect", "connection", "upgrade")
    lines = [line for line in lines if line.split(":")[0].lower() not in special]
    names = [line.split(":")[0].lower() for line in lines]
    lines = [line for n, line in enumerate(lines) if names.index(names[n]) == n]
    raw = "\r\n".join(["GET / HTTP/1.1", "Host: h", *lines, "", ""]).encode()
    assert oracle(raw) is not None
    assert ours(raw) is not None


@given(st.binary(max_size=300))
@example(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
def test_noise_is_refused_with_a_reason_or_read(noise):
    for raw in (noise, b"GET / HTTP/1.1\r\nHost: h\r\n" + noise + b"\r\n\r\n"):
        fault = None
        try:
            parse_request_head(raw, 100)
        except TheirFault as caught:
            fault = caught
        assert fault is None or (400 <= fault.status <= 505 and fault.message)


@given(st.data())
def test_no_beginning_of_a_valid_head_is_refused(data):
    method = data.draw(st.sampled_from(sorted(METHODS)))
    target = data.draw(st.text("/abc?=%*-", min_size=1, max_size=20))
    raw = f"{method} {target} HTTP/1.1\r\nHost: h\r\nX: y\r\n\r\n".encode()
    for cut in range(1, len(raw)):
        check_beginning(raw[:cut], 1000)
