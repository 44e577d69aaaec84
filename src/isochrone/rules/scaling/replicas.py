"""How many replicas a service should have now: the decision, with its reasons.

Intuition: order what the demand one cold start from now will need, with room for the errors that
such forecasts make. How much room is a matter of what may be late: while next to nothing is, a
quarter of the allowance is spent on purpose; once a part of it is gone, room is made for all but
rare errors, until it is calm again. Windows that were missed leave a little more room behind, for
days. When requests are late though the replicas should do, believe the requests, not the model.

The steps of a decision, in order:

1. *late*: the share of requests that were late in the last half hour, and the windows of ten
   minutes that were missed: so the room to make;
2. *expected*: the rate to be ready for a start ahead, and its upper end (``demand``);
3. *needed*: replicas for that rate, by the queue (``queueing``) and the measured speed (``speed``);
4. *care*: more by a factor that grows while requests are late that should not be by the model;
5. *held*: never fewer than the most that was needed within the last start;
6. *floor*: never fewer than hold the requests in flight now, plus those that wait;
7. *range*: between ``least`` and ``most``; zero only after ``idle_s`` without a request.

Rules of this file: pure; the state is all there is; ``Target`` says what decided in words. What it
does not do: say where (placement does), or end what is in flight (draining does).
"""

from __future__ import annotations

import math

import msgspec

from isochrone.rules.scaling.demand import Demand, Expected, expected, first_demand, observe
from isochrone.rules.scaling.queueing import Load, late_share, replicas_needed
from isochrone.rules.scaling.speed import Speed, SpeedFit, first_fit, fitted, learn, learn_entry

CALM = 0.25
ALARMED = 0.05
"""The chance that the upper end of the forecast may be exceeded, in parts of what may be late:
a quarter of it while all is well, a twentieth while too much is late."""

SPENT = 0.2
"""So much of what may be late ends the calm: a burst takes more at once than can be made good."""

LATE_MEMORY_S = 1800.0
"""How long late requests are remembered: three windows of ten minutes, as long as a mix of
requests that surprised us usually lasts."""

WINDOW_S = 600.0
"""The ten minutes in which the objective is judged. Fewer requests than they bring are no share of
anything: a single late one at the start of a service is no alarm."""

MISSED = 0.01
MAY_MISS = 0.005
MORE_MOST = 0.3
"""Each window of ten minutes in which too much was late adds a hundredth of the forecast to the
room, each other one takes so little of it back that one missed in two hundred keeps the balance
(adaptive conformal inference: Gibbs and Candes, NeurIPS 2021). At most so much is added: beyond it
more room is no answer to what is missed."""

CARE_STEP = 1.10
CARE_MOST = 2.0
CARE_FADES_S = 900.0
"""Care grows by a tenth per cold start while the model errs, and fades within a quarter of an hour:
by then the measured speed has learnt."""

LEARNING_S = 300.0
"""How long the number that a service begins with is kept: the first minutes tell too little."""

AT_WORST = 6.0
LATE_MOST = 0.5
"""The queue is asked about the upper end of the forecast, which is seldom reached; there, more than
usual may be late: so many times the allowance, never more than half."""

ARRIVAL_CV2 = 0.2
"""Beside the upper end of the forecast, which holds most of the arrivals' chance already (as their
average over a service time), only what happens within a service time is left to the queue."""

MEMORY_S = (5.0, 120.0)
"""Bounds for the time over which bursts average out (the mean service time otherwise)."""


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """What scaling may do for one service, and what starting costs.

    ``wait_s``: a request should begin within it; ``late_max``: the share that may not.
    ``start_s``: from order to serving (``coldstart``); ``warm_start_s`` with a warm node.
    """

    least: int
    most: int
    prior: Speed
    wait_s: float = 1.0
    late_max: float = 0.05
    start_s: float = 60.0
    warm_start_s: float = 60.0
    warm: int = 0
    idle_s: float = 300.0


