"""The nodes of a site with what is left of each, and the choice of node and GPUs for each demand.

Intuition: a placement is good when it adds little to the waste of its node (``valuing``). What a
demand would add is remembered for every node and reckoned again only for nodes that changed since
the same demand was placed last; so a placement costs as much as a few nodes, not as all.

Rules of this file: whatever fits somewhere is placed; nothing placed is moved; equal costs (within
``STEP``) go to the first node, so the caller's order of nodes is the tie-break. Owned by one
caller, who keeps the placements. What it does not do: law, price and distance
(``rules.placement``), or moving (``defragment``).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from isochrone.rules.packing.demand import WHOLE_MILLI, Demand, Residual
from isochrone.rules.packing.fragmentation import PPM, Typical
from isochrone.rules.packing.holes import Table
from isochrone.rules.packing.valuing import Kinds, Numbers, Value
from isochrone.schema.errors import InvalidInput

STEP_MILLI = 60
STEP = STEP_MILLI * PPM * 1_000
"""Differences below 60 thousandths of a GPU are taken for equal: then the first node wins, which
fills begun nodes before fresh ones. Finer steps chase differences that the measure cannot see."""

NEVER = float(1 << 62)
LOG_LENGTH_MAX = 1 << 20
"""Changes remembered for reckoning again; beyond, everything is forgotten and reckoned afresh."""

Flags = NDArray[np.bool_]


class Placement(msgspec.Struct, frozen=True, kw_only=True):
    """Where a demand went: the node's number and the numbers of its GPUs, ascending."""

    node: int
    gpus: tuple[int, ...] = ()


class _Known:
    """What one demand would add on every node, as reckoned when ``seen`` changes had happened."""

    def __init__(self, nodes: int) -> None:
        self.seen = -1
        self.cost: Numbers = np.full(nodes, NEVER)
        self.after: Numbers = np.zeros(nodes)
        self.gpu: Kinds = np.zeros(nodes, dtype=np.int64)


