"""A table's last content on disk, so that a restart without fabric starts from it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import msgspec

from isochrone.fabric.checked import CorruptValue, unwrap, wrap
from isochrone.fabric.doubt import Known
from isochrone.schema.digests import UNREADABLE
from isochrone.schema.errors import Unavailable


class Kept(msgspec.Struct, frozen=True, array_like=True):
    """One entry: stored payload and its revision in the store."""

    payload: bytes
    revision: int


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A table's entries, and what was known of its bucket when they were seen."""

    known: Known = Known()
    entries: dict[str, Kept] = {}


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Snapshot)


def write_snapshot(path: Path, snapshot: Snapshot) -> None:
    """Replace the file (write, fsync, rename); raises Unavailable when the disk fails."""
    part = path.with_suffix(".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            file.write(wrap(_ENCODER.encode(snapshot)))
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise Unavailable(
            f"The snapshot {path.name} cannot be written: {error.strerror}.",
            fix="Free some disk space; everything goes on from memory meanwhile.",
        ) from error


def read_snapshot(path: Path) -> Snapshot:
    """The kept snapshot; an empty one when there is none or it is damaged (it is set aside)."""
    try:
        return _DECODER.decode(unwrap(path.read_bytes()))
    except FileNotFoundError:
        return Snapshot()
    except (CorruptValue, OSError, *UNREADABLE):
        with contextlib.suppress(OSError):
            path.replace(path.with_suffix(".damaged"))
        return Snapshot()


def snapshot_age_s(path: Path, now_unix_s: float) -> float:
    """Seconds since the snapshot was written, 0 when there is none or the clock went back."""
    try:
        return max(0.0, now_unix_s - path.stat().st_mtime)
    except OSError:
        return 0.0
