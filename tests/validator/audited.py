"""What the tests of checking and audit share: a settled network, a chain that tells of it, forgers.

A forger here owns the whole quorum: it writes consistent files under right digests and posts them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from isochrone.lab.invented import Invented, Settled, Shape
from isochrone.lab.invented_chain import InventedChain
from isochrone.records.manifest import EpochRecords, write_books, write_files
from isochrone.records.store import Store
from isochrone.schema.digests import canonical
from isochrone.schema.settlement import Manifest
from isochrone.schema.settling import PublishedEpoch

SMALL = Shape(nodes=2, leases=2, periods=2, gateways=1)


class Network:
    """Epochs 5, 6 and 7 of an invented network, settled, published and posted."""

    def __init__(
        self, folder: Path, shape: Shape = SMALL, epochs: tuple[int, ...] = (5, 6, 7)
    ) -> None:
        self.folder = folder
        self.store = Store.open(folder)
        self.invented = Invented(shape)
        self.chain = InventedChain(self.invented.deployment)
        self.settled: dict[int, Settled] = {}
        before: Settled | None = None
        for epoch in epochs:
            books = before.settlement.books if before else None
            previous = before.manifest.digest if before else ""
            before = self.invented.settled(self.store, epoch, books, previous)
            self.settled[epoch] = before
            self.chain.post(before)
            books_file = write_books_of(self.store, before)
            self.store.publish(PublishedEpoch(statement=before.statement, books=books_file))

    def forged(
        self, epoch: int, records: EpochRecords, fields: dict[str, Any] | None = None
    ) -> Manifest:
        """Post the honest root of an epoch over other records, or over a changed manifest."""
        honest = self.settled[epoch]
        changed = {"files": write_files(self.store, records), **(fields or {})}
        forged = msgspec.structs.replace(honest.manifest, **changed)
        self.store.put(canonical(forged))
        statement = msgspec.structs.replace(honest.statement, manifest=forged.digest)
        self.chain.statements[epoch] = statement
        return forged

    def honest(self, epoch: int) -> None:
        """Post the honest root again."""
        self.chain.statements[epoch] = self.settled[epoch].statement


def write_books_of(store: Store, settled: Settled) -> str:
    return write_books(store, settled.settlement.books).sha256


def with_changed(records: EpochRecords, kind: str, index: int, record: Any) -> EpochRecords:
    """The records with one of a kind replaced (``chain`` and ``books`` are replaced whole)."""
    if kind in ("chain", "books"):
        return replace(records, **{kind: record})
    of = list(getattr(records, kind))
    of[index] = record
    return replace(records, **{kind: tuple(of)})


def fields_of(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every plain field inside a struct, mapping or tuple."""
    if isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            yield from fields_of(getattr(value, name), (*path, name))
    elif isinstance(value, dict):
        for key in sorted(value):
            yield from fields_of(value[key], (*path, key))
    elif isinstance(value, tuple):
        for i, item in enumerate(value):
            yield from fields_of(item, (*path, i))
    else:
        yield path


def with_field(value: Any, path: tuple[Any, ...], change: Any) -> Any:
    """A copy of ``value`` with ``change`` applied to the field at ``path``."""
    if not path:
        return change(value)
    step, rest = path[0], path[1:]
    if isinstance(value, msgspec.Struct):
        return msgspec.structs.replace(
            value, **{step: with_field(getattr(value, step), rest, change)}
        )
    if isinstance(value, dict):
        return {**value, step: with_field(value[step], rest, change)}
    return (*value[:step], with_field(value[step], rest, change), *value[step + 1 :])


def other(value: Any) -> Any:
    """Another value of the same kind, as a forger would choose it."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value + 1.0
    if isinstance(value, bytes):
        return bytes([value[0] ^ 1]) + value[1:] if value else b"x"
    if isinstance(value, str):
        return ("1" if value[:1] != "1" else "2") + value[1:]
    assert value is None
    return 5
