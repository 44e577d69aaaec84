"""What runs, on disk: ``cell.json``, by which another process finds, shows and ends a cell.

Every process is recorded as (pid, start time), so that ``down`` never ends a process that merely
got the same pid, and a cell that was killed hard can be cleaned up at the next start.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import msgspec

from isochrone.cell.running import Running, end, is_running

RECORD = "cell.json"

CHILD_GRACE_S = 6.0
"""For what a killed supervisor left behind; its parts end within five seconds of SIGTERM."""


class PartRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One part: its name, process (None: not running now) and how often it was started again."""

    name: str
    process: Running | None
    restarts: int


class CellRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A cell as its supervisor last saw it. ``problem``: why it could not start, for people;
    ``notes``: what they should know of one that did."""

    cell: str
    state: Literal["starting", "ready", "stopping", "failed"]
    supervisor: Running
    http_urls: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    parts: tuple[PartRecord, ...] = ()
    problem: str = ""
    notes: tuple[str, ...] = ()


def write_record(folder: Path, record: CellRecord) -> None:
    """Replace the record in one step."""
    folder.mkdir(parents=True, exist_ok=True)
    beside = folder / f"{RECORD}.{os.getpid()}"
    beside.write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n")
    beside.replace(folder / RECORD)


def read_record(folder: Path) -> CellRecord | None:
    """The record, or None when there is none that can be read."""
    try:
        return msgspec.json.decode((folder / RECORD).read_bytes(), type=CellRecord)
    except (OSError, msgspec.DecodeError):
        return None


def drop_record(folder: Path) -> None:
    """Forget it: nothing runs."""
    (folder / RECORD).unlink(missing_ok=True)


def is_up(record: CellRecord | None) -> bool:
    """Whether the supervisor of the record runs."""
    return record is not None and is_running(record.supervisor)


def end_leftovers(record: CellRecord) -> list[str]:
    """End the parts that outlived their supervisor, last started first; returns their names."""
    left = [part for part in record.parts if part.process and is_running(part.process)]
    for part in reversed(left):
        if part.process is not None:
            end(part.process, CHILD_GRACE_S)
    return [part.name for part in left]
