"""Health: is a node alive, silent, or so bad that it should rest for a while?

Intuition: a node beats every 250 ms and every answer counts as a sign of life, so silence soon
means trouble. How soon depends on how regular its beats have been: the limit is mean + 6 mean
deviations of the gaps between signs (as TCP's retransmission timer, RFC 6298, and the phi accrual
detector, Hayashibara 2004, do), held between a floor and a cap. Errors in a row rest a node
(ejection) for a growing time; then one request, the probe, may try it while the others still stay
away. What is slower than its peers by far is an outlier and may be rested too. The same machine
serves a whole node (beats, its channel) and a single replica (answers, failures).

The awkward cases: our own machine stalls and *everybody* looks silent (``view_is_doubtful``: then
nobody is dead); a few bad replies in a row from a healthy node (``FAILURES_TO_EJECT``); many
requests in flight that fail together when it breaks (one ejection, not one for each); a fleet
ejected on statistics (``may_eject``: at most a tenth, at least one). Silence and a closed channel
are facts, not statistics, and do not count towards that cap.

The cheapest fault it catches: a process that stops (SIGSTOP), within 1.5 s. The cheapest it misses:
a node that beats, answers fast, and answers nonsense.

Rules of this file: ``now_s`` is the reader's own monotonic clock; nobody's clock is compared with
another's. A new state is returned, none is changed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

BEAT_S = 0.25
"""How often nodes beat: 4 small frames a second cost a node under 0.1 % of a core."""

SILENCE_MIN_S = 0.7
"""Below it a garbage collection or a busy core on either side looks like death."""

SILENCE_MAX_S = 1.5
"""Above it a frozen node costs callers more than 2 s, which they see."""

SILENCE_DEVIATIONS = 6.0
"""Gaps that far from the mean happen to healthy nodes less than once a day."""

GAP_WEIGHT = 0.1
"""Weight of a new gap in the smoothed mean: forgets a bad moment in some ten beats."""

FAILURES_TO_EJECT = 3
"""Errors in a row: one may be the request's fault, two a coincidence."""

EJECTION_S = 1.0
"""First rest; doubles each time up to the cap, so that a flapping node rests most of its time."""

EJECTION_MAX_S = 30.0
"""Longer: a node that was restarted idles; shorter: a broken one is probed for nothing."""

PROBE_S = 2.0
"""How long the others wait for a probe's outcome: nearly all answers come sooner. One that is lost
costs the node so much more rest, no more."""

EJECTIONS_COUNTED_MAX = 5
"""More do not lengthen the rest (2^5 s is over the cap) and would take longer to make up for."""

FORGIVE_ANSWERS = 20
"""So many answers make up for one ejection: its next rest is half as long."""

SLOW_RATIO = 3.0
"""Slower than three times its peers' median is not noise of the same work."""

SLOW_EXCESS_MS = 5.0
"""... and this much slower: a model of 0.02 ms is often three times slower for nothing."""

SLOW_SAMPLES_MIN = 10
"""Fewer answers say nothing about a node's speed."""

EJECTED_SHARE_MAX = 0.1
"""Statistics may rest a tenth of a fleet at once (Envoy's default), at least one node."""

VANISHED_MIN = 10
"""When more than half of at least so many nodes vanish together, the fault is ours."""

replace = msgspec.structs.replace

Verdict = Literal["alive", "silent", "lost", "ejected"]


class Beat(msgspec.Struct, frozen=True):
    """Any frame came from the node."""


class Asked(msgspec.Struct, frozen=True):
    """A request is sent to it; the first one after a rest is its probe."""


class Answered(msgspec.Struct, frozen=True):
    """A request was answered well; ``latency_ms`` from sent to the last byte."""

    latency_ms: float


class Failed(msgspec.Struct, frozen=True):
    """A request failed by the node's fault (not by a caller's)."""

    code: str


class ChannelLost(msgspec.Struct, frozen=True):
    """The node's channel closed."""


class ChannelOpened(msgspec.Struct, frozen=True):
    """The node's channel is open (again)."""


Event = Beat | Asked | Answered | Failed | ChannelLost | ChannelOpened


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """What is remembered of a node or replica. Times in seconds of the reader's monotonic clock.

    ``failures`` in a row; ``ejections`` not yet made up for; ``ejected_until_s`` 0: no rest since
    the last good probe; ``latency_ms``: smoothed over ``samples`` answers since the last rest.
    """

    heard_s: float
    gap_mean_s: float = BEAT_S
    gap_deviation_s: float = BEAT_S / 4
    failures: int = 0
    ejections: int = 0
    ejected_until_s: float = 0.0
    probing: bool = False
    lost: bool = False
    latency_ms: float = 0.0
    samples: int = 0


def fresh(now_s: float) -> Health:
    """The state of a node whose channel has just opened."""
    return Health(heard_s=now_s)


