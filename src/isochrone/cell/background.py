"""A cell in the background: what ``isochrone up`` starts and ``isochrone down`` ends.

Blocking functions for a command line. The supervisor is started in a session of its own, so it
outlives the terminal, and found again by the record in its data directory.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import msgspec

from isochrone.cell.config import CellConfig
from isochrone.cell.record import (
    CellRecord,
    drop_record,
    end_leftovers,
    is_up,
    read_record,
)
from isochrone.cell.running import end
from isochrone.schema.errors import Conflict, Timeout, Unavailable

READY_WITHIN_S = 60.0
"""A cell starts in one to three seconds; a busy machine may take much longer."""

END_WITHIN_S = 30.0
"""Longer than any part's grace, so that the supervisor is never killed while it ends them."""

POLL_S = 0.02

_OURS: dict[int, subprocess.Popen[bytes]] = {}
"""Supervisors started by this very process, by pid: only their parent can reap them."""


def start(config: CellConfig) -> CellRecord:
    """Start a cell in the background and wait until it is ready; returns its record.

    Raises Conflict when one runs from that directory, Unavailable with why it could not start.
    """
    folder = config.folder
    if is_up(read_record(folder)):
        raise Conflict(
            f"A cell already runs from {folder}.", fix="See `isochrone status` or `isochrone down`."
        )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "config.json"
    path.touch(mode=0o600)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(config), indent=2) + b"\n")
    with (folder / "cell.log").open("wb") as log:
        supervisor = subprocess.Popen(
            [sys.executable, "-m", "isochrone.cell", str(path)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    _OURS[supervisor.pid] = supervisor
    try:
        return _wait_ready(folder, supervisor)
    except BaseException:
        _end(supervisor)
        raise


def _wait_ready(folder: Path, supervisor: subprocess.Popen[bytes]) -> CellRecord:
    deadline_s = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline_s:
        record = read_record(folder)
        mine = record is not None and record.supervisor.pid == supervisor.pid
        if record is not None and mine and record.state == "ready":
            return record
        if supervisor.poll() is not None:
            raise Unavailable(_why(folder))
        time.sleep(POLL_S)
    raise Timeout(
        f"The cell was not ready within {READY_WITHIN_S:.0f} s.", fix=f"See {folder / 'cell.log'}."
    )


def _end(supervisor: subprocess.Popen[bytes]) -> None:
    del _OURS[supervisor.pid]
    if supervisor.poll() is None:
        supervisor.terminate()
    try:
        supervisor.wait(END_WITHIN_S)
    except subprocess.TimeoutExpired:
        supervisor.kill()
        supervisor.wait()


def _why(folder: Path) -> str:
    lines = (folder / "cell.log").read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else f"The cell ended without a word; see {folder}."


def stop(folder: Path) -> bool:
    """End the cell of a data directory and wait for it; False when none ran.

    Raises Timeout when it does not end.
    """
    record = read_record(folder)
    if record is None:
        return False
    ran = is_up(record)
    if ran and not end(record.supervisor, END_WITHIN_S):
        raise Timeout(
            f"The cell's process {record.supervisor.pid} does not end.", fix="End it by hand."
        )
    ours = _OURS.pop(record.supervisor.pid, None)
    if ours is not None:
        ours.wait()
    left = end_leftovers(record)
    drop_record(folder)
    return ran or bool(left)
