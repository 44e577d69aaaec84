"""One cell with real controller processes: placed, replaced, frozen, taken over, in doubt."""

from __future__ import annotations

import asyncio
import shutil
import signal
import time

import msgspec
import pytest

from isochrone.controller.declared import declared
from isochrone.controller.masks import countries_of
from isochrone.gateway.admin_declarations import PLAN_TIMEOUT_S
from isochrone.rules.expected import service_prior_ms
from isochrone.rules.placement import replay
from isochrone.rules.reconcile import FORGET_S
from isochrone.schema.decision import PlacementInputs
from isochrone.schema.demand import DemandReport, ServiceDemand, demand_subject
from isochrone.schema.digests import canonical, decode
from isochrone.schema.documents import SERVICE, SERVICE_PLAN, pack, seal
from isochrone.schema.errors import IsochroneError
from isochrone.schema.plans import PlanAnswer
from isochrone.schema.service import AudienceShare, ReplicaRange, Residency

from .cell_in_test import TENANT, CellInTest, node, service, until

pytestmark = pytest.mark.processes

NODES = (
    node(1, "frankfurt", provider=1),
    node(2, "paris", provider=2),
    node(3, "amsterdam", provider=3),
    node(4, "frankfurt", provider=4),
)


async def placed(cell: CellInTest, controllers: int = 1, **changes: object) -> str:
    """Nodes, controllers, a service; waits until it serves and nothing is in doubt any more."""
    await cell.add(*NODES)
    for number in range(controllers):
        await cell.controller(number + 1)
    id_ = await cell.declare(service(**changes))
    await until(lambda: len(cell.serving(id_)) == 2, what="two replicas serve")
    await until(lambda: "no more doubt" in cell.log(), what="the controller has settled")
    return id_


async def test_a_declaration_is_placed_recorded_and_routed(cell: CellInTest) -> None:
    id_ = await placed(cell)
    assert len(cell.leased(id_)) == 2
    leases = [entry.value for entry in cell.leases.entries.values()]
    assert len({lease.provider for lease in leases}) == 2, "spread over providers"
    assert {lease.epoch for lease in leases} == {1}
    assert {lease.countries for lease in leases} == {
        countries_of(Residency(allow=("EU",), evidence="declared"))
    }
    await until(lambda: f"{id_}.fit" in cell.decisions.entries, what="the fit is on record")
    for kind in ("sites", "fit"):
        decision = cell.decisions.entries[f"{id_}.{kind}"].value[-1]
        inputs = cell.inputs.entries[decision.inputs].value
        assert replay(canonical(decision), inputs) == canonical(decision)
    assert cell.quotas.entries[id_].value.home_cell == "fra"
    await asyncio.sleep(1.0)  # several passes: nothing may move without a reason
    assert len(cell.decisions.entries[f"{id_}.fit"].value) == 1
    assert {entry.value.revision for entry in cell.leases.entries.values()} == {1}


async def test_placement_counts_with_the_times_that_gateways_measure(cell: CellInTest) -> None:
    id_ = await placed(cell)

    def times_ms() -> set[float]:
        """The service times in the newest records of both levels."""
        found = (cell.decisions.entries.get(f"{id_}.{kind}") for kind in ("sites", "fit"))
        names = [entry.value[-1].inputs for entry in found if entry is not None]
        records = [cell.inputs.entries[name].value for name in names if name in cell.inputs.entries]
        inputs = [decode(record, PlacementInputs, "inputs") for record in records]
        return {one.service_ms for one in inputs} if len(inputs) == 2 else set()

    prior_ms = service_prior_ms(service().model)
    await until(lambda: times_ms() == {prior_ms}, what="nothing is measured yet")
    gateway = cell.key.address
    row = ServiceDemand(id_, 0, 0, 0, 0, 0, 0, 200, 200 * 1_000, 0, 200 * 30_000)
    report = DemandReport(gateway=gateway, cell="fra", boot="b", sequence=1, services=(row,))
    cell.fabric.publish(demand_subject("fra", gateway), msgspec.msgpack.encode(report))
    changed = service(revision=2, replicas=ReplicaRange(min=3, max=3))
    await cell.declare(changed)
    await until(lambda: len(cell.serving(id_)) == 3)
    await until(lambda: times_ms() == {31.0}, what="what was measured is on record")


