"""Decision records: on disk at once, in the fabric when it can, never without their inputs."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from isochrone.controller.inputs import Stamp, gather, own_ground
from isochrone.controller.joint_inputs import Subject
from isochrone.controller.joint_inputs import gather as gather_together
from isochrone.controller.records import KEPT, Records
from isochrone.controller.shelf import Shelf
from isochrone.fabric.connection import Fabric
from isochrone.lab.twins.fabric import MemoryCells, MemoryCellStore, MemoryFabric
from isochrone.rules import where
from isochrone.rules.placement import decide, replay
from isochrone.schema.decision import Decision, PlacementInputs
from isochrone.schema.digests import canonical, digest

from .cell_in_test import until
from .worlds import declare, node, seen, service, world

VAD = declare(service())
HERE = world({node(1, "frankfurt"): seen(), node(2, "paris", 2): seen()})


def made(at_unix_ms: int = 0) -> tuple[Decision, PlacementInputs]:
    stamp = Stamp(cell="fra", epoch=1, at_unix_ms=at_unix_ms)
    inputs = gather("sites", VAD, own_ground(HERE, VAD.id), stamp)
    return decide(inputs), inputs


@pytest.fixture
def store() -> MemoryCellStore:
    return MemoryCells().store("fra")


@pytest.fixture
async def fabric(store: MemoryCellStore, tmp_path: Path) -> AsyncIterator[Fabric]:
    joined = await MemoryFabric.join(store, "controller", tmp_path / "fabric")
    yield joined
    await joined.close()


async def records(fabric: Fabric, folder: Path) -> Records:
    decisions = await fabric.table("decisions", list[Decision])
    inputs = await fabric.table("inputs", bytes, raw=True)
    return Records(decisions, inputs, Shelf(folder))


async def test_a_decision_is_kept_with_its_inputs_and_can_be_replayed(
    fabric: Fabric, tmp_path: Path
) -> None:
    kept = await records(fabric, tmp_path / "shelf")
    decision, inputs = made()
    assert await kept.keep(decision, inputs) == digest(decision)
    await kept.hand_over()
    assert kept.latest(VAD.id, "sites") == decision
    assert kept.latest(VAD.id, "fit") is None
    stored = (await fabric.table("inputs", bytes, raw=True)).entries[decision.inputs].value
    assert replay(canonical(decision), stored) == canonical(decision)


async def test_without_fabric_they_wait_and_are_handed_over_later(
    store: MemoryCellStore, fabric: Fabric, tmp_path: Path
) -> None:
    kept = await records(fabric, tmp_path / "shelf")
    store.stop()
    await until(lambda: not fabric.connected)
    decision, inputs = made()
    await kept.keep(decision, inputs)
    await kept.hand_over()
    assert kept.latest(VAD.id, "sites") == decision, "from disk"
    store.start()
    table = await fabric.table("decisions", list[Decision])

    async def handed_over() -> bool:
        await kept.hand_over()
        return f"{VAD.id}.sites" in table.entries

    async with asyncio.timeout(10.0):
        while not await handed_over():  # noqa: ASYNC110  (the table is followed elsewhere)
            await asyncio.sleep(0.01)
    assert table.entries[f"{VAD.id}.sites"].value == [decision]


async def test_old_ones_go_with_their_inputs(fabric: Fabric, tmp_path: Path) -> None:
    kept = await records(fabric, tmp_path / "shelf")
    first = made(0)[0]
    for number in range(KEPT + 2):
        await kept.keep(*made(number))
        await kept.hand_over()
    table = await fabric.table("decisions", list[Decision])
    inputs = await fabric.table("inputs", bytes, raw=True)
    decisions = table.entries[f"{VAD.id}.sites"].value
    assert [one.at_unix_ms for one in decisions] == list(range(2, KEPT + 2))
    await until(lambda: set(inputs.entries) == {one.inputs for one in decisions})
    shelf = Shelf(tmp_path / "shelf")
    assert shelf.read(f"inputs/{first.inputs}") is None
    assert len(shelf.keys()) == KEPT + 1


async def test_a_disk_that_refuses_still_leaves_the_fabric(fabric: Fabric, tmp_path: Path) -> None:
    kept = await records(fabric, tmp_path / "shelf")
    shutil.rmtree(tmp_path / "shelf")
    decision, inputs = made()
    await kept.keep(decision, inputs)
    await kept.hand_over()
    assert kept.latest(VAD.id, "sites") == decision


async def test_the_newest_of_disk_and_fabric_counts(fabric: Fabric, tmp_path: Path) -> None:
    ours = await records(fabric, tmp_path / "ours")
    theirs = await records(fabric, tmp_path / "theirs")
    old, inputs = made(1)
    await ours.keep(old, inputs)
    newer = msgspec.structs.replace(old, epoch=2)
    await theirs.keep(newer, inputs)
    assert ours.latest(VAD.id, "sites") == old
    await theirs.hand_over()
    table = await fabric.table("decisions", list[Decision])
    await until(lambda: f"{VAD.id}.sites" in table.entries)
    await until(lambda: ours.latest(VAD.id, "sites") == newer)


async def test_a_joint_decision_stays_as_long_as_a_service_follows_it(
    fabric: Fabric, tmp_path: Path
) -> None:
    kept = await records(fabric, tmp_path / "shelf")
    subject = Subject(declared=VAD, standing=None, troubled=frozenset())
    together = gather_together(HERE, {}, [subject], Stamp(cell="fra", epoch=1, at_unix_ms=0))
    joint = where.decide(together)
    decision, inputs = made(0)
    await kept.keep_joint(joint, together)
    follows = msgspec.structs.replace(decision, joint=digest(joint))
    other = msgspec.structs.replace(follows, service=f"{VAD.id}2")
    for record in (follows, other):
        await kept.keep(record, inputs)
    await kept.hand_over()
    table = await fabric.table("inputs", bytes, raw=True)
    shelf = Shelf(tmp_path / "shelf")
    assert where.replay(table.entries[digest(joint)].value, canonical(together)) == canonical(joint)

    async def outlive(service: str) -> None:
        for number in range(1, KEPT + 1):
            later, looked_at = made(number)
            await kept.keep(msgspec.structs.replace(later, service=service), looked_at)
        await kept.hand_over()

    await outlive(VAD.id)
    assert digest(joint) in table.entries, "the other one follows it still"
    assert shelf.read(f"inputs/{digest(joint)}")
    await outlive(other.service)
    await until(lambda: not {digest(joint), digest(together)} & set(table.entries))
    assert shelf.read(f"inputs/{digest(joint)}") is None
    assert shelf.read(f"inputs/{digest(together)}") is None
