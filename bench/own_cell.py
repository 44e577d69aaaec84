"""A small real cell for benchmarks: what ``isochrone up`` starts, in a folder of its own.

It serves the fraud scorer of ``examples/`` on one node, over the shipped path. Everything is done
with the ``isochrone`` command, as a person does it; afterwards the cell is ended and the folder is
the caller's to remove.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SERVICE = "bench"
MODEL = Path(__file__).parents[1] / "examples" / "models" / "fraud" / "fraud.onnx"
FEATURES = 8
"""Columns of a row that the fraud scorer wants."""

DECLARATION = f"""\
name: {SERVICE}
model: {{path: {MODEL}}}
resources: {{cpus: 0.1, memory: 128MiB}}
replicas: 1..1
audience: [DE]
objective: {{latency_ms: 200}}
"""


class OwnCell:
    """A running cell: ``command`` runs ``isochrone`` against it, ``url`` is its gateway."""

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        outer = {k: v for k, v in os.environ.items() if not k.startswith("ISOCHRONE_")}
        self.environment = {**outer, "ISOCHRONE_HOME": str(folder), **(environment or {})}
        self.folder = folder
        self.url = ""

    def arguments(self, *words: str) -> list[str]:
        """The command line of a verb."""
        return [sys.executable, "-m", "isochrone.cli", *words]

    def command(self, *words: str) -> Any:
        """Run a verb with ``-o json``; its document. Ends the benchmark when it fails."""
        done = subprocess.run(
            self.arguments(*words, "-o", "json"),
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            env=self.environment,
        )
        if done.returncode:
            raise SystemExit(f"bench: isochrone {words[0]}: {done.stderr.strip()}")
        return json.loads(done.stdout)


@contextmanager
def own_cell(folder: Path, environment: Mapping[str, str] | None = None) -> Iterator[OwnCell]:
    """Start a cell in Frankfurt that serves the fraud scorer; end it afterwards."""
    cell = OwnCell(folder, environment)
    cell.url = cell.command("up", "--place", "frankfurt", "--port", "0")["url"]
    try:
        declaration = folder / "bench.yaml"
        declaration.write_text(DECLARATION)
        cell.command("apply", "-y", "--wait", "60", "-f", str(declaration))
        yield cell
    finally:
        cell.command("down")
