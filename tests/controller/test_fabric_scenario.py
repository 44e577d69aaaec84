"""The fabric goes away, comes back empty, or never was there: nothing that runs is disturbed."""

from __future__ import annotations

import asyncio
import shutil
import signal
from pathlib import Path

import pytest

from isochrone.fabric.server import NatsServer

from .cell_in_test import CellInTest, node, service, until

pytestmark = pytest.mark.processes

NODES = (
    node(1, "frankfurt", provider=1),
    node(2, "paris", provider=2),
    node(3, "amsterdam", provider=3),
)


async def placed(cell: CellInTest) -> str:
    await cell.add(*NODES)
    await cell.controller()
    id_ = await cell.declare(service())
    await until(lambda: len(cell.serving(id_)) == 2, what="two replicas serve")
    await until(lambda: "no more doubt" in cell.log(), what="the controller has settled")
    return id_


async def test_while_the_fabric_is_away_nothing_changes_and_it_says_so(cell: CellInTest) -> None:
    id_ = await placed(cell)
    before = cell.leased(id_)
    await cell.server.stop()
    await until(lambda: "the fabric is away" in cell.log(), what="it says so")
    cell.server = await NatsServer.start(cell.spec)
    await until(lambda: cell.log().count("no more doubt") >= 2, what="it trusts its view again")
    assert cell.leased(id_) == before
    cell.kill(before[0])
    await until(
        lambda: len(cell.leased(id_)) == 2 and before[0] not in cell.leased(id_),
        what="it acts again",
    )


async def test_an_empty_fabric_is_seeded_again_and_nothing_is_ended(cell: CellInTest) -> None:
    id_ = await placed(cell)
    before = {key: entry.value for key, entry in cell.leases.entries.items()}
    await cell.server.stop()
    shutil.rmtree(Path(cell.spec.folder) / "jetstream")
    cell.server = await NatsServer.start(cell.spec)
    await until(lambda: "re-seeding" in cell.log(), what="it notices")
    other = await _fresh_view(cell)
    try:
        await until(lambda: set(other.leases.entries) == set(before), what="leases are back")
        assert {key: e.value for key, e in other.leases.entries.items()} == before
        await until(lambda: id_ in other.services.entries, what="the declaration is back")
        await until(lambda: id_ in other.quotas.entries, what="the quota is back")
        await until(lambda: other.leader is not None and other.leader.epoch >= 2)
    finally:
        await other.fabric.close()
    await until(lambda: cell.serving(id_) == [lease.node for lease in _sorted(before)])


async def test_crash_and_empty_fabric_together(cell: CellInTest) -> None:
    """The controller and the store die at once; its documents bring everything back."""
    id_ = await placed(cell)
    before = {key: entry.value for key, entry in cell.leases.entries.items()}
    kept = cell.folder / "controller-1" / "state" / "documents" / "leases"
    await until(lambda: len(list(kept.glob("*.doc"))) == 2, what="leases are on disk")
    cell.end_controller(1, signal.SIGKILL)
    for snapshot in (cell.folder / "controller-1" / "state" / "fabric").rglob("*.snapshot"):
        snapshot.unlink()
    await cell.server.stop()
    shutil.rmtree(Path(cell.spec.folder) / "jetstream")
    cell.server = await NatsServer.start(cell.spec)
    await cell.controller()
    other = await _fresh_view(cell)
    try:
        await until(lambda: set(other.leases.entries) == set(before), what="leases are back")
        assert {key: e.value for key, e in other.leases.entries.items()} == before
    finally:
        await other.fabric.close()
    assert len(cell.leased(id_)) == 2


async def test_a_controller_starts_without_any_fabric(cell: CellInTest) -> None:
    id_ = await placed(cell)
    before = cell.leased(id_)
    cell.end_controller(1)
    await cell.server.stop()
    await cell.controller()
    await until(lambda: "the fabric is away" in cell.log().split("standing")[-1])
    cell.server = await NatsServer.start(cell.spec)
    await until(lambda: cell.leader is not None and cell.leader.epoch == 2, what="it leads again")
    await asyncio.sleep(0.5)
    assert cell.leased(id_) == before


async def _fresh_view(cell: CellInTest) -> CellInTest:
    """What somebody reads who has no memory of this fabric."""
    from isochrone.fabric.connection import Fabric
    from isochrone.schema.leadership import Leadership
    from isochrone.schema.lease import Lease, Quota

    other = CellInTest(cell.folder / "other")
    other.fabric = await Fabric.connect([cell.url], cell.name, "other", cell.folder / "other")
    other.leases = await other.fabric.table("leases", Lease)
    other.services = await other.fabric.table("services", bytes, raw=True)
    other.quotas = await other.fabric.table("quotas", Quota)
    other.leadership = await other.fabric.table("leadership", Leadership)
    return other


def _sorted(leases: dict) -> list:  # type: ignore[type-arg]
    return [leases[key] for key in sorted(leases)]
