"""The demonstration's script: who calls what, how often, how long, and what is promised."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

EXAMPLES = Path("examples")
HOME_METRO, HOME_CELL = "frankfurt", "fra"
CUT_CELL = "sin"
CENTRAL_METRO = "washington"

CALLED: dict[str, tuple[str, ...]] = {
    "frankfurt": ("speech-detection", "text-recognition", "embeddings", "fraud-scorer"),
    "paris": ("speech-detection", "text-recognition", "embeddings"),
    "madrid": ("speech-detection", "text-recognition"),
    "new-york": ("embeddings", "file-typing"),
    "sao-paulo": ("embeddings", "file-typing"),
    "singapore": ("embeddings", "file-typing"),
    "tokyo": ("embeddings", "file-typing"),
}
"""Which services each city calls: those whose audience it belongs to."""

RATES = {
    "speech-detection": 6.0,
    "text-recognition": 2.0,
    "embeddings": 2.5,
    "file-typing": 2.5,
    "fraud-scorer": 8.0,
    "completions": 0.3,
}
"""Requests per second and city: together about half of what two cores compute."""

FAULT_RATES = RATES | {"text-recognition": 3.0, "completions": 0.0}
"""While nodes die: more of the service whose answers take longest, so that requests are under way
on the victims; no completions, since a stream cannot be continued on another replica yet."""

INPUTS = {"fraud-scorer": "synthetic", "completions": "prompts, answers unchecked,"}
"""What a service's inputs are, where they are not real."""

WARM_S, CALM_S, SLOW_S, CENTRAL_S = 4.0, 15.0, 10.0, 8.0
FAULT_SLICE_S = 6.0
FAULT_SLICES_MAX = 10
SLOWER_MS = 80.0
FREEZE_S = 6.0
FABRIC_CUT_S = 10.0
SETTLE_S = 3.0
APPLY_WAIT_S = "60"

LIMITS_MS = {
    "overhead_p50_ms": 2.0,
    "reroute_ms": 100.0,
    "detect_hang_ms": 2000.0,
    "replace_ms": 5000.0,
}
"""Promised figures. One that is missed or was left unmeasured is said, and does not fail the run:
the machine may be busy, and chance may spare every request on a killed node."""


def service_flags(names: tuple[str, ...]) -> list[str]:
    """``--service NAME`` for each."""
    return [part for name in names for part in ("--service", name)]


def central_declaration(path: Path) -> dict[str, Any]:
    """An example's declaration as a centralised cloud would run it: one replica, no residency."""
    declared: dict[str, Any] = yaml.safe_load(path.read_text())
    for name in ("residency", "max_price_usd_per_hour"):
        declared.pop(name, None)
    declared["replicas"] = 1
    declared["audience"] = ["world"]
    declared["objective"] = {"latency_ms": 1000}
    model = declared["model"]
    if "path" in model:
        model["path"] = str((path.parent / model["path"]).resolve())
    return declared
