"""With real node processes: both sides count, sign, keep and hand over; crashes on either side."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from pathlib import Path

import msgspec
import pytest
from tests.node.node_process import NodeProcess

from isochrone.client.counting import Counting
from isochrone.gateway.process import Gateway
from isochrone.records.spool import Spool
from isochrone.rules.tally_batches import Message, unpack_message
from isochrone.schema.documents import FINAL_NEWS, STANDBY_RECORD, pack, seal, unpack, unseal
from isochrone.schema.identity import PrivateKey, recover
from isochrone.schema.record_batch import StandbyRecord
from isochrone.schema.settling import S_FINAL, FinalNews
from isochrone.schema.tally import TallyAccepted
from isochrone.schema.typed_data import tenant_count

from .tally_town import Validator, ask, ask_many, deployment, serve, start_node
from .town import FRANKFURT, Town, http_port, until

pytestmark = pytest.mark.processes


def kept(node: NodeProcess) -> list[Message]:
    """What the spool of a node that is not running holds."""
    spool = Spool.open(Path(node.config.state_dir) / "spool")
    try:
        return [unpack_message(r) for epoch in spool.epochs() for r in spool.read(epoch)]
    finally:
        spool.close()


@pytest.mark.slow
async def test_what_was_served_is_signed_by_both_and_handed_over_by_both(town: Town) -> None:
    terms = deployment()
    gateway = await town.gateway("gw", FRANKFURT, ledger=terms)
    validator = await Validator(terms).open(town)
    node = start_node(town, [gateway], 0, ledger=terms)
    await serve(town, gateway, [node])
    answers = await ask_many(town, gateway, 60)
    assert {answer.status for answer in answers} == {200}
    await until(lambda: validator.total() >= 60, 20)
    assert validator.total() == 60
    counts = [validator.counts(head) for head in validator.heads.values()]
    assert sum(sum(count[10:]) for count in counts) == 60  # each has a latency
    assert 0 < validator.total(9) <= len(counts) * terms.epoch_s * 1000 + 1000
    assert gateway.signer.counters["forged"] == 0
    sources = {gateway.key.address, node.address}
    await until(lambda: {batch.source for batch in validator.batches} == sources, 10)
    told = {h.chain.id for b in validator.batches if b.source == node.address for h in b.heads}
    assert told

    def documents() -> list[StandbyRecord]:
        found = [unpack(d) for batch in validator.batches for d in batch.documents]
        return [unseal(document, STANDBY_RECORD, StandbyRecord)[0] for document in found]

    await until(lambda: any(record.live_ms > 1000 for record in documents()), 15)
    record = max(documents(), key=lambda record: record.live_ms)
    assert (record.node, record.gateway) == (node.address, gateway.key.address)
    assert record.free_cpu_milli > 0


async def test_a_tenants_own_count_is_signed_and_kept_beside_the_heads(town: Town) -> None:
    terms = deployment(6)
    gateway = await town.gateway("gw", FRANKFURT, ledger=terms)
    validator = await Validator(terms).open(town)
    node = start_node(town, [gateway], 0, ledger=terms)
    await serve(town, gateway, [node])
    await until(lambda: gateway.signer.told, 5)  # a chain is open
    url = f"http://127.0.0.1:{http_port(gateway)}"
    with await asyncio.to_thread(Counting, url, town.tenant, post_s=0.2) as counting:
        seen: list[str] = []
        for _ in range(12):
            answer = await ask(town, gateway)
            counting.saw(answer.headers)
            seen.append(answer.headers["isochrone-count"])
        assert len({count.partition(":")[0] for count in seen}) <= 2
        await until(lambda: sum(h.tenant_requests for h in validator.heads.values()) == 12, 20)
        assert counting.discrepancies == ()
        await asyncio.to_thread(counting.close)
    for head in validator.heads.values():
        if head.tenant_requests:
            digest = tenant_count(terms.domain, head.chain.id, head.tenant_requests)
            assert recover(digest, head.tenant_signature) == town.tenant.address


@pytest.mark.slow
async def test_a_killed_node_goes_on_without_signing_anything_twice(town: Town) -> None:
    terms = deployment()
    gateway = await town.gateway("gw", FRANKFURT, ledger=terms)
    validator = await Validator(terms).open(town)
    node = start_node(town, [gateway], 0, ledger=terms)
    await serve(town, gateway, [node])
    asked = 0

    async def traffic() -> None:
        nonlocal asked
        while True:
            asked += 1
            await ask(town, gateway)

    load = asyncio.create_task(traffic())
    try:
        for _ in range(2):
            before = gateway.signer.counters["accepted"]
            await until(lambda b=before: gateway.signer.counters["accepted"] > b + 1, 20)
            node.signal(signal.SIGKILL)
            await node.ended(10)
            signed = [m for m in kept(node) if isinstance(m, TallyAccepted)]
            assert len({(m.chain, m.position) for m in signed}) == len(signed)
            node.close()
            node.start()
            await until(lambda: _serves(gateway, node.address), 20)
        before = gateway.signer.counters["accepted"]
        await until(lambda: gateway.signer.counters["accepted"] > before + 1, 20)
    finally:
        load.cancel()
        await asyncio.gather(load, return_exceptions=True)
    assert gateway.signer.counters["forged"] == 0
    await until(lambda: not gateway.hand.behind, 20)
    assert 0 < validator.total() <= asked  # nothing is charged twice; the validator saw no fork


def _serves(gateway: Gateway, node: str) -> bool:
    known = gateway.fleet.nodes.get(node)
    status = known.statuses.get("l0") if known is not None else None
    return status is not None and status.state == "serving"


@pytest.mark.slow
async def test_final_epochs_leave_both_spools(town: Town) -> None:
    terms = deployment(2)
    key = PrivateKey.generate()
    gateway = await town.gateway("gw", FRANKFURT, ledger=terms, validators=(key.address,))
    node = start_node(town, [gateway], 0, ledger=terms)
    await serve(town, gateway, [node])
    await until(lambda: len(gateway.kept.epochs()) >= 3, 20)
    epoch = gateway.kept.epochs()[-2]
    stranger = PrivateKey.generate()
    news = FinalNews(epoch=epoch, root="")
    town.fabric.publish(S_FINAL, pack(seal(FINAL_NEWS, news, stranger)))
    town.fabric.publish(S_FINAL, pack(seal(FINAL_NEWS, news, key)))
    await until(lambda: gateway.kept.epochs() and gateway.kept.epochs()[0] > epoch, 10)
    assert gateway.ledger_news.refused == 1
    folder = Path(node.config.state_dir) / "spool"

    def oldest() -> int:
        names = [int(path.name.split(".")[0]) for path in folder.glob("*.spool")]
        return min(names, default=0)

    await until(lambda: oldest() > epoch, 15)


async def test_a_node_of_another_deployment_says_so_and_is_not_asked_for_long(town: Town) -> None:
    gateway = await town.gateway("gw", FRANKFURT, ledger=deployment())
    node = start_node(town, [gateway], 0, ledger=deployment(chain_id=99))
    await serve(town, gateway, [node])
    await ask_many(town, gateway, 3)
    await until(lambda: gateway.signer.counters["refused_bad_signature"] >= 2, 20)
    await until(lambda: gateway.tallies.barred(), 10)
    assert "not signed" in " ".join(gateway.views.status().notes)
    with contextlib.suppress(FileNotFoundError):
        assert "chain 99" in node.log()


async def test_no_validator_stops_nothing(town: Town) -> None:
    gateway = await town.gateway("gw", FRANKFURT)  # no chain of money either
    node = start_node(town, [gateway], 0)
    await serve(town, gateway, [node])
    began = time.monotonic()
    while time.monotonic() - began < 1:
        assert (await ask(town, gateway)).status == 200
    await until(lambda: gateway.signer.counters["accepted"] >= 1, 10)
    assert msgspec.to_builtins(gateway.views.status())["failed"] == 0
