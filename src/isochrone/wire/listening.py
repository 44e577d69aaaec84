"""The sentence for a socket that cannot be bound, for both servers of this room."""

from __future__ import annotations

import errno

from isochrone.schema.errors import Unavailable


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
