"""How many replicas each of our services should have now, where they follow demand.

The shell around ``rules.scaling``: it feeds reports (``demand``) and measured starts
(``coldstarts``) to the rule once a second, and at once when somebody asks for a service that has
nothing. What comes of it is how many replicas placement is to find places for
(``PlacementInputs.wanted``).

A new leader knows nothing of the demand that came before (of starts it does: ``starts_kept``). It
begins with what was granted, and grants no less before it has watched for a whole window
(``WINDOW_S``, or the longest of starts); to zero it goes only after a whole idle time of its own.
So a change of leaders moves nothing.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping

import msgspec

from isochrone.controller.coldstarts import ORDER_S, ColdStarts
from isochrone.controller.declared import Declared
from isochrone.controller.demand import DemandBoard, Taken
from isochrone.controller.view import World, held
from isochrone.rules.expected import service_prior_ms
from isochrone.rules.scaling import replicas as scaling
from isochrone.rules.scaling.speed import Speed
from isochrone.schema.demand import LATE_S
from isochrone.schema.plans import CellOffers, HeldReplica
from isochrone.schema.routing import Starting
from isochrone.schema.service import Model, Service

STEP_S = 1.0
"""Between two steps: as often as gateways tell."""

WINDOW_S = 60.0
"""What a new leader watches before it takes a replica away; less where ``idle`` is less."""

START_LEAST_S = 3.0
"""A start is never planned shorter: decisions, orders and routes take about as long to and fro."""

SLOTS = {"onnx": 1, "llamacpp": 2, "upstream": 32}
"""Requests that an engine works on at once where the model's option ``concurrency`` does not say
(the engines' own defaults, ``engines.options``)."""

SLOTS_MAX = 64

CROWDING = 0.05
"""How much slower each further request on a replica makes all: a batch is nearly free, but not
quite. Only a prior of its shape; the time itself is measured."""

log = logging.getLogger(__name__)


class _Followed(msgspec.Struct):
    """One service: the rule's state, and since when we watch."""

    revision: int
    state: scaling.State
    began_s: float
    stepped_s: float
    target: int
    words: str = ""
    standbys: int = 0


class Following:
    """``targets``: service at home here → replicas, where they follow demand. ``words``: why."""

    def __init__(
        self, board: DemandBoard, starts: ColdStarts, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.targets: Mapping[str, int] = {}
        self.words: Mapping[str, str] = {}
        self._board = board
        self._starts = starts
        self._clock = clock
        self._followed: dict[str, _Followed] = {}

    def begin(self) -> None:
        """We lead anew: watch everything from the beginning."""
        self._followed = {}

    def work(
        self, world: World, others: Mapping[str, CellOffers], granted: Mapping[str, int]
    ) -> None:
        """Step what is due. ``granted``: service → replicas that the standing decision has."""
        self._starts.look(world)
        mine = {
            id_: declared
            for id_, declared in world.services.items()
            if declared.service.follows_demand and not declared.service.deleted
        }
        rows: dict[str, list[HeldReplica]] = {id_: [] for id_ in mine}
        standbys: Counter[str] = Counter()
        for row in (*held(world), *(row for told in others.values() for row in told.replicas)):
            if row.service in rows and row.desired == "serving" and row.alive:
                rows[row.service].append(row)
            elif row.desired == "standby" and row.state == "standby" and row.alive:
                standbys[row.service] += 1
        self._followed = {id_: one for id_, one in self._followed.items() if id_ in mine}
        self._starts.forget(mine)
        for id_, declared in mine.items():
            self._step(declared, rows[id_], granted.get(id_, 0), standbys[id_])
        self.targets = {id_: one.target for id_, one in self._followed.items()}
        self.words = {id_: one.words for id_, one in self._followed.items()}

    def _step(
        self, declared: Declared, rows: list[HeldReplica], granted: int, standbys: int
    ) -> None:
        now_s = self._clock()
        policy = self._policy(declared.service, standbys)
        slots = policy.prior.slots
        one = self._followed.get(declared.id)
        if one is None or one.revision != declared.service.revision:
            self._board.take(declared.id)  # what came before we watched; who waits is still seen
            one = self._followed[declared.id] = _Followed(
                revision=declared.service.revision,
                state=scaling.begin(policy, now_s, granted),
                began_s=now_s,
                stepped_s=now_s - STEP_S,
                target=granted,
            )
        one.standbys = standbys
        ready = sum(row.state == "serving" for row in rows)
        if ready:
            self._starts.serves(declared.id, declared.service.model, now_s)
        at_once = one.target == 0 and self._board.is_asked(declared.id)
        if now_s - one.stepped_s < STEP_S and not at_once:
            return
        seconds = max(STEP_S, now_s - one.stepped_s)
        taken = self._board.take(declared.id)
        seen = _observed(taken, seconds, ready, len(rows) - ready, slots)
        one.state, target = scaling.step(policy, one.state, seen, now_s)
        one.stepped_s = now_s
        wanted = target.replicas
        window_s = max(policy.start_s, min(WINDOW_S, policy.idle_s))
        if now_s - one.began_s < window_s:
            wanted = max(wanted, min(granted, policy.most))
        if wanted and not granted and not ready:
            self._starts.asked(declared.id, now_s)
        elif not wanted:
            self._starts.given_up(declared.id)
        one.target, one.words = wanted, target.words

    def _policy(self, service: Service, standbys: int) -> scaling.Policy:
        times = self._starts.times(service.model)
        start_s = max(START_LEAST_S, times.cold_s + ORDER_S)
        return scaling.Policy(
            least=service.replicas.min,
            most=service.replicas.max,
            prior=_prior(service.model),
            wait_s=LATE_S,
            late_max=1 - service.objective.percentile / 100,
            start_s=start_s,
            warm_start_s=max(START_LEAST_S, times.warm_s + ORDER_S),
            warm=min(standbys, service.scaling.warm),
            idle_s=service.scaling.idle_s,
        )

    def starting(self, declared: Declared, why_not: str) -> Starting | None:
        """What gateways are told of a service; None when it does not follow demand."""
        service = declared.service
        if not service.follows_demand:
            return None
        times = self._starts.times(service.model)
        one = self._followed.get(declared.id)
        start_s = times.warm_s if one is not None and one.standbys else times.cold_s
        return Starting(
            hold_s=service.scaling.hold_s,
            start_s=round(start_s + ORDER_S, 1),
            starts_s=self._starts.waits_s(service.model),
            why_not=why_not,
        )


def _prior(model: Model) -> Speed:
    """What an engine is taken for before it was measured."""
    told = model.options.get("concurrency", "")
    slots = int(told) if told.isascii() and told.isdigit() and len(told) < 3 else 0
    slots = min(slots, SLOTS_MAX) or SLOTS.get(model.engine, 1)
    base_s = service_prior_ms(model) / 1000
    return Speed(slots=slots, base_s=base_s, each_s=base_s * CROWDING if slots > 1 else 0.0)


def _observed(
    taken: Taken, seconds: float, ready: int, starting: int, slots: int
) -> scaling.Observed:
    """``slots`` of one replica: what gateways see of its requests beyond these is waiting in its
    queue, which is no time of service."""
    busy_s = min(taken.busy_ms / 1000, ready * slots * seconds)
    return scaling.Observed(
        seconds=seconds,
        arrivals=taken.arrivals,
        completed=taken.completed,
        busy_request_s=busy_s,
        late=taken.late,
        in_flight=taken.in_flight,
        waiting=taken.waiting,
        ready=ready,
        starting=starting,
    )
