"""Reconcile: from the leases that are to the leases that are wanted, one small step at a time.

Intuition: a fit names the nodes that should hold a service in this cell; each named node without
a usable lease gets one, each lease that nobody wants any more goes. The order matters:

1. a lease on a *barred* node (residency, evidence) goes at once: law before availability;
2. a lease on a dead node is ended at once, and its seat is already another node's;
3. a lease that works but is not wanted any more drains only when as many wanted ones serve as
   there are seats (make before break); with no seats at all wanted (withdrawn) it drains at once;
4. a failed lease stands as a mark for ``RETRY_S`` that keeps its node from being chosen again.

In doubt about the view (rule 4 of reliability) only what adds is planned: no lease is drained,
ended or forgotten. A node of which we are unsure is treated as alive: its lease is kept, and counts
as serving if it did.

The plan is level-triggered and idempotent: what it returns depends on the observation alone, and
planning again after it has been applied returns nothing until something new is observed.

Rules of this file: pure; every action carries the whole new text of a lease and the revision of
the text it was planned from (0: there is none), to be applied by compare-and-set and planned anew
on conflict. What it does not do: choose nodes (``rules.placement``), judge who is alive.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from isochrone.schema.decision import Decision, FreeNode, PlacementInputs
from isochrone.schema.lease import Lease, LeaseState
from isochrone.schema.service import Service, service_id

RETRY_S = 30.0
"""A node on which a lease failed is not tried again for so long. Shorter: a broken model is fetched
and loaded for ever; longer: a full disk that was emptied waits."""

FORGET_S = 60.0
"""The lease of a dead node is kept as ``ended`` for so long, so that a node which was only frozen
is told in so many words that it lost it. After that its absence from a whole set says it too."""

ActionKind = Literal["create", "renew", "drain", "end", "forget"]


class Seat(msgspec.Struct, frozen=True, kw_only=True):
    """A node that should hold one replica, at a locked price."""

    node: str
    provider: str
    price_microusd_per_hour: int


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What a service should have in a cell. No seats and ``withdrawn``: nothing, on purpose.

    ``service``: the declaration in force; ``service_id`` is its network-wide id. ``barred``: nodes
    where it must not run, whatever they hold. ``decision``: digest of the record of the fit.
    """

    service_id: str
    service: Service
    cell: str
    seats: tuple[Seat, ...] = ()
    barred: frozenset[str] = frozenset()
    decision: str = ""
    withdrawn: bool = False


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """A lease in the table and what is known of it now.

    ``state``: what its node said last; None when the node has not spoken of it. ``verdict``: on its
    node. ``for_s``: for how long the observer has seen it *failed* or its node *dead*, by its own
    monotonic clock (0 when neither; 0 is also right for an observer that has just started).
    """

    lease: Lease
    state: LeaseState | None
    verdict: Literal["alive", "unsure", "dead"]
    for_s: float = 0.0


class Action(msgspec.Struct, frozen=True, kw_only=True):
    """One write to the table of leases.

    ``lease``: the new text (for ``forget``: the text to delete). ``from_revision``: the
    ``Lease.revision`` this was planned from; 0 when no such lease may exist. ``reason``: for logs.
    """

    kind: ActionKind
    lease: Lease
    from_revision: int
    reason: str


def wanted_of(inputs: PlacementInputs, decision: Decision, decision_digest: str) -> Wanted:
    """What a fit asks for: a seat per winner, and the nodes that its masks exclude."""
    by_address = {free.node.address: free.node for free in inputs.nodes}
    seats = tuple(
        Seat(
            node=address,
            provider=by_address[address].provider,
            price_microusd_per_hour=by_address[address].offer.price_microusd_per_hour(
                inputs.service.resources
            ),
        )
        for address in decision.winners
    )
    barred = (c.node for c in decision.candidates if c.excluded_by in ("residency", "evidence"))
    return Wanted(
        service_id=service_id(inputs.tenant, inputs.service.name),
        service=inputs.service,
        cell=inputs.cell,
        seats=seats,
        barred=frozenset(barred),
        decision=decision_digest,
    )


def withdrawn(service: Service, service_id: str, cell: str) -> Wanted:
    """Nothing is wanted of the service here any more (deleted, or a quota of no sites)."""
    return Wanted(service_id=service_id, service=service, cell=cell, withdrawn=True)


def as_held(inputs: PlacementInputs, held: Sequence[Held]) -> PlacementInputs:
    """The inputs of a fit with what the leases tell: ``holds`` counts those that can still work.

    A node with a lease that failed less than ``RETRY_S`` ago is not offered for a new one.
    """
    working = [row.lease.node for row in held if _counts(row)]
    spoilt = {row.lease.node for row in held if _is_spoilt(row)} - set(working)
    nodes = tuple(_as_held(free, working, spoilt) for free in inputs.nodes)
    return msgspec.structs.replace(inputs, nodes=nodes)


def _as_held(free: FreeNode, working: list[str], spoilt: set[str]) -> FreeNode:
    address = free.node.address
    return msgspec.structs.replace(
        free, holds=working.count(address), alive=free.alive and address not in spoilt
    )


def plan_leases(
    wanted: Wanted, held: Sequence[Held], *, epoch: int, nonce: int, doubt: str = ""
) -> tuple[Action, ...]:
    """The writes that bring the service's leases in this cell closer to what is wanted.

    ``held``: every lease of the service in the cell's table. ``epoch``: the leader's, written into
    every new text. ``nonce``: any number that this leader never uses twice in an epoch for a
    service (its unix milliseconds will do): it makes the ids of new leases. ``doubt``: why the
    view is not to be trusted; empty when it is.
    """
    raise NotImplementedError
