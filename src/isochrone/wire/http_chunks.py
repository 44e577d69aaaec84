"""Chunked bodies: a pure machine that takes the framing off, and knows where the message ends.

Strict on what smuggling lives on: sizes are 1 to 8 hexadecimal digits, lines end with CRLF, each
chunk is closed by CRLF. Extensions and trailer fields are read, bounded, and dropped.
"""

from __future__ import annotations

from typing import Final

from isochrone.schema.errors import InvalidInput, TooLarge

# A size line with its extension; 8 digits and a short extension fit many times over.
_SIZE_LINE_BYTES_MAX: Final = 256
_TRAILER_BYTES_MAX: Final = 4096
_HEX: Final = frozenset(b"0123456789abcdefABCDEF")

_SIZE, _DATA, _DATA_END, _TRAILER = range(4)


class ChunkDecoder:
    """Feed it what follows the head; ``ended`` tells when the body is over.

    ``body_bytes_max`` bounds the sum of all chunks: beyond it TooLarge (413) is raised, as soon
    as a size line promises more. Anything malformed raises InvalidInput (400 ``bad_request``).
    """

    __slots__ = ("_held", "_left", "_room", "_state", "_trailer_left", "ended")

    def __init__(self, body_bytes_max: int) -> None:
        self.ended = False
        self._state = _SIZE
        self._left = 0
        self._room = body_bytes_max
        self._held = b""
        self._trailer_left = _TRAILER_BYTES_MAX

    def feed(self, data: bytes, pieces: list[bytes]) -> bytes:
        """Append body pieces to ``pieces``; returns what follows the body (b"" until the end)."""
        if self._held:
            data = self._held + data
            self._held = b""
        position = 0
        size = len(data)
        while position < size:
            if self._state == _DATA:
                take = min(self._left, size - position)
                pieces.append(data[position : position + take])
                position += take
                self._left -= take
                if self._left == 0:
                    self._state = _DATA_END
                continue
            line_end = data.find(b"\n", position)
            if line_end < 0:
                self._hold(data[position:])
                return b""
            line = data[position:line_end]
            position = line_end + 1
            if line[-1:] != b"\r":
                raise InvalidInput("A chunk line does not end with CRLF.", code="bad_request")
            self._line(line[:-1])
            if self.ended:
                return data[position:]
        return b""

    def _hold(self, rest: bytes) -> None:
        limit = 2 if self._state == _DATA_END else _SIZE_LINE_BYTES_MAX
        if self._state == _TRAILER:
            limit = self._trailer_left
        if len(rest) > limit:
            raise InvalidInput("A chunk line is too long.", code="bad_request")
        self._held = rest

    def _line(self, line: bytes) -> None:
        if self._state == _SIZE:
            self._begin_chunk(line)
        elif self._state == _DATA_END:
            if line:
                raise InvalidInput("A chunk is longer than its size.", code="bad_request")
            self._state = _SIZE
        elif line:
            self._trailer_left -= len(line) + 2
            if self._trailer_left < 0 or b"\r" in line or b"\0" in line:
                raise InvalidInput("The trailer is too long or malformed.", code="bad_request")
        else:
            self.ended = True

    def _begin_chunk(self, line: bytes) -> None:
        digits = line
        if b";" in line:
            digits, _, extension = line.partition(b";")
            if b"\r" in extension or b"\0" in extension or len(line) > _SIZE_LINE_BYTES_MAX:
                raise InvalidInput("A chunk extension is malformed.", code="bad_request")
        if not 1 <= len(digits) <= 8 or not _HEX.issuperset(digits):
            raise InvalidInput("A chunk size is not hexadecimal.", code="bad_request")
        self._left = int(digits, 16)
        self._room -= self._left
        if self._room < 0:
            raise TooLarge("The body is larger than this server takes.", code="body_too_large")
        self._state = _DATA if self._left else _TRAILER
