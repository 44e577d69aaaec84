"""What may run where, as this gateway knows it: the newest routing table of every cell.

A table is a whole cell's routes; the greater (epoch, sequence) wins and an older one is refused and
counted, so a table heard late, twice or out of order does no harm. Each service's replicas of all
cells are merged once when a table is taken, with the residency mask already applied: a request
finds its legal replicas by one look-up. Where cells disagree about a service (a change is under
way), the newest revision's mask is used for all of its replicas. A tenant's declaration may be
known before any table has followed it: a newer one's mask, or its deletion, holds at once.

Where a replica's node is comes from this gateway's own shelf (``places``), and so does a verdict
that bars it; when that changes, the services are merged again (``moved``).

Rules: no clock, no I/O (``SnapshotFolder`` keeps the tables on disk). An unknown area in a mask
admits nothing: when in doubt, a replica is out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import msgspec

from isochrone.gateway.places import Places
from isochrone.rules.residency import Mask, mask_of
from isochrone.schema.digests import UNREADABLE, canonical
from isochrone.schema.errors import InvalidInput
from isochrone.schema.place import Whereabouts
from isochrone.schema.routing import ReplicaRoute, RoutingTable, ServiceRoute
from isochrone.schema.service import Residency, Service, service_id

Blocs = Mapping[str, frozenset[str]]

UNKNOWN_AREA = "it names an area that nobody knows"


class RoutedService:
    """A service as requests see it: newest declaration, legal replicas of all cells.

    ``id``: network-wide. ``here_legal``: whether this gateway itself may handle its data.
    ``replicas``: all that serve, ``legal``: those that the mask admits and no verdict bars;
    ``where``: where the node of each replica is, by lease.
    """

    __slots__ = ("_mask", "here_legal", "id", "legal", "replicas", "route", "where")

    def __init__(
        self, route: ServiceRoute, replicas: tuple[ReplicaRoute, ...], places: Places, blocs: Blocs
    ) -> None:
        self._mask = known_mask(route.residency, blocs)
        self.id = route.service
        self.route = route
        self.replicas = replicas
        self.where = {r.lease: places.node(r.node, r.place.country, r.provider) for r in replicas}
        self.legal = tuple(
            r for r in replicas if self.admits(self.where[r.lease]) and not places.barred(r.node)
        )
        self.here_legal = self.admits(places.here)

    def admits(self, where: Whereabouts) -> bool:
        """Whether the service's mask admits where somebody is."""
        return self._mask is not None and self._mask.admits(where)

    def why_not(self, where: Whereabouts) -> str:
        """Why it does not, in one sentence; empty: it does."""
        return self._mask.reason(where) if self._mask is not None else UNKNOWN_AREA


def known_mask(residency: Residency, blocs: Blocs) -> Mask | None:
    """The mask of a residency; None when it names an unknown area, which admits nothing."""
    try:
        return mask_of(residency, blocs)
    except InvalidInput:
        return None


def legal_in(residency: Residency, where: Whereabouts, blocs: Blocs) -> bool:
    """Whether a residency admits where somebody is; an unknown area in it admits nothing."""
    mask = known_mask(residency, blocs)
    return mask is not None and mask.admits(where)


def why_not_in(residency: Residency, where: Whereabouts, blocs: Blocs) -> str:
    """Why a residency does not admit where somebody is, in one sentence; empty: it does."""
    mask = known_mask(residency, blocs)
    return mask.reason(where) if mask is not None else UNKNOWN_AREA


