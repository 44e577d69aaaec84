"""Two tenants who want more than there is, with a real controller: notice, fair shares, quiet."""

from __future__ import annotations

import asyncio
import time

import pytest

from isochrone.rules import versions
from isochrone.schema.digests import canonical
from isochrone.schema.identity import PrivateKey
from isochrone.schema.node import Capacity, Resources
from isochrone.schema.service import ReplicaRange

from .cell_in_test import CellInTest, node, service, until

pytestmark = pytest.mark.processes

LATE = PrivateKey(b"\x09" * 32)
NOTICE_S = 1.0
FOUR = ReplicaRange(min=4, max=4)
CORE = Resources(cpu_milli=1000, memory_mib=256)


async def test_a_late_tenant_gets_its_share_after_the_notice_and_nobody_flaps(
    cell: CellInTest,
) -> None:
    one = Capacity(cpu_milli=1000, memory_mib=1024, engines=("onnx",))
    await cell.add(*(node(n, "frankfurt", provider=n, capacity=one) for n in range(1, 5)))
    await cell.controller(notice_s=NOTICE_S)
    first = await cell.declare(service("first", replicas=FOUR, resources=CORE))
    await until(lambda: len(cell.serving(first)) == 4, what="the first has all there is")
    late = await cell.declare(service("late", replicas=FOUR, resources=CORE), LATE)

    def told() -> bool:
        entry = cell.decisions.entries.get(f"{first}.fit")
        rows = entry.value[-1].candidates if entry else ()
        return any("must go" in row.detail for row in rows)

    await until(told, what="the first is told")
    told_s = time.monotonic()
    assert len(cell.leased(first)) == 4, "it serves on while it has notice"
    await until(lambda: len(cell.leased(first)) < 4, what="the notice is over")
    assert time.monotonic() - told_s > NOTICE_S / 2, "and it was given the time"
    await until(lambda: len(cell.serving(late)) == 2, what="the late one has its half")
    assert len(cell.serving(first)) == 2

    held = cell.leased(first), cell.leased(late)
    writes = {key: entry.revision for key, entry in cell.leases.entries.items()}
    deadline_s = time.monotonic() + 1.5
    while time.monotonic() < deadline_s:  # stability cannot be waited for, only looked at
        assert (cell.leased(first), cell.leased(late)) == held
        await asyncio.sleep(0.05)
    assert {key: entry.revision for key, entry in cell.leases.entries.items()} == writes

    for id_ in (first, late):
        for decision in cell.decisions.entries[f"{id_}.fit"].value:
            record = canonical(decision)
            assert versions.replay(record, cell.inputs.entries[decision.inputs].value) == record
