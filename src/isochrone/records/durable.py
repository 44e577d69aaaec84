"""Files and names that survive a power failure.

A file is on disk after an fsync of the file *and*, for a new name, of its folder. Every function
blocks for the disk and raises OSError; who calls turns that into a sentence about its own folder.
"""

from __future__ import annotations

import os
from pathlib import Path


def sync(path: Path) -> None:
    """Make a file's content, or a folder's names, survive."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_whole(path: Path, data: bytes) -> None:
    """Write or replace a file: readers, and whoever comes after a crash, find the old or the new
    one, never half. Written beside its place (suffix ``.part``) and renamed into it."""
    beside = path.with_suffix(".part")
    with beside.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    sync(path.parent)
