"""The node's log: one JSON line per event in a file, and what concerns a lease also to its cell.

Intuition: whoever looks for a reason has either the machine (the file) or the cell (``isochrone
logs``). A line is written where a decision is taken, once, with its reason. Files are rotated by
size, so that logs never fill the disk; a disk that refuses them costs lines (counted), nothing
else. Lines to the cell are limited per second: an engine that crashes in a loop must not fill
channels.

It holds no request's content: prompts, tensors and answers never enter a line.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec

from isochrone.schema.errors import Unavailable
from isochrone.schema.frames import LogLine
from isochrone.schema.lease import Lease

Level = Literal["debug", "info", "warning", "error"]
LEVELS: tuple[Level, ...] = ("debug", "info", "warning", "error")

FILE_BYTES_MAX = 4 * 1024 * 1024
FILES_MAX = 3
"""12 MiB in all: days of a healthy node, the last hour of a sick one."""

SENT_PER_S_MAX = 50
TEXT_CHARS_MAX = 2000
"""A frame to the cell: the end of a stack trace fits, a dump does not."""


Send = Callable[[Lease, LogLine], None]
"""Passes a line about a lease on to the gateways that its residency admits."""


class Journal:
    """Writes ``node.log`` in ``folder``. ``send`` passes on what concerns a lease."""

    def __init__(self, folder: Path, level: Level, send: Send) -> None:
        self._least = LEVELS.index(level)
        self._path = folder / "node.log"
        self._send = send
        self._second = 0
        self._sent = 0
        self.counters: Counter[str] = Counter()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._open()
        except OSError as error:
            raise Unavailable(
                f"The log {self._path} cannot be written: {error.strerror}.",
                fix="Check state_dir in the node's configuration.",
            ) from error

    def tell(self, level: Level, event: str, **facts: object) -> None:
        """Write an event about the node itself, with its facts."""
        if LEVELS.index(level) >= self._least:
            self._write(level, event, facts)

    def tell_lease(self, level: Level, event: str, lease: Lease, text: str) -> None:
        """Write an event about a lease, and send it to the cell."""
        self.tell(level, event, lease=lease.id, service=lease.service, text=text)
        if LEVELS.index(level) < LEVELS.index("info") or not self._may_send():
            return
        self._send(
            lease,
            LogLine(
                lease=lease.id,
                service=lease.service,
                at_unix_ms=time.time_ns() // 1_000_000,
                level=level,
                text=f"{event}: {text}"[:TEXT_CHARS_MAX],
            ),
        )

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _may_send(self) -> bool:
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._sent = second, 0
        self._sent += 1
        if self._sent > SENT_PER_S_MAX:
            self.counters["not_sent"] += 1
            return False
        return True

    def _write(self, level: Level, event: str, facts: dict[str, object]) -> None:
        head = {"at_unix_ms": time.time_ns() // 1_000_000, "level": level, "event": event}
        line = msgspec.json.encode({**head, **facts}, enc_hook=str) + b"\n"
        try:
            if self._size + len(line) > FILE_BYTES_MAX:
                self._rotate()
            self._file.write(line)
            self._size += len(line)
        except OSError:
            self.counters["not_written"] += 1

    def _open(self) -> None:
        self._file = open(self._path, "ab", buffering=0)  # noqa: SIM115 (lives with the node)
        self._size = os.fstat(self._file.fileno()).st_size

    def _rotate(self) -> None:
        self._file.close()
        for number in range(FILES_MAX - 1, 0, -1):
            older = self._path.with_suffix(f".log.{number}")
            newer = self._path if number == 1 else self._path.with_suffix(f".log.{number - 1}")
            if newer.exists():
                os.replace(newer, older)
        self._open()
