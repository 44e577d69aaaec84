"""The HTTP client against our own server, and against servers that misbehave."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from isochrone.wire.http_client import HttpPool
from isochrone.wire.http_server import Exchange

from .doubles import Answered, until


@pytest.fixture
async def pool():
    """``pool(port, **settings)`` → an HttpPool, closed at the end."""
    pools: list[HttpPool] = []

    def start(port: int, **settings: object) -> HttpPool:
        pools.append(HttpPool("127.0.0.1", port, **settings))  # type: ignore[arg-type]
        return pools[-1]

    yield start
    for each in pools:
        each.close()
    await until(lambda: not any(each.connections for each in pools))


class Script(asyncio.Protocol):
    """A server that answers the n-th connection's bytes by calling ``steps[n]``."""

    def __init__(self, server: Scripted) -> None:
        self.server = server
        self.number = len(server.connections)
        server.connections.append(self)

    def connection_made(self, transport) -> None:
        self.transport = transport
        self.seen = b""

    def data_received(self, data: bytes) -> None:
        self.seen += data
        self.server.step(self)


class Scripted:
    def __init__(self, step: Callable[[Script], None]) -> None:
        self.step = step
        self.connections: list[Script] = []

    async def start(self) -> int:
        loop = asyncio.get_running_loop()
        self.server = await loop.create_server(lambda: Script(self), "127.0.0.1", 0)
        return self.server.sockets[0].getsockname()[1]

    def stop(self) -> None:
        self.server.close()
        for connection in self.connections:
            connection.transport.abort()


@pytest.fixture
async def scripted():
    servers: list[Scripted] = []

    async def start(step: Callable[[Script], None]) -> tuple[Scripted, int]:
        server = Scripted(step)
        servers.append(server)
        return server, await server.start()

    yield start
    for server in servers:
        server.stop()


def mirror(exchange: Exchange) -> None:
    seen = [("x-method", exchange.method), ("x-path", exchange.raw_path)]
    exchange.read_body(lambda body: exchange.respond(200, seen, body))


def ask(pool: HttpPool, body: bytes | None = b"", path: str = "/p", **options: object) -> Answered:
    sink = Answered()
    sink.request = pool.request("POST", path, [("a", "b")], body, sink, **options)
    return sink


async def test_connections_are_reused(http, pool):
    server = await http(mirror)
    client = pool(server.port)
    for n in range(20):
        answer = await ask(client, b"body %d" % n).done()
        assert (answer.status, answer.body) == (200, b"body %d" % n)
        assert answer.headers["x-method"] == "POST"
    assert client.connections == server.connections == 1


async def test_a_sink_that_asks_again_at_its_end_uses_the_same_connection(http, pool):
    server = await http(mirror)
    client = pool(server.port)
    second = Answered()
    first = Answered()
    first.when_ended = lambda: client.request("GET", "/", [], b"", second)
    client.request("GET", "/", [], b"", first)
    await second.done()
    assert client.connections == 1


async def test_requests_beyond_the_limit_wait_their_turn(http, pool):
    running: list[Exchange] = []
    server = await http(running.append)
    client = pool(server.port, connections_max=3, waiting_max=5)
    sinks = [ask(client) for _ in range(10)]
    await until(lambda: len(running) == 3)
    await until(lambda: sum(sink.error is not None for sink in sinks) >= 2)
    refused = [sink for sink in sinks if sink.error]
    assert {sink.error.code for sink in refused if sink.error} == {"overloaded"}
    done = 0
    while done < 10 - len(refused):
        await until(lambda done=done: len(running) > done)
        running[done].respond(200, [], b"")
        done += 1
    await until(lambda: all(sink.ended or sink.error for sink in sinks))
    assert server.connections <= 3


async def test_streaming_both_ways(http, pool):
    def app(exchange: Exchange) -> None:
        exchange.start(200, [])
        exchange.on_data = exchange.write
        exchange.on_end = exchange.finish

    server = await http(app)
    sink = ask(pool(server.port), None)
    sink.request.write(b"early ")
    await until(lambda: sink.status == 200)
    sink.request.write(b"late ")
    await until(lambda: sink.body.endswith(b"late "))
    sink.request.write(b"last")
    sink.request.finish()
    await sink.done()
    assert sink.body == b"early late last"


