"""Packing in a running cell, with real controllers: where replicas go, and what moves for whom."""

from __future__ import annotations

import asyncio
import time

import pytest

from isochrone.controller.disturbance import MOVES_PER_HOUR
from isochrone.controller.making_room import PATIENCE_S
from isochrone.rules import versions
from isochrone.rules.explaining import explain
from isochrone.rules.fit_costs import with_fit_costs
from isochrone.schema.decision import Candidate, PlacementInputs
from isochrone.schema.digests import canonical, decode
from isochrone.schema.node import Capacity, Device, Resources
from isochrone.schema.service import ReplicaRange

from .cell_in_test import CellInTest, node, service, until

pytestmark = pytest.mark.processes

ONE = ReplicaRange(min=1, max=1)
GPU = Device(kind="gpu", name="NVIDIA H100 80GB")
MACHINE = Capacity(cpu_milli=16_000, memory_mib=16_384, devices=(GPU,), engines=("onnx",))


def part(milli: int, cores: int = 1) -> Resources:
    return Resources(cpu_milli=1000 * cores, memory_mib=64, gpu_count=1, gpu_milli=milli)


async def declared(cell: CellInTest, name: str, need: Resources) -> str:
    """Declare a service of one replica and wait until it serves."""
    id_ = await cell.declare(service(name, resources=need, replicas=ONE))
    await until(lambda: len(cell.serving(id_)) == 1, what=f"{name} serves")
    return id_


async def deleted(cell: CellInTest, name: str, need: Resources) -> None:
    gone = service(name, resources=need, replicas=ONE, revision=2, deleted=True)
    id_ = await cell.declare(gone)
    await until(lambda: not nodes_of(cell, id_), what=f"{name} is gone")


def nodes_of(cell: CellInTest, *ids: str) -> set[str]:
    """Where the services have leases that are not over."""
    leases = [entry.value for entry in cell.leases.entries.values()]
    return {one.node for one in leases if one.service in ids and one.desired != "ended"}


def check_records(cell: CellInTest, id_: str) -> list[Candidate]:
    """Every fit of the service replays byte for byte, and its costs can be worked out again from
    what the record holds; returns all their candidates."""
    rows: list[Candidate] = []
    for decision in cell.decisions.entries[f"{id_}.fit"].value:
        record, inputs = canonical(decision), cell.inputs.entries[decision.inputs].value
        assert versions.replay(record, inputs) == record
        told = decode(inputs, PlacementInputs, "inputs")
        assert with_fit_costs(told) == told
        assert any(isinstance(free.fit_cost, int) for free in told.nodes)
        rows += decision.candidates
    return rows


async def test_parts_fill_begun_machines_and_the_whole_finds_one(cell: CellInTest) -> None:
    """What FGD's gradient does not see (``test_fit_costs``): four parts on two machines."""
    await cell.add(*(node(n, "frankfurt", capacity=MACHINE) for n in (1, 2, 3)))
    await cell.controller()
    parts = [await declared(cell, f"part{n}", part(400, 2)) for n in range(4)]
    assert len({cell.serving(id_)[0] for id_ in parts}) == 2
    whole = await declared(cell, "whole", part(1000, 4))
    fits = [f"{id_}.fit" for id_ in (*parts, whole)]
    await until(lambda: set(fits) <= set(cell.decisions.entries), what="all is on record")
    rows = [row for id_ in (*parts, whole) for row in check_records(cell, id_)]
    assert any("but breaks" in row.detail for row in rows), "the reason is on record"


async def in_pieces(cell: CellInTest) -> list[str]:
    """Two machines, half of each free, where a whole one was asked for some time ago."""
    await declared(cell, "early", part(1000))
    left = await declared(cell, "left", part(500))
    await declared(cell, "beside", part(500))
    await deleted(cell, "early", part(1000))
    right = await declared(cell, "right", part(500))
    await deleted(cell, "beside", part(500))
    return [left, right]


def moved(cell: CellInTest, ids: list[str]) -> list[str]:
    """Why replicas had to leave, as their records say."""
    rows = [row for id_ in ids for row in check_records(cell, id_)]
    return [row.detail for row in rows if row.excluded_by == "cleared"]


