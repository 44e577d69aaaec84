"""TLS over any asyncio transport: protocol below, transport above, OpenSSL in memory between.

Why not the event loop's own: a message costs half the processor time (7 against 13 µs for 1.5 KB
out and in, uvloop 0.23), an idle line less memory, a silent socket none of TLS at all, and a socket
can be counted before its first byte.

Rules: nothing decrypted is ever held back (backpressure is the socket's); OpenSSL's buffers are fed
in slices, because they never shrink; a line that closes says so, ends its direction, and reads on
for a moment, so that its last words are not destroyed by a TCP reset.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from typing import Any, Final, cast

# The largest TLS record: OpenSSL encrypts one at a time.
_RECORD_BYTES: Final = 16 * 1024
# What OpenSSL is given at once to decrypt.
_SLICE_BYTES: Final = 32 * 1024
# How long a closing side waits for the other to close, too.
GOODBYE_S: Final = 2.0


def _nothing(_line: SecureLine) -> None:
    """Default of ``on_socket``."""


class SecureLine(asyncio.Transport, asyncio.Protocol):
    """One TLS connection. ``app`` gets ``connection_made(line)`` when the handshake is over.

    A handshake that fails ends in ``app.connection_lost(error)`` without ``connection_made``.
    ``on_socket``: called with the line when the socket stands, before TLS. Who waits for how long
    is the owner's business.
    """

    __slots__ = (
        "_app",
        "_closing",
        "_context",
        "_incoming",
        "_on_socket",
        "_outgoing",
        "_plain",
        "_secure",
        "_server_side",
        "_timer",
        "_tls",
    )

    def __init__(
        self,
        context: ssl.SSLContext,
        app: asyncio.Protocol,
        *,
        server_side: bool,
        on_socket: Callable[[SecureLine], None] = _nothing,
    ) -> None:
        super().__init__()
        self._context = context
        self._app = app
        self._server_side = server_side
        self._on_socket = on_socket
        self._plain = cast(asyncio.Transport, None)
        self._tls: ssl.SSLObject | None = None
        self._incoming = cast(ssl.MemoryBIO, None)
        self._outgoing = cast(ssl.MemoryBIO, None)
        self._secure = False
        self._closing = False
        self._timer: asyncio.TimerHandle | None = None

    # -- below: the socket's protocol --------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket stands. A dialler begins; an acceptor waits for the first byte."""
        self._plain = cast(asyncio.Transport, transport)
        if self._closing:
            self._plain.abort()
            return
        self._on_socket(self)
        if not self._server_side:
            self._shake_hands(self._begin())

    def data_received(self, data: bytes) -> None:
        """Bytes of TLS."""
        if self._closing:
            return
        tls = self._tls or self._begin()
        try:
            if len(data) <= _SLICE_BYTES:
                self._incoming.write(data)
                self._work(tls)
                return
            for at in range(0, len(data), _SLICE_BYTES):
                self._incoming.write(data[at : at + _SLICE_BYTES])
                self._work(tls)
                if self._closing:
                    return
        except ssl.SSLError as error:
            self._fail(error)

    def eof_received(self) -> bool:
        """The other side closed: so do we."""
        if self._secure:
            self._app.eof_received()
        return False

    def pause_writing(self) -> None:
        """The socket holds enough."""
        if self._secure:
            self._app.pause_writing()

    def resume_writing(self) -> None:
        """The socket drained."""
        if self._secure:
            self._app.resume_writing()

    def connection_lost(self, error: Exception | None) -> None:
        """The socket is gone."""
        self._closing = True
        if self._timer is not None:
            self._timer.cancel()
        self._tls = None
        app, self._app = self._app, asyncio.Protocol()
        app.connection_lost(error)

    # -- TLS ------------------------------------------------------------------------------------

    def _begin(self) -> ssl.SSLObject:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = self._context.wrap_bio(
            self._incoming, self._outgoing, server_side=self._server_side
        )
        return self._tls

    def _shake_hands(self, tls: ssl.SSLObject) -> None:
        """One step of the handshake."""
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            self._send()
            return
        self._send()
        self._secure = True
        self._app.connection_made(self)

    def _work(self, tls: ssl.SSLObject) -> None:
        """Use what has come in: handshake, then data; raises ssl.SSLError."""
        if not self._secure:
            self._shake_hands(tls)
            if not self._secure or self._closing:
                return
        # Asking first is cheaper than an exception for each read too many.
        while self._incoming.pending or tls.pending():
            try:
                data = tls.read(_SLICE_BYTES)
            except ssl.SSLWantReadError:  # a record that is not complete
                break
            if not data:  # the other side's goodbye
                self.close()
                return
            self._app.data_received(data)
            if self._closing:
                return
        if self._outgoing.pending:  # answers of TLS itself, such as new keys
            self._send()

    def _send(self) -> None:
        if self._outgoing.pending and not self._plain.is_closing():
            self._plain.write(self._outgoing.read())

    def _fail(self, error: ssl.SSLError) -> None:
        """TLS is broken: its alert goes out, then the socket closes and the app hears why."""
        self._closing = True
        self._send()
        self._plain.close()
        app, self._app = self._app, asyncio.Protocol()
        app.connection_lost(error)

    # -- above: the app's transport ----------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """Encrypt and send. Ignored on a line that closes."""
        tls = self._tls
        if self._closing or tls is None:
            return
        if len(data) <= _RECORD_BYTES:
            tls.write(data)
            self._plain.write(self._outgoing.read())
            return
        records = []
        view = memoryview(data)
        for at in range(0, len(data), _RECORD_BYTES):
            tls.write(view[at : at + _RECORD_BYTES])
            records.append(self._outgoing.read())
        self._plain.write(b"".join(records))

    def close(self) -> None:
        """Say goodbye, send what is left, and give the other side a moment to close, too."""
        if self._closing:
            return
        self._closing = True
        if self._tls is None or not self._secure:
            self._plain.close()
            return
        with contextlib.suppress(ssl.SSLError):  # "want read": their goodbye is not here yet
            self._tls.unwrap()
        self._send()
        if self._plain.is_closing():
            return
        self._plain.resume_reading()
        try:
            self._plain.write_eof()
        except OSError:  # our goodbye met a peer that had gone, and came back as a reset
            self._plain.abort()
            return
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(GOODBYE_S, self._plain.abort)

    def abort(self) -> None:
        """Close at once, whatever is unsent; also before the socket stands."""
        self._closing = True
        if self._plain is not None:
            self._plain.abort()

    def is_closing(self) -> bool:
        """Whether it is closed, or about to be."""
        return self._closing or self._plain.is_closing()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Hand the line over to another app."""
        self._app = cast(asyncio.Protocol, protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        """The app."""
        return self._app

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """``ssl_object``, or what the socket knows (``peername``, …)."""
        if name == "ssl_object":
            return self._tls
        return self._plain.get_extra_info(name, default)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """When ``pause_writing`` comes; counted in encrypted bytes."""
        self._plain.set_write_buffer_limits(high=high, low=low)

    def get_write_buffer_size(self) -> int:
        """Encrypted bytes that the kernel has not taken yet."""
        return self._plain.get_write_buffer_size()

    def pause_reading(self) -> None:
        """Take nothing more from the socket."""
        self._plain.pause_reading()

    def resume_reading(self) -> None:
        """Take from the socket again."""
        self._plain.resume_reading()
