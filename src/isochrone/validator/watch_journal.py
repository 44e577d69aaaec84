"""What a validator must not forget in a watch: secrets, what it measured, what it committed.

Intuition: a validator that comes back after a crash and commits again, differently, has committed
twice and is unpaid; one that forgot its secret cannot open. So a secret is on disk before its
digest is said, a commitment with all that opens it before *it* is said, and a place taken once is
never taken differently. Measurements are appended as they come: a restart in the middle loses only
what was not measured. One process at a time (the state directory's lock). Everything blocks.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import msgspec

from isochrone.records.durable import sync
from isochrone.schema.digests import UNREADABLE
from isochrone.schema.errors import InvalidInput, Unavailable
from isochrone.schema.proof import Kind, NodeReport

LENGTH_BYTES = 4
"""Before each measurement in its file."""


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """One measurement of a node: packed documents that it gave (none: no answer)."""

    node: str
    kind: Kind
    documents: tuple[bytes, ...] = ()


class Sealed(msgspec.Struct, frozen=True, kw_only=True):
    """A commitment and all that opens it. ``commitment``: the packed document; ``secret``: of this
    watch, as committed a watch ago (empty: none was)."""

    watch: int
    commitment: bytes
    salt: str
    secret: str
    pages: tuple[tuple[NodeReport, ...], ...]


class WatchJournal:
    """A folder with three files a watch."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise _disk(folder, error) from error

    def secret(self, watch: int) -> str:
        """The secret of a watch, 64 hex digits; drawn at the first question and kept."""
        data = self._claimed(self._path(watch, "secret"), os.urandom(32).hex().encode())
        text = data.decode("ascii", "replace")
        if len(text) != 64 or set(text) - set("0123456789abcdef"):
            raise InvalidInput(f"The secret of watch {watch} cannot be read.", fix="Remove it.")
        return text

    def committed_secret(self, watch: int) -> str:
        """The secret of a watch if the watch before committed it; empty otherwise."""
        return self.secret(watch) if self.sealed(watch - 1) is not None else ""

    def seal(self, sealed: Sealed) -> Sealed:
        """Take the place of its watch; what stands there now, perhaps from before a crash."""
        data = self._claimed(self._path(sealed.watch, "sealed"), msgspec.msgpack.encode(sealed))
        return self._decoded(data, sealed.watch)

    def sealed(self, watch: int) -> Sealed | None:
        """What was committed in a watch."""
        data = self._read(self._path(watch, "sealed"))
        return self._decoded(data, watch) if data is not None else None

    def note(self, watch: int, taken: Iterable[Taken]) -> None:
        """Append measurements."""
        encoded = [msgspec.msgpack.encode(one) for one in taken]
        data = b"".join(len(one).to_bytes(LENGTH_BYTES, "big") + one for one in encoded)
        try:
            with self._path(watch, "taken").open("ab") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise _disk(self._folder, error) from error

    def notes(self, watch: int) -> list[Taken]:
        """What was measured so far; a torn end is left out."""
        data = self._read(self._path(watch, "taken")) or b""
        found: list[Taken] = []
        at = 0
        while at + LENGTH_BYTES <= len(data):
            end = at + LENGTH_BYTES + int.from_bytes(data[at : at + LENGTH_BYTES], "big")
            try:
                found.append(msgspec.msgpack.decode(data[at + LENGTH_BYTES : end], type=Taken))
            except UNREADABLE:
                break
            at = end
        return found

    def forget_before(self, watch: int) -> None:
        """Drop what no record can need any more."""
        for path in self._folder.glob("*.*"):
            number = path.name.partition(".")[0]
            if number.isdigit() and int(number) < watch:
                path.unlink(missing_ok=True)

    def _path(self, watch: int, what: str) -> Path:
        return self._folder / f"{watch:012d}.{what}"

    def _decoded(self, data: bytes, watch: int) -> Sealed:
        try:
            return msgspec.msgpack.decode(data, type=Sealed)
        except UNREADABLE as error:
            raise InvalidInput(
                f"What was committed in watch {watch} cannot be read: {error}.",
                fix="Commit nothing with this key until the watch is over; then remove the file.",
            ) from error

    def _read(self, path: Path) -> bytes | None:
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _disk(self._folder, error) from error

    def _claimed(self, path: Path, data: bytes) -> bytes:
        """What stands in a place that can be taken once; ``data`` if nothing did."""
        known = self._read(path)
        if known is not None:
            return known
        beside = path.with_name(path.name + ".part")
        try:
            with beside.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.link(beside, path)
            beside.unlink()
            sync(self._folder)
        except OSError as error:
            raise _disk(self._folder, error) from error
        return data


def _disk(folder: Path, error: OSError) -> Unavailable:
    return Unavailable(
        f"The journal of watches in {folder} cannot be used: {error.strerror}.",
        fix="Free space; nothing is committed until then.",
    )
