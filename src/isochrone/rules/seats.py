"""What a cell should hold of a service, and what it does hold: the two sides of reconciling.

A fit's decision becomes *seats* (a node that should hold one replica, at a locked price), and the
table of leases with what is known of each becomes *held* rows. ``reconcile`` compares them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from isochrone.rules.devices import choose
from isochrone.rules.eligible import MASKS
from isochrone.schema.decision import Decision, FreeNode, PlacementInputs
from isochrone.schema.lease import Lease, LeaseState
from isochrone.schema.node import Resources
from isochrone.schema.service import Service, service_id

RETRY_S = 30.0
"""A node on which a lease failed is not tried again for so long. Shorter: a broken model is fetched
and loaded for ever; longer: a full disk that was emptied waits."""


class Seat(msgspec.Struct, frozen=True, kw_only=True):
    """A node that should hold one replica, at a locked price, on these of its GPUs."""

    node: str
    provider: str
    price_microusd_per_hour: int
    gpus: tuple[int, ...] = ()


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What a service should have in a cell. No seats and ``withdrawn``: nothing, on purpose.

    ``service``: the declaration in force; ``service_id`` is its network-wide id. ``barred``: nodes
    where it must not run, whatever they hold. ``tight``: seats too full for an old and a new
    replica side by side. ``yields``: nodes that it leaves for somebody else, whatever serves
    instead. ``replicas``: how many were granted, at least as many as seats.
    ``decision``: digest of the record of the fit.
    """

    service_id: str
    service: Service
    cell: str
    seats: tuple[Seat, ...] = ()
    barred: frozenset[str] = frozenset()
    tight: frozenset[str] = frozenset()
    yields: frozenset[str] = frozenset()
    replicas: int = 0
    decision: str = ""
    withdrawn: bool = False


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """A lease in the table and what is known of it now.

    ``state``: what its node said last, and ``said_of`` the revision of the text that it said it of;
    None when the node has not spoken (``said_of`` None: taken as of the present text).
    ``verdict``: on its node. ``for_s``: for how long the observer has seen it *failed* (or ended
    unasked) or its node *dead*, by its own monotonic clock; 0 when neither, or when the observer
    has just started.
    """

    lease: Lease
    state: LeaseState | None
    verdict: Literal["alive", "unsure", "dead"]
    for_s: float = 0.0
    said_of: int | None = None

    @property
    def can_work(self) -> bool:
        """Whether its node has not given it up."""
        return self.state not in ("failed", "ended")

    @property
    def is_serving(self) -> bool:
        """Whether requests can be sent to it now."""
        return self.state == "serving" and self.verdict != "dead" and self.lease.desired != "ended"

    @property
    def has_heard(self) -> bool:
        """Whether its state is the answer to the present text, not to an earlier one."""
        return self.said_of is None or self.said_of >= self.lease.revision

    @property
    def is_spoilt(self) -> bool:
        """Failed, or ended though nobody asked: its node is leaving."""
        return not self.can_work and self.lease.desired == "serving"

    @property
    def marks(self) -> bool:
        """Whether it failed so lately that its node must not be tried again yet."""
        return self.is_spoilt and self.for_s < RETRY_S


def wanted_of(inputs: PlacementInputs, decision: Decision, decision_digest: str) -> Wanted:
    """What a fit asks for: a seat per winner, and the nodes that its masks exclude."""
    nodes = {free.node.address: free for free in inputs.nodes}
    need = inputs.service.resources
    devices = decision.devices or {}
    seats = tuple(
        Seat(
            node=address,
            provider=nodes[address].node.provider,
            price_microusd_per_hour=nodes[address].node.offer.price_microusd_per_hour(need),
            gpus=devices.get(address, ()),
        )
        for address in decision.winners
    )
    barred = (c.node for c in decision.candidates if c.excluded_by in MASKS)
    return Wanted(
        service_id=service_id(inputs.tenant, inputs.service.name),
        service=inputs.service,
        cell=inputs.cell,
        seats=seats,
        barred=frozenset(barred),
        tight=frozenset(seat.node for seat in seats if _is_tight(nodes[seat.node], need)),
        yields=frozenset(row.node for row in inputs.cleared if row.at_once),
        replicas=max(len(seats), sum(site.replicas for site in inputs.sites)),
        decision=decision_digest,
    )


def _is_tight(free: FreeNode, need: Resources) -> bool:
    return (
        free.free_cpu_milli < need.cpu_milli
        or free.free_memory_mib < need.memory_mib
        or choose(free.node.capacity, free.free_gpu_milli, need) is None
    )


def withdrawn(service: Service, service_id: str, cell: str) -> Wanted:
    """Nothing is wanted of the service here any more (deleted, or a quota of no sites)."""
    return Wanted(service_id=service_id, service=service, cell=cell, withdrawn=True)


def as_held(inputs: PlacementInputs, held: Sequence[Held]) -> PlacementInputs:
    """The inputs of a fit with what the leases tell: ``holds`` counts those that can still work.

    A node with a lease that failed less than ``RETRY_S`` ago is not offered for a new one.
    """
    working = [r.lease.node for r in held if r.lease.desired == "serving" and r.can_work]
    spoilt = {r.lease.node for r in held if r.marks} - set(working)
    service = inputs.service
    gpus = {
        row.lease.node: row.lease.gpus
        for row in held
        if row.lease.desired != "ended" and row.can_work and runs(row.lease, service)
    }
    nodes = tuple(
        msgspec.structs.replace(
            free,
            holds=working.count(free.node.address),
            gpus=gpus.get(free.node.address, ()),
            alive=free.alive and free.node.address not in spoilt,
        )
        for free in inputs.nodes
    )
    return msgspec.structs.replace(inputs, nodes=nodes)


def runs(lease: Lease, service: Service) -> bool:
    """Whether a lease is of what is declared now, so that its replica need not be replaced."""
    return lease.model == service.model and lease.resources == service.resources
