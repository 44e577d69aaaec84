"""Frames of the channel, as a pure machine: bytes in, frames out (no I/O).

A frame is ``u32 length | u8 kind | u8 flags | u32 stream | payload``, big-endian; ``length`` counts
the payload. Kinds, with their payloads:

========= ====== ==============================================================================
CHALLENGE 0      greeting, acceptor → dialler (MessagePack, schema/frames.py)
HELLO     0      greeting, dialler → acceptor
WELCOME   0      greeting, acceptor → dialler
REFUSED   0      greeting, acceptor → dialler
PING/PONG 0      8 bytes that only their sender can know in advance, sent back unchanged
CONTROL   0      a message of ``schema.frames.Control`` (MessagePack)
OPEN      stream ``u32 window | u32 header length | header | body``
HEAD      stream ``u32 header length | u32 trailer length | header | trailer | body``
DATA      stream body; with END: ``u32 trailer length | trailer | body``
END       stream trailer (END is a kind as well as a flag: the end of a direction without data)
RESET     any    ``u16 code length | code | message``; stream 0 says goodbye for the channel
WINDOW    stream ``u32 credit`` in bytes
========= ====== ==============================================================================

The flag END on OPEN, HEAD and DATA ends that direction, so that a small request is one frame and
a small answer is one frame. Stream numbers of the dialler are odd, of the acceptor even. Anything
else is the other side's fault: the reader raises, the channel closes and says why.
"""

from __future__ import annotations

import struct
from typing import Final

from isochrone.schema.errors import InvalidInput, OurFault

CHALLENGE, HELLO, WELCOME, REFUSED, PING, PONG, CONTROL = range(1, 8)
OPEN, HEAD, DATA, END, RESET, WINDOW = range(8, 14)

NAMES: Final = (
    "",
    "challenge",
    "hello",
    "welcome",
    "refused",
    "ping",
    "pong",
    "control",
    "open",
    "head",
    "data",
    "end",
    "reset",
    "window",
)

FLAG_END: Final = 1

# A frame blocks all streams behind it while it is on the wire: 256 KiB are 20 ms at 100 Mbit/s.
PAYLOAD_BYTES_MAX: Final = 256 * 1024
# Greetings carry a signed grant; nobody unknown may make us hold more than this.
GREETING_BYTES_MAX: Final = 64 * 1024
# Headers and trailers are small structs with a handful of HTTP headers.
HEADER_BYTES_MAX: Final = 64 * 1024
# What a side may send on a stream before the first WINDOW, unless OPEN said otherwise.
INITIAL_WINDOW: Final = 256 * 1024
WINDOW_MAX: Final = (1 << 31) - 1
PING_BYTES: Final = 8
# Codes are words; messages are a sentence.
RESET_BYTES_MAX: Final = 2048

Frame = tuple[int, int, int, bytes]
"""kind, flags, stream, payload."""

_PREFIX: Final = struct.Struct(">IBBI")
PREFIX_BYTES: Final = _PREFIX.size
_PAIR: Final = struct.Struct(">II")
_U32: Final = struct.Struct(">I")
_U16: Final = struct.Struct(">H")


def _payload_limits() -> tuple[int, ...]:
    limits = [-1] * 256
    for kind in (CHALLENGE, HELLO, WELCOME, REFUSED):
        limits[kind] = GREETING_BYTES_MAX
    for kind in (CONTROL, OPEN, HEAD, DATA):
        limits[kind] = PAYLOAD_BYTES_MAX
    limits[PING] = limits[PONG] = PING_BYTES
    limits[END] = HEADER_BYTES_MAX
    limits[RESET] = RESET_BYTES_MAX
    limits[WINDOW] = _U32.size
    return tuple(limits)


_LIMITS: Final = _payload_limits()
_FLAGS: Final = tuple(FLAG_END if kind in (OPEN, HEAD, DATA) else 0 for kind in range(256))


class FrameReader:
    """Cuts a stream of bytes into frames; remembers an incomplete one (at most one frame)."""

    __slots__ = ("_held", "_needed")

    def __init__(self) -> None:
        self._held = bytearray()
        self._needed = 0

    def feed(self, data: bytes, frames: list[Frame]) -> None:
        """Append every frame that is complete to ``frames``.

        Raises InvalidInput (code ``bad_frame``) at an unknown kind, flag or stream, or a length
        beyond the kind's limit; frames before it have been appended, nothing may be fed after it.
        """
        held = self._held
        if held:
            held += data
            if len(held) < self._needed:
                return
            data = bytes(held)
            held.clear()
        position = 0
        size = len(data)
        needed = PREFIX_BYTES
        while size - position >= PREFIX_BYTES:
            length, kind, flags, stream = _PREFIX.unpack_from(data, position)
            if length > _LIMITS[kind] or flags > _FLAGS[kind] or (stream == 0) == (kind >= OPEN):
                _check(length, kind, flags, stream)
            end = position + PREFIX_BYTES + length
            if end > size:
                needed = PREFIX_BYTES + length
                break
            frames.append((kind, flags, stream, data[position + PREFIX_BYTES : end]))
            position = end
        if position < size:
            held += data[position:] if position else data
            self._needed = needed


