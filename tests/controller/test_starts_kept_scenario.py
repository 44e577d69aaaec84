"""A takeover by a real controller that never saw the starts which it plans from."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from isochrone.schema.lease import Lease, LeaseStatus
from isochrone.schema.node import Resources
from isochrone.schema.service import ReplicaRange, Scaling

from .cell_in_test import CellInTest, node, service, until

pytestmark = pytest.mark.processes

LOAD_MS = 41_000.0
"""Far from the prior of a model without files, which is two seconds."""


class SlowCell(CellInTest):
    """Its nodes say how long a start took."""

    def _status(self, lease: Lease) -> LeaseStatus:
        status = super()._status(lease)
        return msgspec.structs.replace(status, load_ms=LOAD_MS, first_answer_ms=500.0)

    def start_s(self, id_: str) -> float:
        """How long a start takes, as this cell's gateways were told last; 0: they were not."""
        newest = max(self.routes, key=lambda table: (table.epoch, table.sequence), default=None)
        rows = newest.services if newest is not None else ()
        told = [row.starting for row in rows if row.service == id_ and row.starting]
        return told[0].start_s if told else 0.0


@pytest.fixture
async def cell(tmp_path: Path) -> AsyncIterator[SlowCell]:
    made = SlowCell(tmp_path)
    try:
        await made.start()
        yield made
    finally:
        await made.stop()


async def test_a_new_leader_knows_starts_whose_leases_are_gone(cell: SlowCell) -> None:
    await cell.add(node(1, "frankfurt"))
    await cell.controller(1)
    seen = await cell.declare(service("seen", replicas=ReplicaRange(min=1, max=1)))
    await until(lambda: len(cell.serving(seen)) == 1, what="the replica serves")
    # The same model, which nobody can start: only memory tells how long it would take.
    asleep = await cell.declare(
        service(
            "asleep",
            replicas=ReplicaRange(min=0, max=1),
            scaling=Scaling(follow=True),
            resources=Resources(memory_mib=10**6),
        )
    )
    await until(lambda: cell.start_s(asleep) > LOAD_MS / 1000, what="the start was measured")
    await cell.declare(
        service("seen", revision=2, deleted=True, replicas=ReplicaRange(min=1, max=1))
    )
    await until(lambda: not cell.leases.entries, what="its lease is forgotten")
    table = await cell.fabric.table("starts", dict)
    await until(lambda: bool(table.entries), what="the memory is kept")

    cell.end_controller(1, signal.SIGKILL)
    before = cell.routes[-1].epoch
    await cell.controller(2)
    await until(lambda: cell.routes[-1].epoch > before, what="another leader tells")
    await until(lambda: cell.start_s(asleep) > LOAD_MS / 1000, what="it knows the measured start")
    assert not cell.leases.entries, "and no lease could have told it"
