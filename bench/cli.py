"""How long the verbs of ``isochrone`` take: ``python -m bench.cli --json``.

Conditions: one real cell on this machine (fabric server, controller, gateway, one node, one
service); every run is a process of its own, from its start to its end, so importing counts. Verbs
that change something (``apply``, ``delete``) are measured on a second service; ``up`` and ``down``
move whole processes and are measured once. ``plan`` asks no cell: it is told with the others, and
``plan_map`` draws the page too.

The last line on standard output is one JSON object: per verb {"p50_ms", "max_ms", "cpu_p50_ms"}
(wall time, and processor time of the command and its children), and ``slowest_p50_ms`` over the
verbs that ask the cell and leave it up.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.conditions import conditions
from bench.own_cell import DECLARATION, SERVICE, OwnCell, own_cell

OTHER = "bench-other"
READING: dict[str, tuple[str, ...]] = {
    "help": ("--help",),
    "status": ("status",),
    "status_json": ("status", "-o", "json"),
    "nodes": ("nodes",),
    "explain": ("explain", SERVICE),
    "replay": ("replay", SERVICE),
    "logs": ("logs", SERVICE),
    "keys_list": ("keys", "list"),
    "keys_create": ("keys", "create", "--service", SERVICE),
}

ALONE = ("help", "plan", "plan_map")
"""What asks no cell, and so does not count for ``slowest_p50_ms``."""


def run(cell: OwnCell, *words: str) -> tuple[float, float]:
    """One process: wall and processor time, milliseconds."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        cell.arguments(*words), env=cell.environment, capture_output=True, text=True, check=False
    )
    wall_ms = (time.perf_counter() - start) * 1e3
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"bench: isochrone {' '.join(words)}: {done.stderr.strip()}")
    used_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall_ms, used_s * 1e3


def figures(times: list[tuple[float, float]]) -> dict[str, float]:
    """What is told of a verb."""
    walls = [wall for wall, _ in times]
    return {
        "p50_ms": round(statistics.median(walls), 1),
        "max_ms": round(max(walls), 1),
        "cpu_p50_ms": round(statistics.median(cpu for _, cpu in times), 1),
    }


def measure(cell: OwnCell, rounds: int) -> dict[str, Any]:
    """Every verb against a cell; the verbs take turns, so that noise hits all alike."""
    path = cell.folder / "other.yaml"
    path.write_text(DECLARATION.replace(f"name: {SERVICE}", f"name: {OTHER}"))
    verbs = {
        **READING,
        "plan": ("plan", "-f", str(path)),
        "plan_map": ("plan", "-f", str(path), "--map", str(cell.folder / "plan.html")),
        "apply_dry_run": ("apply", "--dry-run", "-f", str(path)),
        "apply": ("apply", "-y", "-f", str(path)),
        "delete": ("delete", "-y", OTHER),
    }
    times: dict[str, list[tuple[float, float]]] = {verb: [] for verb in verbs}
    for number in range(rounds):
        for verb, words in verbs.items():
            times[verb].append(run(cell, *words))
        print(f"bench.cli: round {number + 1} of {rounds}", file=sys.stderr, flush=True)
    return {verb: figures(found) for verb, found in times.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.cli")
    parser.add_argument("--json", action="store_true", help="(always) last line is JSON")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    print(conditions(f"{options.rounds} runs a verb"), flush=True)
    with tempfile.TemporaryDirectory(prefix="isochrone-bench-") as folder:
        with own_cell(Path(folder) / "home") as cell:
            told = measure(cell, options.rounds)
        up_ms = run(cell, "up", "--place", "frankfurt", "--port", "0")
        down_ms = run(cell, "down")
    slowest_ms = max(verb["p50_ms"] for name, verb in told.items() if name not in ALONE)
    for name, verb in told.items():
        print(f"{name:14} p50 {verb['p50_ms']:7.1f} ms  cpu {verb['cpu_p50_ms']:7.1f} ms")
    told |= {"up": figures([up_ms]), "down": figures([down_ms]), "slowest_p50_ms": slowest_ms}
    print(json.dumps(told))


if __name__ == "__main__":
    main()
