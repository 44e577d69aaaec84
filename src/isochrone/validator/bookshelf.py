"""The books that this validator has made, on disk: what the next epoch is settled from.

Per epoch the books, the manifest's digest and every line, as canonical JSON, written whole; the
store additionally gets the books as the file that the next manifest lists, and the epoch's entry
by which auditors find everything.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from isochrone.records.durable import write_whole
from isochrone.records.manifest import write_books
from isochrone.records.store import Store
from isochrone.schema.digests import canonical, decode
from isochrone.schema.errors import Unavailable
from isochrone.schema.settlement import Bill, Books
from isochrone.schema.settling import PublishedEpoch, SignedRoot
from isochrone.validator.recomputing import Computed

KEPT = 34
"""Epochs on this shelf; the store keeps all. At most 31 roots are pending (contracts/vault.vy), and
a veto goes back behind the first of them."""


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """Books after an epoch, the manifest behind them, and what its services owed."""

    manifest: str
    books: Books
    bills: tuple[Bill, ...] = ()


class Bookshelf:
    """Books by epoch, newest last. Blocking."""

    def __init__(self, folder: Path, store: Store) -> None:
        self._folder = folder
        self._store = store
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _disk(folder, error) from error
        self.kept: dict[int, Kept] = {
            int(path.stem): decode(path.read_bytes(), Kept, f"books {path}")
            for path in sorted(folder.glob("*.json"))
        }

    def get(self, epoch: int, manifest: str) -> Kept | None:
        """The books after an epoch, if they are those of that manifest."""
        kept = self.kept.get(epoch)
        return kept if kept is not None and kept.manifest == manifest else None

    def put(self, computed: Computed, votes: tuple[SignedRoot, ...]) -> Kept:
        """Keep books whose root stands on the chain, and publish the epoch."""
        kept = Kept(
            manifest=computed.statement.manifest,
            books=computed.settlement.books,
            bills=computed.settlement.bills,
        )
        file = write_books(self._store, kept.books)
        entry = PublishedEpoch(
            statement=computed.statement,
            signatures=tuple(vote.signature for vote in votes),
            books=file.sha256,
        )
        self._store.publish(entry)
        epoch = computed.statement.epoch
        self._write(self._folder / f"{epoch:012d}.json", canonical(kept))
        self.kept[epoch] = kept
        self._forget(sorted(self.kept)[:-KEPT])
        return kept

    def _forget(self, epochs: list[int]) -> None:
        for epoch in epochs:
            del self.kept[epoch]
            (self._folder / f"{epoch:012d}.json").unlink(missing_ok=True)

    def _write(self, path: Path, data: bytes) -> None:
        try:
            write_whole(path, data)
        except OSError as error:
            raise _disk(self._folder, error) from error


def _disk(folder: Path, error: OSError) -> Unavailable:
    return Unavailable(
        f"The books in {folder} cannot be written: {error.strerror}.", fix="Free space."
    )
