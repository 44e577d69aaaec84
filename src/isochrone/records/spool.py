"""The spool: an append-only, fsynced folder of records, kept until their epoch's root is final.

Intuition: a tally head is money, and the fabric may lose everything it was told. So gateway and
node each write what they sign to their own disk *before* they say it, and throw it away only when
the books that count it can no longer change. One thread writes; whatever waits while an fsync runs
is written together and shares the next one, so a busy process pays few fsyncs.

Rules of this file. ``append`` returns after the fsync, never before. Records of an epoch are read
in the order they were appended. A segment that a process did not close is never written again: a
new process begins a new one, and cuts the torn tail of the old (``segments``). A failed write or
fsync ends its segment too: what the kernel kept of it is unknown, so nobody waits for it in vain
and nothing is acknowledged from it. The folder belongs to one process at a time. Below 20 % of its
own room, or ``free_bytes_min`` on the disk, ``room()`` says to take no more paid work: what is
under way can still be signed.

What it does not do: it knows nothing of what a record means, and it does not repair. A batch may
survive a crash in part (its first records); who needs both halves puts them into one record.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import queue
import re
import shutil
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from isochrone.records.segments import HEADER, SEAL, frame, scan
from isochrone.schema.errors import OurFault, Unavailable

BYTES_MAX = 1024**3
"""A gateway with 100 chains writes about 30 MB an hour: a day and a half without any root."""

FREE_BYTES_MIN = 256 * 1024**2
"""Less free space on the disk than this counts as full: others write to it as well."""

PAID_SHARE = 0.8
"""Part of ``bytes_max`` after which no paid work is taken; the rest is for what is under way."""

SEGMENT_BYTES = 8 * 1024**2
"""A segment is read into memory as a whole."""

OPEN_EPOCHS_MAX = 4
"""Segments open for writing at once; records of older epochs are rare."""

_NAME = re.compile(r"(\d{12})\.(\d{8})\.spool")
"""Epoch and running number of a segment: sorted by name is sorted by time."""


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes of a segment that cannot be read. ``torn``: cut from its end when it was opened."""

    segment: Path
    offset: int
    size_bytes: int
    torn: bool


@dataclass(frozen=True, slots=True)
class Room:
    """How full the spool is. ``reason``: why no paid work should be taken; empty when it may."""

    used_bytes: int
    bytes_max: int
    free_bytes: int
    reason: str

    @property
    def takes_paid_work(self) -> bool:
        """Whether there is room for the tallies of new paid work."""
        return not self.reason


@dataclass(slots=True)
class _Segment:
    path: Path
    epoch: int
    size_bytes: int
    file: BinaryIO | None = None


@dataclass(slots=True)
class _Job:
    """An append (``frames``), or, without frames, the dropping of an epoch."""

    epoch: int
    frames: bytes
    done: Future[None]


