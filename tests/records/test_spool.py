"""The spool on a real disk: acknowledged is kept, whatever ends the process or fills the disk."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from isochrone.records import spool_files
from isochrone.records.segments import HEADER, RECORD_BYTES_MAX, SEAL
from isochrone.records.spool import Spool
from isochrone.schema.errors import OurFault, TooLarge, Unavailable

WRITER = """
import asyncio, sys
from pathlib import Path
from isochrone.records.spool import Spool
spool = Spool.open(Path(sys.argv[1]))
number = 0
while True:
    asyncio.run(spool.append(7, [b"record %d" % number]))
    print(number, flush=True)
    number += 1
"""


@contextmanager
def files_no_larger_than(size_bytes: int) -> Iterator[None]:
    """The kernel refuses writes beyond that size: a disk that fails, for real."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    opened = Spool.open(tmp_path)
    yield opened
    opened.close()


def reopened(spool: Spool, folder: Path) -> Spool:
    spool.close()
    return Spool.open(folder)


async def test_what_was_appended_is_read_in_order_also_after_a_restart(tmp_path: Path) -> None:
    spool = Spool.open(tmp_path)
    await spool.append(3, [b"a", b"b"])
    await asyncio.gather(spool.append(4, [b"x"]), spool.append(3, [b"c"]))
    assert list(spool.read(3)) == [b"a", b"b", b"c"]
    spool = reopened(spool, tmp_path)
    await spool.append(3, [b"d"])
    assert spool.epochs() == (3, 4)
    assert list(spool.read(3)) == [b"a", b"b", b"c", b"d"]
    assert list(spool.read(4)) == [b"x"]
    assert list(spool.read(5)) == []
    assert spool.damages == ()
    spool.close()


async def test_a_dropped_epoch_leaves_nothing_behind(spool: Spool, tmp_path: Path) -> None:
    await spool.append(1, [b"old"])
    await spool.append(2, [b"new"])
    before = spool.room().used_bytes
    await spool.drop(1)
    await spool.drop(99)
    assert spool.epochs() == (2,)
    assert list(spool.read(1)) == []
    assert spool.room().used_bytes < before
    assert [path.name[:12] for path in tmp_path.glob("*.spool")] == ["000000000002"]
    await spool.append(1, [b"late"])
    assert list(spool.read(1)) == [b"late"]


@pytest.mark.processes
def test_a_killed_process_has_kept_all_that_it_acknowledged(tmp_path: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)],
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert child.stdout is not None
    try:
        for _ in range(40):
            acknowledged = int(child.stdout.readline())
    finally:
        child.send_signal(signal.SIGKILL)
        acknowledged = int((child.stdout.read().split() or [acknowledged])[-1])
        child.wait()
        child.stdout.close()
    spool = Spool.open(tmp_path)
    kept = list(spool.read(7))
    assert len(kept) in (acknowledged + 1, acknowledged + 2)
    assert kept == [b"record %d" % n for n in range(len(kept))]
    spool.close()


def test_a_torn_tail_is_cut_and_told_and_writing_goes_on(tmp_path: Path) -> None:
    spool = Spool.open(tmp_path)
    asyncio.run(spool.append(1, [b"whole", b"torn later"]))
    spool.close()
    (path,) = tmp_path.glob("*.spool")
    data = path.read_bytes()
    path.write_bytes(data[: -len(SEAL) - 3])
    spool = Spool.open(tmp_path)
    assert list(spool.read(1)) == [b"whole"]
    assert [(d.torn, d.size_bytes) for d in spool.damages] == [(True, 12 + 7)]
    asyncio.run(spool.append(1, [b"next"]))
    spool = reopened(spool, tmp_path)
    assert list(spool.read(1)) == [b"whole", b"next"]
    assert spool.damages == ()
    spool.close()


def test_damage_in_the_middle_is_told_and_nothing_is_cut(tmp_path: Path) -> None:
    spool = Spool.open(tmp_path)
    asyncio.run(spool.append(1, [b"first", b"second", b"third"]))
    spool.close()
    (path,) = tmp_path.glob("*.spool")
    data = path.read_bytes().replace(b"second", b"sEcond")
    path.write_bytes(data)
    spool = Spool.open(tmp_path)
    assert list(spool.read(1)) == [b"first", b"third"]
    assert list(spool.read(1)) == [b"first", b"third"]
    assert [(d.segment, d.torn) for d in spool.damages] == [(path, False)]
    assert path.read_bytes() == data
    spool.close()


def test_damage_that_comes_while_the_spool_is_open_is_told(spool: Spool, tmp_path: Path) -> None:
    asyncio.run(spool.append(1, [b"first", b"second"]))
    (path,) = tmp_path.glob("*.spool")
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"?")
    assert list(spool.read(1)) == [b"first"]
    path.write_bytes(path.read_bytes()[:-4])
    assert list(spool.read(1)) == [b"first"]
    assert all(damage.segment == path for damage in spool.damages)
    assert len(spool.damages) == 3


def test_a_failed_write_is_not_acknowledged_and_the_next_one_works(tmp_path: Path) -> None:
    spool = Spool.open(tmp_path)
    asyncio.run(spool.append(1, [b"before"]))
    with files_no_larger_than(4096), pytest.raises(Unavailable) as failure:
        asyncio.run(spool.append(1, [b"x" * 100_000]))
    assert failure.value.code == "spool_disk"
    assert list(spool.read(1)) == [b"before"]
    asyncio.run(spool.append(1, [b"after"]))
    spool = reopened(spool, tmp_path)
    assert list(spool.read(1)) == [b"before", b"after"]
    spool.close()


