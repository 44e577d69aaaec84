"""Frames between a node and its engine workers: a local, trusted, ordered byte pipe.

Intuition: a worker is a child process on one end of a socket pair. Both sides speak frames
``u32 length | u8 kind | u32 id | payload`` (big-endian; length counts the payload alone). Small
documents travel as msgpack; bodies follow their document raw and are never copied into it.

Rules: a worker says AWAKE when its imports are done; the node sends LOAD once, then RUN and CANCEL;
the worker says READY or FAILED once, then exactly one ANSWER per RUN, cancelled ones too. A worker
that meets the end of the pipe exits. Neither side trusts a length beyond ``PAYLOAD_BYTES_MAX``.

It holds no sockets: ``encode`` makes bytes, ``FrameReader`` takes them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import TypeVar

import msgspec

from isochrone.schema.digests import UNREADABLE
from isochrone.schema.errors import OurFault

#: ``u32 length | u8 kind | u32 id``.
HEAD = struct.Struct(">IBI")

#: Largest payload, bytes: a 64 MiB body, or a 1 GiB answer. An answer may outgrow its request
#: (a recogniser returns 18,710 scores per step); beyond this the worker refuses to send it.
PAYLOAD_BYTES_MAX = 1 << 30

#: Document length inside a RUN or ANSWER payload.
DOCUMENT_LENGTH = struct.Struct(">I")


class Kind(IntEnum):
    """What a frame is."""

    LOAD = 1
    RUN = 2
    CANCEL = 3
    READY = 4
    FAILED = 5
    ANSWER = 6
    AWAKE = 7


class Load(msgspec.Struct, frozen=True):
    """Node → worker, once: what to load. ``files`` by declared name; ``options`` as checked."""

    name: str
    files: dict[str, str]
    options: dict[str, object]


class Run(msgspec.Struct, frozen=True, array_like=True):
    """Node → worker: one request; the body follows the document."""

    operation: str
    headers: dict[str, str]


class Ready(msgspec.Struct, frozen=True):
    """Worker → node: loaded and warm. ``extra``: what a kind of worker adds (a port)."""

    metadata: dict[str, object]
    device: str
    load_ms: float
    warm_ms: float
    extra: dict[str, object] = {}


class Failed(msgspec.Struct, frozen=True):
    """Worker → node: cannot load. ``code`` is that of an error class."""

    code: str
    message: str
    fix: str


class Answer(msgspec.Struct, frozen=True, array_like=True):
    """Worker → node: one answer; the body follows the document. ``engine_us`` is time inside
    the model. ``error`` set means that the engine failed and there is no body."""

    status: int
    headers: list[tuple[str, str]]
    engine_us: int
    tokens_in: int = 0
    tokens_out: int = 0
    error: str = ""


_Document = TypeVar("_Document")

_encoder = msgspec.msgpack.Encoder()


def encode(kind: Kind, number: int, document: object, body_length: int = 0) -> bytes:
    """The bytes of a frame up to its body, which the caller writes right after them."""
    packed = _encoder.encode(document)
    if kind in (Kind.RUN, Kind.ANSWER):
        length = DOCUMENT_LENGTH.size + len(packed) + body_length
        if length > PAYLOAD_BYTES_MAX:
            raise OurFault(f"A frame of {length} bytes is beyond {PAYLOAD_BYTES_MAX}.")
        return HEAD.pack(length, kind, number) + DOCUMENT_LENGTH.pack(len(packed)) + packed
    return HEAD.pack(len(packed), kind, number) + packed


def decode(payload: bytes | memoryview, kind: type[_Document]) -> _Document:
    """The document of a frame without a body. Raises ``OurFault`` when it is not one."""
    try:
        return msgspec.msgpack.decode(payload, type=kind)
    except UNREADABLE as error:
        raise OurFault(f"A worker frame does not hold a {kind.__name__}: {error}.") from error


def split(payload: memoryview) -> tuple[memoryview, memoryview]:
    """Document and body of a RUN or ANSWER payload."""
    (length,) = DOCUMENT_LENGTH.unpack_from(payload)
    start = DOCUMENT_LENGTH.size
    return payload[start : start + length], payload[start + length :]


class FrameReader:
    """Cuts a byte stream into frames, whole (the worker's side; blocking reads feed it).

    ``feed`` takes any split of the stream and yields each ``(kind, id, payload)`` as it is
    complete. Payloads are views into memory of their own, valid for ever.
    """

    def __init__(self) -> None:
        self._head = bytearray()
        self._payload: bytearray | None = None
        self._filled = 0
        self._kind = Kind.LOAD
        self._number = 0

    def feed(self, data: bytes | memoryview) -> Iterator[tuple[Kind, int, memoryview]]:
        """Raises ``OurFault`` on an unknown kind or a length beyond the limit."""
        view = memoryview(data)
        while True:
            if self._payload is None:
                taken = view[: HEAD.size - len(self._head)]
                self._head += taken
                view = view[len(taken) :]
                if len(self._head) < HEAD.size:
                    return
                length, self._kind, self._number = read_head(self._head)
                self._head.clear()
                self._payload, self._filled = bytearray(length), 0
            taken = view[: len(self._payload) - self._filled]
            self._payload[self._filled : self._filled + len(taken)] = taken
            self._filled += len(taken)
            view = view[len(taken) :]
            if self._filled < len(self._payload):
                return
            payload, self._payload = self._payload, None
            yield self._kind, self._number, memoryview(payload).toreadonly()


def read_head(data: bytes | bytearray | memoryview, offset: int = 0) -> tuple[int, Kind, int]:
    """Length, kind and id of the frame at ``offset``. Raises ``OurFault`` when it is none."""
    length, kind, number = HEAD.unpack_from(data, offset)
    if length > PAYLOAD_BYTES_MAX or not Kind.LOAD <= kind <= Kind.AWAKE:
        raise OurFault(f"A worker frame of kind {kind} and {length} bytes makes no sense.")
    return length, Kind(kind), number
