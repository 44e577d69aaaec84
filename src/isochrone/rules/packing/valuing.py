"""What is lost of a node: the one number that packing makes small.

Intuition: five ways to lose a GPU. Its holes fit nobody (``holes``). Its node has no cores or
memory left to use it with. The usual demands cannot use it now (``fragmentation``). Or big demands
find no node whole, since everything was begun and nothing finished. The waste of a node adds the
four; a placement costs what it adds to the waste of its node.

- *holes*: expected waste of each GPU's free part;
- *starved*: if only one of the usual demands came, how much GPU would its cores and memory strand;
  averaged over the demands by the GPUs that they ask for;
- *fragmentation*: FGD's measure;
- *scarce*: the same for demands that few nodes can take at all, by how few they are;
- *begun*: the square root of what is free of the node: it falls steepest where little is free, so
  that begun nodes are finished before fresh ones are begun.

Rules of this file: whole numbers in float64, all below 2^53, so that every sum is exact and the
same on every machine and in any order. What it does not do: choose (``cluster``).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from isochrone.rules.packing.demand import WHOLE_MILLI, Demand
from isochrone.rules.packing.fragmentation import PPM, Typical
from isochrone.rules.packing.holes import DETAIL, Table, hole_waste

Numbers = NDArray[np.float64]
Kinds = NDArray[np.int64]

HOLES_WEIGHT = 1_000
STARVED_WEIGHT = 800
FRAGMENTED_WEIGHT = 70
SCARCE_WEIGHT = 100
BEGUN_WEIGHT = 400
"""Weights in thousandths, found by random search on seeds 100-111 of the published protocol; the
benchmark reports seeds 0-9. Without *starved* whole GPUs are left without cores (2 points of a
cluster's GPUs), without *begun* and *scarce* big demands are refused early."""

SCARCITY_MAX = 100.0
"""A demand that less than a hundredth of the GPUs can take counts as one of a hundredth."""

MASS_FLOOR = 1
"""A demand without cores or memory starves nobody: it divides by this instead of zero."""


class Value:
    """The waste of nodes under the usual demands. ``kinds[k]``: the GPU models of nodes of kind k.

    ``table``: the waste of holes, where it was learnt (``rehearsal``). ``reach``: per usual demand
    the part of all GPUs whose nodes could take it (all of them).
    Each node's GPUs stand in one row of ``width`` columns; a node with fewer has zeros there.
    """

    def __init__(
        self,
        typical: Typical,
        kinds: Sequence[tuple[str, ...]],
        width: int,
        table: Table | None = None,
        reach: Numbers | None = None,
    ) -> None:
        demands = typical.demands
        groups = sorted({demand.models for demand in demands})
        pairs = sorted({(demand.models, demand.gpu_milli) for demand in demands})
        self._accept = np.zeros((len(kinds), len(groups), width))
        for group, models in enumerate(groups):
            asks = Demand(cpu_milli=0, models=models)
            for kind, names in enumerate(kinds):
                for gpu, name in enumerate(names):
                    self._accept[kind, group, gpu] = asks.accepts(name)
        self._reached = self._accept.max(axis=2)
        self._pair_group = np.array([groups.index(models) for models, _ in pairs], dtype=np.int64)
        self._pair_milli = np.array([milli for _, milli in pairs], dtype=np.float64)[:, None]
        self._group = np.array([groups.index(d.models) for d in demands], dtype=np.int64)
        self._pair = np.array(
            [pairs.index((d.models, d.gpu_milli)) for d in demands], dtype=np.int64
        )
        self._cpu = np.array([d.cpu_milli for d in demands], dtype=np.float64)
        self._memory = np.array([d.memory_mib for d in demands], dtype=np.float64)
        self._count = np.array([d.gpu_count for d in demands], dtype=np.float64)
        asked = np.array([d.total_gpu_milli for d in demands], dtype=np.float64)
        share = np.array(typical.shares_ppm, dtype=np.float64)
        self._by_gpu = asked / np.maximum(self._cpu, MASS_FLOOR)
        self._by_gpu_memory = asked / np.maximum(self._memory, MASS_FLOOR)
        self._useful = share * (self._count > 0)
        self._all = float(share.sum())
        mass = share * asked
        self._mass = np.floor(mass * PPM / max(1.0, float(mass.sum())))
        reached = np.ones(len(demands)) if reach is None else reach
        scarcity = np.minimum(1.0 / np.maximum(reached, 1.0 / SCARCITY_MAX), SCARCITY_MAX) - 1.0
        scarce = np.floor(self._mass * np.where(reached > 0, scarcity, 0.0))
        self._weight = FRAGMENTED_WEIGHT * self._useful + SCARCE_WEIGHT * scarce
        self._weights = FRAGMENTED_WEIGHT * self._all + SCARCE_WEIGHT * float(scarce.sum())
        table = table or hole_waste(typical)
        self._holes = np.array(table, dtype=np.float64) * (PPM // DETAIL)
        self._begun = np.floor(np.sqrt(np.arange(width * WHOLE_MILLI + 1.0) * WHOLE_MILLI) * PPM)

    def waste(self, cpu: Numbers, memory: Numbers, free: Numbers, kind: Kinds) -> Numbers:
        """The waste of each node, in thousandths of a GPU x 10^9; whole numbers.

        ``cpu``, ``memory``, ``kind``: one a node; ``free``: nodes x ``width``, thousandths.
        """
        waste: Numbers = (
            HOLES_WEIGHT * self._holes[free.astype(np.int64)].sum(axis=1)
            + STARVED_WEIGHT * self.starved(cpu, memory, free, kind)
            + free.sum(axis=1) * self._weights
            - self._usable(cpu, memory, free, kind) @ self._weight
            + BEGUN_WEIGHT * self._begun[free.sum(axis=1).astype(np.int64)]
        )
        return waste

    def fragmented(self, cpu: Numbers, memory: Numbers, free: Numbers, kind: Kinds) -> Numbers:
        """What the usual demands cannot use now, in thousandths x millionths."""
        usable = self._usable(cpu, memory, free, kind)
        fragmented: Numbers = free.sum(axis=1) * self._all - usable @ self._useful
        return fragmented

    def starved(self, cpu: Numbers, memory: Numbers, free: Numbers, kind: Kinds) -> Numbers:
        """What each usual demand, coming alone, would strand for lack of cores or memory."""
        reach = np.minimum(cpu[:, None] * self._by_gpu, memory[:, None] * self._by_gpu_memory)
        stranded = np.maximum(0.0, free.sum(axis=1)[:, None] - np.floor(reach))
        stranded *= self._reached[kind][:, self._group]
        starved: Numbers = stranded @ self._mass
        return starved

    def _usable(self, cpu: Numbers, memory: Numbers, free: Numbers, kind: Kinds) -> Numbers:
        """What each usual demand could use of each node's free GPUs: nodes x demands."""
        free_of = (free[:, None, :] * self._accept[kind])[:, self._pair_group, :]
        fits = free_of >= np.maximum(self._pair_milli, 1.0)
        usable: Numbers = (free_of * fits).sum(axis=2)[:, self._pair]
        number = fits.sum(axis=2)[:, self._pair]
        fit = (cpu[:, None] >= self._cpu) & (memory[:, None] >= self._memory)
        usable *= fit & (number >= self._count)
        return usable