class Spool:
    """One process's spool in ``folder``; ``open`` builds it. Thread-safe."""

    def __init__(self, folder: Path, lock: BinaryIO, bytes_max: int, free_bytes_min: int) -> None:
        self._folder = folder
        self._lock = lock
        self._bytes_max = bytes_max
        self._free_bytes_min = free_bytes_min
        self._guard = threading.Lock()
        self._segments: dict[int, list[_Segment]] = {}
        self._damages: list[Damage] = []
        self._number = 0
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._write_all, name="spool", daemon=True)
        self._closed = False

    @classmethod
    def open(
        cls, folder: Path, *, bytes_max: int = BYTES_MAX, free_bytes_min: int = FREE_BYTES_MIN
    ) -> Spool:
        """Take the folder and recover what it holds. Blocking (reads every segment once).

        Raises OurFault (``spool_in_use``) while another process has it, Unavailable when the disk
        refuses.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = (folder / "lock").open("wb")
        except OSError as error:
            raise _disk_error(error, folder) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.close()
            raise OurFault(
                f"The spool {folder} is in use by another process.",
                fix="Stop that process, or give this one a folder of its own.",
                code="spool_in_use",
            ) from error
        spool = cls(folder, lock, bytes_max, free_bytes_min)
        try:
            spool._recover()
        except OSError as error:
            lock.close()
            raise _disk_error(error, folder) from error
        spool._writer.start()
        return spool

    # --- what it holds ---------------------------------------------------------------------------

    @property
    def damages(self) -> tuple[Damage, ...]:
        """Everything that was found unreadable since this process opened the spool."""
        with self._guard:
            return tuple(self._damages)

    def epochs(self) -> tuple[int, ...]:
        """The epochs that have records, ascending."""
        with self._guard:
            return tuple(sorted(self._segments))

    def read(self, epoch: int) -> Iterator[bytes]:
        """The records of an epoch in order of appending, those acknowledged by now.

        Blocking. What cannot be read is left out and added to ``damages``. Raises Unavailable when
        the disk refuses.
        """
        with self._guard:
            segments = [(s.path, s.size_bytes) for s in self._segments.get(epoch, ())]
        for path, size_bytes in segments:
            try:
                with path.open("rb") as file:
                    data = file.read(size_bytes)
            except FileNotFoundError:  # dropped meanwhile: its root is final
                return
            except OSError as error:
                raise _disk_error(error, self._folder) from error
            found = scan(data)
            lost = [*found.damages, *([(found.end, found.torn)] if found.torn else [])]
            if missing := size_bytes - len(data):
                lost.append((len(data), missing))
            self._report(Damage(path, offset, size, torn=False) for offset, size in lost)
            for start, end in found.records:
                yield data[start:end]

    def room(self) -> Room:
        """How full spool and disk are now (one ``statvfs``; call it every few seconds)."""
        with self._guard:
            used = sum(s.size_bytes for segments in self._segments.values() for s in segments)
        try:
            free = shutil.disk_usage(self._folder).free
        except OSError:
            return Room(used, self._bytes_max, 0, "the spool's disk does not answer")
        reason = ""
        if used >= self._bytes_max * PAID_SHARE:
            reason = f"the spool holds {used} of {self._bytes_max} bytes"
        elif free < self._free_bytes_min:
            reason = f"the spool's disk has {free} bytes free, {self._free_bytes_min} are needed"
        return Room(used, self._bytes_max, free, reason)

    # --- changing it -----------------------------------------------------------------------------

    async def append(self, epoch: int, records: Sequence[bytes]) -> None:
        """Keep ``records`` (each 1 byte to 4 MiB); returns after they survive a power failure.

        Raises TooLarge for a record out of range, Unavailable when the spool is full or the disk
        refuses: then nothing of it counts as kept.
        """
        await asyncio.wrap_future(self._submit(epoch, records))

    def append_now(self, epoch: int, records: Sequence[bytes]) -> None:
        """As ``append``, blocking the calling thread."""
        self._submit(epoch, records).result()

    async def drop(self, epoch: int) -> None:
        """Forget an epoch whose root is final; an absent one is no error."""
        await asyncio.wrap_future(self._enqueue(_Job(epoch, b"", Future())))

    def drop_now(self, epoch: int) -> None:
        """As ``drop``, blocking the calling thread."""
        self._enqueue(_Job(epoch, b"", Future())).result()

    def close(self) -> None:
        """Write what waits, seal the open segments, give the folder back. Idempotent."""
        with self._guard:
            if self._closed:
                return
            self._closed = True
        self._jobs.put(None)
        self._writer.join()
        self._lock.close()

    def _submit(self, epoch: int, records: Sequence[bytes]) -> Future[None]:
        if epoch < 0:
            raise OurFault(f"Epoch {epoch} is before the beginning.", code="spool_epoch")
        frames = b"".join(map(frame, records))
        job = _Job(epoch, frames, Future())
        if not frames:
            job.done.set_result(None)
            return job.done
        return self._enqueue(job)

    def _enqueue(self, job: _Job) -> Future[None]:
        with self._guard:
            if self._closed:
                raise Unavailable(f"The spool {self._folder} is closed.", retry="never")
            self._jobs.put(job)
        return job.done

    # --- the writing thread ----------------------------------------------------------------------

    def _write_all(self) -> None:
        while True:
            batch = [self._jobs.get()]
            while not self._jobs.empty():
                batch.append(self._jobs.get())
            self._commit([job for job in batch if job is not None])
            if batch[-1] is None:
                self._seal(lambda segment: True)
                return

    def _commit(self, jobs: list[_Job]) -> None:
        """Write the jobs in order, fsync each touched segment once, answer everybody."""
        written: dict[int, tuple[_Segment, int, list[_Job]]] = {}
        waiting = deque(job for job in jobs if job.done.set_running_or_notify_cancel())
        while waiting:
            job = waiting.popleft()
            if not job.frames:
                self._sync(written)
                _answer([job], self._drop(job.epoch))
            elif error := self._write(job, written):
                _answer([job], error)
        self._sync(written)
        self._seal(lambda segment: segment.size_bytes >= SEGMENT_BYTES)

    def _write(
        self, job: _Job, written: dict[int, tuple[_Segment, int, list[_Job]]]
    ) -> Exception | None:
        pending = sum(added for _, added, _ in written.values())
        room = self.room()
        if room.used_bytes + pending + len(job.frames) > room.bytes_max:
            return Unavailable(
                f"The spool {self._folder} is full ({room.bytes_max} bytes).",
                fix="It empties when roots become final: see how far settlement is behind.",
                code="spool_full",
            )
        try:
            segment, added, sharing = written.get(job.epoch) or (self._current(job.epoch), 0, [])
            written[job.epoch] = (segment, added + len(job.frames), [*sharing, job])
            assert segment.file is not None
            segment.file.write(job.frames)
        except OSError as error:
            if job.epoch not in written:
                return _disk_error(error, self._folder)
            segment, _, sharing = written.pop(job.epoch)
            self._abandon(segment)
            _answer(sharing, _disk_error(error, self._folder))
        return None

    def _sync(self, written: dict[int, tuple[_Segment, int, list[_Job]]]) -> None:
        for segment, added, sharing in written.values():
            try:
                assert segment.file is not None
                segment.file.flush()
                os.fsync(segment.file.fileno())
            except OSError as error:
                self._abandon(segment)
                _answer(sharing, _disk_error(error, self._folder))
                continue
            with self._guard:
                segment.size_bytes += added
            _answer(sharing, None)
        written.clear()

    def _current(self, epoch: int) -> _Segment:
        """The epoch's open segment; begins one (its name is on disk when this returns)."""
        segments = self._segments.get(epoch, [])
        if segments and segments[-1].file is not None:
            return segments[-1]
        opened = sorted(e for e, of in self._segments.items() if of[-1].file is not None)
        if len(opened) >= OPEN_EPOCHS_MAX:
            self._seal(lambda segment: segment.epoch == opened[0])
        self._number += 1
        path = self._folder / f"{epoch:012d}.{self._number:08d}.spool"
        file = path.open("xb")
        try:
            file.write(HEADER)
            file.flush()
            _sync_folder(self._folder)
        except OSError:
            file.close()
            path.unlink(missing_ok=True)
            raise
        segment = _Segment(path, epoch, len(HEADER), file)
        with self._guard:
            self._segments.setdefault(epoch, []).append(segment)
        return segment

    def _abandon(self, segment: _Segment) -> None:
        """End a segment after an error: back to what was acknowledged, as far as the disk lets."""
        assert segment.file is not None
        _close(segment.file)
        segment.file = None
        try:
            os.truncate(segment.path, segment.size_bytes)
        except OSError:
            return  # its tail is cut at the next start

    def _seal(self, which: Callable[[_Segment], bool]) -> None:
        """Close those open segments in order. A seal that cannot be written is left out."""
        opened = [of[-1] for of in self._segments.values() if of[-1].file is not None]
        for segment in filter(which, opened):
            assert segment.file is not None
            try:
                segment.file.write(SEAL)
                segment.file.flush()
                os.fsync(segment.file.fileno())
            except OSError:
                self._abandon(segment)
                continue
            _close(segment.file)
            with self._guard:
                segment.size_bytes += len(SEAL)
                segment.file = None

    def _drop(self, epoch: int) -> Exception | None:
        with self._guard:
            segments = self._segments.pop(epoch, [])
        try:
            for segment in segments:
                if segment.file is not None:
                    _close(segment.file)
                segment.path.unlink(missing_ok=True)
        except OSError as error:
            return _disk_error(error, self._folder)
        return None

    # --- starting --------------------------------------------------------------------------------

    def _recover(self) -> None:
        """Read every segment, cut torn tails, forget empty ones; number the next one."""
        for path in sorted(self._folder.glob("*.spool")):
            if not (named := _NAME.fullmatch(path.name)):
                continue
            epoch, number = int(named[1]), int(named[2])
            self._number = max(self._number, number)
            found = scan(path.read_bytes())
            self._report(Damage(path, offset, size, torn=False) for offset, size in found.damages)
            if found.torn:
                self._report([Damage(path, found.end, found.torn, torn=True)])
                os.truncate(path, found.end)
            if found.records or found.damages:
                self._segments.setdefault(epoch, []).append(_Segment(path, epoch, found.end))
            else:
                path.unlink()

    def _report(self, damages: Iterator[Damage] | list[Damage]) -> None:
        with self._guard:
            self._damages += [damage for damage in damages if damage not in self._damages]


def _answer(jobs: list[_Job], error: Exception | None) -> None:
    for job in jobs:
        if error is None:
            job.done.set_result(None)
        else:
            job.done.set_exception(error)


def _close(file: BinaryIO) -> None:
    """Close; what its buffer could not write was never acknowledged."""
    try:
        file.close()
    except OSError:
        return


def _sync_folder(folder: Path) -> None:
    """Make new names in ``folder`` survive a power failure."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _disk_error(error: OSError, folder: Path) -> Unavailable:
    return Unavailable(
        f"The spool {folder} cannot be used: {error.strerror or error}.",
        fix="Look at that disk: space, permissions, errors.",
        code="spool_disk",
    )
