"""Which controller of a cell may act: a pure machine over one compare-and-set entry.

Intuition: the leader writes the entry every half second; everybody else watches it. Who has not
seen it change for three seconds, by its own clock, tries to write itself in with a higher epoch;
compare-and-set lets exactly one succeed. A leader that could not renew for two seconds stops
acting before anybody else can start (two is less than three, and both count from before the
write was sent), so two never act at once as long as clocks run at about the same speed. Where
they do not, the epoch decides: receivers refuse the older one.

The awkward cases:

* A process that was frozen wakes up believing that it leads. ``may_act`` compares instants of the
  monotonic clock, so its first question answers no.
* The fabric is away: nobody can renew, the leader stops acting, and no standby counts that time
  as silence (``Tick(connected=False)`` restarts its count).
* The entry vanished (a new, empty fabric): who led writes it again at once with a higher epoch;
  a standby waits its three seconds first. Whoever has not heard of the newest epoch may give it
  a second time; then two act in it until one cannot renew, ``ACT_S`` at most.
* Our own earlier process wrote the entry: we hold its directory's lock, so it is dead and we need
  not wait.
* Somebody knows a higher epoch of this cell than we do (our disk was lost): ``Learned`` raises
  the floor and the next write is a new epoch above it.

Not here: reading or writing the entry (``leading.py``).
"""

from __future__ import annotations

from typing import Literal

import msgspec

from isochrone.schema.leadership import Leadership

BEAT_S = 0.5
"""How often a leader renews: four tries fit into ``ACT_S``, one write costs one fsync."""

ACT_S = 2.0
"""How long after a renewal was *sent* a leader may act. Longer: nearer to two leaders; shorter: a
slow disk stops the cell's repairs."""

TAKEOVER_S = 3.0
"""How long a standby sees no change before it takes over. Must exceed ``ACT_S`` by more than the
clocks' drift and a write's flight; longer only delays repairs, as gateways route on without us."""

RETRY_S = 0.2
"""Between two tries of a write that failed."""


class Seen(msgspec.Struct, frozen=True):
    """The entry as the table has it now (None: absent), with its revision (0: absent)."""

    entry: Leadership | None
    revision: int


class Tick(msgspec.Struct, frozen=True):
    """Time passed. ``connected``: whether the fabric can be reached at all."""

    connected: bool


class Wrote(msgspec.Struct, frozen=True):
    """Our write of ``entry`` succeeded; it had been sent at ``sent_s``."""

    entry: Leadership
    revision: int
    sent_s: float


class Failed(msgspec.Struct, frozen=True):
    """Our write did not succeed (lost the race, or no answer)."""


class Learned(msgspec.Struct, frozen=True):
    """Somebody has seen this epoch of our cell."""

    epoch: int


Event = Seen | Tick | Wrote | Failed | Learned


class Write(msgspec.Struct, frozen=True):
    """Effect: write ``entry`` over ``revision`` (None: it must not exist)."""

    entry: Leadership
    revision: int | None


class State(msgspec.Struct, frozen=True, kw_only=True):
    """What one controller knows of the leadership. Instants are its monotonic seconds.

    ``me``: ``address/boot``. ``floor``: the highest epoch ever heard of. ``writing``: a write is
    on its way. ``lead``: it may beat and act (see ``may_act``).
    """

    me: str
    floor: int = 0
    role: Literal["standby", "lead"] = "standby"
    epoch: int = 0
    entry: Leadership | None = None
    revision: int = 0
    ever_seen: bool = False
    changed_s: float = 0.0
    renewed_s: float = float("-inf")
    tried_s: float = float("-inf")
    writing: bool = False


def start(me: str, floor: int, now_s: float) -> State:
    """A controller that has just started; ``floor``: the highest epoch its disk remembers."""
    return State(me=me, floor=floor, changed_s=now_s)


def may_act(state: State, now_s: float) -> bool:
    """Whether orders may be given now: asked again immediately before each one."""
    return state.role == "lead" and state.floor <= state.epoch and now_s - state.renewed_s <= ACT_S


