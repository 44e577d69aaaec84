"""The lease machine: what the cell wants of this node against what the node does.

Intuition: every gateway of the home cell repeats the whole set of leases it wants. The node keeps
the latest set of each, takes the newest text of every lease, and moves one step nearer; nothing
depends on a single message. The awkward cases are the ones in which a view is wrong:

* A former leader's orders: a set with an older epoch than the newest seen from its cell is
  refused, and so is an older text (epoch, revision) of a lease.
* A gateway that lags, restarts or lost its fabric: a lease missing from a set is suspicious, not
  ended. It ends only when no set of the newest epoch lists it, at least one of them is complete,
  and that has been so for ``ABSENCE_S``. An explicit ``draining`` or ``ended`` acts at once.
* All gateways gone: nothing changes; replicas stay loaded for the moment they come back.
* A lease ended by order stays ended, although a gateway that has not heard of it still lists it.
* A newer text whose residency excludes this node's country: it is wound down at once.
* A standby asks for no room, and is never turned into a replica: that is another lease, which finds
  the files.
* A new home: when it has given complete orders, leases of the former home end.

Pure: ``step(book, event, now_s) -> (book, effects)``; ``now_s`` is the node's monotonic clock.
Stepping with ``Tick`` again at the same instant changes nothing and asks for nothing.
It does not fetch, load or count requests: effects say what to do, outcomes say how it went.
"""

from __future__ import annotations

import msgspec

from isochrone.node.admission import why_never, why_no_standby, why_not_here, why_not_now
from isochrone.node.lease_book import (
    NEXT,
    Book,
    Closing,
    Effect,
    Event,
    Fetched,
    FetchFailed,
    GatewayLost,
    Held,
    HomeMoved,
    Loaded,
    OrderSet,
    OrdersSeen,
    Outcome,
    Recovered,
    Tick,
    rank,
)
from isochrone.schema.frames import Orders
from isochrone.schema.lease import Lease

ABSENCE_S = 6.0
"""Three repetitions of orders (every 2 s): less would end leases on one gateway's lag; more keeps
a machine occupied by what nobody wants."""

RETRY_FIRST_S = 0.5
RETRY_MOST_S = 15.0
"""Back-off of fetches that may succeed later: doubles from the first to the most."""

PAST_MAX = 256
"""Remembered ends; far more than a machine's leases in the minutes that a gateway can lag."""

GOES_ON = ("serving", "standby")
"""What may be wanted of a lease that is not to end."""

replace = msgspec.structs.replace


def step(book: Book, event: Event, now_s: float) -> tuple[Book, tuple[Effect, ...]]:
    """The book after the event, and what is to be done now."""
    book = _apply(book, event, now_s)
    book = _compare(book, now_s)
    return _flush(book, now_s)


def _apply(book: Book, event: Event, now_s: float) -> Book:
    match event:
        case OrdersSeen():
            return _take_orders(book, event.gateway, event.orders)
        case GatewayLost():
            return replace(book, sets={g: s for g, s in book.sets.items() if g != event.gateway})
        case HomeMoved():
            return replace(book, cell=event.cell, sets={})
        case Closing():
            return replace(book, closing=True)
        case Tick():
            return book
        case _:
            return _take_outcome(book, event, now_s)


# -- orders --------------------------------------------------------------------------------------


def _take_orders(book: Book, gateway: str, orders: Orders) -> Book:
    if orders.cell != book.cell:
        return _refuse(book, "wrong_cell")
    newest = book.epochs.get(orders.cell, 0)
    if orders.epoch < newest:
        return _refuse(book, "stale_epoch")
    leases: dict[str, Lease] = {}
    for lease in orders.leases:
        code = _why_refused(book, lease)
        if code:
            book = _refuse(book, code)
        if code != "not_ours":  # an older text still says that the lease is not absent
            leases[lease.id] = lease
    known = OrderSet(epoch=orders.epoch, complete=orders.complete, leases=leases)
    return replace(
        book,
        epochs={**book.epochs, orders.cell: max(newest, orders.epoch)},
        sets={**book.sets, gateway: known},
    )


