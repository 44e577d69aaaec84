"""The socket under an HTTP connection: sending, holding, and the ways to close it well.

What it knows of HTTP is only the phase of its connection. *Lingering*: our last answer is sent and
our end closed, but what the client still sends is read and dropped for a while, because a TCP
reset would destroy the answer on its way.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final, cast

from isochrone.wire.http_service import Service

# Up to and including DRAINING, arriving bytes are parsed.
HEAD, BODY, DRAINING, WORKING, LINGERING, CLOSED = range(6)

# After the last answer before a close, the client gets this long to finish sending (nginx's
# lingering_timeout is 5 s as well), so that a TCP reset does not destroy our answer.
LINGER_S: Final = 5.0


class HttpSocket(asyncio.Protocol):
    """One accepted socket: phase, last activity, and the write side."""

    __slots__ = (
        "_phase",
        "_reading_held",
        "_service",
        "_since",
        "_stuck_bytes",
        "_stuck_since",
        "_transport",
        "closing",
        "writable",
    )

    def __init__(self, service: Service) -> None:
        self._service = service
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._phase = HEAD
        self._since = 0.0
        self._reading_held = False
        self._stuck_bytes = 0
        self._stuck_since = 0.0
        self.writable = True
        self.closing = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket was accepted."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=self._service.limits.write_high_water)
        self._since = time.monotonic()

    def eof_received(self) -> bool:
        """The client hung up: close (half-open clients are treated as gone)."""
        return False

    def pause_writing(self) -> None:
        """The client reads more slowly than we write."""
        self.writable = False
        self._stuck_bytes = -1

    @property
    def peer(self) -> str:
        """The client's IP address."""
        name = self._transport.get_extra_info("peername")
        return str(name[0]) if isinstance(name, tuple) else ""

    def send(self, data: bytes) -> None:
        """Write bytes to the socket."""
        if self._phase != CLOSED:
            self._transport.write(data)

    def date(self) -> str:
        """The ``date`` header's line."""
        return self._service.date

    def cut(self) -> None:
        """Close at once, whatever is unsent."""
        self._phase = CLOSED
        self._transport.abort()

    def _hold_reading(self) -> None:
        if not self._reading_held:
            self._reading_held = True
            self._transport.pause_reading()

    def _release_reading(self) -> None:
        if self._reading_held:
            self._reading_held = False
            self._transport.resume_reading()

    def _linger(self) -> None:
        """Send our end, then drop what the client still sends, until it closes too."""
        self._phase = LINGERING
        self.closing = True
        self._since = time.monotonic()
        self._release_reading()
        if self._transport.can_write_eof():
            try:
                self._transport.write_eof()
            except OSError:  # the client went away meanwhile
                self._transport.abort()

    def _close(self) -> None:
        self._phase = CLOSED
        self._transport.close()

    def _unsent(self) -> int:
        return self._transport.get_write_buffer_size()

    def _stuck(self, now: float) -> bool:
        """Whether unsent bytes have not moved since ``write_idle_timeout_s``."""
        size = self._unsent()
        if self._stuck_bytes != size or size == 0:
            self._stuck_bytes = size
            self._stuck_since = now
            return False
        return now - self._stuck_since > self._service.limits.write_idle_timeout_s
