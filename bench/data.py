"""Where the benchmarks find the shared data sets, and what they say when one is missing."""

from __future__ import annotations

import sys
from pathlib import Path

DEFAULT_FOLDER = "../shared/data"
"""Beside the project's folder; its README.md describes every file."""


def need(folder: str | Path, name: str) -> Path:
    """The file ``name`` of the data folder; ends the benchmark with a sentence if it is not there.

    Raises SystemExit (2).
    """
    return need_file(Path(folder) / name)


def need_file(path: str | Path) -> Path:
    """A file that was named by an option or lies in the data folder; SystemExit (2) without it."""
    found = Path(path)
    if found.is_file():
        return found
    print(
        f"The data file {found} is missing. The README.md of the data folder (--data, by default "
        f"{DEFAULT_FOLDER}) describes {found.name}: columns, units, source.",
        file=sys.stderr,
    )
    raise SystemExit(2)
