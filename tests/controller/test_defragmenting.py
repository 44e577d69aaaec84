"""One replica moves before anybody waits: for what, within which budget, and when not."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

import msgspec
import pytest

from isochrone.controller import fit
from isochrone.controller.declared import Declared
from isochrone.controller.defragmenting import LOOK_EVERY_S, Defragmenting
from isochrone.controller.disturbance import HOUR_S, MOVES_PER_HOUR, Disturbance
from isochrone.controller.inputs import Stamp
from isochrone.controller.making_room import MOVE_MOST_S
from isochrone.controller.view import World
from isochrone.rules.defragmenting import Opening, clearing
from isochrone.rules.placement import decide
from isochrone.schema.decision import Decision, PlacementInputs, Shape
from isochrone.schema.lease import Lease
from isochrone.schema.node import Capacity, Device, Node, Offer, Resources
from isochrone.schema.service import ReplicaRange

from .worlds import declare, lease, node, quota, seen, service, world

STAMP = Stamp(cell="fra", epoch=1, at_unix_ms=0)
ONE = ReplicaRange(min=1, max=1)
GPU = Device(kind="gpu", name="NVIDIA H100 80GB")
MACHINE = Capacity(cpu_milli=4000, memory_mib=8192, devices=(GPU,), engines=("onnx",))
HALF = Resources(cpu_milli=500, memory_mib=256, gpu_count=1, gpu_milli=500)
WHOLE = Resources(cpu_milli=500, memory_mib=256, gpu_count=1, gpu="h100")
USUAL = (Shape(resources=HALF, count=3), Shape(resources=WHOLE, count=1))

LEFT = declare(service("left", resources=HALF, replicas=ONE))
RIGHT = declare(service("right", resources=HALF, replicas=ONE))
A, B = (node(n, "frankfurt", capacity=MACHINE) for n in (1, 2))
LEASES = (lease("l1", LEFT, A, gpus=(0,)), lease("l2", RIGHT, B, gpus=(0,)))


def cell(
    leases: tuple[Lease, ...] = LEASES, nodes: tuple[Node, Node] = (A, B), doubt: str = ""
) -> World:
    rows = [
        seen(*((one.id, "serving") for one in leases if one.node == here.address)) for here in nodes
    ]
    grants = tuple(quota(known, {"frankfurt": 1}) for known in (LEFT, RIGHT))
    return world(dict(zip(nodes, rows, strict=True)), leases, (), grants, doubt)


class Moves:
    """A cell's defragmenting with a clock that the test turns."""

    def __init__(self, moves_per_hour: int = MOVES_PER_HOUR) -> None:
        self.now_s = 100.0
        self.disturbance = Disturbance(lambda: self.now_s, moves_per_hour)
        self.machine = Defragmenting(lambda: self.now_s, self.disturbance)

    def after(
        self,
        seconds: float,
        here: World,
        *,
        usual: tuple[Shape, ...] = USUAL,
        waits: bool = False,
    ) -> Opening | None:
        self.now_s += seconds

        async def without(
            opening: Opening,
        ) -> tuple[PlacementInputs, Decision, Collection[str]] | None:
            known: Declared = here.granted[opening.service]
            held = fit.observe(here, known.id, {}, self.now_s)
            cleared = (clearing(opening),)
            grant = here.quotas[known.id]
            inputs = fit.look(here, grant, known, held, STAMP, cleared, usual)
            return inputs, decide(inputs), [one.lease.node for one in held]

        return asyncio.run(self.machine.work(here, usual, waits, without))


def test_a_half_moves_so_that_a_whole_has_room() -> None:
    moves = Moves()
    assert moves.after(LOOK_EVERY_S - 1, cell()) is None, "it has just begun to look"
    opening = moves.after(1, cell())
    assert opening is not None
    (told,) = moves.machine.cleared(opening.service)
    assert told.node == opening.node
    assert told.reason == (
        "defragment: its replica moves so that 1 x 1 GPU h100 with 0.5 cores and 256 MiB "
        "has room in one piece"
    )
    assert moves.machine.cleared("another") == ()
    assert moves.after(LOOK_EVERY_S, cell()) is None, "one at a time"
    gone = tuple(one for one in LEASES if one.id != opening.lease)
    moves.after(1, cell(gone))
    assert moves.machine.opening is None, "it is over when the old lease is"


@pytest.mark.parametrize("usual", [USUAL[:1], ()])
def test_nothing_moves_while_all_that_usually_comes_has_room(usual: tuple[Shape, ...]) -> None:
    assert Moves().after(LOOK_EVERY_S, cell(), usual=usual) is None
    assert Moves().after(LOOK_EVERY_S, cell(LEASES[:1])) is None, "a whole one is free"


def test_nothing_moves_for_what_comes_once_in_a_blue_moon() -> None:
    rare = (Shape(resources=HALF, count=99), Shape(resources=WHOLE, count=1))
    assert Moves().after(LOOK_EVERY_S, cell(), usual=rare) is None


def test_nothing_moves_while_somebody_waits_in_doubt_or_in_trouble() -> None:
    assert Moves().after(LOOK_EVERY_S, cell(), waits=True) is None
    assert Moves().after(LOOK_EVERY_S, cell(doubt="blind")) is None
    draining = msgspec.structs.replace(LEASES[1], desired="draining")
    assert Moves().after(LOOK_EVERY_S, cell((LEASES[0], draining))) is None


def test_only_among_one_providers_machines_and_for_no_higher_price() -> None:
    stranger = node(2, "frankfurt", 7, capacity=MACHINE)
    apart = (LEASES[0], lease("l2", RIGHT, stranger, gpus=(0,)))
    assert Moves().after(LOOK_EVERY_S, cell(apart, (A, stranger))) is None
    offer = Offer(cpu_core_microusd_per_hour=40_000, memory_gib_microusd_per_hour=4_000)
    dear = node(2, "frankfurt", capacity=MACHINE, offer=offer)
    uneven = (LEASES[0], lease("l2", RIGHT, dear, gpus=(0,)))
    opening = Moves().after(LOOK_EVERY_S, cell(uneven, (A, dear)))
    assert opening is not None
    assert opening.lease == "l2", "the dear one moves to the cheap machine, never the other way"


def test_half_of_the_budget_is_for_those_who_wait_and_no_service_moves_twice() -> None:
    assert Moves(moves_per_hour=0).after(LOOK_EVERY_S, cell()) is None
    spent = Moves()
    for _ in range(MOVES_PER_HOUR // 2):
        spent.disturbance.begin()
    assert spent.after(LOOK_EVERY_S, cell()) is None
    assert spent.disturbance.left == MOVES_PER_HOUR // 2
    assert spent.after(HOUR_S, cell()) is not None, "an hour later"

    moves = Moves()
    first = moves.after(LOOK_EVERY_S, cell())
    second = moves.after(MOVE_MOST_S + LOOK_EVERY_S, cell())  # the first one never ended
    assert first is not None
    assert second is not None
    assert first.service != second.service
    assert moves.after(MOVE_MOST_S + LOOK_EVERY_S, cell()) is None, "both have moved this hour"


def test_a_move_that_has_nowhere_to_go_any_more_is_given_up() -> None:
    moves = Moves()
    opening = moves.after(LOOK_EVERY_S, cell())
    assert opening is not None
    assert not moves.machine.give_up("another")
    assert moves.machine.give_up(opening.service)
    assert moves.machine.cleared(opening.service) == ()
    assert not moves.machine.give_up(opening.service)