async def test_what_usually_comes_has_room_before_it_comes(cell: CellInTest) -> None:
    await cell.add(*(node(n, "frankfurt", capacity=MACHINE) for n in (1, 2)))
    await cell.controller(defragment_every_s=0.2)
    left = await in_pieces(cell)
    gaps: list[int] = []

    def together() -> bool:
        gaps.extend(len(cell.serving(id_)) for id_ in left)
        return len(nodes_of(cell, *left)) == 1

    await until(together, what="one half has moved to the other")
    whole = await cell.declare(service("whole", resources=part(1000), replicas=ONE))

    def served() -> bool:
        gaps.extend(len(cell.serving(id_)) for id_ in left)
        return len(cell.serving(whole)) == 1

    assert await until(served, what="the whole finds room") < PATIENCE_S
    assert min(gaps) >= 1, "nobody was without a replica"
    told = moved(cell, left)
    assert told
    assert all(text.startswith("defragment: its replica moves so that 1 x 1 GPU") for text in told)
    assert "making_room" not in cell.log()
    text = "\n".join(explain(cell.decisions.entries[f"{moved_one(cell, left)}.fit"].value[-1]))
    assert "defragment: its replica moves" in text


def moved_one(cell: CellInTest, ids: list[str]) -> str:
    """The service that moved."""
    (one,) = [id_ for id_ in ids if moved(cell, [id_])]
    return one


async def test_a_demand_waits_as_long_as_the_budget_forbids_a_move(cell: CellInTest) -> None:
    await cell.add(*(node(n, "frankfurt", capacity=MACHINE) for n in (1, 2)))
    await cell.controller(moves_per_hour=0, defragment_every_s=0.2)
    left = await in_pieces(cell)
    before = [cell.leased(id_) for id_ in left]
    whole = await cell.declare(service("whole", resources=part(1000), replicas=ONE))
    deadline_s = time.monotonic() + PATIENCE_S + 0.5
    while time.monotonic() < deadline_s:  # that nothing moves can only be looked at
        assert [cell.leased(id_) for id_ in left] == before
        assert not cell.serving(whole)
        await asyncio.sleep(0.05)
    cell.end_controller(1)
    await cell.controller(2, moves_per_hour=MOVES_PER_HOUR)
    gaps: list[int] = []

    def served() -> bool:
        gaps.extend(len(cell.serving(id_)) for id_ in left)
        return len(cell.serving(whole)) == 1

    await until(served, what="one half moves and the whole is served")
    assert min(gaps) >= 1, "nobody was without a replica"
    told = moved(cell, left)
    assert told
    assert all(f"to make room for {whole}" in text for text in told)


async def test_a_move_whose_target_dies_takes_no_replica_away(cell: CellInTest) -> None:
    target, first, second = (node(n, "frankfurt", capacity=MACHINE) for n in (1, 2, 3))
    await cell.add(target)
    await cell.controller(defragment_every_s=0.2)
    await declared(cell, "early", part(1000))
    await deleted(cell, "early", part(1000))
    await declared(cell, "large", part(500))
    await declared(cell, "beside", part(500))
    await cell.add(first, second)
    two = service("pair", resources=part(400), replicas=ReplicaRange(min=2, max=2))
    pair = await cell.declare(two)
    await until(lambda: len(cell.serving(pair)) == 2, what="the pair serves")
    cell.slow.add(f"{pair}@{target.address}")
    await deleted(cell, "beside", part(500))
    await until(lambda: target.address in cell.leased(pair), what="one of the pair moves")
    assert len(cell.leased(pair)) == 3, "make before break"
    cell.kill(target.address)
    both = sorted((first.address, second.address))

    def given_up() -> bool:
        assert set(both) <= set(cell.leased(pair)), "what serves stays"
        return cell.leased(pair) == both

    await until(given_up, what="the move is given up")
    await asyncio.sleep(0.3)  # that nothing is taken afterwards can only be looked at
    assert cell.leased(pair) == sorted(cell.serving(pair)) == both