async def test_a_failing_disk_fails_everybody_who_shared_the_write(spool: Spool) -> None:
    await spool.append(1, [b"before"])
    with files_no_larger_than(8192):
        results = await asyncio.gather(
            *(spool.append(1, [b"y" * 9000]) for _ in range(5)), return_exceptions=True
        )
    assert all(isinstance(result, Unavailable) for result in results)
    assert list(spool.read(1)) == [b"before"]


def test_paid_work_stops_before_the_spool_is_full(tmp_path: Path) -> None:
    spool = Spool.open(tmp_path, bytes_max=100_000)
    assert not spool.room().reason
    asyncio.run(spool.append(1, [b"z" * 81_000]))
    assert spool.room().reason
    assert "81" in spool.room().reason
    asyncio.run(spool.append(1, [b"still room for what is under way"]))
    with pytest.raises(Unavailable) as full:
        asyncio.run(spool.append(1, [b"z" * 30_000]))
    assert full.value.code == "spool_full"
    asyncio.run(spool.drop(1))
    assert not spool.room().reason
    spool.close()


def test_a_nearly_full_disk_stops_paid_work(tmp_path: Path) -> None:
    spool = Spool.open(tmp_path, free_bytes_min=2**60)
    assert "free" in spool.room().reason
    asyncio.run(spool.append(1, [b"under way"]))
    spool.close()


def test_one_process_at_a_time(spool: Spool, tmp_path: Path) -> None:
    with pytest.raises(OurFault) as refusal:
        Spool.open(tmp_path)
    assert refusal.value.code == "spool_in_use"


def test_segments_are_rotated_sealed_and_few_stay_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_files, "SEGMENT_BYTES", 1000)
    spool = Spool.open(tmp_path)
    for epoch in range(8):
        for number in range(5):
            asyncio.run(spool.append(epoch, [b"%d" % number * 300]))
    opened = [file.path for file in psutil.Process().open_files() if file.path.endswith(".spool")]
    assert len(opened) <= 4
    for epoch in range(8):
        assert [record[:1] for record in spool.read(epoch)] == [b"0", b"1", b"2", b"3", b"4"]
    assert len(list(tmp_path.glob("*.spool"))) >= 16
    spool.close()
    assert all(path.read_bytes().endswith(SEAL) for path in tmp_path.glob("*.spool"))


def test_bad_input_is_refused_and_harms_nothing(spool: Spool) -> None:
    for record in (b"", b"x" * (RECORD_BYTES_MAX + 1)):
        with pytest.raises(TooLarge):
            asyncio.run(spool.append(1, [record]))
    with pytest.raises(OurFault):
        asyncio.run(spool.append(-1, [b"x"]))
    asyncio.run(spool.append(1, []))
    assert spool.epochs() == ()


def test_a_closed_spool_says_so_and_gives_the_folder_back(tmp_path: Path) -> None:
    spool = Spool.open(tmp_path)
    asyncio.run(spool.append(1, [b"x"]))
    spool.close()
    spool.close()
    with pytest.raises(Unavailable):
        asyncio.run(spool.append(1, [b"y"]))
    Spool.open(tmp_path).close()


def test_gateways_and_nodes_that_use_it_stay_light() -> None:
    heavy = ("numpy", "pyarrow", "obstore", "duckdb", "web3")
    code = (
        "import sys, isochrone.records.spool\n"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_strange_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.spool").write_bytes(b"mine")
    (tmp_path / f"{1:012d}.{1:08d}.spool").write_bytes(HEADER[:4])
    spool = Spool.open(tmp_path)
    assert spool.epochs() == ()
    assert (tmp_path / "notes.spool").read_bytes() == b"mine"
    spool.close()


class SlowDisk:
    """Every fsync waits until the gate is open, so that whatever is appended meanwhile shares."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.synced: list[int] = []
        self._started, self._gate = threading.Event(), threading.Event()
        self._real = os.fsync
        monkeypatch.setattr(spool_files.os, "fsync", self._slow)

    def _slow(self, descriptor: int) -> None:
        self.synced.append(descriptor)
        self._started.set()
        self._gate.wait(10)
        self._real(descriptor)

    async def share(self, spool: Spool, epochs: list[int]) -> None:
        """Append once, then to each of these epochs while the first fsync runs."""
        first = asyncio.ensure_future(spool.append(1, [b"first"]))
        await asyncio.to_thread(self._started.wait, 10)
        others = [asyncio.ensure_future(spool.append(epoch, [b"x"])) for epoch in epochs]
        await asyncio.sleep(0)
        self._gate.set()
        await asyncio.gather(first, *others)


async def test_waiting_appends_share_an_fsync(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    await spool.append(1, [b"opened"])
    disk = SlowDisk(monkeypatch)
    await disk.share(spool, [1] * 49)
    assert len(disk.synced) == 2
    assert len(list(spool.read(1))) == 51


async def test_many_epochs_at_once_are_all_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool.open(tmp_path)
    await spool.append(1, [b"opened"])
    epochs = [9, 2, 7, 1, 5, 3, 8, 2, 6, 1]
    await SlowDisk(monkeypatch).share(spool, epochs)
    spool = reopened(spool, tmp_path)
    assert {epoch: len(list(spool.read(epoch))) for epoch in spool.epochs()} == {
        epoch: epochs.count(epoch) + (2 if epoch == 1 else 0) for epoch in epochs
    }
    assert spool.damages == ()
    spool.close()