def step(state: Health, event: Event, now_s: float) -> Health:
    """The state after an event."""
    match event:
        case Beat():
            return _beat(state, now_s)
        case Asked():
            return _asked(state, now_s)
        case Answered():
            return _answered(state, event.latency_ms, now_s)
        case Failed():
            return _failed(state, now_s)
        case ChannelLost():
            return replace(state, lost=True)
        case ChannelOpened():
            return replace(state, lost=False, heard_s=now_s)


def _beat(state: Health, now_s: float) -> Health:
    gap_s = max(0.0, now_s - state.heard_s)
    deviation_s = abs(gap_s - state.gap_mean_s)
    return replace(
        state,
        heard_s=now_s,
        gap_mean_s=state.gap_mean_s + GAP_WEIGHT * (gap_s - state.gap_mean_s),
        gap_deviation_s=state.gap_deviation_s + GAP_WEIGHT * (deviation_s - state.gap_deviation_s),
    )


def _asked(state: Health, now_s: float) -> Health:
    """Nothing, unless a rest has just ended: then this request is the probe."""
    if not state.ejected_until_s or now_s < state.ejected_until_s:
        return state
    return replace(state, ejected_until_s=now_s + PROBE_S, probing=True)


def _answered(state: Health, latency_ms: float, now_s: float) -> Health:
    """A sign of life; its rhythm is learnt from beats alone, because answers come in bursts."""
    if _rests(state, now_s):
        return replace(state, heard_s=now_s)  # asked before it was ejected: no news
    samples = state.samples + 1
    forgiven = state.ejections > 0 and samples % FORGIVE_ANSWERS == 0
    return replace(
        state,
        heard_s=now_s,
        failures=0,
        ejections=state.ejections - forgiven,
        ejected_until_s=0.0,
        probing=False,
        latency_ms=state.latency_ms + max(0.1, 1.0 / samples) * (latency_ms - state.latency_ms),
        samples=samples,
    )


def _failed(state: Health, now_s: float) -> Health:
    if _rests(state, now_s):
        return state  # one of those in flight when it was ejected: counted already
    failures = state.failures + 1
    if failures < FAILURES_TO_EJECT:
        return replace(state, failures=failures)
    return eject(state, now_s)


def _rests(state: Health, now_s: float) -> bool:
    return now_s < state.ejected_until_s and not state.probing


def eject(state: Health, now_s: float) -> Health:
    """Rest it, twice as long as the last time; the next failure afterwards does so again.

    Its speed is forgotten: what it answers after the rest is to be judged by itself.
    """
    rest_s = min(EJECTION_MAX_S, EJECTION_S * 2.0**state.ejections)
    return replace(
        state,
        failures=FAILURES_TO_EJECT - 1,
        ejections=min(state.ejections + 1, EJECTIONS_COUNTED_MAX),
        ejected_until_s=now_s + rest_s,
        probing=False,
        latency_ms=0.0,
        samples=0,
    )


def silence_limit_s(state: Health) -> float:
    """How long the node may be silent before it counts as gone."""
    limit = state.gap_mean_s + SILENCE_DEVIATIONS * state.gap_deviation_s
    return min(SILENCE_MAX_S, max(SILENCE_MIN_S, limit))


def verdict(state: Health, now_s: float) -> Verdict:
    """What the reader should believe now."""
    if state.lost:
        return "lost"
    if now_s - state.heard_s > silence_limit_s(state):
        return "silent"
    if now_s < state.ejected_until_s:
        return "ejected"
    return "alive"


def may_eject(ejected: int, fleet: int) -> bool:
    """Whether one more node may be rested on statistical evidence.

    ``ejected``: resting now on such evidence; ``fleet``: all nodes of the cell that are there.
    """
    return ejected + 1 <= max(1, int(fleet * EJECTED_SHARE_MAX))


def view_is_doubtful(vanished: int, fleet: int) -> bool:
    """Whether so many are silent or lost together that the reader is the likelier culprit."""
    return fleet >= VANISHED_MIN and vanished * 2 > fleet


def is_slow(state: Health, peers: Iterable[Health]) -> bool:
    """Whether it is slower than its peers by ``SLOW_RATIO`` and ``SLOW_EXCESS_MS``.

    ``peers``: other replicas of the same service; their (lower) median counts, so that one more
    slow one does not hide it. Compares smoothed latencies that include the round trip only if the
    caller's ``Answered`` did.
    """
    if state.samples < SLOW_SAMPLES_MIN:
        return False
    latencies = sorted(p.latency_ms for p in peers if p.samples >= SLOW_SAMPLES_MIN)
    if not latencies:
        return False
    median_ms = latencies[(len(latencies) - 1) // 2]
    return state.latency_ms > max(SLOW_RATIO * median_ms, median_ms + SLOW_EXCESS_MS)
