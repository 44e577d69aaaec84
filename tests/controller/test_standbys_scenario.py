"""Standbys by a real controller: replaced, taken first, kept at rest and by a new leader."""

from __future__ import annotations

import signal

import msgspec
import pytest

from isochrone.schema.plans import CellOffers
from isochrone.schema.service import ReplicaRange, Scaling

from .cell_in_test import CellInTest, node, service, until

pytestmark = pytest.mark.processes

NODES = (
    node(1, "frankfurt", provider=1),
    node(2, "frankfurt", provider=1),
    node(3, "frankfurt", provider=2),
    node(4, "paris", provider=3),
)


def warm(warm: int = 1, least: int = 1, **changes: object) -> dict[str, object]:
    return {
        "replicas": ReplicaRange(min=least, max=max(1, least)),
        "scaling": Scaling(warm=warm),
        **changes,
    }


async def test_a_standby_is_replaced_and_takes_over_first(cell: CellInTest) -> None:
    await cell.add(*NODES)
    await cell.controller(1)
    id_ = await cell.declare(service(**warm()))  # type: ignore[arg-type]
    await until(lambda: len(cell.serving(id_)) == 1 == len(cell.standing_by(id_)))
    (serving,), (kept,) = cell.serving(id_), cell.standing_by(id_)
    assert cell.nodes[kept].provider != cell.nodes[serving].provider
    (lease,) = [e.value for e in cell.leases.entries.values() if e.value.node == kept]
    assert lease.price_microusd_per_hour == 0
    assert lease.countries, "written out as for replicas"

    cell.kill(kept)  # a dead standby: another node keeps the model
    await until(lambda: bool(cell.standing_by(id_)) and kept not in cell.standing_by(id_))
    assert cell.serving(id_) == [serving]
    (other,) = cell.standing_by(id_)

    cell.kill(serving)  # a dead replica: the standby's node runs the next one
    await until(lambda: cell.serving(id_) == [other], what="the standby's node serves")
    await until(lambda: len(cell.standing_by(id_)) == 1 and other not in cell.standing_by(id_))

    await cell.declare(service(**warm(revision=2, deleted=True)))  # type: ignore[arg-type]
    await until(lambda: not cell.serving(id_) and not cell.standing_by(id_))


async def test_one_more_replica_starts_where_the_files_are(cell: CellInTest) -> None:
    await cell.add(*NODES)
    await cell.controller(1)
    id_ = await cell.declare(service(**warm()))  # type: ignore[arg-type]
    await until(lambda: len(cell.serving(id_)) == 1 == len(cell.standing_by(id_)))
    (kept,) = cell.standing_by(id_)
    told: list[CellOffers] = []
    await cell.fabric.subscribe(
        "iso.*.offers", lambda _, data: told.append(msgspec.json.decode(data, type=CellOffers))
    )
    await until(
        lambda: bool(told) and any(row.state == "standby" for row in told[-1].replicas),
        what="the controller knows that the files are there",
    )
    await cell.declare(service(**warm(least=2, revision=2)))  # type: ignore[arg-type]
    await until(lambda: len(cell.serving(id_)) == 2)
    assert kept in cell.serving(id_)
    await until(lambda: len(cell.standing_by(id_)) == 1 and kept not in cell.standing_by(id_))


async def test_at_rest_the_model_is_kept_also_by_the_next_leader(cell: CellInTest) -> None:
    await cell.add(*NODES)
    await cell.controller(1)
    id_ = await cell.declare(
        service(replicas=ReplicaRange(min=0, max=2), scaling=Scaling(follow=True, warm=2))
    )
    await until(lambda: len(cell.standing_by(id_)) == 2, what="standbys without a replica")
    assert cell.leased(id_) == []
    before = {key for key, e in cell.leases.entries.items() if e.value.desired == "standby"}

    cell.end_controller(1, signal.SIGKILL)
    epoch = cell.routes[-1].epoch
    await cell.controller(2)
    await until(lambda: cell.routes[-1].epoch > epoch, what="another leader tells")
    quota = cell.quotas.entries[id_].value
    await until(
        lambda: cell.quotas.entries[id_].value.epoch > quota.epoch, what="it grants them anew"
    )
    assert sum(site.replicas for site in cell.quotas.entries[id_].value.standby) == 2
    after = {key for key, e in cell.leases.entries.items() if e.value.desired == "standby"}
    assert after == before, "none was moved"