async def test_large_bodies_and_backpressure(http, pool):
    server = await http(mirror)
    sink = ask(pool(server.port), b"x" * 5_000_000)
    await until(lambda: len(sink.body) > 0)
    sink.request.pause()
    size = len(sink.body)
    await asyncio.sleep(0.05)  # time passes, and at most one read more is delivered
    assert len(sink.body) <= size + 512 * 1024
    sink.request.resume()
    await sink.done()
    assert len(sink.body) == 5_000_000


async def test_cancel_closes_the_connection_and_the_server_hears_of_it(http, pool):
    running: list[Exchange] = []
    aborted: list[bool] = []

    def app(exchange: Exchange) -> None:
        running.append(exchange)
        exchange.on_abort = lambda: aborted.append(True)

    server = await http(app)
    client = pool(server.port)
    sink = ask(client)
    await until(lambda: running)
    sink.request.cancel()
    await until(lambda: aborted)
    assert not sink.ended
    assert sink.error is None
    await until(lambda: client.connections == 0)
    assert sink.request.over


async def test_head_answers_have_no_body(http, pool):
    server = await http(lambda x: x.respond(200, [], b"five!"))
    client = pool(server.port)
    for method, body in (("HEAD", b""), ("GET", b"five!"), ("HEAD", b"")):
        sink = Answered()
        client.request(method, "/", [], b"", sink)
        await sink.done()
        assert (sink.body, sink.headers["content-length"]) == (body, "5")
    assert client.connections == 1


async def test_timeout_until_the_head(http, pool):
    server = await http(lambda _x: None)
    sink = await ask(pool(server.port), timeout_s=0.05).done()
    assert sink.error is not None
    assert sink.error.code == "timeout"
    await until(lambda: server.connections == 0)


async def test_nobody_listens(pool):
    sinks = [ask(pool(1)) for _ in range(3)]
    for sink in sinks:
        await sink.done()
        assert sink.error is not None
        assert (sink.error.code, bool(sink.error.fix)) == ("cannot_connect", True)


async def test_idle_connections_are_closed(http, pool):
    server = await http(mirror)
    client = pool(server.port, idle_timeout_s=0.05)
    await ask(client).done()
    await until(lambda: client.connections == 0 and server.connections == 0)


async def test_injected_lines_are_refused(http, pool):
    server = await http(mirror)
    client = pool(server.port)
    for path, headers in (("/ HTTP/1.1\r\nx: y", []), ("/a b", []), ("/", [("a", "b\r\nc: d")])):
        sink = Answered()
        client.request("GET", path, headers, b"", sink)
        assert sink.error is None  # never inside the call
        await sink.done()
        assert sink.error is not None
        assert sink.error.code == "invalid_input"


ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def test_a_kept_connection_that_was_closed_is_replaced_once(scripted, pool):
    def step(script: Script) -> None:
        if script.number == 0 and script.seen.count(b"POST") == 2:
            script.transport.close()  # without a byte: the race that every server has
        else:
            script.transport.write(ANSWER)

    server, port = await scripted(step)
    client = pool(port)
    await ask(client).done()
    second = await ask(client, b"again").done()
    assert (second.error, second.body) == (None, b"ok")
    assert len(server.connections) == 2


async def test_a_server_that_always_hangs_up_is_asked_twice_at_most(scripted, pool):
    def step(script: Script) -> None:
        if script.number == 0 and script.seen.count(b"POST") == 1:
            script.transport.write(ANSWER)
        else:
            script.transport.close()

    server, port = await scripted(step)
    client = pool(port)
    await ask(client).done()
    second = await ask(client).done()
    assert second.error is not None
    assert second.error.code == "cut_off"
    assert len(server.connections) == 2
    third = await ask(client).done()  # on a fresh connection: no retry at all
    assert third.error is not None
    assert len(server.connections) == 3


async def test_streamed_bodies_and_begun_answers_are_not_repeated(scripted, pool):
    def step(script: Script) -> None:
        if script.seen.count(b"POST") == 1 and script.number == 0:
            script.transport.write(ANSWER)
        else:
            script.transport.write(b"HTTP/1.1 200 OK\r\nContent-Len")
            script.transport.close()

    server, port = await scripted(step)
    client = pool(port)
    await ask(client).done()
    second = await ask(client).done()
    assert second.error is not None
    assert len(server.connections) == 1