def step(state: State, event: Event, now_s: float) -> tuple[State, Write | None]:
    """The machine: the next state, and at most one write to carry out."""
    match event:
        case Seen():
            return _seen(state, event, now_s), None
        case Learned():
            return msgspec.structs.replace(state, floor=max(state.floor, event.epoch)), None
        case Wrote():
            return _wrote(state, event, now_s), None
        case Failed():
            return msgspec.structs.replace(state, writing=False, tried_s=now_s), None
        case Tick():
            return _tick(state, event, now_s)


def _seen(state: State, event: Seen, now_s: float) -> State:
    if event.entry == state.entry and event.revision == state.revision:
        return state
    if _lags(state, event, now_s):
        return state
    floor = max(state.floor, event.entry.epoch if event.entry else 0)
    lost = event.entry is not None and not _ours(state, event.entry)
    return msgspec.structs.replace(
        state,
        entry=event.entry,
        revision=event.revision,
        floor=floor,
        role="standby" if lost else state.role,
        ever_seen=state.ever_seen or event.entry is not None,
        changed_s=now_s,
    )


def _lags(state: State, event: Seen, now_s: float) -> bool:
    """Whether the watch shows what we have just written over. Believed when it goes on."""
    if state.role != "lead" or state.entry is None or now_s - state.renewed_s >= 2 * BEAT_S:
        return False
    if event.entry is None:
        return event.revision < state.revision
    return (event.entry.epoch, event.entry.beat) < (state.entry.epoch, state.entry.beat)


def _wrote(state: State, event: Wrote, now_s: float) -> State:
    return msgspec.structs.replace(
        state,
        role="lead",
        epoch=event.entry.epoch,
        floor=max(state.floor, event.entry.epoch),
        entry=event.entry,
        revision=event.revision,
        ever_seen=True,
        changed_s=now_s,
        renewed_s=event.sent_s,
        tried_s=event.sent_s,
        writing=False,
    )


def _tick(state: State, event: Tick, now_s: float) -> tuple[State, Write | None]:
    if not event.connected:
        return msgspec.structs.replace(state, changed_s=now_s), None
    if state.writing or now_s - state.tried_s < RETRY_S:
        return state, None
    entry = _wanted(state, now_s)
    if entry is None:
        return state, None
    absent = state.entry is None
    state = msgspec.structs.replace(state, writing=True, tried_s=now_s)
    return state, Write(entry, None if absent else state.revision)


def _wanted(state: State, now_s: float) -> Leadership | None:
    """The entry to write now, if any."""
    if state.role == "lead" and state.entry is not None:
        if state.floor > state.epoch:
            return Leadership(leader=state.me, epoch=state.floor + 1, beat=0)
        if now_s - state.renewed_s >= BEAT_S:
            return Leadership(leader=state.me, epoch=state.epoch, beat=state.entry.beat + 1)
        return None
    claim = Leadership(leader=state.me, epoch=state.floor + 1, beat=0)
    return claim if _free(state, now_s) else None


def _free(state: State, now_s: float) -> bool:
    """Whether nobody leads as far as we can tell."""
    if state.entry is None and (state.role == "lead" or not state.ever_seen):
        return True
    if state.entry is not None and (not state.entry.leader or _same_home(state, state.entry)):
        return True
    return now_s - state.changed_s >= TAKEOVER_S


def resignation(state: State) -> Write | None:
    """The write by which a leader that stops hands over at once, if it leads."""
    if state.role != "lead" or state.entry is None:
        return None
    gone = Leadership(leader="", epoch=state.epoch, beat=state.entry.beat + 1)
    return Write(gone, state.revision)


def _ours(state: State, entry: Leadership | None) -> bool:
    return entry is not None and entry.leader == state.me


def _same_home(state: State, entry: Leadership) -> bool:
    """Written by an earlier process of ours: the same key, another boot."""
    return entry.leader.partition("/")[0] == state.me.partition("/")[0] and entry.leader != state.me