class RouteBook:
    """All tables and the services merged from them. ``counters``: ``taken``, ``refused_older``,
    ``repeated``. ``changes`` grows with every table that changed something."""

    def __init__(self, places: Places, blocs: Blocs) -> None:
        self.places = places
        self._blocs = blocs
        self._tables: dict[str, RoutingTable] = {}
        self._parts: dict[str, dict[str, ServiceRoute]] = {}
        self._services: dict[str, RoutedService] = {}
        self._declared: dict[str, Service] = {}
        self.counters: Counter[str] = Counter()
        self.changes = 0

    @property
    def tables(self) -> Mapping[str, RoutingTable]:
        """The table in use for every cell."""
        return self._tables

    @property
    def services(self) -> Mapping[str, RoutedService]:
        """Every routed service by id."""
        return self._services

    def offer(self, table: RoutingTable) -> bool:
        """Take a table if it is newer than the one in use for its cell; whether it was taken."""
        held = self._tables.get(table.cell)
        if held is not None:
            order = (table.epoch, table.sequence) > (held.epoch, held.sequence)
            if not order:
                same = table == held
                self.counters["repeated" if same else "refused_older"] += 1
                return False
        self._tables[table.cell] = table
        self.counters["taken"] += 1
        if held is None or held.services != table.services:
            self._merge(table)
        return True

    def declare(self, service: str, declared: Service) -> None:
        """The newest known declaration of a service id: it outranks the tables' older masks."""
        self._declared[service] = declared
        if service in self._services:
            self._merge_service(service)
            self.changes += 1

    def moved(self, keys: Collection[str]) -> None:
        """Something else is known now of where these nodes and gateways are: masks hold at once."""
        ours = self.places.own in keys
        for id_, service in list(self._services.items()):
            if ours or any(replica.node in keys for replica in service.replicas):
                self._merge_service(id_)
        self.changes += 1

    def mask(self, service: str, revision: int, residency: Residency) -> Residency | None:
        """The mask of a service whose ``residency`` was told with ``revision``: the declaration's
        when that is as new or newer; None when it is deleted by then."""
        declared = self._declared.get(service)
        if declared is None or declared.revision < revision:
            return residency
        return None if declared.deleted else declared.residency

    def find(self, tenant: str, name: str) -> RoutedService | None:
        """A tenant's service by its name."""
        return self._services.get(service_id(tenant, name))

    def names(self, tenant: str) -> list[str]:
        """The names of a tenant's routed services, sorted."""
        return sorted(s.route.name for s in self._services.values() if s.route.tenant == tenant)

    def _merge(self, table: RoutingTable) -> None:
        old = self._parts.get(table.cell, {})
        new = {route.service: route for route in table.services}
        self._parts[table.cell] = new
        for service in sorted(old.keys() | new.keys()):
            if old.get(service) != new.get(service):
                self._merge_service(service)
        self.changes += 1

    def _merge_service(self, service: str) -> None:
        routes = [part[service] for part in self._parts.values() if service in part]
        if not routes:
            self._services.pop(service, None)
            return
        newest = max(routes, key=lambda route: route.revision)
        residency = self.mask(service, newest.revision, newest.residency)
        if residency is None:
            self._services.pop(service, None)
            return
        declared = self._declared.get(service)
        consents = newest.answer_checks
        if declared is not None and declared.revision >= newest.revision:
            consents = declared.answer_checks
        starting = next((route.starting for route in routes if route.starting is not None), None)
        newest = msgspec.structs.replace(
            newest, residency=residency, answer_checks=consents, starting=starting
        )
        replicas = tuple(
            sorted((r for route in routes for r in route.replicas), key=lambda r: r.lease)
        )
        self._services[service] = RoutedService(newest, replicas, self.places, self._blocs)


class SnapshotFolder:
    """Routing tables on disk, one file a cell, so that a restart without fabric can serve."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self) -> list[RoutingTable]:
        """Every readable table; an unreadable file is skipped (the fabric will bring another)."""
        tables = []
        for path in sorted(self._folder.glob("*.json")):
            try:
                tables.append(msgspec.json.decode(path.read_bytes(), type=RoutingTable))
            except (OSError, *UNREADABLE):
                continue
        return tables

    def save(self, tables: Iterable[RoutingTable]) -> None:
        """Write tables, each by atomic rename. Blocking: call it in a thread. Raises OSError."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for table in tables:
            path = self._folder / f"{table.cell}.json"
            draft = path.with_suffix(".new")
            draft.write_bytes(canonical(table))
            draft.replace(path)
