"""Lease records on their way to the validators: acknowledged, repeated, kept on disk, forgotten."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from isochrone.controller.lease_telling import EPOCHS_KEPT, LeaseTelling
from isochrone.controller.shelf import Shelf
from isochrone.fabric.connection import Fabric
from isochrone.lab.twins.fabric import MemoryCells
from isochrone.rules.tally_batches import BATCH_BYTES_MAX
from isochrone.schema.deployment import Deployment
from isochrone.schema.documents import (
    FINAL_NEWS,
    INVITATION,
    LEASE_RECORD,
    RECORDS_WANTED,
    pack,
    seal,
    unpack,
    unseal,
)
from isochrone.schema.identity import PrivateKey
from isochrone.schema.record_batch import Invitation, LeaseRecord, RecordBatch
from isochrone.schema.settling import (
    S_FINAL,
    S_WANTED,
    FinalNews,
    RecordsAck,
    RecordsWanted,
    records_subject,
)

from .cell_in_test import until
from .worlds import declare, lease, node, quota, seen, service, world

CHAIN = Deployment(chain_id=31337, genesis_unix_s=1_000_000, epoch_s=60)
KEY = PrivateKey(b"\x06" * 32)
VALIDATORS = tuple(PrivateKey(bytes([n]) * 32) for n in (11, 12, 13))
HOME = PrivateKey(b"\x05" * 32)
KNOWN = declare(service(home_key=HOME.address))
INVITED = pack(
    seal(INVITATION, Invitation(service=KNOWN.id, cell="fra", controller=KEY.address), HOME)
)
NODES = tuple(node(n + 1, "frankfurt", grant=bytes(40_000)) for n in range(20))


def wanted(epoch: int, at_unix_ms: int, by: PrivateKey) -> bytes:
    return pack(seal(RECORDS_WANTED, RecordsWanted(epoch=epoch, at_unix_ms=at_unix_ms), by))


class Desk:
    """A validator's ear on the other side of an in-memory fabric, and the controller's telling."""

    def __init__(self, fabric: Fabric, folder: Path) -> None:
        self.fabric = fabric
        self.folder = folder
        self.now_ms = CHAIN.start_unix_ms(5)
        self.leads = True
        self.deaf = False
        self.batches: list[RecordBatch] = []
        self.telling = self.again()

    def again(self) -> LeaseTelling:
        return LeaseTelling(
            self.fabric,
            "fra",
            KEY,
            CHAIN,
            Shelf(self.folder / "records"),
            lambda: self.leads,
            lambda: self.now_ms,
            [key.address for key in VALIDATORS],
        )

    async def hear(self, data: bytes) -> bytes | None:
        if self.deaf:
            return None
        self.batches.append(msgspec.msgpack.decode(data, type=RecordBatch))
        return msgspec.json.encode(RecordsAck(validator="0x"))

    def records(self) -> list[LeaseRecord]:
        found = []
        for batch in self.batches:
            for document in batch.documents:
                record, signer = unseal(unpack(document), LEASE_RECORD, LeaseRecord)
                assert signer == KEY.address == batch.source
                assert record.epoch == batch.epoch
                found.append(record)
        return found

    async def serve(self, count: int, at_ms: int) -> None:
        self.now_ms = at_ms
        rows = tuple(lease(f"l{n}", KNOWN, NODES[n]) for n in range(count))
        sight = {NODES[n]: seen((f"l{n}", "serving")) for n in range(count)}
        grants = (quota(KNOWN, {"frankfurt": count}, invitation=INVITED),)
        await self.telling.observe(world(sight, rows, (KNOWN,), grants))


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    store = MemoryCells().store("fra")
    fabric = await Fabric.over(store.dial, "fra", "controller", tmp_path)
    try:
        made = Desk(fabric, tmp_path)
        await made.telling.listen()
        await fabric.respond(records_subject("fra"), made.hear)
        yield made
    finally:
        await fabric.close()


async def test_an_epoch_is_told_when_it_is_over(desk: Desk) -> None:
    await desk.serve(2, CHAIN.start_unix_ms(5) + 10)
    await desk.telling.tell()
    assert desk.batches == []
    desk.now_ms = CHAIN.start_unix_ms(6)
    await desk.telling.tell()
    await desk.telling.tell()
    assert [(r.epoch, r.terms.lease) for r in desk.records()] == [(5, "l0"), (5, "l1")]


async def test_what_nobody_acknowledged_is_told_again(desk: Desk) -> None:
    await desk.serve(1, CHAIN.start_unix_ms(5) + 10)
    desk.now_ms = CHAIN.start_unix_ms(6)
    desk.leads = False
    await desk.telling.tell()
    assert desk.batches == [], "a standby tells nothing"
    desk.leads = True
    await desk.telling.tell()
    assert len(desk.records()) == 1


async def test_large_epochs_go_in_pieces(desk: Desk) -> None:
    await desk.serve(20, CHAIN.start_unix_ms(5) + 10)
    desk.now_ms = CHAIN.start_unix_ms(6)
    await desk.telling.tell()
    assert len(desk.batches) > 1
    assert len(desk.records()) == 20
    assert all(len(msgspec.msgpack.encode(b)) < BATCH_BYTES_MAX + 60_000 for b in desk.batches)


async def test_a_validator_can_ask_again_and_gets_the_same_bytes(desk: Desk) -> None:
    await desk.serve(2, CHAIN.start_unix_ms(5) + 10)
    desk.now_ms = CHAIN.start_unix_ms(6)
    await desk.telling.tell()
    first, desk.batches = desk.batches, []
    await desk.serve(2, CHAIN.start_unix_ms(6) + 100)
    stranger, validator = PrivateKey(b"\x33" * 32), VALIDATORS[0]
    wish = wanted(5, 1, validator)
    desk.fabric.publish(S_WANTED, wanted(5, 9, stranger))
    desk.fabric.publish(S_WANTED, wish)
    desk.fabric.publish(S_WANTED, wanted(6, 2, validator))  # not over
    await until(lambda: 5 in desk.telling._due)
    await desk.telling.tell()
    assert desk.batches == first
    desk.fabric.publish(S_WANTED, wanted(5, 10, stranger))
    desk.fabric.publish(S_WANTED, wish)  # whoever repeats it is not heard
    desk.fabric.publish(S_WANTED, wanted(4, 3, validator))
    await until(lambda: 4 in desk.telling._due)
    assert desk.telling._due == {4}


async def test_a_controller_that_restarts_goes_on_from_its_disk(desk: Desk) -> None:
    await desk.serve(2, CHAIN.start_unix_ms(5) + 10)
    desk.now_ms = CHAIN.start_unix_ms(6) + 5
    desk.telling = desk.again()
    await desk.telling.tell()
    assert [r.terms.lease for r in desk.records()] == ["l0", "l1"]


async def test_final_epochs_are_forgotten(desk: Desk) -> None:
    await desk.serve(2, CHAIN.start_unix_ms(5) + 10)
    desk.now_ms = CHAIN.start_unix_ms(6) + 5
    desk.fabric.publish(S_FINAL, b"nonsense")
    for key in VALIDATORS[:2]:
        news = pack(seal(FINAL_NEWS, FinalNews(epoch=5, root="aa"), key))
        desk.fabric.publish(S_FINAL, news)
    await until(lambda: not desk.telling._book)
    await desk.telling.observe(world())
    assert Shelf(desk.folder / "records").keys() == []


async def test_strangers_and_a_third_of_the_validators_make_nothing_forgotten(desk: Desk) -> None:
    await desk.serve(2, CHAIN.start_unix_ms(5) + 10)
    desk.now_ms = CHAIN.start_unix_ms(6) + 5
    liars = (KEY, *(PrivateKey(bytes([n]) * 32) for n in (21, 22, 23)), VALIDATORS[0])
    for key in liars:
        for epoch in (5, 2**40):
            news = pack(seal(FINAL_NEWS, FinalNews(epoch=epoch, root="aa"), key))
            desk.fabric.publish(S_FINAL, news)
    await until(lambda: VALIDATORS[0].address in desk.telling._finals)
    await desk.telling.tell()
    assert [r.terms.lease for r in desk.records()] == ["l0", "l1"]


async def test_what_nobody_calls_final_is_given_up_after_a_while(desk: Desk) -> None:
    await desk.serve(2, CHAIN.start_unix_ms(5) + 10)
    desk.now_ms = CHAIN.start_unix_ms(5 + EPOCHS_KEPT)
    await desk.telling.observe(world())
    assert desk.telling._book
    desk.now_ms = CHAIN.start_unix_ms(6 + EPOCHS_KEPT)
    await desk.telling.observe(world())
    assert not desk.telling._book
    assert Shelf(desk.folder / "records").keys() == []
