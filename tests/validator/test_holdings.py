from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from tests.validator.town import lease_record

from isochrone.records.segments import RECORD_BYTES_MAX
from isochrone.records.spool import Spool
from isochrone.schema.deployment import Deployment
from isochrone.schema.errors import TooLarge, Unavailable
from isochrone.schema.record_batch import RecordBatch
from isochrone.schema.typed_data import Domain
from isochrone.validator.collecting import Collection, batches_of
from isochrone.validator.holdings import Holdings

EPOCH = 5
DEPLOYMENT = Deployment(genesis_unix_s=0, epoch_s=3600)
NOW_MS = DEPLOYMENT.start_unix_ms(EPOCH) + 1


class Disk(Spool):
    """A spool whose appends wait for ``free``, and fail as often as ``broken`` says."""

    broken = 0
    free: asyncio.Event
    asked: asyncio.Event

    def begin(self) -> None:
        self.free, self.asked = asyncio.Event(), asyncio.Event()

    async def append(self, epoch: int, records: Sequence[bytes]) -> None:
        self.asked.set()
        await self.free.wait()
        if self.broken:
            self.broken -= 1
            raise Unavailable("The disk is away.")
        await super().append(epoch, records)


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    spool = Disk.open(tmp_path / "spool")
    assert isinstance(spool, Disk)
    return spool


def holdings_on(spool: Spool) -> Holdings:
    return Holdings(DEPLOYMENT, spool, "me", lambda: NOW_MS)


def batch(lease: str = "lease-1", epoch: int = EPOCH) -> RecordBatch:
    return RecordBatch(epoch=epoch, source="", documents=(lease_record(epoch, 1, lease),))


def kept(folder: Path) -> list[bytes]:
    """What a process that starts anew knows of the epoch."""
    holdings = Holdings.open(DEPLOYMENT, folder, "me", lambda: NOW_MS)
    try:
        data, _ = holdings.file(EPOCH)
    finally:
        holdings.close()
    return [data]


def held(*batches: RecordBatch) -> list[bytes]:
    collection = Collection(Domain())
    for one in batches:
        collection.add(one)
    return [msgspec.msgpack.encode(list(batches_of(collection, EPOCH, "")))]


def test_the_same_again_waits_for_the_disk_too(disk: Disk, tmp_path: Path) -> None:
    async def play() -> None:
        disk.begin()
        holdings = holdings_on(disk)
        first = asyncio.create_task(holdings.take(batch()))
        await disk.asked.wait()
        again = asyncio.create_task(holdings.take(batch()))
        done, _ = await asyncio.wait({first, again}, timeout=0.1)
        assert not done
        disk.free.set()
        assert await first
        assert await again

    asyncio.run(play())
    disk.close()
    assert kept(tmp_path / "spool") == held(batch())


def test_what_the_disk_refused_is_not_acknowledged_when_it_comes_again(
    disk: Disk, tmp_path: Path
) -> None:
    async def play() -> None:
        disk.begin()
        disk.free.set()
        disk.broken = 2
        holdings = holdings_on(disk)
        for _ in range(2):
            with pytest.raises(Unavailable):
                await holdings.take(batch())
        assert await holdings.take(batch("lease-2")), "the disk is back"

    asyncio.run(play())
    disk.close()
    assert kept(tmp_path / "spool") == held(batch(), batch("lease-2"))


def test_what_no_spool_takes_disturbs_nothing_after_it(disk: Disk) -> None:
    async def play() -> None:
        disk.begin()
        disk.free.set()
        holdings = holdings_on(disk)
        with pytest.raises(TooLarge):
            await holdings.take(
                RecordBatch(epoch=EPOCH, source="", documents=(bytes(RECORD_BYTES_MAX),))
            )
        assert await holdings.take(batch())

    asyncio.run(play())
    disk.close()


def test_a_batch_of_an_epoch_that_is_not_there_yet(disk: Disk) -> None:
    holdings = holdings_on(disk)
    assert asyncio.run(holdings.on_batch(msgspec.msgpack.encode(batch(epoch=EPOCH + 2)))) is None
    disk.close()
