"""Model files on this machine's disk, by content: SHA-256 names, a quota, nothing unverified.

Layout: ``<sha256>`` is a whole, verified file; ``<sha256>.part`` is a verified-so-far prefix of
one, whose length is what has been written. Parts grow from the front only, so that a restart
resumes where it was. A part becomes a file by fsync, digest check and atomic rename; what does
not have the digest is deleted and never seen by an engine.

Rules: the quota counts whole files and the full size of those being written. To make room, files
that no lease needs go, least recently used first; files in use never do. All methods block on the
disk: call them from a thread when the bytes are many.

It does not fetch (``downloads``) and does not know which leases exist (it is told what to keep).
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from isochrone.records.durable import sync
from isochrone.schema.errors import InvalidInput, Overloaded, Unavailable

SHA256 = re.compile(r"[0-9a-f]{64}")
READ_BYTES = 1024 * 1024
"""Per read when hashing what is there: large enough for full disk speed, small in memory."""

MIB = 1024 * 1024


class Cache:
    """The files under ``folder``. ``counters``: ``evicted``, ``wrong_digest``, ``hits``."""

    def __init__(self, folder: Path, quota_bytes: int) -> None:
        self.folder = folder
        self.quota_bytes = quota_bytes
        self.counters: Counter[str] = Counter()
        self._writing: dict[str, int] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._trouble(error) from error

    def find(self, sha256: str) -> Path | None:
        """The whole file with this content, marked as just used; None when it is not here."""
        path = self.folder / _checked(sha256)
        try:
            os.utime(path)
        except FileNotFoundError:
            return None
        self.counters["hits"] += 1
        return path

    def begin(self, sha256: str, size_bytes: int, keep: Iterable[str]) -> Part:
        """A part to write into, with room made for its full size; resumes what is there.

        ``keep``: digests that must stay. Raises Overloaded when the file does not fit the quota
        beside those, or Unavailable when the disk is full or broken; both say what to do.
        """
        path = self.folder / f"{_checked(sha256)}.part"
        self._make_room(sha256, size_bytes, {*keep, sha256, *self._writing})
        try:
            part = Part(self, path, sha256, size_bytes)
        except OSError as error:
            raise self._trouble(error) from error
        self._writing[sha256] = size_bytes
        return part

    def used_bytes(self) -> int:
        """What counts against the quota: whole files, abandoned parts, full sizes being written."""
        sizes = {path.name: size for path, size, _ in self._entries()}
        for sha256 in self._writing:
            sizes.pop(f"{sha256}.part", None)
        return sum(sizes.values()) + sum(self._writing.values())

    def _make_room(self, sha256: str, size_bytes: int, keep: set[str]) -> None:
        used = self.used_bytes() - self._part_bytes(sha256)
        for path, size, _ in sorted(self._entries(), key=lambda entry: entry[2]):
            if used + size_bytes <= self.quota_bytes:
                break
            if path.name.removesuffix(".part") in keep:
                continue
            path.unlink(missing_ok=True)
            self.counters["evicted"] += 1
            used -= size
        if used + size_bytes > self.quota_bytes:
            raise Overloaded(
                f"The model cache is full: {_mib(size_bytes)} MiB more do not fit its quota of "
                f"{_mib(self.quota_bytes)} MiB beside {_mib(used)} MiB in use.",
                fix="Raise cache_quota_bytes of this node, or give it fewer replicas.",
                code="cache_full",
            )
        free = self._free_bytes()
        needed = size_bytes - self._part_bytes(sha256)
        if needed > free:
            raise self._disk_full(needed - free)

    def _part_bytes(self, sha256: str) -> int:
        try:
            return (self.folder / f"{sha256}.part").lstat().st_size
        except OSError:
            return 0

    def _entries(self) -> list[tuple[Path, int, float]]:
        """(path, size, last use) of everything in the folder."""
        found = []
        with os.scandir(self.folder) as entries:
            for entry in entries:
                try:
                    info = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                found.append((Path(entry.path), info.st_size, info.st_mtime))
        return found

    def _free_bytes(self) -> int:
        try:
            return shutil.disk_usage(self.folder).free
        except OSError as error:
            raise self._trouble(error) from error

    def _disk_full(self, missing_bytes: int) -> Unavailable:
        size = f"at least {_mib(missing_bytes)} MiB" if missing_bytes else "space"
        return Unavailable(
            f"The disk that holds the model cache {self.folder} is full.",
            fix=f"Free {size} there, or move state_dir to a larger disk.",
            code="disk_full",
        )

    def _trouble(self, error: OSError) -> Unavailable:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return self._disk_full(0)
        return Unavailable(
            f"The model cache {self.folder} cannot be used: {error.strerror}.",
            fix="Check that the directory is writable by this user and the disk is healthy.",
            code="cache_broken",
        )


class Part:
    """A file being written from the front. Use ``written`` to know where to go on.

    Owned by one writer; its methods may run in another thread, one at a time. End it with
    ``commit`` or ``abandon`` (which keeps the bytes for a later resume).
    """

    def __init__(self, cache: Cache, path: Path, sha256: str, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.sha256 = sha256
        self._cache = cache
        self._path = path
        self._hash = hashlib.sha256()
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self.written = self._resume()
        except OSError:
            os.close(self._descriptor)
            raise

    def _resume(self) -> int:
        """Hash what is there; a part that is longer than the file would be starts anew."""
        size = os.fstat(self._descriptor).st_size
        if size > self.size_bytes:
            os.ftruncate(self._descriptor, 0)
            size = 0
        done = 0
        while done < size:
            block = os.pread(self._descriptor, min(READ_BYTES, size - done), done)
            if not block:
                break
            self._hash.update(block)
            done += len(block)
        return done

    def append(self, data: bytes) -> None:
        """Write the next bytes. Raises Unavailable (disk), InvalidInput (longer than declared)."""
        if self.written + len(data) > self.size_bytes:
            raise InvalidInput(f"{self.sha256} is longer than its declared {self.size_bytes}.")
        view = memoryview(data)
        try:
            while view:
                count = os.pwrite(self._descriptor, view, self.written)
                self._hash.update(view[:count])
                self.written += count
                view = view[count:]
        except OSError as error:
            raise self._cache._trouble(error) from error

    def commit(self) -> Path:
        """Verify, make durable, and put in its place.

        Raises InvalidInput (``wrong_digest``; the bytes are deleted) or Unavailable (disk).
        """
        if self.written != self.size_bytes or self._hash.hexdigest() != self.sha256:
            self.discard()
            self._cache.counters["wrong_digest"] += 1
            raise InvalidInput(
                f"What came as {self.sha256[:12]}… is another file "
                f"(SHA-256 {self._hash.hexdigest()[:12]}…); it was deleted.",
                fix="Post the model again with `isochrone apply`.",
                code="wrong_digest",
            )
        target = self._path.with_suffix("")
        try:
            os.fsync(self._descriptor)
            os.replace(self._path, target)
            sync(self._cache.folder)
        except OSError as error:
            raise self._cache._trouble(error) from error
        finally:
            self.abandon()
        return target

    def abandon(self) -> None:
        """Stop writing and keep the bytes. Idempotent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
            self._cache._writing.pop(self.sha256, None)

    def discard(self) -> None:
        """Stop writing and delete the bytes."""
        self.abandon()
        self._path.unlink(missing_ok=True)


def _checked(sha256: str) -> str:
    if not SHA256.fullmatch(sha256):
        raise InvalidInput(f"{sha256[:80]!r} is not a SHA-256 digest in lower-case hex.")
    return sha256


def _mib(size_bytes: int) -> int:
    return -(-size_bytes // MIB)
