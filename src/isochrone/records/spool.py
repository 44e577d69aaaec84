"""The spool: an append-only, fsynced folder of records, kept until their epoch's root is final.

Intuition: a tally head is money, and the fabric may lose everything it was told. So gateway and
node each write what they sign to their own disk *before* they say it, and throw it away only when
the books that count it can no longer change. One thread writes; whatever waits while an fsync runs
is written together and shares the next one, so a busy process pays few fsyncs.

Rules of this file. ``append`` returns after the fsync, never before. Records of an epoch are read
in the order they were appended. The folder belongs to one process at a time. Above 80 % of its own
room, or below ``free_bytes_min`` on the disk, ``room()`` says to take no more paid work: what is
under way can still be signed. How files lie, end and recover: ``spool_files`` and ``segments``.

What it does not do: it knows nothing of what a record means, and it does not repair. A batch may
survive a crash in part (its first records); who needs both halves puts them into one record.
"""

from __future__ import annotations

import asyncio
import fcntl
import queue
import shutil
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from isochrone.records.segments import frame
from isochrone.records.spool_files import Damage, Segment, SpoolFiles
from isochrone.schema.errors import OurFault, Unavailable

BYTES_MAX = 1024**3
"""A gateway with 100 chains writes about 30 MB an hour: a day and a half without any root."""

FREE_BYTES_MIN = 256 * 1024**2
"""Less free space on the disk than this counts as full: others write to it as well."""

PAID_SHARE = 0.8
"""Part of ``bytes_max`` after which no paid work is taken; the rest is for what is under way."""


@dataclass(frozen=True, slots=True)
class Room:
    """How full the spool is. ``reason``: why no paid work should be taken; empty when it may."""

    used_bytes: int
    reason: str


@dataclass(slots=True)
class _Job:
    """An append (``frames``), or, without frames, the dropping of an epoch."""

    epoch: int
    frames: bytes
    done: Future[None]


@dataclass(slots=True)
class _Shared:
    """What was written to one segment since its last fsync, and who waits for it."""

    segment: Segment
    size_bytes: int = 0
    jobs: list[_Job] = field(default_factory=list)


