"""Whoever connects while a server closes is told so: no accepted socket is lost."""

from __future__ import annotations

import asyncio
import gc
import socket
from pathlib import Path

import pytest

from isochrone.schema.identity import PrivateKey
from isochrone.wire.certificate import make_certificate
from isochrone.wire.channel import ChannelLimits
from isochrone.wire.greeting import listen
from isochrone.wire.http_server import Exchange

TURNS = range(6)
"""Turns of the loop between connecting and closing: one of them is between accept and transport."""


async def ended(client: socket.socket) -> bool:
    """Whether the other side ends the connection, by a goodbye or a reset."""
    client.setblocking(False)
    try:
        found = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(client, 1), 2)
    except ConnectionResetError:
        return True
    return found == b""


@pytest.mark.parametrize("turns", TURNS)
async def test_http_connections_that_come_at_the_end(http, turns: int) -> None:  # type: ignore[no-untyped-def]
    server = await http(lambda exchange: Exchange.respond(exchange, 200, [], b""))
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        for _ in range(turns):
            await asyncio.sleep(0)
        await server.close()
        await server.close()
        assert await ended(client)
    gc.collect()  # a socket that was lost is an error here


@pytest.mark.parametrize("turns", TURNS)
async def test_channels_that_come_at_the_end(tmp_path: Path, turns: int) -> None:
    door = await listen(
        "127.0.0.1",
        0,
        make_certificate(tmp_path),
        lambda hello: None,
        lambda channel: pytest.fail("nobody greets"),
        ChannelLimits(),
        gateway=PrivateKey.generate().address,
        cell="fra",
    )
    with socket.create_connection(("127.0.0.1", door.port)) as client:
        for _ in range(turns):
            await asyncio.sleep(0)
        await door.close()
        assert await ended(client)
    gc.collect()
