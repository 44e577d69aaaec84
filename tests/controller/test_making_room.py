"""One replica moves so that a demand which waits finds room: when, which, and at what cost."""

from __future__ import annotations

import msgspec

from isochrone.controller import fit
from isochrone.controller.declared import Declared
from isochrone.controller.disturbance import MOVES_PER_HOUR, Disturbance
from isochrone.controller.inputs import Stamp
from isochrone.controller.making_room import (
    LOOK_EVERY_S,
    MOVE_MOST_S,
    PATIENCE_S,
    MakingRoom,
)
from isochrone.controller.view import World
from isochrone.rules.making_room import Move, clearing
from isochrone.rules.placement import decide
from isochrone.rules.reconcile import plan_leases
from isochrone.schema.decision import PlacementInputs
from isochrone.schema.lease import Lease
from isochrone.schema.node import Capacity, Device, Resources
from isochrone.schema.service import ReplicaRange

from .worlds import declare, lease, node, quota, seen, service, world

STAMP = Stamp(cell="fra", epoch=1, at_unix_ms=0)
ONE = ReplicaRange(min=1, max=1)
GPU = Device(kind="gpu", name="NVIDIA H100 80GB")
MACHINE = Capacity(cpu_milli=4000, memory_mib=8192, devices=(GPU,), engines=("onnx",))
A, B = (node(n, "frankfurt", n, capacity=MACHINE) for n in (1, 2))
HALF = Resources(cpu_milli=500, memory_mib=256, gpu_count=1, gpu_milli=500)
WHOLE = Resources(cpu_milli=500, memory_mib=256, gpu_count=1, gpu="h100")

LEFT = declare(service("left", resources=HALF, replicas=ONE))
RIGHT = declare(service("right", resources=HALF, replicas=ONE))
BIG = declare(service("big", resources=WHOLE, replicas=ONE))
LEASES = (lease("l1", LEFT, A, gpus=(0,)), lease("l2", RIGHT, B, gpus=(0,)))
GRANTS = tuple(quota(known, {"frankfurt": 1}) for known in (LEFT, RIGHT, BIG))
RUNS = {A: seen(("l1", "serving")), B: seen(("l2", "serving"))}


class Cell:
    """Fits of a world as the controller makes them, and the moves."""

    def __init__(self, *declared: Declared) -> None:
        self.declared = {known.id: known for known in declared}
        self.now_s = 100.0
        self.room = MakingRoom(lambda: self.now_s, Disturbance(lambda: self.now_s))

    def look(self, here: World, declared: Declared, move: Move | None = None) -> PlacementInputs:
        held = fit.observe(here, declared.id, {}, self.now_s)
        cleared = self.room.cleared(declared.id) if move is None else (clearing(move),)
        return fit.look(here, here.quotas[declared.id], declared, held, STAMP, cleared)

    def work(self, here: World) -> Move | None:
        waiting = {}
        for id_, known in self.declared.items():
            if not decide(self.look(here, known)).winners:
                waiting[id_] = known

        def fit_of(move: Move) -> tuple[PlacementInputs, int] | None:
            return self.look(here, self.declared[move.service], move), 1

        return self.room.work(here, waiting, lambda known: self.look(here, known), fit_of)

    def after(self, seconds: float, here: World) -> Move | None:
        self.now_s += seconds
        return self.work(here)


def crowded(leases: tuple[Lease, ...] = LEASES, **changes: object) -> World:
    return world(RUNS, leases, (), GRANTS, **changes)  # type: ignore[arg-type]


def test_a_half_moves_over_and_the_whole_finds_room() -> None:
    cell = Cell(LEFT, RIGHT, BIG)
    assert cell.work(crowded()) is None, "it has not waited yet"
    move = cell.after(PATIENCE_S, crowded())
    assert move is not None
    assert cell.room.is_made_for(BIG.id)
    mover = cell.declared[move.service]
    inputs = cell.look(crowded(), mover)
    decision = decide(inputs)
    other = B if move.node == A.address else A
    assert decision.winners == (other.address,)
    assert decision.devices == {other.address: (0,)}
    (row,) = [row for row in decision.candidates if row.node == move.node]
    assert (row.excluded_by, row.detail) == (
        "cleared",
        f"its replica moves to make room for {BIG.id}",
    )