async def test_a_dead_node_and_then_a_failed_replica_are_replaced(cell: CellInTest) -> None:
    id_ = await placed(cell)
    victim = cell.leased(id_)[0]
    cell.kill(victim)
    await until(
        lambda: len(cell.leased(id_)) == 2 and victim not in cell.leased(id_), what="replaced"
    )
    await until(lambda: victim not in cell.serving(id_) and len(cell.serving(id_)) == 2)
    await until(
        lambda: victim not in {entry.value.node for entry in cell.leases.entries.values()},
        within_s=FORGET_S + 3,
        what="the dead node's lease is gone from the table",
    )

    broken = cell.serving(id_)[0]
    cell.failing.add(broken)
    await until(
        lambda: len(cell.serving(id_)) == 2 and broken not in cell.serving(id_), what="replaced"
    )


async def test_a_frozen_node_is_replaced_and_not_missed_when_it_returns(cell: CellInTest) -> None:
    id_ = await placed(cell)
    victim = cell.leased(id_)[0]
    cell.freeze(victim)
    await until(
        lambda: len(cell.leased(id_)) == 2 and victim not in cell.leased(id_), what="replaced"
    )
    after = cell.leased(id_)
    del cell.frozen_s[victim]
    await asyncio.sleep(1.0)
    assert cell.leased(id_) == after


async def test_another_leader_takes_over_and_the_frozen_one_wakes_up_tame(
    cell: CellInTest,
) -> None:
    id_ = await placed(cell, controllers=2)
    before = cell.leased(id_)
    assert cell.leader is not None
    epoch = cell.leader.epoch
    first = next(n for n in (1, 2) if cell.leader.leader.startswith(cell.address_of(n)))
    cell.controllers[first].send_signal(signal.SIGSTOP)
    cell.kill(before[0])
    packed = pack(seal(SERVICE_PLAN, service(), TENANT))
    asked = asyncio.create_task(cell.fabric.request("iso.fra.plan", packed, PLAN_TIMEOUT_S))
    await until(lambda: cell.leader is not None and cell.leader.epoch > epoch, what="taken over")
    assert cell.leader is not None
    assert cell.leader.leader.startswith(cell.address_of(3 - first))
    assert await asked, "a question that came while nobody led"
    await until(lambda: before[0] not in cell.leased(id_) and len(cell.leased(id_)) == 2)
    cell.controllers[first].send_signal(signal.SIGCONT)
    await until(lambda: "standing by" in cell.log(first), what="the old leader knows")
    await asyncio.sleep(0.5)
    wanted = [e.value for e in cell.leases.entries.values() if e.value.desired == "serving"]
    epochs = sorted(lease.epoch for lease in wanted)
    assert epochs[0] <= epoch < epochs[1], "only the new leader has written"
    assert before[1] in cell.leased(id_), "what runs is not moved by a takeover"


async def test_an_orderly_end_hands_over_at_once(cell: CellInTest) -> None:
    await placed(cell, controllers=2)
    assert cell.leader is not None
    before = cell.leader.epoch
    first = next(n for n in (1, 2) if cell.leader.leader.startswith(cell.address_of(n)))
    leaders: list[str] = []
    cell.leadership.on_change.append(lambda: leaders.append(cell.leader.leader))  # type: ignore[union-attr]
    cell.controllers[first].terminate()
    await until(lambda: cell.leader is not None and cell.leader.epoch > before)
    assert "" in leaders, "it resigned; nobody had to wait for its silence"


async def test_a_disk_that_fails_does_not_stop_repairs(cell: CellInTest) -> None:
    id_ = await placed(cell)
    state = cell.folder / "controller-1" / "state"
    for shelf in ("documents", "decisions", "routes", "leadership"):
        shutil.rmtree(state / shelf)
    victim = cell.leased(id_)[0]
    cell.kill(victim)
    await until(
        lambda: len(cell.serving(id_)) == 2 and victim not in cell.serving(id_), what="replaced"
    )
    await until(lambda: len(cell.decisions.entries[f"{id_}.fit"].value) == 2, what="on record")
    assert 1 <= cell.log().count("cannot write to") <= 10, "said, and not for ever"


