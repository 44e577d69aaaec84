"""This gateway's part in the cell's tables: what it reads, what it writes, what it puts back.

It reads leases (→ orders), leadership (→ epoch), services, revocations and, when somebody asks,
decisions; it writes ``nodes`` (a home node introduced itself), ``services`` and ``revocations``
(the admin API took a document). Everything is compared again every second: an event is only a hint
to look sooner, and what the fabric lost is written again from this gateway's disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from pathlib import Path
from typing import Any, Final

import msgspec

from isochrone.fabric.connection import Fabric
from isochrone.fabric.table import Table
from isochrone.gateway.declared import Declarations
from isochrone.gateway.documents import DocumentFolder
from isochrone.gateway.fleet import Fleet
from isochrone.gateway.known import KnownNode
from isochrone.gateway.orders import OrderBook
from isochrone.schema.apikey import ApiKey
from isochrone.schema.decision import Decision
from isochrone.schema.digests import UNREADABLE
from isochrone.schema.documents import KEY_REVOCATION, unpack, unseal
from isochrone.schema.errors import Conflict, IsochroneError, Unavailable
from isochrone.schema.leadership import LEADERSHIP_KEY, Leadership
from isochrone.schema.lease import Lease
from isochrone.schema.node import Node, NodeGrant
from isochrone.schema.place import Whereabouts

COMPARE_S: Final = 1.0
"""How often documents and introductions are compared with the tables."""

log = logging.getLogger(__name__)


class CellTables:
    """The tables of one cell, opened; made by ``open``."""

    def __init__(self, fabric: Fabric, cell: str, fleet: Fleet, state_dir: Path) -> None:
        self.fabric = fabric
        self.declarations = Declarations()
        self.orders = OrderBook(cell, fleet, self.trusted)
        self.services: Table[bytes]
        self.nodes: Table[Node]
        self.leases: Table[Lease]
        self.leadership: Table[Leadership]
        self.revocations: Table[bytes]
        self._cell = cell
        self._fleet = fleet
        self._service_documents = DocumentFolder(state_dir / "services")
        self._revocation_documents = DocumentFolder(state_dir / "revocations")
        self._decisions: Table[list[Decision]] | None = None
        self._inputs: Table[bytes] | None = None
        self._writing: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Open the tables; works from disk while the fabric is away."""
        fabric = self.fabric
        self.services = await fabric.table("services", bytes, raw=True)
        self.nodes = await fabric.table("nodes", Node)
        self.leases = await fabric.table("leases", Lease)
        self.leadership = await fabric.table("leadership", Leadership)
        self.revocations = await fabric.table("revocations", bytes, raw=True)
        for key, packed in self._service_documents.documents.items():
            self.declarations.offer(key, packed)
        self.services.on_change.append(self._read_services)
        self.leases.on_change.append(self._read_leases)
        self.leadership.on_change.append(self._read_leases)
        self._read_services()
        self._read_leases()

    def all_tables(self) -> list[Table[Any]]:
        """Those that are always open."""
        return [self.services, self.nodes, self.leases, self.leadership, self.revocations]

    def trusted(self) -> bool:
        """Whether the lease table is whole and of now."""
        return self.fabric.connected and self.leases.seen.is_set() and self.leases.trustworthy

    def leader(self) -> Leadership | None:
        """Who leads the cell, as far as is known."""
        entry = self.leadership.entries.get(LEADERSHIP_KEY)
        return entry.value if entry is not None else None

    def newest_grant(self, node: str) -> int:
        """The revision of the newest grant of a node that the cell has seen, 0 for none."""
        entry = self.nodes.entries.get(node)
        return _grant_revision(entry.value.grant) if entry is not None else 0

    def revoked(self, key: ApiKey) -> bool:
        """Whether an API key's tenant has revoked it."""
        name = f"{key.tenant}.{key.id}"
        return name in self._revocation_documents.documents or name in self.revocations.entries

    # -- taking documents --------------------------------------------------------------------

    async def keep_service(self, key: str, packed: bytes) -> tuple[str, ...]:
        """Keep a checked declaration on disk, then in the fabric; where it was kept.

        Raises OurFault when the disk refuses, Conflict when a newer revision came first.
        """
        await self._on_disk(self._service_documents, key, packed)
        self.declarations.offer(key, packed)
        return await self._in_fabric(self.services, key, packed)

    async def keep_revocation(self, key: str, packed: bytes) -> tuple[str, ...]:
        """Keep a checked revocation on disk, then in the fabric; where it was kept."""
        await self._on_disk(self._revocation_documents, key, packed)
        return await self._in_fabric(self.revocations, key, packed)

    async def decisions(self) -> Table[list[Decision]]:
        """The decision records; opened when they are first asked for."""
        if self._decisions is None:
            self._decisions = await self.fabric.table("decisions", list[Decision])
        return self._decisions

    async def inputs(self) -> Table[bytes]:
        """The decisions' inputs; opened when they are first asked for (they are large)."""
        if self._inputs is None:
            self._inputs = await self.fabric.table("inputs", bytes, raw=True)
        return self._inputs

    async def _on_disk(self, folder: DocumentFolder, key: str, packed: bytes) -> None:
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, folder.save, key, packed)

    async def _in_fabric(self, table: Table[bytes], key: str, packed: bytes) -> tuple[str, ...]:
        try:
            await table.update(key, lambda held: self._newer(table, key, held, packed))
        except Unavailable:
            return ("disk",)
        return ("disk", "fabric")

    def _newer(
        self, table: Table[bytes], key: str, held: bytes | None, packed: bytes
    ) -> bytes | None:
        """What to write over ``held``: the known newest, or None to leave it."""
        if held is None or table is not self.services:
            return packed if held is None else None
        self.declarations.offer(key, held)
        newest = self.declarations.known.get(key)
        return newest.packed if newest is not None and newest.packed != held else None

    # -- following ---------------------------------------------------------------------------

    def _read_services(self) -> None:
        for key, entry in self.services.entries.items():
            self.declarations.offer(key, entry.value)

    def _read_leases(self) -> None:
        leader = self.leader()
        leases = {key: entry.value for key, entry in self.leases.entries.items()}
        self.orders.take(leases, leader.epoch if leader is not None else 0)

    # -- comparing ---------------------------------------------------------------------------

    async def run(self) -> None:
        """Compare and repair until cancelled."""
        while True:
            with contextlib.suppress(IsochroneError):
                await self._save_new_services()
            if self.fabric.connected:
                for table in (self.services, self.revocations, self.nodes):
                    await self._reseed(table)
                await self._repair(self.services, self._service_documents)
                await self._repair(self.revocations, self._revocation_documents)
                for known in list(self._fleet.nodes.values()):
                    self.node_changed(known.address)
            await asyncio.sleep(COMPARE_S)

    async def _save_new_services(self) -> None:
        """Declarations that came by the fabric go to this disk, too."""
        kept = self._service_documents.documents
        for key, declared in list(self.declarations.known.items()):
            if kept.get(key) != declared.packed:
                await self._on_disk(self._service_documents, key, declared.packed)

    async def _reseed(self, table: Table[Any]) -> None:
        """Write back what a vanished view has lost; every gateway does, so all of it comes."""
        if table.trustworthy or not table.seen.is_set():
            return
        log.warning("re-seeding the table %s", table.name)
        try:
            await table.reseed()
        except (Conflict, Unavailable) as error:
            log.info("table %s: %s", table.name, error.sentence())

    async def _repair(self, table: Table[bytes], folder: DocumentFolder) -> None:
        """Put on the fabric what it never had: documents taken while it was away."""
        try:
            for key, packed in list(folder.documents.items()):
                entry = table.entries.get(key)
                if entry is None or entry.value != packed:
                    await self._in_fabric(table, key, packed)
        except (Conflict, Unavailable) as error:
            log.info("table %s: %s", table.name, error.sentence())

    def node_changed(self, address: str) -> None:
        """Write a home node's entry if it is not what it should be (in the background)."""
        known = self._fleet.nodes.get(address)
        if known is None or address in self._writing or not self.fabric.connected:
            return
        wanted = _node(known, self._cell)
        entry = self.nodes.entries.get(address)
        if wanted is None or _merged(entry.value if entry is not None else None, wanted) is None:
            return
        self._writing.add(address)
        task = asyncio.get_running_loop().create_task(self._write_node(address, wanted))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _write_node(self, address: str, wanted: Node) -> None:
        try:
            await self.nodes.update(address, lambda held: _merged(held, wanted))
        except (Conflict, Unavailable) as error:
            log.info("node %s: %s", address, error.sentence())
        finally:
            self._writing.discard(address)

    async def close(self) -> None:
        """Stop what is under way."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def read_revocation(packed: bytes) -> tuple[str, str]:
    """(key id, tenant) of a packed revocation; raises InvalidInput or Unauthorized."""
    from isochrone.schema.admin import KeyRevocation

    revocation, tenant = unseal(unpack(packed), KEY_REVOCATION, KeyRevocation)
    return revocation.key_id, tenant


def _node(known: KnownNode, cell: str) -> Node | None:
    """The table's entry for a node that is at home here, with revision 0."""
    grant = known.grant
    if known.line is None or known.introduced is None or grant is None:
        return None
    if not known.introduced.home:
        return None
    return Node(
        address=known.address,
        provider=known.provider,
        cell=cell,
        place=grant.place,
        capacity=known.introduced.capacity,
        offer=grant.offer,
        grant=known.packed,
        revision=0,
        whereabouts=Whereabouts(country=grant.place.country),
    )


def _merged(held: Node | None, wanted: Node) -> Node | None:
    """What to write over ``held``: the wanted entry with the next revision, or None."""
    if held is None:
        return msgspec.structs.replace(wanted, revision=1)
    if _grant_revision(held.grant) > _grant_revision(wanted.grant):
        return None
    if msgspec.structs.replace(held, revision=0) == wanted:
        return None
    return msgspec.structs.replace(wanted, revision=held.revision + 1)


def _grant_revision(packed: bytes) -> int:
    """The revision a grant states (its signature was checked when it was taken)."""
    try:
        return msgspec.json.decode(unpack(packed).body, type=NodeGrant).revision
    except (IsochroneError, *UNREADABLE):
        return 0
