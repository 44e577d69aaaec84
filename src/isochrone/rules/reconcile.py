"""Reconcile: from the leases that are to the leases that are wanted, one small step at a time.

Intuition: a fit names the nodes that should hold a service in this cell; each named node without
a usable lease gets one, each lease that nobody wants any more goes. The order of concerns:

1. A lease on a *barred* node (residency, evidence, a verdict) ends at once: law before
   availability.
2. A dead node's lease ends at once and its seat is another node's already. When no other node can
   take it, the lease stays: a node that was only frozen goes on where it was.
3. Make before break: what works but is not wanted any more drains when every wanted seat serves;
   an outdated model drains when its successor on the same node does. On a node too full for both
   (``tight``) it makes room first, one node at a time, while all others serve. What is withdrawn,
   or had notice to make room for another tenant, drains at once.
4. A failed lease stands for ``RETRY_S`` as a mark that keeps its node from being tried again.

In doubt about the view (rule 4 of reliability) nothing is drained, ended or forgotten; masks hold
meanwhile, since gateways apply them to every request.

The plan is level-triggered and idempotent: it depends on the observation alone, and planning again
after it has been applied returns nothing until something new is observed.

Rules of this file: pure; every action carries the whole new text of a lease and the revision of
the text it was planned from (0: there is none), to be applied by compare-and-set and planned anew
on conflict. What it does not do: choose nodes (``rules.placement``), judge who is alive.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal

import msgspec

from isochrone.rules.seats import RETRY_S, Held, Seat, Wanted, as_held, runs, wanted_of, withdrawn
from isochrone.schema.lease import Lease

__all__ = [
    "FORGET_S",
    "RETRY_S",
    "Action",
    "Held",
    "Seat",
    "Wanted",
    "as_held",
    "plan_leases",
    "wanted_of",
    "withdrawn",
]

FORGET_S = 5.0
"""The lease of a dead node is kept as ``ended`` for so long, so that a node which was only frozen
for a moment is told in so many words that it lost it. After that its absence from whole sets says
it too, six seconds later; kept longer, tables and status fill with what is over."""

ActionKind = Literal["create", "renew", "drain", "end", "forget"]


class Action(msgspec.Struct, frozen=True, kw_only=True):
    """One write to the table of leases.

    ``lease``: the new text (for ``forget``: the text to delete). ``from_revision``: the
    ``Lease.revision`` this was planned from; 0 when no such lease may exist. ``reason``: for logs.
    """

    kind: ActionKind
    lease: Lease
    from_revision: int
    reason: str


def plan_leases(
    wanted: Wanted, held: Sequence[Held], *, epoch: int, nonce: int, doubt: str = ""
) -> tuple[Action, ...]:
    """The writes that bring the service's leases in this cell closer to what is wanted.

    ``held``: every lease of the service in the cell's table. ``epoch``: the leader's, written into
    every new text. ``nonce``: any number that this leader never uses twice in an epoch for a
    service (its unix milliseconds will do): it makes the ids of new leases. ``doubt``: why the
    view is not to be trusted; empty when it is.
    """
    book = _Book(wanted, held, epoch, nonce)
    actions = _fill_seats(book, bool(doubt))
    if not doubt:
        actions += _clear(book)
    return tuple(sorted(actions, key=lambda action: (_ORDER[action.kind], action.lease.id)))


_ORDER: dict[ActionKind, int] = {"create": 0, "renew": 1, "drain": 2, "end": 3, "forget": 4}
"""Makes come before breaks also in the order of writing."""


class _Book:
    """The leases of one service, sorted by what they are good for."""

    def __init__(self, wanted: Wanted, held: Sequence[Held], epoch: int, nonce: int) -> None:
        self.wanted = wanted
        self.rows = sorted(held, key=lambda row: row.lease.id)
        self.epoch = epoch
        self.nonce = nonce
        self.seats = {s.node: s for s in wanted.seats if s.node not in wanted.barred}
        self.seated: dict[str, Held] = {}
        for row in sorted(self.rows, key=_usefulness):
            if row.lease.node in self.seats and self.is_current(row):
                self.seated.setdefault(row.lease.node, row)

    def is_current(self, row: Held) -> bool:
        """Whether it runs, or can be told to run, what is declared now."""
        same = runs(row.lease, self.wanted.service)
        return same and row.can_work and row.lease.desired != "ended"

    def serves(self, node: str) -> bool:
        """Whether the wanted lease of that seat serves."""
        row = self.seated.get(node)
        if row is None or not row.has_heard:  # it may just be draining by an earlier order
            return False
        return row.lease.desired == "serving" and row.is_serving

    def makes_room(self, node: str) -> bool:
        """Whether the old replica on a tight node may go before its successor is there."""
        waiting = [n for n in sorted(self.wanted.tight) if n in self.seats and n not in self.seated]
        leaving = any(row.lease.desired == "draining" and self._will_go(row) for row in self.rows)
        others = all(self._someone_serves(n) for n in self.seats if n != node)
        return node in waiting[:1] and others and not leaving

    def _will_go(self, row: Held) -> bool:
        """Whether a seat's lease, drained before its successor came, is still on its way out."""
        here = row.lease.node in self.seats and row.verdict != "dead" and row.can_work
        return here and row.lease.node not in self.seated

    def _someone_serves(self, node: str) -> bool:
        here = (row for row in self.rows if row.lease.node == node and row.has_heard)
        return any(row.lease.desired == "serving" and row.is_serving for row in here)

    def kept_for_the_dead(self) -> frozenset[str]:
        """Leases of dead nodes that nobody can replace now."""
        missing = max(0, self.wanted.replicas - len(self.seats))
        seated = {row.lease.id for row in self.seated.values()}
        dead = [
            row.lease.id
            for row in self.rows
            if row.verdict == "dead" and row.lease.desired == "serving" and row.can_work
        ]
        return frozenset([name for name in dead if name not in seated][:missing])


