"""The cell's store of model files: content-addressed by SHA-256, on disk, verified before use.

A file is ``<sha256>`` once its digest has been checked, ``<sha256>[.<owner>].part`` before. Uploads
append to their owner's part, so they resume where they ended and nobody profits from what another
has sent. Files that nothing refers to are deleted: oldest first when room is needed, and all by
``sweep``.

Rules: every method that touches the disk blocks and is called in a thread, except ``size`` (one
``stat``). One writer a part (``claim``). Nothing is trusted by its name: a part whose digest is
wrong is deleted.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from isochrone.records.durable import sync
from isochrone.schema.errors import (
    Conflict,
    InvalidInput,
    IsochroneError,
    NotFound,
    OurFault,
    TooLarge,
)

_SHA256 = re.compile(r"[0-9a-f]{64}")
_BLOCK_BYTES: Final = 1024 * 1024
"""One read or hash step: large enough for a disk's sequential speed, small in memory."""

FRESH_S: Final = 3600.0
"""An unreferenced file younger than this is kept: its declaration may be on its way."""


def check_sha256(text: str) -> None:
    """Raises InvalidInput unless ``text`` is 64 lower-case hex digits."""
    if not _SHA256.fullmatch(text):
        raise InvalidInput(f"{text[:70]!r} is not a SHA-256 in lower-case hex.")


def disk_error(error: OSError, what: str, folder: Path) -> IsochroneError:
    """The error to tell about a failed write: one sentence that says what to do."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return OurFault(
            f"The gateway's disk is full: {what} was not kept.",
            fix=f"Free space in {folder} and send it again.",
            code="disk_full",
            status=507,
            retry="here",
        )
    return OurFault(
        f"The gateway cannot write {what}: {error.strerror}.",
        fix=f"Check {folder} and send it again.",
        code="disk_error",
        status=500,
        retry="here",
    )


class BlobStore:
    """Files in ``folder``; together at most ``bytes_max``, each at most ``blob_bytes_max``."""

    def __init__(self, folder: Path, bytes_max: int, blob_bytes_max: int) -> None:
        self._folder = folder
        self._bytes_max = bytes_max
        self._blob_bytes_max = blob_bytes_max
        self._claimed: set[str] = set()
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, sha256: str) -> Path:
        """Where the verified file lies (or would)."""
        return self._folder / sha256

    def size(self, sha256: str) -> int | None:
        """Bytes of the verified file, or None."""
        try:
            return self.path(sha256).stat().st_size
        except FileNotFoundError:
            return None

    def held(self, sha256: str) -> tuple[int, bool]:
        """How many bytes are held, and whether the file is whole and verified."""
        size = self.size(sha256)
        if size is not None:
            return size, True
        return self.held_part(sha256), False

    def held_part(self, sha256: str, owner: str = "") -> int:
        """How many bytes of a file the owner's part holds."""
        try:
            return self._part(sha256, owner).stat().st_size
        except FileNotFoundError:
            return 0

    def read(self, sha256: str, offset_bytes: int, length_bytes: int) -> bytes:
        """A range of a verified file; raises NotFound, InvalidInput (range outside the file)."""
        try:
            with self.path(sha256).open("rb") as file:
                if offset_bytes > os.fstat(file.fileno()).st_size:
                    raise InvalidInput("The range begins behind the end of the file.")
                return os.pread(file.fileno(), length_bytes, offset_bytes)
        except FileNotFoundError as error:
            raise NotFound(f"The store does not hold {sha256[:12]}….") from error

    @contextmanager
    def claim(self, sha256: str, owner: str = "") -> Iterator[None]:
        """Be the only writer of a part; raises Conflict when there is one (call on the loop)."""
        name = self._part(sha256, owner).name
        if name in self._claimed:
            raise Conflict(
                "Somebody else is uploading this file now.", fix="Ask for its state in a moment."
            )
        self._claimed.add(name)
        try:
            yield
        finally:
            self._claimed.discard(name)

    def check_room(
        self, total_bytes: int, sha256: str, referenced: frozenset[str], owner: str = ""
    ) -> None:
        """Make sure that a file of ``total_bytes`` may be kept; raises TooLarge or OurFault.

        Deletes unreferenced files, oldest first, where that makes the room.
        """
        if total_bytes > self._blob_bytes_max:
            raise TooLarge(
                f"The file has {total_bytes} bytes, the store takes {self._blob_bytes_max}.",
                fix="Split the model, or ask the operator for a larger limit.",
            )
        entries = {path: path.stat() for path in self._folder.iterdir()}
        free = self._bytes_max - sum(stat.st_size for stat in entries.values())
        free += self.held_part(sha256, owner)
        for path in sorted(entries, key=lambda path: entries[path].st_mtime):
            if free >= total_bytes:
                return
            if not self._idle(path, entries[path].st_mtime, referenced):
                continue
            path.unlink(missing_ok=True)
            free += entries[path].st_size
        if free < total_bytes:
            raise OurFault(
                "The cell's store is full.",
                fix="Delete a service, or ask the operator for more room.",
                code="store_full",
                status=507,
            )

    def sweep(self, referenced: frozenset[str]) -> list[str]:
        """Delete every file and part that nothing refers to; the digests of deleted files."""
        gone = []
        for path in list(self._folder.iterdir()):
            if self._idle(path, path.stat().st_mtime, referenced):
                path.unlink(missing_ok=True)
                gone.append(path.name)
        return [name for name in gone if _SHA256.fullmatch(name)]

    def _idle(self, path: Path, changed_s: float, referenced: frozenset[str]) -> bool:
        """Whether a file may be deleted: not referred to, not fresh, nobody writes it."""
        sha256 = path.name.partition(".")[0]
        fresh = time.time() - changed_s < FRESH_S
        return not fresh and sha256 not in referenced and path.name not in self._claimed

    def append(self, sha256: str, offset_bytes: int, data: bytes, owner: str = "") -> None:
        """Write a piece at ``offset_bytes`` of the part (cutting what lies behind); raises ours."""
        path = self._part(sha256, owner)
        try:
            with path.open("r+b" if path.exists() else "w+b") as file:
                file.truncate(offset_bytes)
                file.seek(offset_bytes)
                file.write(data)
        except OSError as error:
            raise disk_error(error, f"file {sha256[:12]}…", self._folder) from error

    def complete(self, sha256: str, owner: str = "") -> int:
        """Verify the part and make it the file; its size. Raises InvalidInput (wrong digest)."""
        path = self._part(sha256, owner)
        hasher = hashlib.sha256()
        try:
            with path.open("r+b") as file:
                while block := file.read(_BLOCK_BYTES):
                    hasher.update(block)
                os.fsync(file.fileno())
                size = file.tell()
            if hasher.hexdigest() != sha256:
                path.unlink()
                raise InvalidInput(
                    f"The bytes have the SHA-256 {hasher.hexdigest()[:12]}…, not {sha256[:12]}….",
                    fix="The file changed or was damaged on its way: send it again.",
                    code="wrong_digest",
                )
            path.replace(self.path(sha256))
            sync(self._folder)
        except OSError as error:
            raise disk_error(error, f"file {sha256[:12]}…", self._folder) from error
        return size

    def _part(self, sha256: str, owner: str) -> Path:
        return self._folder / (f"{sha256}.{owner}.part" if owner else f"{sha256}.part")