class Cluster:
    """The nodes of a site. ``nodes``: what is free of each, in the order that breaks ties.

    ``whole``: the nodes when nothing runs on them (as given): how rare a node is that a demand
    could ever use.
    """

    def __init__(
        self,
        nodes: Sequence[Residual],
        typical: Typical,
        table: Table | None = None,
        whole: Sequence[Residual] | None = None,
    ) -> None:
        self.width = max([1, *(len(node.gpu_milli) for node in nodes)])
        self._kinds = sorted({node.models for node in nodes})
        self.cpu, self.memory, self.free = self._columns(nodes)
        numbers = {kind: number for number, kind in enumerate(self._kinds)}
        self.kind = np.array([numbers[node.models] for node in nodes], dtype=np.int64)
        self._first = self._columns(nodes if whole is None else whole)
        self._forget()
        self.lost: Flags = np.zeros(len(nodes), dtype=bool)
        self.learn(typical, table)

    def _columns(self, nodes: Sequence[Residual]) -> tuple[Numbers, Numbers, Numbers]:
        """Cores, memory and GPUs of nodes, a row each."""
        cpu = np.array([node.cpu_milli for node in nodes], dtype=np.float64)
        memory = np.array([node.memory_mib for node in nodes], dtype=np.float64)
        free = np.zeros((len(nodes), self.width))
        for index, node in enumerate(nodes):
            free[index, : len(node.gpu_milli)] = node.gpu_milli
        return cpu, memory, free

    def learn(self, typical: Typical, table: Table | None = None) -> None:
        """Value nodes by these usual demands, and this waste of holes, from now on."""
        self._value = self._valued(typical, table)
        self._forget()
        self._waste = self._classes(np.arange(len(self.cpu)))

    def _valued(self, typical: Typical, table: Table | None) -> Value:
        return Value(typical, self._kinds, self.width, table, self._reach(typical))

    def _reach(self, typical: Typical) -> Numbers:
        """Per usual demand the part of all GPUs whose nodes, as first given, could take it."""
        cpu, memory, free = self._first
        reach = np.zeros(len(typical.demands))
        for index, demand in enumerate(typical.demands):
            fits = free * self._accepted(demand.models)[self.kind] >= max(1, demand.gpu_milli)
            room = (cpu >= demand.cpu_milli) & (memory >= demand.memory_mib)
            room &= fits.sum(axis=1) >= demand.gpu_count
            reach[index] = free[room].sum() / max(1.0, float(free.sum()))
        return reach

    def _rated(self, after: Numbers, before: Numbers) -> Numbers:
        """The cost of placements that change the waste of a node from ``before`` to ``after``."""
        return np.floor((after - before) / STEP)

    def residual(self, node: int) -> Residual:
        """What is left of a node."""
        return self._row(node, self.cpu, self.memory, self.free)

    def whole(self, node: int) -> Residual:
        """The node when nothing runs on it."""
        return self._row(node, *self._first)

    def _row(self, node: int, cpu: Numbers, memory: Numbers, free: Numbers) -> Residual:
        models = self._kinds[self.kind[node]]
        return Residual(
            cpu_milli=int(cpu[node]),
            memory_mib=int(memory[node]),
            gpu_milli=tuple(int(milli) for milli in free[node, : len(models)]),
            models=models,
        )

    @property
    def waste(self) -> float:
        """The waste of all nodes, in thousandths of a GPU x 10^9."""
        return float(self._waste[~self.lost].sum())

    def without(self, placed: Sequence[tuple[Placement, Demand]]) -> Numbers:
        """What each placement's end, alone, would change of the waste (negative: less of it)."""
        nodes = np.array([placement.node for placement, _ in placed], dtype=np.int64)
        free = self.free[nodes]
        for row, (placement, demand) in enumerate(placed):
            free[row, list(placement.gpus)] += demand.gpu_milli
        cpu = self.cpu[nodes] + [demand.cpu_milli for _, demand in placed]
        memory = self.memory[nodes] + [demand.memory_mib for _, demand in placed]
        change: Numbers = self._value.waste(cpu, memory, free, self.kind[nodes])
        return change - self._waste[nodes]

    def place(self, demand: Demand, among: Flags | None = None) -> Placement | None:
        """Take the demand where it adds least. ``among``: the nodes it may go to (all).

        None: no node (of these) has room for it.
        """
        best = self.best(demand, among)
        if best is not None:
            self.take(best, demand)
        return best

    def best(self, demand: Demand, among: Flags | None = None) -> Placement | None:
        """Where ``place`` would put it."""
        known = self._reckoned(demand)
        if among is None:
            node = int(known.cost.argmin())
            cost = known.cost[node]
        else:
            costs = np.where(among, known.cost, NEVER)
            node = int(costs.argmin())
            cost = costs[node]
        if cost >= NEVER:
            return None
        return self._placed(known, node, demand)

    def _placed(self, known: _Known, node: int, demand: Demand) -> Placement:
        if demand.gpu_count == 1:
            return Placement(node=node, gpus=(int(known.gpu[node]),))
        return Placement(node=node, gpus=self._tightest(node, demand))

    def each(self, demand: Demand) -> list[tuple[int, tuple[int, ...]] | None]:
        """For every node what the demand would add, in steps, and the GPUs that it would get."""
        known = self._reckoned(demand)
        return [
            None if cost >= NEVER else (int(cost), self._placed(known, node, demand).gpus)
            for node, cost in enumerate(known.cost.tolist())
        ]

    def cost(self, node: int, demand: Demand) -> float:
        """What the demand would add on this node, in steps; ``NEVER``: it does not fit."""
        return float(self._reckoned(demand).cost[node])

    def take(self, placement: Placement, demand: Demand) -> None:
        """Occupy a place. Raises InvalidInput if it has no room."""
        node, gpus = placement.node, list(placement.gpus)
        if (
            self.lost[node]
            or self.cpu[node] < demand.cpu_milli
            or self.memory[node] < demand.memory_mib
            or (self.free[node, gpus] < demand.gpu_milli).any()
            or len(set(gpus)) != demand.gpu_count
        ):
            raise InvalidInput("There is no room for this demand.", fix="Choose by `best`.")
        self._add(node, gpus, demand, -1)

    def release(self, placement: Placement, demand: Demand) -> None:
        """Give back what was taken; of a node that is lost, nothing comes back before it does."""
        self._add(placement.node, list(placement.gpus), demand, 1)

    def lose(self, node: int) -> None:
        """The node is gone; the caller releases what ran on it and places it again."""
        self.lost[node] = True
        self._changed(node)

    def restore(self, node: int) -> None:
        """A node that was lost is back."""
        self.lost[node] = False
        self._changed(node)

    def _add(self, node: int, gpus: list[int], demand: Demand, sign: int) -> None:
        self.cpu[node] += sign * demand.cpu_milli
        self.memory[node] += sign * demand.memory_mib
        self.free[node, gpus] += sign * demand.gpu_milli
        self._changed(node)

    def _changed(self, node: int) -> None:
        self._waste[node] = self._of(np.array([node]))[0]
        if len(self._log) > LOG_LENGTH_MAX:
            self._forget()
        self._log.append(node)

    def _forget(self) -> None:
        self._log: list[int] = []
        self._known: dict[Demand, _Known] = {}
        self._accepts: dict[tuple[str, ...], Numbers] = {}

    def _of(self, nodes: Kinds) -> Numbers:
        return self._value.waste(
            self.cpu[nodes], self.memory[nodes], self.free[nodes], self.kind[nodes]
        )

    def _classes(self, nodes: Kinds) -> Numbers:
        """The waste of many nodes, reckoned once for those that are alike."""
        first, back = self._alike(nodes)
        return self._of(nodes[first])[back]

    def _alike(self, nodes: Kinds) -> tuple[Kinds, Kinds]:
        columns = (self.cpu[nodes], self.memory[nodes], self.kind[nodes], self.lost[nodes])
        rows = np.column_stack((*columns, self.free[nodes]))
        _, first, back = np.unique(rows, axis=0, return_index=True, return_inverse=True)
        return first, back.reshape(-1)

    def _reckoned(self, demand: Demand) -> _Known:
        known = self._known.get(demand)
        if known is None:
            known = self._known[demand] = _Known(len(self.cpu))
        if known.seen < 0 or len(self._log) - known.seen > len(self.cpu):
            nodes = np.arange(len(self.cpu))
            first, back = self._alike(nodes)
            cost, after, gpu = self._adding(nodes[first], demand)
            known.cost, known.after, known.gpu = cost[back], after[back], gpu[back]
        elif known.seen < len(self._log):
            nodes = np.array(sorted(set(self._log[known.seen :])))
            known.cost[nodes], known.after[nodes], known.gpu[nodes] = self._adding(nodes, demand)
        known.seen = len(self._log)
        return known

    def _accepted(self, models: tuple[str, ...]) -> Numbers:
        """Which GPUs of each kind of node will do: kinds x width, 0 or 1."""
        found = self._accepts.get(models)
        if found is None:
            asks = Demand(cpu_milli=0, models=models)
            found = np.zeros((len(self._kinds), self.width))
            for kind, names in enumerate(self._kinds):
                found[kind, : len(names)] = [asks.accepts(name) for name in names]
            self._accepts[models] = found
        return found

    def _tightest(self, node: int, demand: Demand) -> tuple[int, ...]:
        usable = self.free[node] * self._accepted(demand.models)[self.kind[node]]
        fitting = sorted((milli, g) for g, milli in enumerate(usable) if milli >= demand.gpu_milli)
        return tuple(sorted(gpu for _, gpu in fitting[: demand.gpu_count]))

    def _adding(self, nodes: Kinds, demand: Demand) -> tuple[Numbers, Numbers, Kinds]:
        """For each node: cost (in steps), waste afterwards, and the GPU if it is one."""
        usable = self.free[nodes] * self._accepted(demand.models)[self.kind[nodes]]
        fits = usable >= max(1, demand.gpu_milli)
        room = (self.cpu[nodes] >= demand.cpu_milli) & (self.memory[nodes] >= demand.memory_mib)
        room &= (fits.sum(axis=1) >= demand.gpu_count) & ~self.lost[nodes]
        cost, after = np.full(len(nodes), NEVER), np.zeros(len(nodes))
        gpu = np.zeros(len(nodes), dtype=np.int64)
        rows, gpus = self._candidates(room, fits, usable, demand)
        if not len(rows):
            return cost, after, gpu
        free = self.free[nodes[rows]]
        if demand.gpu_count == 1:
            free[np.arange(len(rows)), gpus] -= demand.gpu_milli
        elif demand.gpu_count:
            tight = np.where(fits[rows], usable[rows], 2.0 * WHOLE_MILLI)
            order = np.argsort(tight, axis=1, kind="stable")[:, : demand.gpu_count]
            np.put_along_axis(
                free, order, np.take_along_axis(free, order, axis=1) - demand.gpu_milli, axis=1
            )
        where = nodes[rows]
        wastes = self._value.waste(
            self.cpu[where] - demand.cpu_milli,
            self.memory[where] - demand.memory_mib,
            free,
            self.kind[where],
        )
        steps = self._rated(wastes, self._waste[where])
        # The last write wins: from the worst to the best, and of equal ones the first GPU last.
        order = np.lexsort((-np.arange(len(rows)), -steps))
        cost[rows[order]], after[rows[order]] = steps[order], wastes[order]
        gpu[rows[order]] = gpus[order]
        return cost, after, gpu

    def _candidates(
        self, room: Flags, fits: Flags, usable: Numbers, demand: Demand
    ) -> tuple[Kinds, Kinds]:
        """Rows with room, and for one GPU each different free part of it once."""
        if demand.gpu_count != 1:
            rows = np.flatnonzero(room)
            return rows, np.zeros(len(rows), dtype=np.int64)
        same = usable[:, :, None] == usable[:, None, :]
        earlier = np.tri(self.width, k=-1, dtype=bool)
        rows, gpus = np.nonzero(fits & room[:, None] & ~(same & earlier).any(axis=2))
        return rows, gpus
