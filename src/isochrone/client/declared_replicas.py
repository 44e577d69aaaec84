"""The part of a declaration that says how many replicas, of what size, and how they scale.

    resources: {cpus: 0.5, memory: 512MiB, gpu: H100:0.5}
    replicas: 0..4
    gang: false
    priority: 5
    scaling: {follow: true, idle: 5m, warm: 1, hold: 20s}

``replicas: 0..4`` follows demand without being told; ``scaling`` then only sets the times. A part
of a GPU (``H100:0.5``, ``0.5``) shares one; whole ones (``H100:2``) are a replica's own.
"""

from __future__ import annotations

import math
import re

from isochrone.client.yaml_nodes import Field
from isochrone.schema.node import Resources
from isochrone.schema.service import (
    HOLD_S_MAX,
    IDLE_S_MAX,
    PRIORITY_MAX,
    REPLICAS_MAX,
    ReplicaRange,
    Scaling,
)

GPUS_MAX = 64
"""GPUs of one machine: twice what any vendor sells."""

_SIZES_MIB = {"": 1.0, "MIB": 1.0, "GIB": 1024.0, "MB": 1e6 / 2**20, "GB": 1e9 / 2**20}
_UNITS_S = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def read_resources(field: Field | None) -> Resources:
    """What one replica occupies; raises InvalidInput with the line, as all here do."""
    default = Resources()
    if field is None:
        return default
    fields = field.mapping(("cpus", "memory", "gpu", "gflops_min"))
    cpu_milli = default.cpu_milli
    if "cpus" in fields:
        cpu_milli = max(1, round(fields["cpus"].number(0.001, 1024) * 1000))
    gpu, gpu_count, gpu_milli = _gpu(fields["gpu"]) if "gpu" in fields else ("", 0, 1000)
    return Resources(
        cpu_milli=cpu_milli,
        memory_mib=_memory_mib(fields["memory"]) if "memory" in fields else default.memory_mib,
        gpu=gpu,
        gpu_count=gpu_count,
        gpu_milli=gpu_milli,
        gflops_min=math.ceil(fields["gflops_min"].number(0, 1e9)) if "gflops_min" in fields else 0,
    )


def read_replicas(field: Field | None, gang: Field | None) -> ReplicaRange:
    """At least and at most how many replicas, and whether fewer are of no use."""
    together = gang.flag() if gang is not None else False
    if field is None:
        return ReplicaRange(gang=together)
    match = re.fullmatch(r"(\d{1,9})(?:\s*\.\.\s*(\d{1,9}))?", field.text().strip())
    low = int(match[1]) if match else 0
    high = int(match[2] or match[1]) if match else 0
    if not (low <= high and 1 <= high <= REPLICAS_MAX):
        raise field.wrong(
            f"must be like `2`, `2..4` or `0..4` (up to {REPLICAS_MAX}, the smaller first)."
        )
    return ReplicaRange(min=low, max=high, gang=together)


def read_priority(field: Field | None) -> int:
    """0 (by default) to 9, the higher first."""
    if field is None:
        return 0
    if not (field.text().isdigit() and int(field.text()) <= PRIORITY_MAX):
        raise field.wrong(f"must be a whole number from 0 to {PRIORITY_MAX}.")
    return int(field.text())


def read_scaling(field: Field | None, replicas: Field | None) -> Scaling:
    """How replicas follow demand. From 0 replicas on they do, and ``follow: false`` is an error."""
    from_zero = replicas is not None and read_replicas(replicas, None).min == 0
    if field is None:
        return Scaling(follow=from_zero)
    fields = field.mapping(("follow", "idle", "warm", "hold"))
    follow = fields["follow"].flag() if "follow" in fields else from_zero
    if from_zero and not follow:
        raise fields["follow"].wrong(
            "is false, but `replicas` begin at 0.", "Begin at 1, or leave `follow` out."
        )
    default = Scaling()
    return Scaling(
        follow=follow,
        idle_s=_seconds(fields["idle"], 1, IDLE_S_MAX) if "idle" in fields else default.idle_s,
        warm=round(fields["warm"].number(0, REPLICAS_MAX)) if "warm" in fields else default.warm,
        hold_s=_seconds(fields["hold"], 0, HOLD_S_MAX) if "hold" in fields else default.hold_s,
    )


def _seconds(field: Field, low: float, high: float) -> float:
    """``20s``, ``5m``, ``1.5h``; a bare number is seconds."""
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)\s*([a-z]*)", field.text().strip())
    if not match or match[2] not in _UNITS_S:
        raise field.wrong(f"{field.text()!r} is not a time.", "Write it like 20s, 5m or 1h.")
    seconds = float(match[1]) * _UNITS_S[match[2]]
    if not low <= seconds <= high:
        raise field.wrong(f"must lie between {low:g} s and {high:g} s.")
    return seconds


def _memory_mib(field: Field) -> int:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", field.text().strip())
    if not match or match[2].upper() not in _SIZES_MIB:
        raise field.wrong(f"{field.text()!r} is not a size.", "Write it like 512MiB or 2GiB.")
    memory_mib = round(float(match[1]) * _SIZES_MIB[match[2].upper()])
    if not 1 <= memory_mib <= 16 * 2**20:
        raise field.wrong("must lie between 1 MiB and 16 TiB.")
    return memory_mib


def _gpu(field: Field) -> tuple[str, int, int]:
    """``H100:2`` → (``H100``, 2, 1000); ``H100:0.5`` → (``H100``, 1, 500); ``1`` → any, one."""
    name, _, amount = field.text().strip().partition(":")
    if not amount and re.fullmatch(r"\d+(\.\d+)?", name):
        name, amount = "", name
    if not name and not amount:
        return "", 0, 1000
    if amount and not re.fullmatch(r"\d{1,3}(\.\d{1,3})?", amount):
        raise field.wrong(
            f"{field.text()!r} is not a GPU demand.", "Write it like H100:1 or H100:0.5."
        )
    gpus = float(amount or 1)
    if 0 < gpus < 1:
        return name, 1, round(gpus * 1000)
    if gpus != int(gpus) or gpus > GPUS_MAX:
        raise field.wrong(
            "is neither whole GPUs nor a part of one.",
            f"Write 1 to {GPUS_MAX} whole ones, or a part below 1.",
        )
    return name, int(gpus), 1000
