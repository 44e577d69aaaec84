"""Parts of handling request bodies: their budget, the large ones, the compressed ones.

A body up to ``replay_bytes_max`` is kept (call.py), so that its request can be tried again. A
larger one becomes an ``ArrivingBody``, which feeds one stream as fast as that takes it and holds
the client back meanwhile. All kept bytes of the process come out of one ``Budget``, but for the
heads of arriving bodies: where they wait for a replica, ``holding`` bounds them.
"""

from __future__ import annotations

import zlib
from time import monotonic
from typing import Final

from isochrone.schema.errors import InvalidInput, Overloaded, TooLarge
from isochrone.wire.channel import Stream
from isochrone.wire.http_server import Exchange

GZIP_STEP_BYTES: Final = 64 * 1024
"""Input of one decompression step."""


class Budget:
    """Bytes of request bodies in memory. ``used`` never passes ``most``."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.used = 0

    def take(self, size: int) -> None:
        """Reserve; raises Overloaded when the process holds too much."""
        if self.used + size > self.most:
            raise Overloaded("The gateway holds too many request bodies.", fix="Try again soon.")
        self.used += size

    def give_back(self, size: int) -> None:
        """Release."""
        self.used -= size


class ArrivingBody:
    """A large body on its way from a client to one replica's stream (a ``tries.Upload``)."""

    def __init__(self, exchange: Exchange, head: list[bytes]) -> None:
        self._exchange = exchange
        self._waiting = head
        self._ended = False
        self._stream: Stream | None = None
        self.sent_bytes = 0
        self.ended_s = 0.0
        exchange.on_data = self._data
        exchange.on_end = self._end
        exchange.pause_reading()

    @property
    def waiting_bytes(self) -> int:
        """What has come and waits for a stream."""
        return sum(map(len, self._waiting))

    def attach(self, stream: Stream) -> None:
        """Send what has come and what comes to ``stream``."""
        self._stream = stream
        room = True
        for piece in self._waiting:
            self.sent_bytes += len(piece)
            room = stream.write(piece)
        self._waiting = []
        if self._ended:
            self.ended_s = monotonic()
            stream.finish()
        elif room:
            self._exchange.resume_reading()

    def writable(self) -> None:
        """The stream takes more."""
        self._exchange.resume_reading()

    def _data(self, data: bytes) -> None:
        if self._stream is None:
            self._waiting.append(data)  # one socket read at most: reading is paused
            return
        self.sent_bytes += len(data)
        if not self._stream.write(data):
            self._exchange.pause_reading()

    def _end(self) -> None:
        self._ended = True
        if self._stream is not None:
            self.ended_s = monotonic()
            self._stream.finish()


def gunzip(body: bytes, bytes_max: int) -> bytes:
    """A gzip or zlib body unpacked, at most ``bytes_max`` bytes of it.

    Blocking for large ones. Raises InvalidInput (damaged) and TooLarge (a bomb).
    """
    # 32: accept both the gzip and the zlib envelope, as HTTP's "gzip" and "deflate" mean.
    unpacker = zlib.decompressobj(zlib.MAX_WBITS | 32)
    pieces: list[bytes] = []
    room = bytes_max
    try:
        for at in range(0, len(body), GZIP_STEP_BYTES):
            data = body[at : at + GZIP_STEP_BYTES]
            while data:
                piece = unpacker.decompress(data, room + 1)
                room -= len(piece)
                if room < 0:
                    raise TooLarge(
                        f"The body unpacks to more than {bytes_max} bytes.",
                        fix="Send less in one request.",
                    )
                pieces.append(piece)
                data = unpacker.unconsumed_tail
    except zlib.error as error:
        raise InvalidInput("The compressed body is damaged.") from error
    if not unpacker.eof:
        raise InvalidInput("The compressed body ends too early.")
    return b"".join(pieces)