def _check(length: int, kind: int, flags: int, stream: int) -> None:
    if _LIMITS[kind] < 0:
        raise InvalidInput(f"A frame of unknown kind {kind}.", code="bad_frame")
    if length > _LIMITS[kind]:
        raise InvalidInput(f"A {NAMES[kind]} frame of {length} bytes.", code="bad_frame")
    if flags > _FLAGS[kind]:
        raise InvalidInput(f"A {NAMES[kind]} frame with flags {flags}.", code="bad_frame")
    if kind != RESET and (stream == 0) == (kind >= OPEN):
        raise InvalidInput(f"A {NAMES[kind]} frame on stream {stream}.", code="bad_frame")


def prefix(kind: int, flags: int, stream: int, length: int) -> bytes:
    """The ten bytes before a payload of ``length`` bytes."""
    return _PREFIX.pack(length, kind, flags, stream)


def frame(kind: int, payload: bytes, *, stream: int = 0, flags: int = 0) -> bytes:
    """A whole frame; raises OurFault when the payload exceeds the kind's limit."""
    if len(payload) > _LIMITS[kind]:
        raise OurFault(f"A {NAMES[kind]} frame of {len(payload)} bytes was to be sent.")
    return _PREFIX.pack(len(payload), kind, flags, stream) + payload


def open_frame(stream: int, window: int, header: bytes, body: bytes, *, end: bool) -> bytes:
    """OPEN. ``window``: bytes the acceptor may send ahead of WINDOW frames."""
    length = _PAIR.size + len(header) + len(body)
    start = _PREFIX.pack(length, OPEN, FLAG_END if end else 0, stream)
    return b"".join((start, _PAIR.pack(window, len(header)), header, body))


def head_frame(stream: int, header: bytes, body: bytes, trailer: bytes, *, end: bool) -> bytes:
    """HEAD, with all or the beginning of the answer's body."""
    length = _PAIR.size + len(header) + len(trailer) + len(body)
    start = _PREFIX.pack(length, HEAD, FLAG_END if end else 0, stream)
    return b"".join((start, _PAIR.pack(len(header), len(trailer)), header, trailer, body))


def data_frame(stream: int, body: bytes) -> bytes:
    """DATA that is not the last."""
    return _PREFIX.pack(len(body), DATA, 0, stream) + body


def last_data_frame(stream: int, body: bytes, trailer: bytes) -> bytes:
    """DATA with the flag END."""
    length = _U32.size + len(trailer) + len(body)
    start = _PREFIX.pack(length, DATA, FLAG_END, stream)
    return b"".join((start, _U32.pack(len(trailer)), trailer, body))


def reset_frame(stream: int, code: str, message: str) -> bytes:
    """RESET; stream 0 for the channel. Long texts are cut to fit."""
    raw_code = code.encode()[:64]
    raw = _U16.pack(len(raw_code)) + raw_code + message.encode()
    return frame(RESET, raw[:RESET_BYTES_MAX], stream=stream)


def window_frame(stream: int, credit: int) -> bytes:
    """WINDOW: the receiver consumed ``credit`` bytes."""
    return _PREFIX.pack(_U32.size, WINDOW, 0, stream) + _U32.pack(credit)


def read_open(payload: bytes) -> tuple[int, bytes, bytes]:
    """Window, header and body of an OPEN; raises InvalidInput."""
    if len(payload) < _PAIR.size:
        raise InvalidInput("An open frame is too short.", code="bad_frame")
    window, header_size = _PAIR.unpack_from(payload)
    body_at = _PAIR.size + header_size
    if body_at > len(payload) or header_size > HEADER_BYTES_MAX or window > WINDOW_MAX:
        raise InvalidInput("An open frame contradicts itself.", code="bad_frame")
    return window, payload[_PAIR.size : body_at], payload[body_at:]


def read_head(payload: bytes) -> tuple[bytes, bytes, bytes]:
    """Header, body and trailer of a HEAD; raises InvalidInput."""
    if len(payload) < _PAIR.size:
        raise InvalidInput("A head frame is too short.", code="bad_frame")
    header_size, trailer_size = _PAIR.unpack_from(payload)
    trailer_at = _PAIR.size + header_size
    body_at = trailer_at + trailer_size
    if body_at > len(payload):
        raise InvalidInput("A head frame contradicts itself.", code="bad_frame")
    return payload[_PAIR.size : trailer_at], payload[body_at:], payload[trailer_at:body_at]


def read_last_data(payload: bytes) -> tuple[bytes, bytes]:
    """Body and trailer of a DATA with the flag END; raises InvalidInput."""
    if len(payload) < _U32.size:
        raise InvalidInput("A last data frame is too short.", code="bad_frame")
    body_at = _U32.size + int(_U32.unpack_from(payload)[0])
    if body_at > len(payload):
        raise InvalidInput("A last data frame contradicts itself.", code="bad_frame")
    return payload[body_at:], payload[_U32.size : body_at]


def read_reset(payload: bytes) -> tuple[str, str]:
    """Code and message of a RESET; raises InvalidInput."""
    if len(payload) < _U16.size:
        raise InvalidInput("A reset frame is too short.", code="bad_frame")
    message_at = _U16.size + int(_U16.unpack_from(payload)[0])
    if message_at > len(payload):
        raise InvalidInput("A reset frame contradicts itself.", code="bad_frame")
    code = payload[_U16.size : message_at].decode("utf-8", "replace")
    return code, payload[message_at:].decode("utf-8", "replace")


def read_window(payload: bytes) -> int:
    """Credit of a WINDOW, in bytes; raises InvalidInput."""
    if len(payload) != _U32.size:
        raise InvalidInput("A window frame has four bytes.", code="bad_frame")
    return int(_U32.unpack(payload)[0])
