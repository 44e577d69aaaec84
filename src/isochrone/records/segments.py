"""Segments of the spool: how records lie in a file, and what can be read of a damaged one.

Intuition: a process can die, and a disk can lose power, in the middle of a write. What was being
written then was never acknowledged and may be cut away; anything *before* it was acknowledged, and
its loss must be told. So a record is framed (marker, length, checksum), and a bad stretch is judged
by what follows it: nothing readable, then it is a torn tail; a readable record or a seal, then it
is damage in the middle, which is reported, never cut and never skipped in silence.

A segment is closed with a *seal* (a frame without a record), so that damage to the last record of
a segment that was finished in order is not mistaken for a torn tail.

What this does not catch: a flipped bit in the last record of a segment that a crash ended looks
like a torn write. It is reported as cut, and the other side of the pair holds the same head.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field

from isochrone.schema.errors import TooLarge

HEADER = b"ISOSPL1\n"
"""First bytes of every segment: what it is, and the version of this layout."""

MARKER = b"\xf5\x9eRC"
_HEAD = struct.Struct(">4sII")
"""Marker, bytes of the record, CRC-32 of that length and the record."""

FRAME_BYTES = _HEAD.size

RECORD_BYTES_MAX = 4 * 1024 * 1024
"""A record is a head and a few links, or one document; a longer length is damage."""


def frame(record: bytes) -> bytes:
    """A record as it lies in a segment; raises TooLarge above ``RECORD_BYTES_MAX``, or if empty."""
    if not 0 < len(record) <= RECORD_BYTES_MAX:
        raise TooLarge(f"A record has 1 to {RECORD_BYTES_MAX} bytes, this one {len(record)}.")
    return _HEAD.pack(MARKER, len(record), _checksum(record)) + record


SEAL = _HEAD.pack(MARKER, 0, zlib.crc32(bytes(4)))
"""The end of a segment that was closed in order."""


@dataclass(frozen=True, slots=True)
class Scan:
    """What a segment holds. Offsets and lengths are bytes.

    ``records``: (start, end) of each record. ``damages``: (offset, bytes) of unreadable stretches
    before something readable. ``end``: where the readable part ends; ``torn``: bytes behind it.
    """

    records: list[tuple[int, int]] = field(default_factory=list)
    damages: list[tuple[int, int]] = field(default_factory=list)
    end: int = 0
    torn: int = 0


def scan(data: bytes) -> Scan:
    """Find every readable record of a segment's bytes."""
    found = Scan()
    position = len(HEADER) if data.startswith(HEADER) else 0
    end, sealed = position, False
    while position < len(data):
        length = _readable(data, position)
        if length is None:
            position = _next_readable(data, position + 1)
            continue
        if position > end:
            found.damages.append((end, position - end))
        start = position + FRAME_BYTES
        if length:
            found.records.append((start, start + length))
        sealed = length == 0
        position = end = start + length
    rest = len(data) - end
    if rest and sealed:
        found.damages.append((end, rest))
        end, rest = len(data), 0
    return Scan(records=found.records, damages=found.damages, end=end, torn=rest)


def _readable(data: bytes, position: int) -> int | None:
    """The length of the record of a sound frame at ``position``, or None."""
    if len(data) - position < FRAME_BYTES:
        return None
    marker, length, checksum = _HEAD.unpack_from(data, position)
    start = position + FRAME_BYTES
    if marker != MARKER or length > RECORD_BYTES_MAX or start + length > len(data):
        return None
    return length if _checksum(memoryview(data)[start : start + length]) == checksum else None


def _next_readable(data: bytes, position: int) -> int:
    """Where the next sound frame begins, or the end of the data."""
    while True:
        position = data.find(MARKER, position)
        if position < 0:
            return len(data)
        if _readable(data, position) is not None:
            return position
        position += 1


def _checksum(record: bytes | memoryview) -> int:
    return zlib.crc32(record, zlib.crc32(len(record).to_bytes(4, "big")))