async def test_without_gateways_nothing_is_ended(cell: CellInTest) -> None:
    id_ = await placed(cell)
    before, routes = cell.leased(id_), cell.serving(id_)
    await cell.publisher.close()
    await until(lambda: "no gateway of the cell is heard" in cell.log(), what="it says so")
    await asyncio.sleep(1.5)
    assert cell.leased(id_) == before
    assert cell.serving(id_) == routes


async def test_a_restart_moves_nothing(cell: CellInTest) -> None:
    id_ = await placed(cell)
    before = cell.leased(id_)
    cell.end_controller(1, signal.SIGKILL)
    await cell.controller()
    await until(lambda: cell.leader is not None and cell.leader.epoch == 2)
    newest = max(cell.routes, key=lambda table: (table.epoch, table.sequence))
    assert all(len(one.replicas) == 2 for table in cell.routes[3:] for one in table.services)
    await until(lambda: any(table.epoch == 2 for table in cell.routes))
    await asyncio.sleep(1.0)
    assert cell.leased(id_) == before
    assert newest.services


async def test_a_new_revision_and_a_deletion_are_followed(cell: CellInTest) -> None:
    id_ = await placed(cell)
    await cell.declare(service(revision=2, replicas=ReplicaRange(min=3, max=3)))
    await until(lambda: len(cell.serving(id_)) == 3, what="three replicas")
    await cell.declare(
        service(revision=3, residency=Residency(allow=("DE", "NL"), evidence="declared"))
    )
    paris = NODES[1].address
    await until(
        lambda: len(cell.serving(id_)) == 2 and paris not in cell.serving(id_),
        what="only legal nodes serve",
    )
    await cell.declare(service(revision=4, deleted=True))
    await until(lambda: not cell.leases.entries and not cell.serving(id_), what="all are gone")


async def test_a_plan_says_where_and_keeps_nothing(cell: CellInTest) -> None:
    await cell.add(*NODES)
    await cell.controller()
    await until(lambda: cell.leader is not None)

    async def plan(**changes: object) -> PlanAnswer:
        packed = pack(seal(SERVICE_PLAN, service(**changes), TENANT))
        return msgspec.json.decode(
            await cell.fabric.request("iso.fra.plan", packed, PLAN_TIMEOUT_S), type=PlanAnswer
        )

    deadline_s = time.monotonic() + 10
    while True:  # the controller hears the gateway's first digest within a moment
        answer = await plan()
        if answer.plan and len(answer.plan.sites) == 2:
            break
        assert time.monotonic() < deadline_s
    assert answer.plan is not None
    assert answer.plan.coverage[0].country == "DE"
    assert answer.plan.base_urls == {"fra": "http://fra.test"}
    assert answer.plan.price_microusd_per_hour > 0
    assert "declared" in answer.plan.evidence_note
    nowhere = await plan(residency=Residency(allow=("JP",), evidence="declared"))
    assert nowhere.plan is not None
    assert nowhere.plan.blocking
    unknown = await plan(audience=(AudienceShare(where="Atlantis"),))
    assert unknown.refusal is not None
    assert unknown.refusal.code == "invalid_input"
    forged = await cell.fabric.request("iso.fra.plan", b"not a document", 5.0)
    assert msgspec.json.decode(forged, type=PlanAnswer).refusal is not None
    assert not cell.leases.entries
    assert not cell.quotas.entries


async def test_a_second_process_on_one_directory_is_refused(cell: CellInTest) -> None:
    await cell.controller()
    folder = cell.folder / "controller-1"
    process = await asyncio.create_subprocess_exec(
        *(*_command(), str(folder / "config.json")), stderr=asyncio.subprocess.PIPE
    )
    _, said = await process.communicate()
    assert process.returncode == 1
    assert b"Another controller runs from" in said


def _command() -> tuple[str, ...]:
    import sys

    return sys.executable, "-m", "isochrone.controller"


def test_a_declaration_with_replicas_out_of_range_is_invalid() -> None:
    document = pack(seal(SERVICE, service(replicas=ReplicaRange(min=3, max=2)), TENANT))
    with pytest.raises(IsochroneError):
        declared(document)
