"""Two cells joined by hubs: the home chooses, each cell fits, law and repairs stay local."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec
import pytest

from isochrone.cell.ports import free_ports
from isochrone.fabric.server import HubSpec, NatsServer
from isochrone.schema.deployment import Deployment
from isochrone.schema.identity import PrivateKey
from isochrone.schema.invitations import invited
from isochrone.schema.plans import CellOffers, PlanAnswer, QuotaAnswer
from isochrone.schema.service import AudienceShare, Objective, ReplicaRange, Residency

from .cell_in_test import CREDENTIALS, TENANT, CellInTest, node, service, until

pytestmark = pytest.mark.processes

FRA = (
    node(1, "frankfurt", provider=1),
    node(2, "paris", provider=2),
    node(3, "amsterdam", provider=3),
)
SIN = (
    node(11, "singapore", provider=1, cell="sin"),
    node(12, "singapore", provider=4, cell="sin"),
    node(13, "tokyo", provider=5, cell="sin"),
)
EVERYWHERE = {
    "audience": (AudienceShare(where="DE"), AudienceShare(where="SG")),
    "objective": Objective(latency_ms=60),
    "residency": Residency(),
    "replicas": ReplicaRange(min=2, max=2),
}


CHAIN = Deployment(chain_id=31337, bonds="0x" + "b" * 40, genesis_unix_s=1_700_000_000)


def settling(cell: CellInTest) -> dict[str, object]:
    """What a controller is told in a cell that settles."""
    return {"ledger": CHAIN, "spending_key_path": str(cell.folder / "spending.key")}


def spending_key(cell: CellInTest) -> str:
    return PrivateKey.load_or_create(cell.folder / "spending.key").address


async def _joined(tmp_path: Path, ports: list[int], ending: AsyncExitStack) -> list[CellInTest]:
    """Two cells with their hubs; ``ending`` ends whatever was started."""
    cells = []
    gateways = dict(zip(("fra", "sin"), ports[:2], strict=True))
    leaves = dict(zip(("fra", "sin"), ports[2:], strict=True))
    for name, metro in (("fra", "frankfurt"), ("sin", "singapore")):
        others = {cell: f"127.0.0.1:{port}" for cell, port in gateways.items() if cell != name}
        spec = HubSpec(
            cell=name,
            folder=str(tmp_path / f"hub-{name}"),
            credentials=CREDENTIALS,
            others=others,
            leaf_port=leaves[name],
            gateway_port=gateways[name],
        )
        hub = await NatsServer.start(spec)
        ending.push_async_callback(hub.stop)
        cell = CellInTest(tmp_path / name, name, metro)
        ending.push_async_callback(cell.stop)
        await cell.start(leaf_of=leaves[name])
        cells.append(cell)
    return cells


@pytest.fixture
async def cells(tmp_path: Path) -> AsyncIterator[list[CellInTest]]:
    async with AsyncExitStack() as ending:
        made = await _joined(tmp_path, free_ports(4), ending)
        offers: set[str] = set()
        await made[0].fabric.subscribe("iso.*.offers", lambda subject, _: offers.add(subject))
        await made[0].add(*FRA)
        await made[1].add(*SIN)
        for cell in made:
            await cell.controller(**settling(cell))
        await until(lambda: len(offers) == 2, what="the cells hear each other")
        for cell in made:
            await until(lambda cell=cell: "no more doubt" in cell.log(), what="settled")
        yield made


async def test_sites_in_two_cells_and_a_cell_that_repairs_itself(cells: list[CellInTest]) -> None:
    fra, sin = cells
    id_ = await fra.declare(service(**EVERYWHERE))
    await until(lambda: len(fra.serving(id_)) == 1 and len(sin.serving(id_)) == 1, what="both")
    assert sin.quotas.entries[id_].value.home_cell == "fra"
    assert id_ not in sin.services.entries, "a service lives in its home's table only"
    decisions = len(fra.decisions.entries[f"{id_}.sites"].value)

    victim = sin.leased(id_)[0]
    sin.kill(victim)
    await until(lambda: sin.leased(id_) not in ([], [victim]), what="the cell repairs itself")
    await asyncio.sleep(1.0)
    assert len(fra.decisions.entries[f"{id_}.sites"].value) == decisions, "home was not needed"

    await fra.declare(service(**{**EVERYWHERE, "revision": 2, "deleted": True}))
    await until(lambda: not sin.leased(id_) and not fra.leased(id_), what="withdrawn")


async def test_home_invites_whoever_leads_a_cell_that_it_grants_a_quota(
    cells: list[CellInTest],
) -> None:
    fra, sin = cells
    wanted = service(**EVERYWHERE, home_key=spending_key(fra))
    id_ = await fra.declare(wanted)
    keyless = await fra.declare(service("keyless", **EVERYWHERE))
    await until(lambda: id_ in sin.quotas.entries and keyless in sin.quotas.entries, what="quotas")

    def guest(cell: CellInTest) -> str:
        given = cell.quotas.entries[id_].value.invitation
        told = invited(given, wanted, id_) if given else None
        return told.controller if told and told.cell == cell.name else ""

    await until(lambda: guest(sin) == sin.address_of(1), what="Singapore is invited")
    assert guest(fra) == fra.address_of(1)
    assert sin.quotas.entries[keyless].value.invitation == b""
    await sin.controller(2, **settling(sin))
    sin.end_controller(1)
    await until(lambda: guest(sin) == sin.address_of(2), what="the next leader is invited")


async def test_plans_see_all_cells_and_the_mask_excludes_one(cells: list[CellInTest]) -> None:
    fra, sin = cells
    await _plan_sees_all_cells(fra)
    id_ = await fra.declare(
        service(**{**EVERYWHERE, "residency": Residency(allow=("EU",), evidence="declared")})
    )
    await until(lambda: len(fra.serving(id_)) == 2, what="both replicas are in the EU")
    assert not sin.quotas.entries
    forged = msgspec.structs.replace(fra.quotas.entries[id_].value, cell="sin")
    reply = await fra.fabric.request("iso.sin.quota", msgspec.json.encode(forged), 3.0)
    answer = msgspec.json.decode(reply, type=QuotaAnswer)
    assert (answer.accepted, answer.code) == (False, "residency")
    assert not sin.quotas.entries


async def test_a_cell_that_cannot_place_its_grant_is_relieved_by_home(
    cells: list[CellInTest],
) -> None:
    fra, sin = cells
    id_ = await fra.declare(service(**EVERYWHERE))
    await until(lambda: len(sin.serving(id_)) == 1, what="one in Singapore")
    for one in SIN:
        sin.dead.add(one.address)
    sin.publisher.now()
    await until(lambda: len(fra.serving(id_)) == 2, within_s=20, what="home moved it")
    assert "cannot place its quota" in fra.log()


async def _plan_sees_all_cells(fra: CellInTest) -> None:
    from isochrone.schema.documents import SERVICE_PLAN, pack, seal

    told: list[CellOffers] = []
    await fra.fabric.subscribe(
        "iso.sin.offers", lambda _, data: told.append(msgspec.json.decode(data, type=CellOffers))
    )
    await until(lambda: bool(told) and len(told[-1].nodes) == 3, what="offers are whole")
    packed = pack(seal(SERVICE_PLAN, service(**EVERYWHERE), TENANT))
    reply = await fra.fabric.request("iso.fra.plan", packed, 5.0)
    plan = msgspec.json.decode(reply, type=PlanAnswer).plan
    assert plan is not None
    assert {site.cell for site in plan.sites} == {"fra", "sin"}
    assert plan.base_urls == {"fra": "http://fra.test", "sin": "http://sin.test"}
    assert {row.country: row.cell for row in plan.coverage} == {"DE": "fra", "SG": "sin"}
