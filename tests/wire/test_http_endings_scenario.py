"""Connections that end badly: slow-loris crowds, clients that do not read their last answer."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time

from isochrone.wire import http_connection
from isochrone.wire.http_server import Exchange

from .doubles import Talker, until

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"


def hello(exchange: Exchange) -> None:
    exchange.respond(200, [], b"hello")


async def test_a_slow_loris_crowd_disturbs_nobody_and_is_shown_out(http, talk):
    server = await http(hello, head_timeout_s=0.5)
    honest = await talk(server.port)
    slowest_s = 0.0
    with contextlib.ExitStack() as crowd:
        loris = []
        for n in range(400):
            loris.append(socket.create_connection(("127.0.0.1", server.port)))
            crowd.callback(loris[-1].close)
            loris[-1].sendall(b"POST / HTTP/1.1\r\nHost: h\r\nX-%d: " % n)
        await until(lambda: server.connections == 401)
        while server.refusals["request_timeout"] < 400:
            began = time.monotonic()
            honest.say(GET)
            assert (await honest.answer()).body == b"hello"
            slowest_s = max(slowest_s, time.monotonic() - began)
            for each in loris[::7]:
                with contextlib.suppress(OSError):
                    each.send(b"a")
            await asyncio.sleep(0.01)
    await until(lambda: server.connections == 1)
    assert slowest_s < 5.0  # milliseconds, in truth; the machine may be busy with other things


async def test_a_long_early_answer_is_not_cut_by_lingering(http, talk, monkeypatch):
    monkeypatch.setattr(http_connection, "LINGER_S", 0.05)
    body = b"x" * 20_000_000
    server = await http(lambda x: x.respond(413, [], body), head_timeout_s=0.2)
    talker: Talker = await talk(server.port)
    talker.writer.transport.pause_reading()
    talker.say(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab")
    await until(lambda: server.connections == 1)
    await asyncio.sleep(0.4)  # eight times the lingering: the point is that time passes
    talker.writer.transport.resume_reading()
    answer = await talker.answer()
    assert (answer.status, len(answer.body)) == (413, len(body))
    assert answer.headers["connection"] == "close"
    await until(lambda: server.connections == 0)


async def test_a_last_answer_that_nobody_reads_is_given_up(http, talk):
    server = await http(lambda x: x.respond(200, [], b"x" * 20_000_000), write_idle_timeout_s=0.2)
    talker: Talker = await talk(server.port)
    talker.writer.transport.pause_reading()
    talker.say(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    await until(lambda: server.refusals["write_timeout"] == 1)
    await until(lambda: server.connections == 0)
