"""The controller's tables in the fabric, opened together, and their copies on disk.

Declarations, quotas and leases are also kept as documents (fsynced, one file each), so that an
empty fabric can be seeded again after any crash: a table's own snapshot is written at most once a
second, these at every change. A table whose view vanished is not believed; the leader re-seeds it
from what the table still holds and from the documents, and only then acts again. Re-seeding writes
what was there before, so nothing that runs is disturbed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from isochrone.controller.coldstarts import Memory
from isochrone.controller.shelf import Shelf
from isochrone.fabric.connection import Fabric
from isochrone.fabric.table import Table
from isochrone.schema.decision import Decision
from isochrone.schema.digests import decode
from isochrone.schema.errors import InvalidInput, IsochroneError
from isochrone.schema.leadership import Leadership
from isochrone.schema.lease import Lease, Quota
from isochrone.schema.node import Node

T = TypeVar("T")

log = logging.getLogger(__name__)


class Mirrored(Generic[T]):
    """A table and its documents on disk. ``raw``: values are bytes as they stand."""

    def __init__(self, table: Table[T], kind: type[T], shelf: Shelf, *, raw: bool = False) -> None:
        self.table = table
        self._kind = kind
        self._shelf = shelf
        self._raw = raw
        self._first = True
        self._lost = False
        self._one_by_one = threading.Lock()
        self._kept: dict[str, T] = {}
        for key, data in shelf.everything().items():
            with contextlib.suppress(InvalidInput):
                self._kept[key] = self._decode(data)

    @property
    def values(self) -> dict[str, T]:
        """The entries' values by key."""
        return {key: entry.value for key, entry in self.table.entries.items()}

    def revision(self, key: str) -> int | None:
        """The revision that a write of ``key`` must name; None: it must not exist."""
        entry = self.table.entries.get(key)
        return entry.revision if entry else None

    @property
    def trustworthy(self) -> bool:
        """Whether the entries may be acted on.

        False as well when the first whole view is empty though disk has documents. Later an
        empty table is one whose entries were deleted in order.
        """
        if self.table.seen.is_set() and self._first:
            self._first = False
            self._lost = bool(self._kept) and not self.table.entries
        return self.table.trustworthy and not self._lost

    def keep(self) -> None:
        """Bring the documents up to the table; blocks for fsyncs. Not while it is in doubt."""
        if not self.trustworthy or not self.table.seen.is_set():
            return
        with self._one_by_one:  # a cancelled keeper's thread may still be writing at the end
            self._keep(self.values)

    def _keep(self, now: dict[str, T]) -> None:
        for key, value in now.items():
            if self._kept.get(key) != value:
                self._shelf.keep(key, self._encode(value))
        for key in set(self._kept) - set(now):
            self._shelf.drop(key)
        self._kept = now

    async def reseed(self) -> None:
        """Write what the fabric lost; raises IsochroneError when it does not take it."""
        log.warning("re-seeding %s with %d documents", self.table.name, len(self._kept))
        await self.table.reseed({**self._kept, **self.values})
        self._lost = False

    def _encode(self, value: T) -> bytes:
        return bytes(value) if self._raw else msgspec.json.encode(value)  # type: ignore[call-overload]

    def _decode(self, data: bytes) -> T:
        return data if self._raw else decode(data, self._kind)  # type: ignore[return-value]


class Tables:
    """All tables of one controller. Build it with ``open``."""

    services: Mirrored[bytes]
    quotas: Mirrored[Quota]
    leases: Mirrored[Lease]
    nodes: Table[Node]
    leadership: Table[Leadership]
    decisions: Table[list[Decision]]
    inputs: Table[bytes]
    starts: Table[Memory]
    _problem = ""

    @classmethod
    async def open(cls, fabric: Fabric, state_dir: Path) -> Tables:
        """Open them, from the fabric or from disk."""
        tables = cls()
        shelves = state_dir / "documents"
        tables.leadership = await fabric.table("leadership", Leadership)
        tables.nodes = await fabric.table("nodes", Node)
        services = await fabric.table("services", bytes, raw=True)
        tables.services = Mirrored(services, bytes, Shelf(shelves / "services"), raw=True)
        quotas = await fabric.table("quotas", Quota)
        tables.quotas = Mirrored(quotas, Quota, Shelf(shelves / "quotas"))
        leases = await fabric.table("leases", Lease)
        tables.leases = Mirrored(leases, Lease, Shelf(shelves / "leases"))
        tables.decisions = await fabric.table("decisions", list[Decision])
        tables.inputs = await fabric.table("inputs", bytes, raw=True)
        tables.starts = await fabric.table("starts", Memory)
        return tables

    def watched(self) -> tuple[Table[Any], ...]:
        """The tables whose changes are a reason to look again."""
        return self.services.table, self.quotas.table, self.leases.table, self.nodes

    def doubt(self) -> str:
        """Which table is not to be believed now; empty: all are."""
        mirrored = (self.services, self.quotas, self.leases)
        doubted = [m.table.name for m in mirrored if not m.trustworthy]
        doubted += [table.name for table in (self.nodes,) if not table.trustworthy]
        return f"the view of {', '.join(doubted)} vanished" if doubted else ""

    async def reseed(self) -> None:
        """Seed again whatever vanished; raises IsochroneError when the fabric does not take it."""
        for mirrored in (self.services, self.quotas, self.leases):
            if not mirrored.trustworthy:
                await mirrored.reseed()
        for table in (self.nodes, self.decisions, self.inputs, self.starts):
            if not table.trustworthy:
                await table.reseed()

    async def keep(self) -> None:
        """Bring the documents on disk up to date, in a thread; a full disk is said once."""
        problem = ""
        for mirrored in (self.services, self.quotas, self.leases):
            try:
                await asyncio.to_thread(mirrored.keep)
            except IsochroneError as error:
                problem = error.sentence()
        if problem and not self._problem:
            log.error("%s", problem)
        self._problem = problem