class Observed(msgspec.Struct, frozen=True, kw_only=True):
    """One report: all gateways' sums over the last ``seconds``, and what runs now.

    ``completed`` requests ended; ``busy_request_s``: request-seconds on replicas (the integral of
    requests in service), so that their quotient is the mean service time. ``late``: began later
    than ``Policy.wait_s``, or still wait and have waited longer. ``entry_s``, ``entry_cv2``: the
    measured entries (prompts), 0 where unknown. ``ready`` replicas serve, ``starting`` do not yet.
    """

    seconds: float
    arrivals: int
    completed: int = 0
    busy_request_s: float = 0.0
    late: int = 0
    in_flight: int = 0
    waiting: int = 0
    ready: int = 0
    starting: int = 0
    entry_s: float = 0.0
    entry_cv2: float = 1.0


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """So many replicas, so many warm nodes beside them, and why.

    ``reason``: ``demand``, ``held``, ``in_flight``, ``least``, ``most``, ``idle`` or ``first``;
    ``words`` says it in a sentence. ``expected_per_s``: the rate to be ready for a start ahead,
    ``upper_per_s``: with room; ``late_share``: of the last half hour's requests.
    """

    replicas: int
    warm: int
    reason: str
    words: str
    expected_per_s: float
    upper_per_s: float
    needed: int
    late_share: float
    care: float


class Window(msgspec.Struct, frozen=True, array_like=True):
    """The ten minutes of the shell's clock that we are in, and its requests."""

    number: int = 0
    late: int = 0
    came: int = 0


class State(msgspec.Struct, frozen=True, kw_only=True):
    """All that a decision depends on. ``needs``: (instant, needed), falling, of the hold's time.
    ``late`` requests of those that ``came``, both faded. ``more``: room that missed windows left
    behind, a share of the forecast."""

    demand: Demand
    fit: SpeedFit
    needs: tuple[tuple[float, int], ...] = ()
    late: float = 0.0
    came: float = 0.0
    window: Window = Window()
    more: float = 0.0
    care: float = 1.0
    asked_at: float = 0.0
    replicas: int = 0


def begin(policy: Policy, now: float, replicas: int = 0) -> State:
    """The state of a service that has ``replicas`` and has reported nothing yet."""
    return State(
        demand=first_demand(now),
        fit=first_fit(policy.prior),
        asked_at=now,
        replicas=replicas,
        needs=((now + LEARNING_S, replicas),),
    )


def step(policy: Policy, state: State, observed: Observed, now: float) -> tuple[State, Target]:
    """Learn from a report and decide."""
    lead_s = policy.warm_start_s if policy.warm > 0 else policy.start_s
    state = _learn(policy, state, observed, now, lead_s)
    speed = fitted(state.fit)
    alarmed = _late_lately(state) > SPENT * policy.late_max
    ahead = expected(state.demand, (ALARMED if alarmed else CALM) * policy.late_max, state.more)
    needed = _needed(policy, state, speed, ahead, observed)
    hold_s = max(policy.start_s, observed.seconds)
    needs = _falling(state.needs, now - hold_s, (now, needed))
    target = _target(policy, state, observed, now, ahead, needed, needs[0][1], speed)
    return msgspec.structs.replace(state, needs=needs, replicas=target.replicas), target


def _learn(policy: Policy, state: State, observed: Observed, now: float, lead_s: float) -> State:
    fit = state.fit
    if observed.completed > 0 and observed.ready > 0:
        beside = observed.busy_request_s / observed.seconds / observed.ready
        service_s = observed.busy_request_s / observed.completed
        fit = learn(fit, max(1.0, beside), service_s, observed.completed, observed.seconds)
    if observed.entry_s > 0:
        fit = learn_entry(fit, observed.entry_s, observed.entry_cv2)
    beside = min(max(observed.in_flight / max(1, observed.ready), 1.0), float(fit.slots))
    memory_s = min(max(fitted(fit).service_s(beside), MEMORY_S[0]), MEMORY_S[1])
    asks = observed.arrivals > 0 or observed.in_flight > 0 or observed.waiting > 0
    keep = math.exp(-observed.seconds / LATE_MEMORY_S)
    window, more = _window(policy, state, observed, now)
    demand = observe(state.demand, observed.arrivals, observed.seconds, now, lead_s, memory_s)
    return State(
        demand=demand,
        fit=fit,
        care=_care(policy, state, demand.smooth, fitted(fit), observed),
        needs=state.needs,
        late=state.late * keep + observed.late,
        came=state.came * keep + observed.arrivals,
        window=window,
        more=more,
        asked_at=now if asks else state.asked_at,
        replicas=state.replicas,
    )


