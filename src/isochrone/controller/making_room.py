"""When one replica of this cell is moved so that a demand which waits finds room.

Intuition: a cell that cannot place a replica looks whether moving a single other one would help
(``rules.making_room``). The budget of disturbance: one move at a time, at most
``disturbance.MOVES_PER_HOUR``, only while nothing else is amiss in the cell, only after the demand
has waited ``PATIENCE_S`` in vain. The moved service's fit is told that its node is *cleared*;
reconciling does the rest, make before break, and when the demand has its replica the clearing is
over.

A pure machine but for the clock that it is given. What is under way is forgotten with the leader:
the next one looks for itself, and what it finds placed twice it reconciles.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from isochrone.controller.declared import Declared
from isochrone.controller.disturbance import HOUR_S, Disturbance, is_calm
from isochrone.controller.view import World
from isochrone.rules.making_room import Move, clearing, helps, is_possible, moves
from isochrone.schema.decision import Cleared, PlacementInputs

PATIENCE_S = 1.5
"""A demand waits so long before anybody is moved for it: what drains is gone by then. Less than
``home.TROUBLE_S``, since a home that hears of no way out takes its grant away."""

MOVE_MOST_S = 600.0
"""A move that has not ended by then (a model that cannot be fetched) is given up."""

LOOK_EVERY_S = 0.5
"""Between two searches: one decides a few dozen times."""

TRIES = 8
"""Moves looked at in one search for one demand."""

MAKING_ROOM = "making_room"
"""Code of ``unmet`` while a move is under way: trouble that will be over."""

Look = Callable[[Declared], PlacementInputs]
"""What the placement of a waiting service looks at now, with this cell's nodes."""

FitOf = Callable[[Move], tuple[PlacementInputs, int] | None]
"""What a service's fit would look at with the move's node cleared, and the seats that it has."""


class Clearing(msgspec.Struct, frozen=True):
    """A move under way and since when (monotonic seconds)."""

    move: Move
    since_s: float


class MakingRoom:
    """The moves of one cell. ``clock``: monotonic seconds."""

    def __init__(self, clock: Callable[[], float], disturbance: Disturbance) -> None:
        self._clock = clock
        self._disturbance = disturbance
        self._clearing: Clearing | None = None
        self._failed_s: dict[Move, float] = {}
        self._waits_since_s: dict[str, float] = {}
        self._looked_s = float("-inf")

    @property
    def move(self) -> Move | None:
        """The move that is under way."""
        return self._clearing.move if self._clearing else None

    def cleared(self, service: str) -> tuple[Cleared, ...]:
        """The nodes that the service is to leave now."""
        move = self.move
        return (clearing(move),) if move is not None and move.service == service else ()

    def is_made_for(self, service: str) -> bool:
        """Whether a demand that waits has reason to hope."""
        return self.move is not None and self.move.waits == service

    def give_up(self, service: str) -> bool:
        """End the service's move, since it has nowhere to go any more; whether there was one."""
        move = self.move
        if move is None or move.service != service:
            return False
        self._failed_s[move] = self._clock()
        self._clearing = None
        return True

    def work(
        self, world: World, waiting: Mapping[str, Declared], look: Look, fit_of: FitOf
    ) -> Move | None:
        """One pass. ``waiting``: the services that miss a replica. Returns a move that begins now;
        raises InvalidInput for a declaration that nothing understands."""
        now_s = self._clock()
        self._waits_since_s = {id_: self._waits_since_s.get(id_, now_s) for id_ in waiting}
        self._end_if_over(world, waiting, now_s)
        if not self._may_begin(world, waiting, now_s):
            return None
        for declared in sorted(waiting.values(), key=_urgency):
            if now_s - self._waits_since_s[declared.id] >= PATIENCE_S:
                move = self._found(world, look(declared), fit_of)
                if move is not None:
                    self._clearing = Clearing(move, now_s)
                    self._disturbance.begin()
                    return move
        return None

    def _may_begin(self, world: World, waiting: Mapping[str, Declared], now_s: float) -> bool:
        if not waiting or self._clearing is not None or now_s - self._looked_s < LOOK_EVERY_S:
            return False
        if self._disturbance.left <= 0 or world.doubt or not is_calm(world, waiting):
            return False
        self._looked_s = now_s
        return True

    def _found(self, world: World, inputs: PlacementInputs, fit_of: FitOf) -> Move | None:
        for move in moves(inputs, world.leases.values())[:TRIES]:
            if move in self._failed_s or not helps(move, inputs, world.leases[move.lease]):
                continue
            fit = fit_of(move)
            if fit is not None and is_possible(move, *fit):
                return move
        return None

    def _end_if_over(self, world: World, waiting: Mapping[str, Declared], now_s: float) -> None:
        self._failed_s = {m: at_s for m, at_s in self._failed_s.items() if now_s - at_s < HOUR_S}
        if self._clearing is None:
            return
        move, since_s = self._clearing.move, self._clearing.since_s
        if now_s - since_s > MOVE_MOST_S:
            self._failed_s[move] = now_s
        elif move.waits in waiting and move.service in world.quotas:
            return
        self._clearing = None


def _urgency(declared: Declared) -> tuple[int, str]:
    return -declared.service.priority, declared.id
