"""Signed documents on this gateway's disk: the copy that survives an empty fabric.

The fabric's tables are a cache of desired state, never the book of record: a declaration is
answered 202 only after it lies here, fsynced. What the fabric lost is put back from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from isochrone.gateway.store import disk_error
from isochrone.records.durable import write_whole


class DocumentFolder:
    """Packed documents of one kind by key, in memory and on disk.

    A key becomes a file name: the caller has checked that it holds only letters, digits, ``.``
    and ``-`` (addresses, service names and key ids do).
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._documents = {p.name[: -len(".doc")]: p.read_bytes() for p in folder.glob("*.doc")}

    @property
    def documents(self) -> Mapping[str, bytes]:
        """Everything kept, by key."""
        return self._documents

    def save(self, key: str, packed: bytes) -> None:
        """Keep a document; it survives a power failure when this returns.

        Blocking: call it in a thread. Raises OurFault when the disk refuses.
        """
        path = self._folder / f"{key}.doc"
        try:
            write_whole(path, packed)
        except OSError as error:
            raise disk_error(error, "the document", self._folder) from error
        self._documents = {**self._documents, key: packed}
