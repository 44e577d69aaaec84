"""Reads the files of ``atlas/data``: CSV rows and raw bytes, gzipped or not. Nothing else."""

from __future__ import annotations

import csv
import gzip
import io
from importlib import resources


def read_bytes(name: str) -> bytes:
    """The content of one data file, unpacked when its name ends in ``.gz``."""
    data = (resources.files("isochrone.atlas") / "data" / name).read_bytes()
    return gzip.decompress(data) if name.endswith(".gz") else data


def read_rows(name: str) -> list[dict[str, str]]:
    """The rows of one CSV file by column name."""
    return list(csv.DictReader(io.StringIO(read_bytes(name).decode("utf-8"), newline="")))
