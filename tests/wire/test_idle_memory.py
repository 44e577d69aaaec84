"""What an idle connection costs: measured in a process of its own, against the stated limits."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from isochrone.schema.identity import PrivateKey
from isochrone.wire.channel import ChannelLimits
from isochrone.wire.greeting import dial

from .doubles import Keeper

# Reads a line, answers with connections and resident KiB above the start; ends with its input.
PROGRAM = """
import asyncio, gc, json, sys
from pathlib import Path
import uvloop
from isochrone.schema.frames import Welcome
from isochrone.wire.certificate import make_certificate
from isochrone.wire.channel import ChannelLimits
from isochrone.wire.greeting import listen
from isochrone.wire.http_server import Limits, serve

class Quiet:
    def on_open(self, stream, header, body, ended): raise RuntimeError
    def on_control(self, message): pass
    def on_lost(self, error): pass

def resident_kib():
    import psutil
    gc.collect()
    return psutil.Process().memory_info().rss / 1024

async def main():
    http = await serve(lambda x: x.respond(200, [], b"hi"), "127.0.0.1", 0, Limits(),
                       on_bad_request=lambda path, error: (error.status, [], b""))
    certificate = make_certificate(Path(sys.argv[1]))
    welcome = Welcome(version=0, gateway="g", cell="c", doors=())
    door = await listen("127.0.0.1", 0, certificate, lambda hello: (None, welcome),
                        lambda channel: Quiet(), ChannelLimits(ping_interval_s=60),
                        gateway="g", cell="c")
    start = resident_kib()
    print(json.dumps([http.port, door.port, certificate.fingerprint]), flush=True)
    loop = asyncio.get_running_loop()
    while await loop.run_in_executor(None, sys.stdin.readline):
        grown = resident_kib() - start
        print(json.dumps([http.connections, door.channels, grown]), flush=True)
    await http.close()
    await door.close()

uvloop.run(main())
"""


class Measured:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.http_port, self.door_port, self.fingerprint = self.read()

    def read(self) -> list:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def look(self) -> tuple[int, int, float]:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        http, channels, grown_kib = self.read()
        return http, channels, grown_kib


@contextmanager
def measured(directory: Path) -> Iterator[Measured]:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield Measured(process)
        process.communicate(timeout=20)
        assert process.returncode == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


@pytest.mark.processes
def test_an_idle_http_connection_costs_at_most_4_kib(tmp_path):
    request = b"GET / HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer " + b"k" * 64 + b"\r\n\r\n"
    with measured(tmp_path) as server:
        sockets = []
        for _ in range(800):
            sockets.append(socket.create_connection(("127.0.0.1", server.http_port)))
            sockets[-1].sendall(request)
            assert sockets[-1].recv(1000).startswith(b"HTTP/1.1 200")
        http, _, grown_kib = server.look()
        for each in sockets:
            each.close()
        assert http == 800
        assert grown_kib / http <= 4.0


@pytest.mark.processes
def test_an_idle_channel_costs_at_most_32_kib(tmp_path):
    with measured(tmp_path) as server:

        async def scene() -> None:
            key = PrivateKey.generate()
            channels = [
                await dial(
                    "127.0.0.1",
                    server.door_port,
                    server.fingerprint,
                    key,
                    "node",
                    b"",
                    lambda _channel: Keeper(),
                    ChannelLimits(ping_interval_s=60),
                )
                for _ in range(200)
            ]
            _, open_channels, grown_kib = await asyncio.to_thread(server.look)
            for channel in channels:
                channel.close("bye")
            await asyncio.sleep(0)
            assert open_channels == 200
            assert grown_kib / 200 <= 32.0

        asyncio.run(scene())