GOOD = {
    "until close": (b"HTTP/1.0 200 OK\r\n\r\nbody", b"body"),
    "chunked": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
        b"body",
    ),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    "after 100": (b"HTTP/1.1 100 Continue\r\n\r\n" + ANSWER, b"ok"),
    "repeated headers": (b"HTTP/1.1 200 OK\r\nA: b\r\na: c\r\nContent-Length: 0\r\n\r\n", b""),
}


@pytest.mark.parametrize(("raw", "body"), GOOD.values(), ids=GOOD.keys())
async def test_answers_byte_by_byte(scripted, pool, raw, body):
    async def drip(script: Script) -> None:
        for byte in raw:
            script.transport.write(bytes([byte]))
            await asyncio.sleep(0)
        if raw.startswith(b"HTTP/1.0"):
            script.transport.close()

    tasks: list[asyncio.Task[None]] = []
    _, port = await scripted(lambda script: tasks.append(asyncio.ensure_future(drip(script))))
    sink = await ask(pool(port)).done()
    assert (sink.error, sink.body) == (None, body)
    if b"A: b" in raw:
        assert sink.headers["a"] == "b, c"
    await asyncio.gather(*tasks)


BAD = {
    "not http": b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    "length and chunked": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n",
    "bad chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
    "unknown coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
    "protocol change": b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    "endless head": b"HTTP/1.1 200 OK\r\nA: " + b"a" * 70_000,
    "short": b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort",
}


@pytest.mark.parametrize("raw", BAD.values(), ids=BAD.keys())
async def test_bad_answers(scripted, pool, raw):
    def step(script: Script) -> None:
        script.transport.write(raw)
        if raw.endswith(b"short"):
            script.transport.close()

    _, port = await scripted(step)
    client = pool(port)
    sink = await ask(client).done()
    assert sink.error is not None
    assert sink.error.code == ("cut_off" if raw.endswith(b"short") else "bad_answer")
    await until(lambda: client.connections == 0)


async def test_bytes_behind_an_answer_spoil_the_connection(scripted, pool):
    server, port = await scripted(lambda script: script.transport.write(ANSWER + ANSWER))
    client = pool(port)
    assert (await ask(client).done()).body == b"ok"
    assert (await ask(client).done()).body == b"ok"
    assert len(server.connections) == 2


async def test_bytes_behind_an_answer_never_answer_the_next_request(scripted, pool):
    def step(script: Script) -> None:
        forged = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged"
        script.transport.write(ANSWER + forged if script.number == 0 else ANSWER)

    _, port = await scripted(step)
    client = pool(port, connections_max=1)
    sinks = [ask(client), ask(client)]  # the second waits for the first one's connection
    for sink in sinks:
        await sink.done()
        assert (sink.error, sink.body) == (None, b"ok")


async def test_a_sink_that_raises_ends_its_request_only(http, pool):
    reported: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, c: reported.append(c))
    server = await http(mirror)
    client = pool(server.port)
    sink = Answered()

    def fail(_data: bytes) -> None:
        raise KeyError("bug")

    sink.on_each = fail
    client.request("POST", "/", [], b"x", sink)
    await until(lambda: reported)
    assert (await ask(client, b"y").done()).body == b"y"


async def test_closing_the_pool_ends_a_request_that_is_being_repeated(http, pool):
    server = await http(mirror)
    client = pool(server.port)
    sink = await ask(client).done()
    repeated = Answered()
    client.again(client.request("POST", "/", [], b"", repeated))
    client.close()
    await repeated.done()
    assert repeated.error is not None
    assert sink.error is None


async def test_closing_the_pool_ends_everything(http, pool):
    server = await http(lambda _x: None)
    client = pool(server.port, connections_max=1)
    sinks = [ask(client) for _ in range(3)]
    await until(lambda: server.connections == 1)
    client.close()
    assert all(sink.error for sink in sinks)
    late = await ask(client).done()
    assert late.error is not None
    assert {sink.error.code for sink in (*sinks, late) if sink.error} == {"pool_closed"}
    await until(lambda: server.connections == 0)
