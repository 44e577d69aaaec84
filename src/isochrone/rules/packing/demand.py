"""What is asked of one node, and what is left of it.

Intuition: a GPU is not a quantity but a thing. A replica that wants a whole one is not helped by
two halves, and half a GPU without a free core beside it is worth nothing. So a node's rest is kept
GPU by GPU, and everything in this folder asks only two questions of it: does this still fit, and
what would fit afterwards.

Rules of this file: thousandths and MiB, integers. A demand takes the same part of each of its GPUs.
What it does not do: choose between nodes (``valuing``, ``cluster``).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from isochrone.schema.node import Resources

WHOLE_MILLI = 1000
"""A whole GPU, in thousandths."""


class Demand(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """What one replica occupies of one node: ``gpu_milli`` of each of ``gpu_count`` GPUs.

    ``models``: any of these device models will do (matched as a part of the device's name); empty:
    every model. ``gpu_milli`` is 1-1000; it means nothing when ``gpu_count`` is 0.
    """

    cpu_milli: int
    memory_mib: int = 0
    gpu_count: int = 0
    gpu_milli: int = WHOLE_MILLI
    models: tuple[str, ...] = ()

    @property
    def total_gpu_milli(self) -> int:
        """What it takes of all its GPUs together."""
        return self.gpu_count * self.gpu_milli if self.gpu_count else 0

    def accepts(self, model: str) -> bool:
        """Whether a device of this model will do."""
        return not self.models or any(name in model for name in self.models)


class Residual(msgspec.Struct, frozen=True, kw_only=True):
    """What is left of one node: cores, memory, and ``gpu_milli[i]`` thousandths of its GPU i.

    ``models[i]``: the device model of GPU i.
    """

    cpu_milli: int
    memory_mib: int
    gpu_milli: tuple[int, ...] = ()
    models: tuple[str, ...] = ()


def demand_of(resources: Resources) -> Demand:
    """The demand of one replica that was declared with ``resources``."""
    return Demand(
        cpu_milli=resources.cpu_milli,
        memory_mib=resources.memory_mib,
        gpu_count=resources.gpu_count,
        gpu_milli=resources.gpu_milli,
        models=(resources.gpu,) if resources.gpu else (),
    )


def choose_gpus(free_gpu_milli: Sequence[int], demand: Demand) -> tuple[int, ...] | None:
    """The GPUs (numbers, ascending) that a node would give: the fullest that still fit.

    ``free_gpu_milli``: what is free of each GPU; give 0 for those of a model that the demand does
    not accept. None: too few fit. An empty tuple: it asks for none.

    >>> choose_gpus((1000, 300, 500), Demand(cpu_milli=1, gpu_count=1, gpu_milli=250))
    (1,)
    """
    fitting = sorted((free, i) for i, free in enumerate(free_gpu_milli) if free >= demand.gpu_milli)
    if len(fitting) < demand.gpu_count:
        return None
    return tuple(sorted(i for _, i in fitting[: demand.gpu_count]))


def after(residual: Residual, demand: Demand) -> Residual | None:
    """What is left when the node takes the demand on its fullest GPUs; None: it does not fit."""
    if residual.cpu_milli < demand.cpu_milli or residual.memory_mib < demand.memory_mib:
        return None
    gpus = choose_gpus(accepted_milli(residual, demand), demand)
    if gpus is None:
        return None
    return Residual(
        cpu_milli=residual.cpu_milli - demand.cpu_milli,
        memory_mib=residual.memory_mib - demand.memory_mib,
        gpu_milli=tuple(
            free - demand.gpu_milli * (i in gpus) for i, free in enumerate(residual.gpu_milli)
        ),
        models=residual.models,
    )


def accepted_milli(residual: Residual, demand: Demand) -> tuple[int, ...]:
    """What is free of each GPU for this demand: 0 where the model is not accepted."""
    return tuple(
        free * demand.accepts(model)
        for free, model in zip(residual.gpu_milli, residual.models, strict=True)
    )
