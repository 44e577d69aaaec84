"""From the lease table to the nodes: each gets the whole set of its leases, again and again.

Level-triggered: on every change of the table, when a node comes, and every two seconds. The node
fences by ``epoch``; a set is ``complete`` only while the table's view is trustworthy *and* present,
so that a gateway which lags or has lost its fabric never ends a lease by not knowing it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from isochrone.gateway.fleet import Fleet
from isochrone.schema.frames import Orders
from isochrone.schema.lease import Lease

REPEAT_S: Final = 2.0


class OrderBook:
    """Indexes leases by node and sends them. ``trusted()``: whether the view is whole now."""

    def __init__(self, cell: str, fleet: Fleet, trusted: Callable[[], bool]) -> None:
        self.epoch = 0
        self._cell = cell
        self._fleet = fleet
        self._trusted = trusted
        self._by_node: dict[str, dict[str, Lease]] = {}

    def of_node(self, node: str) -> Mapping[str, Lease]:
        """The leases wanted of a node, by id."""
        return self._by_node.get(node, {})

    @property
    def by_node(self) -> Mapping[str, Mapping[str, Lease]]:
        """The leases wanted of every node, by node and id."""
        return self._by_node

    def lease(self, lease: str) -> Lease | None:
        """A lease of this cell by id."""
        for leases in self._by_node.values():
            if lease in leases:
                return leases[lease]
        return None

    def all(self) -> list[Lease]:
        """Every lease of this cell, by id."""
        found = [lease for leases in self._by_node.values() for lease in leases.values()]
        return sorted(found, key=lambda lease: lease.id)

    def take(self, leases: Mapping[str, Lease], leader_epoch: int) -> None:
        """The table's content and the newest epoch known; tells the nodes whose set changed."""
        fresh: dict[str, dict[str, Lease]] = {}
        for key in sorted(leases):
            lease = leases[key]
            if lease.cell == self._cell:
                fresh.setdefault(lease.node, {})[lease.id] = lease
        before, self._by_node = self._by_node, fresh
        epoch = max([self.epoch, leader_epoch, *(lease.epoch for lease in leases.values())])
        newer, self.epoch = epoch > self.epoch, epoch
        for node in sorted(self._fleet.nodes):
            if newer or before.get(node) != fresh.get(node):
                self.send(node)

    def send(self, node: str) -> None:
        """Tell one node, if it is here and at home here."""
        known = self._fleet.nodes.get(node)
        if known is None or known.line is None or known.introduced is None:
            return
        if not known.introduced.home:
            return
        orders = Orders(
            cell=self._cell,
            epoch=self.epoch,
            leases=tuple(self.of_node(node).values()),
            complete=self._trusted(),
        )
        known.line.channel.send_control(orders)

    def send_all(self) -> None:
        """Tell every node."""
        for node in sorted(self._fleet.nodes):
            self.send(node)
