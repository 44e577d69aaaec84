"""The spool's folder: its segments on disk, recovered at the start, written by one thread.

Intuition: a segment that a process did not close may end in the middle of a write. It is never
written again: its torn tail is cut, a new process begins a new segment. The same holds after any
error: what the kernel kept of a failed write or fsync is unknown, so its segment ends at what was
acknowledged before.

Rules of this file: only ``size_bytes`` of a segment were acknowledged, and only these are read. The
writing methods belong to one thread; readers may come from any.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from isochrone.records.durable import sync
from isochrone.records.segments import HEADER, SEAL, scan

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


@dataclass(slots=True)
class Segment:
    """One file. ``size_bytes``: what was acknowledged; ``file``: open for writing, or None."""

    path: Path
    epoch: int
    size_bytes: int
    file: BinaryIO | None = None

    def write(self, frames: bytes) -> None:
        """Hand frames to the kernel; raises OSError."""
        assert self.file is not None
        self.file.write(frames)

    def sync(self) -> None:
        """Make what was written survive a power failure; raises OSError."""
        assert self.file is not None
        self.file.flush()
        os.fsync(self.file.fileno())


class SpoolFiles:
    """Segments by epoch. Every method raises OSError when the disk refuses."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._guard = threading.Lock()
        self._segments: dict[int, list[Segment]] = {}
        self._damages: list[Damage] = []
        self._number = 0
        self._recover()

    # --- for readers -----------------------------------------------------------------------------

    @property
    def damages(self) -> tuple[Damage, ...]:
        """Everything that was found unreadable."""
        with self._guard:
            return tuple(self._damages)

    @property
    def used_bytes(self) -> int:
        """The size of all that was acknowledged."""
        with self._guard:
            return sum(s.size_bytes for segments in self._segments.values() for s in segments)

    def epochs(self) -> tuple[int, ...]:
        """The epochs that have segments, ascending."""
        with self._guard:
            return tuple(sorted(self._segments))

    def read(self, epoch: int) -> Iterator[bytes]:
        """The acknowledged records of an epoch, in order; damage is left out and reported."""
        with self._guard:
            segments = [(s.path, s.size_bytes) for s in self._segments.get(epoch, ())]
        for path, size_bytes in segments:
            try:
                with path.open("rb") as file:
                    data = file.read(size_bytes)
            except FileNotFoundError:  # dropped meanwhile: its root is final
                return
            found = scan(data)
            lost = [*found.damages, *([(found.end, found.torn)] if found.torn else [])]
            if missing := size_bytes - len(data):
                lost.append((len(data), missing))
            self._report(Damage(path, offset, size, torn=False) for offset, size in lost)
            for start, end in found.records:
                yield data[start:end]

    # --- for the writing thread ------------------------------------------------------------------

    def crowded(self, epoch: int) -> bool:
        """Whether ``current`` would have to close another epoch's segment."""
        opened = {segment.epoch for segment in self._open()}
        return epoch not in opened and len(opened) >= OPEN_EPOCHS_MAX

    def current(self, epoch: int) -> Segment:
        """The epoch's open segment; begins one (its name is on disk when this returns).

        When it is ``crowded`` the oldest epoch's is closed: nothing in it may be unsynced.
        """
        segments = self._segments.get(epoch, [])
        if segments and segments[-1].file is not None:
            return segments[-1]
        if self.crowded(epoch):
            oldest = min(segment.epoch for segment in self._open())
            self.seal(lambda segment: segment.epoch == oldest)
        self._number += 1
        path = self._folder / f"{epoch:012d}.{self._number:08d}.spool"
        file = path.open("xb")
        try:
            file.write(HEADER)
            file.flush()
            sync(self._folder)
        except OSError:
            _close(file)
            path.unlink(missing_ok=True)
            raise
        segment = Segment(path, epoch, len(HEADER), file)
        with self._guard:
            self._segments.setdefault(epoch, []).append(segment)
        return segment

    def acknowledge(self, segment: Segment, size_bytes: int) -> None:
        """So many more bytes of it are on disk for good."""
        with self._guard:
            segment.size_bytes += size_bytes

    def abandon(self, segment: Segment) -> None:
        """End a segment after an error: back to what was acknowledged, as far as the disk lets."""
        assert segment.file is not None
        _close(segment.file)
        segment.file = None
        try:
            os.truncate(segment.path, segment.size_bytes)
        except OSError:
            return  # its tail is cut at the next start

    def seal(self, which: Callable[[Segment], bool]) -> None:
        """Close those open segments in order. A seal that cannot be written is left out."""
        for segment in filter(which, self._open()):
            try:
                segment.write(SEAL)
                segment.sync()
            except OSError:
                self.abandon(segment)
                continue
            assert segment.file is not None
            _close(segment.file)
            segment.file = None
            self.acknowledge(segment, len(SEAL))

    def seal_full(self) -> None:
        """Close the segments that have grown to their size."""
        self.seal(lambda segment: segment.size_bytes >= SEGMENT_BYTES)

    def drop(self, epoch: int) -> None:
        """Forget an epoch."""
        with self._guard:
            segments = self._segments.pop(epoch, [])
        for segment in segments:
            if segment.file is not None:
                _close(segment.file)
            segment.path.unlink(missing_ok=True)

    def _open(self) -> list[Segment]:
        return [of[-1] for of in self._segments.values() if of[-1].file is not None]

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
                self._segments.setdefault(epoch, []).append(Segment(path, epoch, found.end))
            else:
                path.unlink()

    def _report(self, damages: Iterable[Damage]) -> None:
        with self._guard:
            self._damages += [damage for damage in damages if damage not in self._damages]


def _close(file: BinaryIO) -> None:
    """Close; what its buffer could not write was never acknowledged."""
    try:
        file.close()
    except OSError:
        return