def test_nothing_is_missing_while_it_moves() -> None:
    """The old replica drains only when the new one serves; then the demand is placed."""
    cell = Cell(LEFT, RIGHT, BIG)
    cell.work(crowded())
    move = cell.after(PATIENCE_S, crowded())
    assert move is not None
    mover = cell.declared[move.service]
    old = next(one for one in LEASES if one.service == move.service)

    def planned(here: World) -> list[str]:
        held = fit.observe(here, mover.id, {}, cell.now_s)
        inputs = cell.look(here, mover)
        made = fit.fitted(here, here.quotas[mover.id], mover, held, inputs, decide(inputs))
        actions = plan_leases(made.wanted, held, epoch=1, nonce=1)
        return [f"{action.kind} {action.lease.node}" for action in actions]

    other = B if move.node == A.address else A
    assert planned(crowded()) == [f"create {other.address}"]
    new = lease("l3", mover, other, gpus=(0,))
    kept = next(one for one in LEASES if one is not old)
    both = (*LEASES, new)

    def running(state: str, leases: tuple[Lease, ...]) -> World:
        there = seen((kept.id, "serving"), ("l3", state))
        return world({A: there, B: there} | {}, leases, (), GRANTS)

    warming = world(
        {
            (A if old.node == A.address else B): seen((old.id, "serving")),
            other: seen((kept.id, "serving"), ("l3", "warming")),
        },
        both,
        (),
        GRANTS,
    )
    assert planned(warming) == []
    serving = world(
        {
            (A if old.node == A.address else B): seen((old.id, "serving")),
            other: seen((kept.id, "serving"), ("l3", "serving")),
        },
        both,
        (),
        GRANTS,
    )
    assert planned(serving) == [f"drain {old.node}"]
    cell.work(serving)
    assert cell.room.is_made_for(BIG.id), "the demand still waits"
    gone = running("serving", (kept, new))
    assert cell.work(gone) is None
    assert not cell.room.is_made_for(BIG.id), "it has its room now"
    assert decide(cell.look(gone, BIG)).winners == (move.node,)
    assert decide(cell.look(gone, mover)).winners == (other.address,), "and nothing moves back"


def test_nobody_moves_when_it_would_not_help() -> None:
    two = declare(
        service("two", replicas=ONE, resources=msgspec.structs.replace(WHOLE, gpu_count=2))
    )
    here = world(RUNS, LEASES, (), (*GRANTS[:2], quota(two, {"frankfurt": 1})))
    cell = Cell(LEFT, RIGHT, two)
    cell.work(here)
    assert cell.after(PATIENCE_S, here) is None, "no machine has two GPUs"

    full = (*LEASES, lease("l3", RIGHT, A, gpus=(0,)), lease("l4", LEFT, B, gpus=(0,)))
    cell = Cell(BIG)
    cell.work(crowded(full))
    assert cell.after(PATIENCE_S, crowded(full)) is None, "one move frees half of a GPU"


def test_nobody_moves_in_doubt_or_while_something_else_is_amiss() -> None:
    unwell = world({A: seen(("l1", "warming")), B: seen(("l2", "serving"))}, LEASES, (), GRANTS)
    for here in (crowded(doubt="blind"), unwell):
        cell = Cell(LEFT, RIGHT, BIG)
        cell.work(here)
        assert cell.after(PATIENCE_S, here) is None
    assert cell.after(PATIENCE_S, crowded()) is not None


def test_one_at_a_time_so_many_an_hour_and_not_for_ever() -> None:
    cell = Cell(LEFT, RIGHT, BIG)
    cell.work(crowded())
    begun = [cell.after(PATIENCE_S, crowded())]
    assert cell.after(LOOK_EVERY_S, crowded()) is None, "one at a time"
    other = cell.after(MOVE_MOST_S + 1, crowded())
    assert other is not None
    assert other != begun[0], "what came to nothing is not tried again"

    cell = Cell(LEFT, RIGHT, BIG)
    empty = world({A: seen(), B: seen()}, (), (), GRANTS)
    count = 0
    for _ in range(MOVES_PER_HOUR + 2):
        cell.after(LOOK_EVERY_S, crowded())
        count += cell.after(PATIENCE_S, crowded()) is not None
        cell.after(LOOK_EVERY_S, empty)  # all of them are placed: the move is over
    assert count == MOVES_PER_HOUR


def test_a_move_that_has_nowhere_to_go_any_more_is_given_up_and_not_tried_again() -> None:
    cell = Cell(LEFT, RIGHT, BIG)
    cell.work(crowded())
    move = cell.after(PATIENCE_S, crowded())
    assert move is not None
    assert not cell.room.give_up(BIG.id)
    assert cell.room.give_up(move.service)
    assert cell.room.cleared(move.service) == ()
    other = cell.after(PATIENCE_S, crowded())
    assert other is not None
    assert other != move