def _why_refused(book: Book, lease: Lease) -> str:
    if lease.node != book.node or lease.cell != book.cell:
        return "not_ours"
    held = book.held.get(lease.id)
    if held is not None and rank(lease) < held.rank:
        return "stale_revision"
    if lease.id in book.past and rank(lease) <= book.past[lease.id]:
        return "stale_revision"
    return ""


def _refuse(book: Book, code: str) -> Book:
    return replace(book, refused={**book.refused, code: book.refused.get(code, 0) + 1})


def _counting(book: Book) -> list[OrderSet]:
    """The sets that hold or end anything: those of the newest epoch."""
    newest = book.epochs.get(book.cell, 0)
    return [known for known in book.sets.values() if known.epoch == newest]


def _wanted(book: Book) -> dict[str, Lease]:
    """The newest text of every lease that a counting set lists."""
    wanted: dict[str, Lease] = {}
    for known in _counting(book):
        for lease in known.leases.values():
            if lease.id not in wanted or rank(lease) > rank(wanted[lease.id]):
                wanted[lease.id] = lease
    return wanted


# -- comparison ----------------------------------------------------------------------------------


def _compare(book: Book, now_s: float) -> Book:
    wanted = _wanted(book)
    complete = any(known.complete for known in _counting(book))
    # Those absent first: what is about to leave makes room for what is new.
    for lease_id in sorted(wanted.keys() | book.held.keys(), key=lambda id_: (id_ in wanted, id_)):
        lease, held = wanted.get(lease_id), book.held.get(lease_id)
        if lease is None:
            assert held is not None
            book = _absent(book, held, complete, now_s)
        elif held is None:
            book = _new(book, lease)
        else:
            book = _present(book, held, lease)
    return book


def _new(book: Book, lease: Lease) -> Book:
    if lease.id in book.past and rank(lease) <= book.past[lease.id]:
        return book
    if lease.desired not in GOES_ON or book.closing:
        # Never held here (the node restarted): say so, since the controller waits for it.
        return _put(book, Held(lease=lease, run=book.runs, state="ended"))
    return _start(book, lease)


def _start(book: Book, lease: Lease) -> Book:
    book = replace(book, runs=book.runs + 1)
    standby = lease.desired == "standby"
    held = Held(lease=lease, run=book.runs, state="accepted", standby=standby)
    return _put(book, _admit(book, held))


def _admit(book: Book, held: Held) -> Held:
    """Fetching when it fits, accepted (waiting) when it will, failed when it cannot."""
    asks = why_no_standby if held.standby else why_never
    reason = asks(held.lease, book.capacity, book.country)
    if reason:
        return replace(held, state="failed", reason=reason)
    if held.standby:
        return replace(held, state="fetching", reason="", todo="fetch")
    others = [o for o in book.held.values() if o.occupies and o.lease.id != held.lease.id]
    reason = why_not_now(held.lease, book.capacity, [o.lease for o in others])
    if not reason:
        return replace(held, state="fetching", reason="", todo="fetch")
    stays = [o.lease for o in others if o.state != "draining" and o.absent_since_s is None]
    waits = not why_not_now(held.lease, book.capacity, stays)
    return replace(held, state="accepted" if waits else "failed", reason=reason)


def _present(book: Book, held: Held, lease: Lease) -> Book:
    newer = rank(lease) > held.rank
    if not newer:
        lease = held.lease  # an older text says only that the lease is not absent
    held = replace(held, absent_since_s=None)
    wanted = lease.desired in GOES_ON and not book.closing
    by_absence = held.state == "ended" and held.lease.desired in GOES_ON
    if wanted and (by_absence or (newer and held.state in ("ended", "failed"))):
        return _start(book, lease)
    same = _needs(lease) == _needs(held.lease)
    if wanted and held.standby != (lease.desired == "standby"):
        same = False
    if not same and held.state not in ("ended", "failed"):
        return _put(book, _wind_down(held))  # its successor starts when this one has ended
    held = replace(held, lease=lease)
    outside = why_not_here(lease, book.country) if held.is_under_way else ""
    if not wanted:
        held = _wind_down(held)
    elif outside:  # a newer text may admit fewer countries
        held = replace(_wind_down(held), reason=outside)
    elif held.state == "accepted":
        held = _admit(book, held)
    elif held.state == "draining" and not held.stopping and held.todo != "stop":
        held = replace(held, state="serving", todo="resume", reason="")
    return _put(book, held)


