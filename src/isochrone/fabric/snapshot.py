"""A table's last content on disk, so that a restart without fabric starts from it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import msgspec

from isochrone.fabric.checked import CorruptValue, unwrap, wrap
from isochrone.schema.errors import Unavailable


class Kept(msgspec.Struct, frozen=True):
    """One entry: stored payload and its revision in the store."""

    payload: bytes
    revision: int


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(dict[str, Kept])


def write_snapshot(path: Path, entries: dict[str, Kept]) -> None:
    """Replace the file (write, fsync, rename); raises Unavailable when the disk fails."""
    part = path.with_suffix(".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            file.write(wrap(_ENCODER.encode(entries)))
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


def read_snapshot(path: Path) -> dict[str, Kept]:
    """The kept entries; empty when there are none or the file is damaged (it is set aside)."""
    try:
        return _DECODER.decode(unwrap(path.read_bytes()))
    except FileNotFoundError:
        return {}
    except (CorruptValue, msgspec.DecodeError, OSError):
        with contextlib.suppress(OSError):
            path.replace(path.with_suffix(".damaged"))
        return {}