def _window(policy: Policy, state: State, observed: Observed, now: float) -> tuple[Window, float]:
    """This window, and the room beside that windows before call for."""
    old, more = state.window, state.more
    number = math.ceil(now / WINDOW_S)
    if number == old.number:
        return Window(number, old.late + observed.late, old.came + observed.arrivals), more
    if old.late > policy.late_max * old.came:
        more = min(MORE_MOST, more + MISSED * (1 - MAY_MISS))
    elif old.came:
        more = max(0.0, more - MISSED * MAY_MISS)
    return Window(number, observed.late, observed.arrivals), more


def _care(policy: Policy, state: State, smooth: float, speed: Speed, observed: Observed) -> float:
    """How careful it makes if the objective is missed though the replicas that serve should be
    enough for what comes and for the line (one that is too long is no fault of the model)."""
    load = Load(per_s=smooth + observed.waiting / policy.start_s, arrival_cv2=ARRIVAL_CV2)
    missed = min(observed.late / max(1, observed.arrivals), _late_lately(state)) > policy.late_max
    if missed and late_share(load, speed, observed.ready, policy.wait_s) <= policy.late_max:
        step: float = CARE_STEP ** (observed.seconds / policy.start_s)
        return min(CARE_MOST, state.care * step)
    return 1 + (state.care - 1) * math.exp(-observed.seconds / CARE_FADES_S)


def _late_lately(state: State) -> float:
    """The share of late requests lately, of at least as many as ten minutes bring."""
    return state.late / max(state.came, state.demand.level * WINDOW_S, 1.0)


def _needed(policy: Policy, state: State, speed: Speed, ahead: Expected, observed: Observed) -> int:
    backlog = observed.waiting / policy.start_s
    load = Load(per_s=ahead.upper_per_s * state.care + backlog, arrival_cv2=ARRIVAL_CV2)
    return replicas_needed(
        load, speed, policy.wait_s, min(LATE_MOST, AT_WORST * policy.late_max), policy.most
    )


def _falling(
    needs: tuple[tuple[float, int], ...], since: float, new: tuple[float, int]
) -> tuple[tuple[float, int], ...]:
    """The needs that are still the highest of all after them: the first one is the maximum."""
    kept = [need for need in needs if need[0] > since and need[1] > new[1]]
    return (*kept, new)


def _target(
    policy: Policy,
    state: State,
    observed: Observed,
    now: float,
    ahead: Expected,
    needed: int,
    held: int,
    speed: Speed,
) -> Target:
    replicas, reason = needed, "demand"
    if held > replicas:
        replicas, reason = held, "held"
    inside = math.ceil((observed.in_flight + observed.waiting) / speed.slots)
    inside = min(inside, max(observed.ready + observed.starting, 1))
    if inside > replicas:
        replicas, reason = inside, "in_flight"
    idle = now - state.asked_at >= policy.idle_s
    least = policy.least if policy.least > 0 or idle else 1
    if policy.least == 0 and idle:
        replicas, reason = 0, "idle"
    if policy.least == 0 and state.replicas == 0 and observed.arrivals + observed.waiting == 0:
        replicas, reason, least = 0, "idle", 0
    if replicas < least:
        replicas, reason = least, "least"
    if replicas > policy.most:
        replicas, reason = policy.most, "most"
    return Target(
        replicas=replicas,
        warm=policy.warm,
        reason=reason,
        words=_words(replicas, reason, ahead, needed, policy),
        expected_per_s=ahead.per_s,
        upper_per_s=ahead.upper_per_s,
        needed=needed,
        late_share=_late_lately(state),
        care=state.care,
    )


def _words(replicas: int, reason: str, ahead: Expected, needed: int, policy: Policy) -> str:
    why = {
        "demand": f"ready for {ahead.per_s:.3g} requests/s, with room for {ahead.upper_per_s:.3g}",
        "held": f"{needed} would do, but more were needed within the last {policy.start_s:g} s",
        "in_flight": "the requests in flight fill them",
        "least": f"the service keeps at least {policy.least or 1}",
        "most": f"{needed} needed, the service allows {policy.most}",
        "idle": f"no request for {policy.idle_s:g} s",
    }[reason]
    return f"{replicas} replica{'' if replicas == 1 else 's'}: {why}."
