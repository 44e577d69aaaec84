"""The nodes that ``join`` started from this home: where they lie, and which of them run.

Each node's folder holds ``process.json``, the process with its start time, so that ``down --node``
never ends somebody else's process that got the same id.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from isochrone.cell.running import Running, is_running
from isochrone.cli.context import home

JOIN_GRACE_S = 8.0
"""A node drains and ends within five seconds of SIGTERM; beyond this it is killed."""


def node_folder(name: str) -> Path:
    """The folder of a node of this home."""
    return home() / "nodes" / name


def remember(name: str, process: Running) -> None:
    """Write down which process a node is."""
    (node_folder(name) / "process.json").write_bytes(msgspec.json.encode(process) + b"\n")


def joined() -> dict[str, Running]:
    """The nodes that run, by name."""
    found = {}
    for path in sorted((home() / "nodes").glob("*/process.json")):
        try:
            process = msgspec.json.decode(path.read_bytes(), type=Running)
        except msgspec.DecodeError:
            continue
        if is_running(process):
            found[path.parent.name] = process
    return found
