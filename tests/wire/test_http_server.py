"""The HTTP server over real sockets: what clients send, what they get, what is counted."""

from __future__ import annotations

import asyncio
import gc

import pytest

from isochrone.schema.errors import NotFound, Unavailable
from isochrone.wire.http_server import Exchange, Limits, serve

from .doubles import plain_refusal, until

GET = b"GET /a%20b?x=1 HTTP/1.1\r\nHost: h\r\n\r\n"


def hello(exchange: Exchange) -> None:
    exchange.respond(200, [("content-type", "text/plain")], b"hello")


def _connections(server):
    return [connection for bucket in server._service.buckets for connection in bucket]


def mirror(exchange: Exchange) -> None:
    exchange.read_body(lambda body: exchange.respond(200, [], body))


async def test_answers_and_keeps_the_connection(http, talk) -> None:
    seen: list[Exchange] = []

    def app(exchange: Exchange) -> None:
        seen.append(exchange)
        hello(exchange)

    server = await http(app)
    talker = await talk(server.port)
    for _ in range(3):
        talker.say(GET)
        answer = await talker.answer()
        assert (answer.status, answer.body) == (200, b"hello")
        assert answer.headers["content-length"] == "5"
        assert answer.headers["date"].endswith("GMT")
    first = seen[0]
    assert (first.method, first.path, first.raw_path) == ("GET", "/a b", "/a%20b")
    assert (first.query, first.headers["host"], first.peer) == ("x=1", "h", "127.0.0.1")
    assert server.connections == 1
    await talker.hang_up()
    await until(lambda: server.connections == 0)


async def test_body_by_length_in_any_split(http, talk) -> None:
    server = await http(mirror)
    talker = await talk(server.port)
    request = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n0123456789"
    for cut in range(1, len(request)):
        talker.say(request[:cut])
        await talker.writer.drain()
        await asyncio.sleep(0)
        talker.say(request[cut:])
        assert (await talker.answer()).body == b"0123456789"


async def test_chunked_body_and_chunked_answer(http, talk) -> None:
    def app(exchange: Exchange) -> None:
        exchange.start(200, [])
        exchange.on_data = exchange.write
        exchange.on_end = exchange.finish

    server = await http(app)
    talker = await talk(server.port)
    head = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
    talker.say(head + b"3\r\nabc\r\n")
    talker.say(b"A;x=y\r\n0123456789\r\n0\r\nTrailer: v\r\n\r\n")
    answer = await talker.answer()
    assert answer.headers["transfer-encoding"] == "chunked"
    assert answer.body == b"abc0123456789"


