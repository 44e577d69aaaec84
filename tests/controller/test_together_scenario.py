"""Services that need each other's room, with a real controller: one gives way, none is missed."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from isochrone.rules import versions
from isochrone.schema.decision import Decision
from isochrone.schema.digests import canonical, decode
from isochrone.schema.documents import SERVICE_PLAN, pack, seal
from isochrone.schema.identity import PrivateKey
from isochrone.schema.node import Capacity, Device, Node, Offer, Resources
from isochrone.schema.plans import PlanAnswer
from isochrone.schema.service import ReplicaRange, Residency
from isochrone.schema.where import WhereDecision

from .cell_in_test import CellInTest, node, service, until

pytestmark = pytest.mark.processes

OTHER = PrivateKey(b"\x09" * 32)
ONE = ReplicaRange(min=1, max=1)
CHEAP = Offer(cpu_core_microusd_per_hour=2_000, memory_gib_microusd_per_hour=200)
GPU = Device(kind="gpu", name="NVIDIA H100 80GB")


def latest(cell: CellInTest, id_: str, kind: str) -> Decision:
    return cell.decisions.entries[f"{id_}.{kind}"].value[-1]


def check_records(cell: CellInTest, id_: str) -> WhereDecision | None:
    """Every record of the service replays, and the joint one that the newest follows, too."""
    for kind in ("sites", "fit"):
        for decision in cell.decisions.entries[f"{id_}.{kind}"].value:
            record = canonical(decision)
            assert versions.replay(record, cell.inputs.entries[decision.inputs].value) == record
    name = latest(cell, id_, "sites").joint
    if not name:
        return None
    record = cell.inputs.entries[name].value
    joint = decode(record, WhereDecision, "joint record")
    assert versions.replay(record, cell.inputs.entries[joint.inputs].value) == record
    return joint


async def test_who_can_run_elsewhere_gives_way_to_who_cannot(cell: CellInTest) -> None:
    small = Capacity(cpu_milli=500, memory_mib=2048, engines=("onnx",))
    await cell.add(
        node(1, "frankfurt", provider=1, capacity=small, offer=CHEAP),
        node(2, "paris", provider=2),
    )
    await cell.controller()
    free = await cell.declare(service("free", replicas=ONE))
    await until(lambda: cell.serving(free) == [f"0x{1:040x}"], what="it takes the cheap place")

    gaps: list[float] = []
    german = service(
        "german", replicas=ONE, residency=Residency(allow=("DE",), evidence="declared")
    )
    packed = pack(seal(SERVICE_PLAN, german, OTHER))
    planned: list[tuple[str, tuple[str, ...]]] = []
    async with asyncio.timeout(20):  # a controller in doubt of its view plans no moves
        while planned != [("frankfurt", ())]:
            answer = decode(await cell.fabric.request("iso.fra.plan", packed, 5.0), PlanAnswer)
            assert answer.plan is not None
            planned = [(site.metro, answer.plan.blocking) for site in answer.plan.sites]
            await asyncio.sleep(0.1)
    bound = await cell.declare(german, OTHER)

    def settled() -> bool:
        gaps.append(len(cell.serving(free)))
        return cell.serving(bound) == [f"0x{1:040x}"] and cell.serving(free) == [f"0x{2:040x}"]

    await until(settled, what="the one gives way to the other")
    assert min(gaps) >= 1, "and is served all the time"
    await until(lambda: f"{bound}.fit" in cell.decisions.entries, what="on record")
    joint = check_records(cell, bound)
    assert joint is not None
    assert {row.service for row in joint.services} == {free, bound}
    assert check_records(cell, free) == joint, "both follow one decision"


def machine(number: int) -> Node:
    capacity = Capacity(cpu_milli=2000, memory_mib=2048, devices=(GPU,), engines=("onnx",))
    return node(number, "frankfurt", provider=1, capacity=capacity)


def needs(cpu_milli: int, gpu_milli: int) -> Resources:
    count = 1 if gpu_milli else 0
    whole = gpu_milli or 1000
    return Resources(cpu_milli=cpu_milli, memory_mib=64, gpu_count=count, gpu_milli=whole)


async def test_a_move_makes_room_for_a_whole_gpu(cell: CellInTest) -> None:
    """Two machines, half of a GPU taken on each; a whole one is asked for."""
    await cell.add(machine(1))
    await cell.controller()
    left = await cell.declare(service("left", replicas=ONE, resources=needs(500, 500)))
    filler_declared = service("filler", replicas=ONE, resources=needs(1000, 0))
    filler = await cell.declare(filler_declared)
    await until(lambda: bool(cell.serving(left) and cell.serving(filler)), what="one is full")
    await cell.add(machine(2))
    right = await cell.declare(service("right", replicas=ONE, resources=needs(600, 500)))
    await until(lambda: cell.serving(right) == [f"0x{2:040x}"], what="it goes to the other")
    await cell.declare(msgspec.structs.replace(filler_declared, revision=2, deleted=True))
    await until(lambda: not cell.leased(filler), what="there is room for the processor again")

    whole = await cell.declare(service("whole", replicas=ONE, resources=needs(500, 1000)))
    gaps: list[int] = []

    def placed() -> bool:
        gaps.append(min(len(cell.serving(left)), len(cell.serving(right))))
        return bool(cell.serving(whole))

    await until(placed, what="a replica moves, and the whole GPU is there")
    assert min(gaps) == 1, "nobody was missing in between"
    gpus = {
        e.value.service: (e.value.node, e.value.gpus)
        for e in cell.leases.entries.values()
        if e.value.desired == "serving"
    }
    assert gpus[left][0] == gpus[right][0] != gpus[whole][0]
    assert {numbers for _, numbers in gpus.values()} == {(0,)}
    mover = next(
        id_ for id_ in (left, right) if len(cell.decisions.entries[f"{id_}.fit"].value) > 1
    )
    reasons = {row.detail for row in latest(cell, mover, "fit").candidates if row.excluded_by}
    assert reasons == {f"its replica moves to make room for {whole}"}
    check_records(cell, mover)
