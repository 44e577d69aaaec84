"""Where the benchmarks find the shared data sets, and what they say when one is missing."""

from __future__ import annotations

import csv
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

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
    _stop(f"The data file {found} is missing.", found.name)


def need_table(
    path: str | Path,
    like: str,
    numbers: Mapping[str, tuple[float, float]],
    words: Sequence[str] = (),
    least_rows: int = 1,
) -> Path:
    """A CSV file in the format of the shared file ``like``, looked through once before it is used:
    its columns ``numbers`` hold a number between their least and their most in every row, there
    are columns ``words``, and enough rows.

    Raises SystemExit (2) with the line.
    """
    found = need_file(path)
    rows = 0
    try:
        with found.open(encoding="utf-8", newline="") as file:
            table = csv.DictReader(file)
            missing = [name for name in (*numbers, *words) if name not in (table.fieldnames or ())]
            if missing:
                _stop(f"{found} has no column {', '.join(missing)}.", like)
            for row in table:
                rows += 1
                for name, (least, most) in numbers.items():
                    if not _is_between(row[name], least, most):
                        what = f"{name} is {row[name]!r}, not a number from {least:g} to {most:g}"
                        _stop(f"{found}, line {table.line_num}: {what}.", like)
    except (UnicodeDecodeError, csv.Error) as error:
        _stop(f"{found} is not a CSV file in UTF-8 ({error}).", like)
    if rows < least_rows:
        _stop(f"{found} has {rows} rows; at least {least_rows} are needed.", like)
    return found


def _is_between(text: str | None, least: float, most: float) -> bool:
    try:
        number = float(text or "")
    except ValueError:
        return False
    return math.isfinite(number) and least <= number <= most


def stop(what: str) -> NoReturn:
    """End the benchmark with a sentence and exit status 2."""
    print(what, file=sys.stderr)
    raise SystemExit(2)


def _stop(what: str, name: str) -> NoReturn:
    stop(
        f"{what} The README.md of the data folder (--data, by default {DEFAULT_FOLDER}) describes "
        f"{name}: columns, units, source."
    )
