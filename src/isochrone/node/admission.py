"""Whether a lease fits on this machine: engine, processors, memory, GPUs.

The controller has planned it already; the node checks again, because two controllers may have
planned at once (before and after a change of leader) and the machine cannot be in two minds.
"""

from __future__ import annotations

from collections.abc import Iterable

from isochrone.schema.lease import Lease
from isochrone.schema.node import Capacity


def why_never(lease: Lease, capacity: Capacity) -> str:
    """Why this machine could not run the lease even when idle; empty when it could."""
    need = lease.resources
    if lease.model.engine not in capacity.engines:
        have = ", ".join(capacity.engines) or "none"
        return f"This node does not run engine {lease.model.engine!r} (it runs: {have})."
    gpus = [d for d in capacity.devices if d.kind == "gpu" and need.gpu in d.name]
    if need.gpu_count > len(gpus):
        kind = f" {need.gpu}" if need.gpu else ""
        return f"It needs {need.gpu_count}{kind} GPU, this node has {len(gpus)}."
    return _why_short(lease, capacity, ())


def why_not_now(lease: Lease, capacity: Capacity, running: Iterable[Lease]) -> str:
    """What is missing beside the leases that occupy the machine; empty when it fits."""
    return _why_short(lease, capacity, tuple(running))


def _why_short(lease: Lease, capacity: Capacity, running: tuple[Lease, ...]) -> str:
    need = lease.resources
    free_cpu = capacity.cpu_milli - sum(other.resources.cpu_milli for other in running)
    if need.cpu_milli > free_cpu:
        return f"It needs {need.cpu_milli} milli of CPU, {max(0, free_cpu)} are free."
    free_memory = capacity.memory_mib - sum(other.resources.memory_mib for other in running)
    if need.memory_mib > free_memory:
        return f"It needs {need.memory_mib} MiB of memory, {max(0, free_memory)} are free."
    all_gpus = sum(1 for device in capacity.devices if device.kind == "gpu")
    free_gpus = all_gpus - sum(other.resources.gpu_count for other in running)
    if need.gpu_count > free_gpus:
        return f"It needs {need.gpu_count} GPU, {max(0, free_gpus)} are free."
    return ""
