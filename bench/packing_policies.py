"""The policies that packing is compared with: Random, BestFit, FGD, as published and implemented.

Source: Weng et al., USENIX ATC 2023, and the behaviour of its public simulator: FGD's scores are
rounded to whole numbers of 0-100 through a sigmoid, it looks at cores, models and GPUs but not at
memory (which only decides whether a pod fits), and equal scores go to the first name. BestFit
weighs free cores and free GPUs by half each, relative to the largest node.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np

from isochrone.rules.packing.cluster import Cluster, Flags, Placement
from isochrone.rules.packing.demand import Demand, Residual
from isochrone.rules.packing.fragmentation import PPM, Typical
from isochrone.rules.packing.holes import Table
from isochrone.rules.packing.valuing import Kinds, Numbers, Value

CPU_MILLI_MAX, GPU_MILLI_MAX = 128_000.0, 8_000.0
"""The largest node of openb: the unit in which BestFit adds cores and GPUs."""


class _Fragmentation(Value):
    """FGD's measure alone, in thousandths of a GPU."""

    def waste(self, cpu: Numbers, memory: Numbers, free: Numbers, kind: Kinds) -> Numbers:
        """The fragmentation of each node."""
        fragmented: Numbers = self.fragmented(cpu, np.full(len(cpu), np.inf), free, kind) / PPM
        return fragmented


class Fgd(Cluster):
    """Fragmentation gradient descent as its authors' simulator runs it."""

    def _valued(self, typical: Typical, table: Table | None) -> Value:
        return _Fragmentation(typical, self._kinds, self.width)

    def _rated(self, after: Numbers, before: Numbers) -> Numbers:
        rated: Numbers = -np.floor(100.0 / (1.0 + np.exp((after - before) / 1_000.0)))
        return rated


class _Left(Value):
    """BestFit's measure: what is left of a node, cores and GPUs by half."""

    def waste(self, cpu: Numbers, memory: Numbers, free: Numbers, kind: Kinds) -> Numbers:
        """Half of the free cores and half of the free GPUs, relative to the largest node."""
        left: Numbers = 0.5 * cpu / CPU_MILLI_MAX + 0.5 * free.sum(axis=1) / GPU_MILLI_MAX
        return left


class BestFit(Cluster):
    """The node where least is left, the fullest GPU that fits."""

    def _valued(self, typical: Typical, table: Table | None) -> Value:
        return _Left(typical, self._kinds, self.width)

    def _rated(self, after: Numbers, before: Numbers) -> Numbers:
        rated: Numbers = -np.floor((1.0 - after) * 100.0)
        return rated

    def _candidates(
        self, room: Flags, fits: Flags, usable: Numbers, demand: Demand
    ) -> tuple[Kinds, Kinds]:
        rows = np.flatnonzero(room)
        return rows, np.where(fits[rows], usable[rows], np.inf).argmin(axis=1)


class Random(Cluster):
    """Any node that fits, any of its GPUs that fits; whole ones the first."""

    def __init__(self, nodes: Sequence[Residual], typical: Typical, seed: int) -> None:
        super().__init__(nodes, typical)
        self._chance = random.Random(f"random {seed}")

    def _valued(self, typical: Typical, table: Table | None) -> Value:
        return _Left(typical, self._kinds, self.width)

    def best(self, demand: Demand, among: Flags | None = None) -> Placement | None:
        """Any place with room."""
        usable = self.free * self._accepted(demand.models)[self.kind]
        fits = usable >= max(1, demand.gpu_milli)
        room = (self.cpu >= demand.cpu_milli) & (self.memory >= demand.memory_mib) & ~self.lost
        room &= fits.sum(axis=1) >= demand.gpu_count
        if among is not None:
            room &= among
        nodes = np.flatnonzero(room)
        if not len(nodes):
            return None
        node = int(nodes[self._chance.randrange(len(nodes))])
        gpus = [int(gpu) for gpu in np.flatnonzero(fits[node])]
        chosen = [self._chance.choice(gpus)] if demand.gpu_count == 1 else gpus[: demand.gpu_count]
        return Placement(node=node, gpus=tuple(chosen))