def _needs(lease: Lease) -> tuple[object, ...]:
    """What an engine is started with: when it changes, a running one is of no use."""
    return lease.model, lease.resources, lease.gpus


def _absent(book: Book, held: Held, complete: bool, now_s: float) -> Book:
    if book.closing:
        return _put(book, _wind_down(held))
    if not complete:
        return _put(book, replace(held, absent_since_s=None))
    if held.state == "ended":
        return _drop(book, held)
    since_s = now_s if held.absent_since_s is None else held.absent_since_s
    held = replace(held, absent_since_s=since_s)
    former_home = held.lease.cell != book.cell
    if former_home or now_s - since_s >= ABSENCE_S:
        held = _wind_down(held)
    return _put(book, held)


def _wind_down(held: Held) -> Held:
    match held.state:
        case "serving":
            return replace(held, state="draining", todo="drain")
        case "offered" | "accepted" | "failed":
            return replace(held, state="ended", todo="")
        case "fetching" | "standby" | "warming":
            return replace(held, state="draining", todo="stop", todo_at_s=0.0)
        case _:
            return held


def _put(book: Book, held: Held) -> Book:
    if book.held.get(held.lease.id) == held:
        return book
    return replace(book, held={**book.held, held.lease.id: held})


def _drop(book: Book, held: Held) -> Book:
    rest = {key: value for key, value in book.held.items() if key != held.lease.id}
    past = book.past
    if held.lease.desired not in GOES_ON:  # ended by order, not by absence
        past = dict(list({**past, held.lease.id: held.rank}.items())[-PAST_MAX:])
    return replace(book, held=rest, past=past)


# -- outcomes and effects ------------------------------------------------------------------------


def _take_outcome(book: Book, outcome: Outcome, now_s: float) -> Book:
    held = book.held.get(outcome.lease)
    if held is None or held.run != outcome.run:
        return book
    following = NEXT.get(held.state, {}).get(type(outcome))
    if following is None:
        return book
    if isinstance(outcome, FetchFailed) and outcome.again:
        wait_s = min(RETRY_MOST_S, RETRY_FIRST_S * 2.0**held.retries)
        held = replace(
            held, reason=outcome.reason, todo="fetch", todo_at_s=now_s + wait_s,
            retries=min(held.retries + 1, 16),
        )  # fmt: skip
        return _put(book, held)
    state, todo = following
    if held.standby and isinstance(outcome, Fetched):
        state, todo = "standby", ""
    reason = getattr(outcome, "reason", "")
    held = replace(held, state=state, todo=todo, todo_at_s=0.0, reason=reason)
    if isinstance(outcome, Fetched):
        held = replace(held, fetch_ms=outcome.fetch_ms, retries=0)
    elif isinstance(outcome, Loaded):
        held = replace(held, load_ms=outcome.load_ms, first_answer_ms=outcome.first_answer_ms)
    elif isinstance(outcome, Recovered):
        held = replace(held, reason="")
    return _put(book, held)


def _flush(book: Book, now_s: float) -> tuple[Book, tuple[Effect, ...]]:
    """Hand out what is due, each once."""
    effects = []
    for held in list(book.held.values()):
        if not held.todo or held.todo_at_s > now_s:
            continue
        effects.append(Effect(do=held.todo, lease=held.lease, run=held.run))
        stopping = held.stopping or held.todo == "stop"
        book = _put(book, replace(held, todo="", todo_at_s=0.0, stopping=stopping))
    return book, tuple(effects)