class Spool:
    """One process's spool in ``folder``; ``open`` builds it. Thread-safe."""

    def __init__(
        self,
        folder: Path,
        lock: BinaryIO,
        files: SpoolFiles,
        bytes_max: int,
        free_bytes_min: int,
    ) -> None:
        self._folder = folder
        self._lock = lock
        self._files = files
        self._bytes_max = bytes_max
        self._free_bytes_min = free_bytes_min
        self._guard = threading.Lock()
        self._closed = False
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._write_all, name="spool", daemon=True)
        self._writer.start()

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
        try:
            files = SpoolFiles(folder)
        except OSError as error:
            lock.close()
            raise _disk_error(error, folder) from error
        return cls(folder, lock, files, bytes_max, free_bytes_min)

    # --- what it holds ---------------------------------------------------------------------------

    @property
    def bytes_max(self) -> int:
        """The room of all records together."""
        return self._bytes_max

    @property
    def damages(self) -> tuple[Damage, ...]:
        """Everything that was found unreadable since this process opened the spool."""
        return self._files.damages

    def epochs(self) -> tuple[int, ...]:
        """The epochs that have records, ascending."""
        return self._files.epochs()

    def read(self, epoch: int) -> Iterator[bytes]:
        """The records of an epoch in order of appending, those acknowledged by now.

        Blocking. What cannot be read is left out and added to ``damages``. Raises Unavailable when
        the disk refuses.
        """
        try:
            yield from self._files.read(epoch)
        except OSError as error:
            raise _disk_error(error, self._folder) from error

    def room(self) -> Room:
        """How full spool and disk are now (one ``statvfs``; call it every few seconds)."""
        used = self._files.used_bytes
        try:
            free = shutil.disk_usage(self._folder).free
        except OSError:
            return Room(used, "the spool's disk does not answer")
        reason = ""
        if used >= self._bytes_max * PAID_SHARE:
            reason = f"the spool holds {used} of {self._bytes_max} bytes"
        elif free < self._free_bytes_min:
            reason = f"the spool's disk has {free} bytes free, {self._free_bytes_min} are needed"
        return Room(used, reason)

    # --- changing it -----------------------------------------------------------------------------

    async def append(self, epoch: int, records: Sequence[bytes]) -> None:
        """Keep ``records`` (each 1 byte to 4 MiB); returns after they survive a power failure.

        Raises TooLarge for a record out of range, Unavailable when the spool is full or the disk
        refuses: then nothing of it counts as kept.
        """
        await asyncio.wrap_future(self._submit(epoch, records))

    async def drop(self, epoch: int) -> None:
        """Forget an epoch whose root is final; an absent one is no error."""
        await asyncio.wrap_future(self._enqueue(_Job(epoch, b"", Future())))

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
        job = _Job(epoch, b"".join(map(frame, records)), Future())
        if not job.frames:
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
            jobs = [job for job in batch if job is not None]
            try:
                self._commit(jobs)
            except Exception as error:  # a defect of ours: nobody may wait for ever
                _answer([job for job in jobs if not job.done.done()], error)
            if batch[-1] is None:
                self._files.seal(lambda segment: True)
                return

    def _commit(self, jobs: list[_Job]) -> None:
        """Write the jobs in order, fsync each touched segment once, answer everybody."""
        written: dict[int, _Shared] = {}
        for job in jobs:
            if not job.done.set_running_or_notify_cancel():
                continue
            if job.frames:
                self._write(job, written)
            else:
                self._sync(written)
                self._drop(job)
        self._sync(written)
        self._files.seal_full()

    def _write(self, job: _Job, written: dict[int, _Shared]) -> None:
        if self._files.crowded(job.epoch):
            self._sync(written)
        pending = sum(shared.size_bytes for shared in written.values())
        if self._files.used_bytes + pending + len(job.frames) > self._bytes_max:
            _answer([job], self._full())
            return
        try:
            shared = written.get(job.epoch) or _Shared(self._files.current(job.epoch))
        except OSError as error:
            _answer([job], _disk_error(error, self._folder))
            return
        written[job.epoch] = shared
        shared.jobs.append(job)
        shared.size_bytes += len(job.frames)
        try:
            shared.segment.write(job.frames)
        except OSError as error:
            self._fail(written.pop(job.epoch), error)

    def _sync(self, written: dict[int, _Shared]) -> None:
        for shared in written.values():
            try:
                shared.segment.sync()
            except OSError as error:
                self._fail(shared, error)
                continue
            self._files.acknowledge(shared.segment, shared.size_bytes)
            _answer(shared.jobs, None)
        written.clear()

    def _fail(self, shared: _Shared, error: OSError) -> None:
        """Nobody who shared the write can be told that it is kept."""
        self._files.abandon(shared.segment)
        _answer(shared.jobs, _disk_error(error, self._folder))

    def _drop(self, job: _Job) -> None:
        try:
            self._files.drop(job.epoch)
        except OSError as error:
            _answer([job], _disk_error(error, self._folder))
            return
        _answer([job], None)

    def _full(self) -> Unavailable:
        return Unavailable(
            f"The spool {self._folder} is full ({self._bytes_max} bytes).",
            fix="It empties when roots become final: see how far settlement is behind.",
            code="spool_full",
        )


def _answer(jobs: list[_Job], error: Exception | None) -> None:
    for job in jobs:
        if error is None:
            job.done.set_result(None)
        else:
            job.done.set_exception(error)


def _disk_error(error: OSError, folder: Path) -> Unavailable:
    return Unavailable(
        f"The spool {folder} cannot be used: {error.strerror or error}.",
        fix="Look at that disk: space, permissions, errors.",
        code="spool_disk",
    )
