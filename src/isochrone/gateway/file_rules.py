"""Which model files and leases' data may be here, and under which mask.

Intuition: a file is never asked for on its own, only because a service or a lease names it; so what
may be done with it follows from that service's residency, as the newest declaration states it.

Rules: nothing is remembered here; every answer is of now. A deleted service allows nothing. A node
gets files by its own leases alone, a gateway by whatever names the file here. Where a file is
fetched, and whether the asking gateway's country passes, is for the fetch desk to say.
"""

from __future__ import annotations

from isochrone.gateway.announced import Announcements
from isochrone.gateway.fetches import FileRule
from isochrone.gateway.routes import Blocs, RouteBook, legal_in
from isochrone.gateway.tables import CellTables
from isochrone.schema.lease import Lease
from isochrone.schema.service import Residency


class FileRules:
    """The masks of files and leases, seen from where this gateway is."""

    def __init__(
        self,
        book: RouteBook,
        tables: CellTables,
        announced: Announcements,
        blocs: Blocs,
    ) -> None:
        self._book = book
        self._tables = tables
        self._announced = announced
        self._blocs = blocs

    def lease_service(self, node: str, lease_id: str) -> str:
        """The service of a lease that a node holds and whose data may be here, or ""."""
        lease = self._tables.orders.of_node(node).get(lease_id)
        if lease is None:
            return ""
        return lease.service if self._legal_here(lease) else ""

    def wanted(self) -> frozenset[str]:
        """Files that services and leases name whose data may be here."""
        leased = [
            file.sha256
            for lease in self._tables.orders.all()
            if self._legal_here(lease)
            for file in lease.model.files
        ]
        return self._announced.files() | frozenset(leased)

    def rule(self, sha256: str, service: str, node: str) -> FileRule | None:
        """The mask of a file: by a node's leases, or for a gateway by whatever names it here."""
        orders = self._tables.orders
        leases = orders.of_node(node).values() if node else orders.all()
        for lease in leases:
            mask = self._mask(lease) if lease.service == service else None
            if mask is not None and (rule := _rule_of(lease, mask, sha256)) is not None:
                return rule
        return None if node else self._declared_rule(sha256, service)

    def _declared_rule(self, sha256: str, service: str) -> FileRule | None:
        declared = self._tables.declarations.known.get(service)
        if declared is None or declared.service.deleted:
            return None
        for file in declared.service.model.files:
            if file.sha256 == sha256:
                return FileRule(
                    declared.service.residency, declared.service.home_cell, file.size_bytes
                )
        return None

    def _legal_here(self, lease: Lease) -> bool:
        mask = self._mask(lease)
        return mask is not None and legal_in(mask, self._book.places.here, self._blocs)

    def _mask(self, lease: Lease) -> Residency | None:
        """Where a lease's data may go now; None when its service is deleted."""
        return self._book.mask(lease.service, lease.service_revision, lease.residency)


def _rule_of(lease: Lease, mask: Residency, sha256: str) -> FileRule | None:
    for file in lease.model.files:
        if file.sha256 == sha256:
            return FileRule(mask, lease.home_cell, file.size_bytes)
    return None