def _usefulness(row: Held) -> tuple[bool, bool, bool, str]:
    return row.lease.desired != "serving", row.verdict == "dead", not row.is_serving, row.lease.id


def _fill_seats(book: _Book, doubt: bool) -> list[Action]:
    """Every seat gets a lease with the terms that are declared now."""
    actions = []
    for node in sorted(book.seats):
        row = book.seated.get(node)
        if row is not None:
            renewed = _renewed(book, row.lease)
            if renewed is not None:
                actions.append(_action("renew", renewed, row, "the terms changed"))
        elif _may_be_tried(book, node, doubt):
            lease = _new_lease(book, book.seats[node])
            actions.append(Action(kind="create", lease=lease, from_revision=0, reason="chosen"))
    return actions


def _may_be_tried(book: _Book, node: str, doubt: bool) -> bool:
    """Whether a node may get a new lease now.

    Not while it is dead, nor while a failed lease marks it or cannot be taken away, nor before a
    full node is empty.
    """
    here = [row for row in book.rows if row.lease.node == node]
    if any(row.verdict == "dead" or row.marks or (doubt and row.is_spoilt) for row in here):
        return False
    return node not in book.wanted.tight or not any(row.can_work for row in here)


def _renewed(book: _Book, lease: Lease) -> Lease | None:
    service = book.wanted.service
    same = (
        lease.desired == "serving"
        and lease.service_revision == service.revision
        and lease.residency == service.residency
        and lease.objective == service.objective
        and lease.answer_checks == service.answer_checks
    )
    if same:
        return None
    return msgspec.structs.replace(
        lease,
        service_revision=service.revision,
        residency=service.residency,
        objective=service.objective,
        answer_checks=service.answer_checks,
        decision=book.wanted.decision,
        desired="serving",
        epoch=book.epoch,
        revision=lease.revision + 1,
    )


def _new_lease(book: _Book, seat: Seat) -> Lease:
    wanted, service = book.wanted, book.wanted.service
    name = f"{wanted.service_id}|{seat.node}|{book.epoch}|{book.nonce}"
    return Lease(
        id=hashlib.blake2b(name.encode(), digest_size=10).hexdigest(),
        service=wanted.service_id,
        service_revision=service.revision,
        cell=wanted.cell,
        node=seat.node,
        provider=seat.provider,
        model=service.model,
        resources=service.resources,
        residency=service.residency,
        objective=service.objective,
        price_microusd_per_hour=seat.price_microusd_per_hour,
        epoch=book.epoch,
        revision=1,
        desired="serving",
        decision=wanted.decision,
        home_cell=service.home_cell,
        answer_checks=service.answer_checks,
        gpus=seat.gpus,
    )


def _clear(book: _Book) -> list[Action]:
    """What becomes of every lease that is not the wanted one of its seat."""
    kept = book.kept_for_the_dead()
    actions = []
    for row in book.rows:
        seated = book.seated.get(row.lease.node)
        if seated is not None and seated.lease.id == row.lease.id:
            continue
        kind, reason = _fate(book, row, row.lease.id in kept)
        if kind == "end" and _nobody_to_tell(book, row):
            kind = "forget"
        if kind == "forget":
            actions.append(_action("forget", row.lease, row, reason))
        elif kind is not None:
            desired: Literal["draining", "ended"] = "draining" if kind == "drain" else "ended"
            lease = msgspec.structs.replace(
                row.lease, desired=desired, epoch=book.epoch, revision=row.lease.revision + 1
            )
            actions.append(_action(kind, lease, row, reason))
    return actions


def _nobody_to_tell(book: _Book, row: Held) -> bool:
    """Whether an order to end would reach nobody: it has ended, or its node is long dead.

    Not while a plan that is older than the death still wants the node: its lease is what says so.
    """
    if row.verdict == "dead" and row.lease.node in book.seats:
        return False
    return row.state == "ended" or (row.verdict == "dead" and row.for_s >= FORGET_S)


def _fate(book: _Book, row: Held, kept: bool) -> tuple[ActionKind | None, str]:
    """Whether a lease drains or ends, and why; None: it stays as it is."""
    wanted, lease = book.wanted, row.lease
    if lease.desired == "ended":
        return ("end", "it is over") if _nobody_to_tell(book, row) else (None, "")
    if lease.desired == "draining" and row.state == "ended":
        return "end", "it has drained"
    if lease.node in wanted.barred:
        return "end", "the residency or a verdict does not admit its node"
    if row.is_spoilt:
        over = wanted.withdrawn or row.for_s >= RETRY_S
        return ("end", "it failed") if over else (None, "")
    if row.verdict == "dead":
        return (None, "") if kept and not wanted.withdrawn else ("end", "its node is dead")
    if lease.desired == "draining" or not _may_leave(book, row):
        return None, ""
    return ("drain", "not wanted any more") if row.state == "serving" else ("end", "not wanted")


def _may_leave(book: _Book, row: Held) -> bool:
    """Make before break; what had notice leaves whatever serves instead."""
    node = row.lease.node
    if book.wanted.withdrawn or node in book.wanted.yields:
        return True
    if node in book.seats:
        return book.serves(node) or book.makes_room(node)
    return bool(book.seats) and all(book.serves(seat) for seat in book.seats)


def _action(kind: ActionKind, lease: Lease, row: Held, reason: str) -> Action:
    return Action(kind=kind, lease=lease, from_revision=row.lease.revision, reason=reason)
