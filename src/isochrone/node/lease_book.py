"""What a node knows of its leases: the values that ``leases`` steps from one to the next.

Rules of the states (schema/lease.py names them)::

    accepted → fetching → warming → serving → draining → ended
        │          │          │ ↑       │
        └──────────┴──────────┴─┼───────┘ died: the engine restarts, warming meanwhile
                   failed ←─────┘

A standby goes accepted → fetching → standby → draining → ended: its files are here, nothing runs.
It fails when they had to make room for a replica's.

``NEXT`` is that picture as a table. An outcome that has no entry for the state came too late and
changes nothing; so does one of an earlier ``run``, because a lease that was stopped and started
again must not take news of its former life.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from isochrone.schema.frames import Orders
from isochrone.schema.lease import Lease, LeaseState, LeaseStatus
from isochrone.schema.node import Capacity

Rank = tuple[int, int]
"""(epoch, revision): of two texts of one lease the greater rank is the newer."""

Todo = Literal["", "fetch", "load", "drain", "resume", "stop"]


class Fetched(msgspec.Struct, frozen=True):
    """All files of the model are here and verified."""

    lease: str
    run: int
    fetch_ms: float


class FetchFailed(msgspec.Struct, frozen=True):
    """They are not, or no more; ``again``: trying later may help (no gateway)."""

    lease: str
    run: int
    reason: str
    again: bool


class Loaded(msgspec.Struct, frozen=True):
    """The engine answers. ``first_answer_ms``: its trial run, the model's first answer."""

    lease: str
    run: int
    load_ms: float
    first_answer_ms: float


class LoadFailed(msgspec.Struct, frozen=True):
    """The engine could not start, or gave up restarting."""

    lease: str
    run: int
    reason: str


class Died(msgspec.Struct, frozen=True):
    """The engine's process ended by itself; the engine is restarting it."""

    lease: str
    run: int
    reason: str


class Recovered(msgspec.Struct, frozen=True):
    """The engine is ready again."""

    lease: str
    run: int


class Drained(msgspec.Struct, frozen=True):
    """No request is left in it, or the time for that is over."""

    lease: str
    run: int


class Stopped(msgspec.Struct, frozen=True):
    """Its engine is gone and waited for."""

    lease: str
    run: int


Outcome = Fetched | FetchFailed | Loaded | LoadFailed | Died | Recovered | Drained | Stopped

NEXT: dict[LeaseState, dict[type, tuple[LeaseState, Todo]]] = {
    "fetching": {Fetched: ("warming", "load"), FetchFailed: ("failed", "")},
    "warming": {Loaded: ("serving", ""), Recovered: ("serving", ""), LoadFailed: ("failed", "")},
    "standby": {FetchFailed: ("failed", "")},
    "serving": {Died: ("warming", ""), LoadFailed: ("failed", "")},
    "draining": {Drained: ("draining", "stop"), Stopped: ("ended", "")},
}


class OrdersSeen(msgspec.Struct, frozen=True):
    """A gateway of the home cell said which leases it wants of this node."""

    gateway: str
    orders: Orders


class GatewayLost(msgspec.Struct, frozen=True):
    """The channel to a gateway is gone: what it said no longer holds or ends anything."""

    gateway: str


class HomeMoved(msgspec.Struct, frozen=True):
    """The node obeys another cell from now on."""

    cell: str


class Closing(msgspec.Struct, frozen=True):
    """The node is asked to end: everything drains, nothing is taken."""


class Tick(msgspec.Struct, frozen=True):
    """Time has passed."""


Event = OrdersSeen | GatewayLost | HomeMoved | Closing | Tick | Outcome


class Effect(msgspec.Struct, frozen=True):
    """What the shell is to do for one lease: ``fetch`` its files, ``load`` its engine, ``drain``
    it (take no request, then tell Drained), ``resume`` taking requests, ``stop`` its engine."""

    do: Todo
    lease: Lease
    run: int


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """One lease as this node carries it out. ``todo`` is due at ``todo_at_s``. ``standby``: it only
    keeps files."""

    lease: Lease
    run: int
    state: LeaseState
    reason: str = ""
    todo: Todo = ""
    todo_at_s: float = 0.0
    standby: bool = False
    retries: int = 0
    stopping: bool = False
    absent_since_s: float | None = None
    fetch_ms: float = 0.0
    load_ms: float = 0.0
    first_answer_ms: float = 0.0

    @property
    def rank(self) -> Rank:
        """(epoch, revision) of the lease's text that is being carried out."""
        return rank(self.lease)

    @property
    def occupies(self) -> bool:
        """Whether it takes up resources of the machine beyond its disk."""
        return self.is_under_way and not self.standby

    @property
    def is_under_way(self) -> bool:
        """Whether anything of it is here."""
        return self.state in ("fetching", "standby", "warming", "serving", "draining")


class OrderSet(msgspec.Struct, frozen=True, kw_only=True):
    """The latest orders of one gateway that were not refused."""

    epoch: int
    complete: bool
    leases: dict[str, Lease]


class Book(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the node knows of its leases. ``country``: where it stands by its grant.

    ``epochs``: the newest epoch seen per cell. ``past``: leases that were ended by order, with
    the rank at which (the latest ``PAST_MAX``). ``refused``: refusals by reason code.
    """

    node: str
    capacity: Capacity
    country: str = ""
    cell: str = ""
    epochs: dict[str, int] = {}
    sets: dict[str, OrderSet] = {}
    held: dict[str, Held] = {}
    past: dict[str, Rank] = {}
    refused: dict[str, int] = {}
    runs: int = 0
    closing: bool = False


def rank(lease: Lease) -> Rank:
    """(epoch, revision) of a lease's text."""
    return lease.epoch, lease.revision


def statuses(book: Book, fetched_bytes: dict[str, int]) -> tuple[LeaseStatus, ...]:
    """What beats say of every lease held. ``fetched_bytes``: progress of those fetching."""
    return tuple(
        LeaseStatus(
            lease=lease_id,
            revision=held.lease.revision,
            state=held.state,
            reason=held.reason,
            fetched_bytes=fetched_bytes.get(lease_id, 0),
            fetch_ms=held.fetch_ms,
            load_ms=held.load_ms,
            first_answer_ms=held.first_answer_ms,
        )
        for lease_id, held in sorted(book.held.items())
    )
