"""Handing records over: what nobody takes keeps nothing else waiting; only validators may ask."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from isochrone.fabric.connection import Fabric
from isochrone.gateway import tallies_handing
from isochrone.gateway.tallies_handing import RecordHand
from isochrone.gateway.tallies_kept import KeptTallies
from isochrone.lab.twins.fabric import MemoryCells
from isochrone.records.spool import Spool
from isochrone.schema.deployment import Deployment
from isochrone.schema.documents import RECORDS_WANTED, pack, seal
from isochrone.schema.frames import Records
from isochrone.schema.identity import PrivateKey
from isochrone.schema.record_batch import RecordBatch
from isochrone.schema.settling import RecordsAck, RecordsWanted, records_subject

CHAIN = Deployment(chain_id=31337, genesis_unix_s=1, epoch_s=60)
VALIDATOR, STRANGER = (PrivateKey(bytes([number]) * 32) for number in (11, 12))


def copy_of(node: str) -> Records:
    return Records(batch=msgspec.msgpack.encode(RecordBatch(epoch=3, source=node)))


def wish(epoch: int, at_unix_ms: int, by: PrivateKey) -> bytes:
    return pack(seal(RECORDS_WANTED, RecordsWanted(epoch=epoch, at_unix_ms=at_unix_ms), by))


async def test_a_copy_that_nobody_takes_keeps_no_other_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tallies_handing, "ANSWER_S", 0.1)
    monkeypatch.setattr(tallies_handing, "PAUSE_FIRST_S", 0.05)
    monkeypatch.setattr(tallies_handing, "LOOK_S", 0.05)
    cells = MemoryCells()
    fabric, ear = [
        await Fabric.over(cells.store("fra").dial, "fra", name, tmp_path / name)
        for name in ("gateway", "validator")
    ]
    taken: list[str] = []
    both = asyncio.Event()

    async def hear(data: bytes) -> bytes | None:
        source = msgspec.msgpack.decode(data, type=RecordBatch).source
        if source == "bad":
            return None
        taken.append(source)
        if len(taken) == 2:
            both.set()
        return msgspec.json.encode(RecordsAck(validator="0x"))

    await ear.respond(records_subject("fra"), hear)
    kept = KeptTallies(Spool.open(tmp_path / "spool"), CHAIN)
    hand = RecordHand(
        address="0xgateway",
        cell="fra",
        fabric=fabric,
        kept=kept,
        epoch=lambda: 9,
        validators=(VALIDATOR.address,),
    )
    for node in ("bad", "good", "better"):
        hand.copies(node, copy_of(node))
    task = asyncio.create_task(hand.run())
    try:
        async with asyncio.timeout(10):
            await both.wait()
        assert taken == ["good", "better"]
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await kept.close()
        await fabric.close()
        await ear.close()


async def test_only_named_validators_have_an_epoch_handed_over_again(tmp_path: Path) -> None:
    fabric = await Fabric.over(MemoryCells().store("fra").dial, "fra", "gateway", tmp_path / "f")
    spool = Spool.open(tmp_path / "spool")
    await spool.append(3, [b"a record"])
    kept = KeptTallies(spool, CHAIN)
    hand = RecordHand(
        address="0xgateway",
        cell="fra",
        fabric=fabric,
        kept=kept,
        epoch=lambda: 9,
        validators=(VALIDATOR.address,),
    )
    first = wish(3, 1, VALIDATOR)
    for data in (wish(3, 9, STRANGER), b'{"epoch":3}', wish(4, 0, VALIDATOR)):
        hand.wanted("", data)
    assert hand.behind == []
    hand.wanted("", first)
    assert hand.behind == [3]
    kept.changed.clear()
    hand.wanted("", first)
    assert hand.behind == [], "nobody repeats a wish"
    await kept.close()
    await fabric.close()