async def test_head_request_has_no_body(http, talk) -> None:
    server = await http(hello)
    talker = await talk(server.port)
    talker.say(b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n")
    answer = await talker.answer(bodyless=True)
    assert answer.headers["content-length"] == "5"
    talker.say(GET)
    assert (await talker.answer()).body == b"hello"


async def test_http_1_0_closes_or_is_kept_alive_on_demand(http, talk) -> None:
    def stream(exchange: Exchange) -> None:
        exchange.start(200, [])
        exchange.write(b"to the end")
        exchange.finish()

    server = await http(lambda x: stream(x) if x.path == "/s" else hello(x))
    talker = await talk(server.port)
    talker.say(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    assert (await talker.answer()).headers["connection"] == "keep-alive"
    talker.say(b"GET /s HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    answer = await talker.answer()
    assert answer.body == b"to the end"
    assert answer.headers["connection"] == "close"


async def test_expect_continue(http, talk) -> None:
    server = await http(mirror)
    talker = await talk(server.port)
    talker.say(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
    assert await talker.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    talker.say(b"ok")
    assert (await talker.answer()).body == b"ok"


async def test_early_answer_to_expect_continue_closes(http, talk) -> None:
    server = await http(lambda x: x.respond(401, [], b"no"))
    talker = await talk(server.port)
    talker.say(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
    answer = await talker.answer()
    assert (answer.status, answer.headers["connection"]) == (401, "close")
    assert await talker.rest() == b""


async def test_pipelined_requests_are_answered_in_order_one_at_a_time(http, talk) -> None:
    running: list[Exchange] = []

    def app(exchange: Exchange) -> None:
        running.append(exchange)

    server = await http(app)
    talker = await talk(server.port)
    talker.say(b"".join(b"GET /%d HTTP/1.1\r\nHost: h\r\n\r\n" % n for n in range(50)))
    for n in range(50):
        await until(lambda n=n: len(running) > n)
        assert len(running) == n + 1
        running[n].respond(200, [], running[n].path.encode())
    for n in range(50):
        assert (await talker.answer()).body == b"/%d" % n


async def test_thousands_of_pipelined_requests_need_no_stack(http, talk) -> None:
    server = await http(hello)
    talker = await talk(server.port)
    talker.say(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n" * 5000)
    for _ in range(5000):
        assert (await talker.answer()).status == 200


async def test_pipelined_flood_is_not_buffered(http, talk) -> None:
    running: list[Exchange] = []
    server = await http(running.append, head_bytes_max=1024)
    talker = await talk(server.port)
    talker.say(GET)
    await until(lambda: running)
    talker.say(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n" * 400_000)
    await until(lambda: _connections(server)[0]._reading_held)
    # One read of the event loop (256 KiB) beyond the limit, of the 11 MB that were sent.
    assert len(_connections(server)[0]._held) <= 1024 + 256 * 1024
    # While the socket is not read, a client that hangs up is noticed at the next answer only.
    talker.writer.transport.abort()
    for exchange in running:  # grows while we go through it
        exchange.respond(200, [], b"")
        await asyncio.sleep(0)
    await until(lambda: server.connections == 0)


SMUGGLED = {
    "length and chunked": b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
    "two lengths": b"Content-Length: 3\r\nContent-Length: 4\r\n",
    "the same length twice": b"Content-Length: 3\r\nContent-Length: 3\r\n",
    "list of lengths": b"Content-Length: 3, 3\r\n",
    "signed length": b"Content-Length: +3\r\n",
    "hex length": b"Content-Length: 0x3\r\n",
    "empty length": b"Content-Length: \r\n",
    "folded line": b"X: a\r\n b\r\n",
    "space before colon": b"Content-Length : 3\r\n",
    "nul in value": b"X: a\0b\r\n",
    "bare lf": b"X: a\nContent-Length: 3\r\n",
    "bare cr": b"X: a\rContent-Length: 3\r\n",
    "nameless": b": a\r\n",
    "two hosts": b"Host: evil\r\n",
    "two codings": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
    "odd coding": b"Transfer-Encoding: xchunked\r\n",
    "chunked first": b"Transfer-Encoding: chunked, identity\r\n",
}


@pytest.mark.parametrize("lines", SMUGGLED.values(), ids=SMUGGLED.keys())
async def test_ambiguous_requests_are_refused_and_the_connection_closed(http, talk, lines) -> None:
    called: list[Exchange] = []
    server = await http(called.append)
    talker = await talk(server.port)
    talker.say(b"POST / HTTP/1.1\r\nHost: h\r\n" + lines + b"\r\nabc" + GET)
    answer = await talker.answer()
    assert answer.status in (400, 501)
    assert answer.headers["connection"] == "close"
    assert await talker.rest() == b""
    assert not called
    assert sum(server.refusals.values()) == 1


REFUSED = {
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400, "bad_request"),
    "garbage": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "bad_request"),
    "lower-case method": (b"get / HTTP/1.1\r\nHost: h\r\n\r\n", 400, "bad_request"),
    "lf only": (b"GET / HTTP/1.1\nHost: h\n\n", 400, "bad_request"),
    "trace": (b"TRACE / HTTP/1.1\r\nHost: h\r\n\r\n", 405, "method_not_allowed"),
    "connect": (b"CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\n", 405, "method_not_allowed"),
    "http/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "http_version"),
    "chunked in 1.0": (
        b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
        "bad_request",
    ),
    "http/0.9": (b"GET /\r\n\r\n", 400, "bad_request"),
    "expectation": (
        b"GET / HTTP/1.1\r\nHost: h\r\nExpect: more\r\n\r\n",
        417,
        "expectation_failed",
    ),
    "many headers": (
        b"GET / HTTP/1.1\r\nHost: h\r\n" + b"A: b\r\n" * 101 + b"\r\n",
        431,
        "headers_too_large",
    ),
    "long head": (
        b"GET / HTTP/1.1\r\nHost: h\r\nA: " + b"b" * 20_000 + b"\r\n\r\n",
        431,
        "headers_too_large",
    ),
    "endless head": (b"GET /" + b"a" * 70_000, 431, "headers_too_large"),
    "long body": (
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000001\r\n\r\n",
        413,
        "body_too_large",
    ),
    "long chunk": (
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nF4241\r\n",
        413,
        "body_too_large",
    ),
    "bad chunk": (
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
        400,
        "bad_request",
    ),
}


@pytest.mark.parametrize(("data", "status", "code"), REFUSED.values(), ids=REFUSED.keys())
async def test_refusals(http, talk, data, status, code) -> None:
    aborted: list[bool] = []

    def app(exchange: Exchange) -> None:
        exchange.on_abort = lambda: aborted.append(True)

    server = await http(app, body_bytes_max=1_000_000)
    talker = await talk(server.port)
    talker.say(data)
    answer = await talker.answer()
    assert answer.status == status
    assert answer.body.decode().split("|")[1] == code
    assert answer.headers["connection"] == "close"
    assert await talker.rest() == b""
    assert server.refusals == {code: 1}
    assert len(aborted) == (1 if b"HTTP/1.1" in data and b"chunked" in data else 0)


async def test_upgrade_offers_are_ignored(http, talk) -> None:
    server = await http(hello)
    talker = await talk(server.port)
    talker.say(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    assert (await talker.answer()).status == 200
    talker.say(GET)
    assert (await talker.answer()).status == 200


async def test_a_large_refused_upload_still_reads_its_answer(http, talk) -> None:
    server = await http(hello, body_bytes_max=1000)
    talker = await talk(server.port)
    talker.say(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5000000\r\n\r\n")
    talker.say(b"x" * 5_000_000)
    assert (await talker.answer()).status == 413


async def test_rest_of_a_short_body_is_dropped_after_an_early_answer(http, talk) -> None:
    server = await http(hello)
    talker = await talk(server.port)
    talker.say(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n")
    assert (await talker.answer()).body == b"hello"
    talker.say(b"x" * 1000 + GET)
    assert (await talker.answer()).body == b"hello"


async def test_slow_head_gets_408(http, talk) -> None:
    server = await http(hello, head_timeout_s=0.2)
    talker = await talk(server.port)
    talker.say(b"GET / HTTP/1.1\r\nHo")
    answer = await talker.answer()
    assert (answer.status, answer.headers["connection"]) == (408, "close")
    assert server.refusals == {"request_timeout": 1}


async def test_dripping_head_gets_408_all_the_same(http, talk) -> None:
    server = await http(hello, head_timeout_s=0.3)
    talker = await talk(server.port)
    answer = asyncio.ensure_future(talker.answer())
    for byte in b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"x" * 10_000:
        talker.say(bytes([byte]))
        await asyncio.sleep(0.02)
        if answer.done():
            break
    assert (await answer).status == 408


async def test_slow_body_gets_408_and_the_app_hears_of_it(http, talk) -> None:
    aborted: list[bool] = []

    def app(exchange: Exchange) -> None:
        exchange.on_abort = lambda: aborted.append(exchange.finished)

    server = await http(app, body_idle_timeout_s=0.2)
    talker = await talk(server.port)
    talker.say(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nabc")
    assert (await talker.answer()).status == 408
    assert aborted == [True]


async def test_a_paused_body_does_not_time_out(http, talk) -> None:
    exchanges: list[Exchange] = []
    got = bytearray()

    def app(exchange: Exchange) -> None:
        exchanges.append(exchange)
        exchange.on_data = got.extend
        exchange.on_end = lambda: exchange.respond(200, [], b"")
        exchange.pause_reading()

    server = await http(app, body_idle_timeout_s=0.1)
    talker = await talk(server.port)
    talker.say(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4000000\r\n\r\n")
    talker.say(b"x" * 4_000_000)
    await until(lambda: exchanges)
    ticks = server._bucket
    await until(lambda: server._bucket != ticks)
    await asyncio.sleep(0.3)  # three timeouts long: the point of the test is that time passes
    assert len(got) < 4_000_000
    assert not server.refusals
    exchanges[0].resume_reading()
    assert (await talker.answer()).status == 200
    assert len(got) == 4_000_000


async def test_idle_connection_is_closed(http, talk) -> None:
    server = await http(hello, idle_timeout_s=0.2)
    talker = await talk(server.port)
    talker.say(GET)
    await talker.answer()
    assert await talker.rest() == b""
    assert not server.refusals


async def test_client_that_hangs_up_cancels(http, talk) -> None:
    exchanges: list[Exchange] = []
    aborted: list[Exchange] = []

    def app(exchange: Exchange) -> None:
        exchanges.append(exchange)
        exchange.on_abort = lambda: aborted.append(exchange)

    server = await http(app)
    talker = await talk(server.port)
    talker.say(GET)
    await until(lambda: exchanges)
    await talker.hang_up()
    await until(lambda: aborted)
    assert aborted == exchanges
    assert exchanges[0].finished
    exchanges[0].respond(200, [], b"too late")  # ignored
    assert exchanges[0].write(b"later still") is True


async def test_slow_reader_is_told_to_wait_and_memory_stays_bounded(http, talk) -> None:
    piece = b"x" * 65536
    sent = 0
    state: list[Exchange] = []

    def app(exchange: Exchange) -> None:
        nonlocal sent
        state.append(exchange)
        exchange.start(200, [], content_length=len(piece) * 400)

        def more() -> None:
            nonlocal sent
            while sent < 400:
                sent += 1
                if not exchange.write(piece):
                    return
            exchange.finish()

        exchange.on_writable = more
        more()

    server = await http(app, write_high_water=128 * 1024)
    talker = await talk(server.port)
    talker.writer.transport.pause_reading()
    talker.say(GET)
    await until(lambda: state)
    connection = state[0]._line
    await until(lambda: not connection.writable)
    assert sent < 400
    assert connection._transport.get_write_buffer_size() <= 128 * 1024 + 2 * len(piece)
    talker.writer.transport.resume_reading()
    assert len((await talker.answer()).body) == len(piece) * 400


async def test_a_reader_that_never_reads_is_cut_off(http, talk) -> None:
    aborted: list[bool] = []

    def app(exchange: Exchange) -> None:
        exchange.start(200, [])
        exchange.on_abort = lambda: aborted.append(True)
        exchange.on_writable = lambda: None
        while exchange.write(b"x" * 65536):
            pass

    server = await http(app, write_idle_timeout_s=0.2)
    talker = await talk(server.port)
    talker.writer.transport.pause_reading()
    talker.say(GET)
    await until(lambda: aborted)
    assert server.refusals == {"write_timeout": 1}
    await until(lambda: server.connections == 0)
    talker.writer.transport.abort()


async def test_errors_of_the_app_are_answered_or_cut(http, talk) -> None:
    def app(exchange: Exchange) -> None:
        if exchange.path == "/known":
            raise NotFound("No such thing.")
        if exchange.path == "/late":
            exchange.start(200, [])
            exchange.on_end = lambda: exchange.respond(200, [], b"twice")
            return
        raise KeyError("bug")

    server = await http(app)
    reported: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, c: reported.append(c))
    talker = await talk(server.port)
    talker.say(b"GET /known HTTP/1.1\r\nHost: h\r\n\r\n")
    assert (await talker.answer()).body == b"/known|not_found"
    talker.say(b"GET /bug HTTP/1.1\r\nHost: h\r\n\r\n")
    assert (await talker.answer()).status == 500
    assert len(reported) == 1
    talker.say(b"GET /late HTTP/1.1\r\nHost: h\r\n\r\n")
    assert b"twice" not in await talker.rest()


async def test_line_breaks_cannot_be_injected_into_answers(http, talk) -> None:
    def app(exchange: Exchange) -> None:
        exchange.respond(200, [("x", "a\r\nset-cookie: evil")], b"")

    server = await http(app)
    talker = await talk(server.port)
    talker.say(GET)
    answer = await talker.answer()
    assert answer.status == 500
    assert "set-cookie" not in answer.headers


async def test_too_many_connections_are_refused(http, talk) -> None:
    server = await http(hello, connections_max=2)
    talkers = [await talk(server.port) for _ in range(2)]
    await until(lambda: server.connections == 2)
    third = await talk(server.port)
    assert (await third.answer()).status == 503
    assert server.refusals == {"too_many_connections": 1}
    talkers[0].say(GET)
    assert (await talkers[0].answer()).status == 200


async def test_exchanges_leave_no_cycles(http, talk):
    def app(exchange: Exchange) -> None:
        def answer() -> None:
            if exchange.path == "/cut":
                exchange.abort()
            elif exchange.path != "/wait":
                exchange.respond(200, [], b"")

        exchange.on_end = answer
        exchange.on_abort = lambda: exchange.respond(200, [], b"")

    server = await http(app)
    gc.collect()
    gc.disable()
    try:
        for path in (b"/ok", b"/cut", b"/wait") * 5:
            talker = await talk(server.port)
            talker.say(b"GET %b HTTP/1.1\r\nHost: h\r\n\r\n" % path)
            if path == b"/ok":
                await talker.answer()
            elif path == b"/cut":
                await talker.rest()
            else:
                await until(lambda: any(c._exchange for c in _connections(server)))
            await talker.hang_up()
            await until(lambda: server.connections == 0)
        assert not [thing for thing in gc.get_objects() if isinstance(thing, Exchange)]
    finally:
        gc.enable()


async def test_port_in_use_says_what_to_do(http) -> None:
    server = await http(hello)
    with pytest.raises(Unavailable) as caught:
        await serve(hello, "127.0.0.1", server.port, Limits(), on_bad_request=plain_refusal)
    assert caught.value.code == "port_in_use"
    assert "another port" in caught.value.sentence()


async def test_close_waits_for_running_exchanges(http, talk) -> None:
    exchanges: list[Exchange] = []
    server = await http(exchanges.append)
    idle = await talk(server.port)
    busy = await talk(server.port)
    busy.say(GET)
    await until(lambda: exchanges)
    closing = asyncio.ensure_future(server.close(grace_s=10))
    assert await idle.rest() == b""
    exchanges[0].respond(200, [], b"last")
    answer = await busy.answer()
    assert (answer.body, answer.headers["connection"]) == (b"last", "close")
    await closing
    assert server.connections == 0
