"""The node's folder on disk: one process at a time, files written whole or not at all."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from isochrone.records.durable import sync
from isochrone.schema.errors import Unavailable


class StateDir:
    """``folder`` exists and is this process's alone until ``release`` (or its death).

    Raises Unavailable when another process holds it, or it cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise Unavailable(
                f"The state directory {folder} cannot be used: {error.strerror}.",
                fix="Set state_dir to a directory that this user may write.",
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise Unavailable(
                f"Another node process uses the state directory {folder}.",
                fix="End that one, or give this node a state_dir of its own.",
                code="in_use",
            ) from error

    def release(self) -> None:
        """Let another process have it."""
        os.close(self._lock)

    def write_whole(self, path: Path, data: bytes) -> None:
        """Replace a small file atomically. Raises Unavailable (disk)."""
        fresh = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            fresh.write_bytes(data)
            os.replace(fresh, path)
            sync(path.parent)
        except OSError as error:
            raise Unavailable(f"{path} cannot be written: {error.strerror}.") from error
