"""Beginning and ending to listen, for both servers of this room.

Intuition: asyncio makes a connection's transport one turn of the loop after it accepted the socket.
A server that is closed in between loses that socket: nobody closes it, and its client waits for an
answer until it gives up. So accepting ends first, and the server is closed when all that was
accepted has arrived.

What it does not do: end connections; whoever owns them does.
"""

from __future__ import annotations

import asyncio
import errno
from typing import Final

from isochrone.schema.errors import Unavailable

ARRIVAL_TURNS: Final = 2
"""Turns of the loop from an accepted socket to ``connection_made``: a task, then a callback."""


def cannot_listen(host: str, port: int, error: OSError) -> Unavailable:
    """The sentence for a socket that cannot be bound."""
    if error.errno == errno.EADDRINUSE:
        return Unavailable(
            f"Port {port} on {host} is in use.",
            fix="Stop the program that holds it, or choose another port (0 takes a free one).",
            code="port_in_use",
        )
    return Unavailable(
        f"Cannot listen on {host}:{port}: {error.strerror or error}.",
        fix="Check the address and that this user may use the port.",
        code="cannot_listen",
    )


async def stop_listening(server: asyncio.Server) -> None:
    """Close a server when every socket that it accepted has its protocol; again: nothing."""
    loop = asyncio.get_running_loop()
    for listener in server.sockets:
        loop.remove_reader(listener.fileno())
    for _ in range(ARRIVAL_TURNS):
        await asyncio.sleep(0)
    server.close()
