"""A node's GPUs one by one: what is left of each, and which of them a replica gets.

Intuition: a GPU is a box of 1,000 thousandths. A replica takes the same share of each of its GPUs,
whole ones where it has several; what is free of one GPU cannot be added to what is free of
another, so they are counted apart. Views, decisions and nodes count with these few functions and
therefore agree.

Rules of this file: a GPU's number is its place among the GPUs of ``Capacity.devices``, in the
order in which the node's survey lists them. No numpy: nodes use this too.
What it does not do: share out a GPU's memory or its time. A replica with half of a GPU is promised
that no more than 1,000 thousandths are sold; nothing here keeps its neighbour to the other half.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from isochrone.schema.lease import Lease
from isochrone.schema.node import Capacity, Resources

WHOLE = 1000
"""Thousandths of one GPU."""


def gpu_names(capacity: Capacity) -> tuple[str, ...]:
    """The models of a node's GPUs, by number."""
    return tuple(device.name for device in capacity.devices if device.kind == "gpu")


def matching(capacity: Capacity, model: str) -> tuple[int, ...]:
    """The numbers of the GPUs whose name contains ``model``, in any case; all when it is empty."""
    wanted = model.lower()
    names = gpu_names(capacity)
    return tuple(number for number, name in enumerate(names) if wanted in name.lower())


def free_milli(capacity: Capacity, leases: Iterable[Lease]) -> tuple[int, ...]:
    """What the leases leave of each GPU, by number; below 0 where too much was given away.

    A lease that does not say which GPUs it has (its writer knew none) counts on the freest ones.
    """
    left = [WHOLE] * len(gpu_names(capacity))
    for lease in sorted(leases, key=lambda lease: not lease.gpus):
        for number in lease.gpus or _freest(left, lease.resources.gpu_count):
            if number < len(left):
                left[number] -= lease.resources.gpu_milli
    return tuple(left)


def _freest(left: Sequence[int], count: int) -> list[int]:
    return sorted(range(len(left)), key=lambda number: (-left[number], number))[:count]


def choose(capacity: Capacity, free: Sequence[int], need: Resources) -> tuple[int, ...] | None:
    """The GPUs that a replica gets, by number; None when there are not enough.

    The fullest that still have room, so that whole ones stay whole; of equal ones the first.
    """
    if not need.gpu_count:
        return ()
    able = [number for number in matching(capacity, need.gpu) if number < len(free)]
    able = [number for number in able if free[number] >= need.gpu_milli]
    if len(able) < need.gpu_count:
        return None
    fullest = sorted(able, key=lambda number: (free[number], number))
    return tuple(sorted(fullest[: need.gpu_count]))
