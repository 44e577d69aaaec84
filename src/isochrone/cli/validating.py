"""The validator that ``validate`` started from this home: where it lies, and whether it runs.

Its folder holds ``process.json``, the process with its start time, so that ``down --validator``
never ends somebody else's process that got the same id.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from isochrone.cell.running import Running, end, is_running
from isochrone.cli.context import home
from isochrone.schema.errors import Timeout

STOP_GRACE_S = 8.0
"""It ends within five seconds of SIGTERM; beyond this it is killed."""


def folder() -> Path:
    """Where this home's validator keeps its configuration, books and journal."""
    return home() / "validator"


def stop() -> bool:
    """End this home's validator; whether one ran. Its data stays."""
    process = running_validator()
    if process is None:
        return False
    if not end(process, STOP_GRACE_S):
        raise Timeout(f"The validator's process {process.pid} does not end.", fix="End it by hand.")
    return True


def remember(process: Running) -> None:
    """Write down which process it is."""
    folder().mkdir(parents=True, exist_ok=True)
    (folder() / "process.json").write_bytes(msgspec.json.encode(process) + b"\n")


def running_validator() -> Running | None:
    """Its process, if it runs."""
    try:
        process = msgspec.json.decode((folder() / "process.json").read_bytes(), type=Running)
    except (OSError, msgspec.DecodeError):
        return None
    return process if is_running(process) else None
