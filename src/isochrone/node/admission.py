"""Whether a lease may and can run on this machine: residency, engine, processors, memory, GPUs.

The controller has planned it already; the node checks again, because two controllers may have
planned at once (before and after a change of leader) and the machine cannot be in two minds. Of
each GPU no more than 1,000 thousandths are given away.

A standby needs disk only: of the machine it asks whether the engine is there that would load it.

Every reason is ``code: sentence`` (codes: ``residency``, ``engine``, ``capacity``).
"""

from __future__ import annotations

from collections.abc import Iterable

from isochrone.node.mask import why_outside
from isochrone.rules.devices import free_milli, matching
from isochrone.schema.lease import Lease
from isochrone.schema.node import Capacity


def why_not_here(lease: Lease, country: str) -> str:
    """Why the lease's residency does not admit this node; empty when it does."""
    outside = why_outside(lease, country, "This node")
    return f"residency: {outside}" if outside else ""


def why_never(lease: Lease, capacity: Capacity, country: str) -> str:
    """Why this machine could not run the lease even when idle; empty when it could.

    ``country``: where the node stands by its grant.
    """
    other = why_no_standby(lease, capacity, country)
    if other:
        return other
    need = lease.resources
    gpus = len(matching(capacity, need.gpu))
    if need.gpu_count > gpus:
        kind = f" {need.gpu}" if need.gpu else ""
        return f"capacity: It needs {need.gpu_count}{kind} GPU, this node has {gpus}."
    odd = _why_odd(lease, capacity)
    if odd:
        return f"capacity: {odd}"
    return _why_short(lease, capacity, ())


def why_no_standby(lease: Lease, capacity: Capacity, country: str) -> str:
    """Why this machine should not even keep the lease's files; empty when it may."""
    outside = why_not_here(lease, country)
    if outside:
        return outside
    if lease.model.engine not in capacity.engines:
        have = ", ".join(capacity.engines) or "none"
        return f"engine: This node does not run engine {lease.model.engine!r} (it runs: {have})."
    return ""


def why_not_now(lease: Lease, capacity: Capacity, running: Iterable[Lease]) -> str:
    """What is missing beside the leases that occupy the machine; empty when it fits."""
    return _why_short(lease, capacity, tuple(running))


def _why_short(lease: Lease, capacity: Capacity, running: tuple[Lease, ...]) -> str:
    need = lease.resources
    free_cpu = capacity.cpu_milli - sum(other.resources.cpu_milli for other in running)
    if need.cpu_milli > free_cpu:
        return f"capacity: It needs {need.cpu_milli} milli of CPU, {max(0, free_cpu)} are free."
    free_memory = capacity.memory_mib - sum(other.resources.memory_mib for other in running)
    if need.memory_mib > free_memory:
        return (
            f"capacity: It needs {need.memory_mib} MiB of memory, {max(0, free_memory)} are free."
        )
    free = free_milli(capacity, running)
    full = [number for number in lease.gpus if free[number] < need.gpu_milli]
    if full:
        return (
            f"capacity: It needs {need.gpu_milli} thousandths of GPU {full[0]},"
            f" {max(0, free[full[0]])} are free."
        )
    return ""


def _why_odd(lease: Lease, capacity: Capacity) -> str:
    """What is wrong with the GPUs that an order names: the engine will see just these."""
    need, named = lease.resources, set(lease.gpus)
    if len(named) != len(lease.gpus) or len(named) != need.gpu_count:
        return f"It needs {need.gpu_count} GPU, its order names {len(lease.gpus)}."
    strange = sorted(named - set(matching(capacity, need.gpu)))
    if strange:
        return f"GPU {strange[0]}, which its order names, is not here or another model."
    return ""
