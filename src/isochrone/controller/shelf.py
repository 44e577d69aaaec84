"""Documents on disk: what an empty fabric is seeded from again.

One file per document, written beside its place and renamed into it after an fsync, so a reader
finds the old or the new one and never half. The fabric is a cache of this (and of what gateways
keep); losing a shelf loses nothing that is still in the fabric.

Not here: when to write (``keeping.py``). Everything blocks for a disk's fsync; callers with an
event loop use a thread.
"""

from __future__ import annotations

import contextlib
import urllib.parse
from pathlib import Path

from isochrone.records.durable import write_whole
from isochrone.schema.errors import Unavailable

SUFFIX = ".doc"


class Shelf:
    """A directory of documents of one kind, by key (any text)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _full(folder, error) from error

    def keep(self, key: str, data: bytes) -> None:
        """Write a document durably; raises Unavailable with a sentence (disk full, no rights)."""
        path = self._path(key)
        try:
            write_whole(path, data)
        except OSError as error:
            raise _full(self.folder, error) from error

    def drop(self, key: str) -> None:
        """Forget a document; one that is not there is no error."""
        with contextlib.suppress(OSError):
            self._path(key).unlink()

    def read(self, key: str) -> bytes | None:
        """A document's bytes, or None."""
        try:
            return self._path(key).read_bytes()
        except OSError:
            return None

    def keys(self) -> list[str]:
        """The keys of all documents, sorted."""
        names = (path.name for path in self.folder.glob(f"*{SUFFIX}"))
        return sorted(urllib.parse.unquote(name.removesuffix(SUFFIX)) for name in names)

    def everything(self) -> dict[str, bytes]:
        """All documents by key."""
        found = {key: self.read(key) for key in self.keys()}
        return {key: data for key, data in found.items() if data is not None}

    def _path(self, key: str) -> Path:
        return self.folder / (urllib.parse.quote(key, safe="") + SUFFIX)


def _full(folder: Path, error: OSError) -> Unavailable:
    return Unavailable(
        f"The controller cannot write to {folder}: {error.strerror}.",
        fix="Free space or give it another state_dir.",
    )
