"""What a replica needs and what nodes have, as fairness counts it: cores, memory, GPUs by model.

Intuition: a node is a box; a replica fits when its cores and memory are free and enough of the
node's GPUs, of the model that it names, have the thousandths that it asks of each.

Rules of this file: whole numbers; a GPU's thousandths are not moved between GPUs. What this does
not do: law, engines, prices (``rules.eligible``), or packing well (``rules.packing``): it only
tells whether something fits, and takes the fullest node where it does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

from isochrone.schema.node import Node, Resources

WHOLE_GPU_MILLI = 1000
"""Thousandths of a GPU that nobody uses."""


class Need(msgspec.Struct, frozen=True, kw_only=True):
    """What one replica occupies, as ``schema.node.Resources`` has it."""

    cpu_milli: int = 0
    memory_mib: int = 0
    gpu_count: int = 0
    gpu_milli: int = WHOLE_GPU_MILLI
    gpu: str = ""

    def amounts(self) -> dict[str, int]:
        """By the name of what can run out; a named GPU model counts as GPU and as that model."""
        gpus = self.gpu_count * self.gpu_milli
        amounts = {"cpu": self.cpu_milli, "memory": self.memory_mib, "gpu": gpus}
        if self.gpu:
            amounts[f"gpu {self.gpu.lower()}"] = gpus
        return {name: amount for name, amount in amounts.items() if amount > 0}


def need_of(resources: Resources) -> Need:
    """The need of a declared replica."""
    return Need(
        cpu_milli=resources.cpu_milli,
        memory_mib=resources.memory_mib,
        gpu_count=resources.gpu_count,
        gpu_milli=resources.gpu_milli,
        gpu=resources.gpu,
    )


class Room(msgspec.Struct, frozen=True, kw_only=True):
    """What one node has: thousandths of cores, MiB, and each GPU's model and free thousandths."""

    node: str
    cpu_milli: int
    memory_mib: int
    gpus: tuple[tuple[str, int], ...] = ()


def whole_room(node: Node) -> Room:
    """A node with nothing on it."""
    devices = (device for device in node.capacity.devices if device.kind == "gpu")
    return Room(
        node=node.address,
        cpu_milli=node.capacity.cpu_milli,
        memory_mib=node.capacity.memory_mib,
        gpus=tuple((device.name, WHOLE_GPU_MILLI) for device in devices),
    )


class Rooms:
    """The rooms of a cell, to try what fits. Totals are those of the rooms that it began with."""

    def __init__(self, rooms: Iterable[Room]) -> None:
        self._rooms = {room.node: room for room in rooms}
        self._taken: dict[str, list[tuple[Need, tuple[int, ...]]]] = {}
        self._total = tuple(sorted(self._rooms.values(), key=lambda room: room.node))
        self._totals: dict[str, int] = {}

    def copy(self) -> Rooms:
        """The same rooms, to be filled by somebody else."""
        made = Rooms(self._total)
        made._rooms = dict(self._rooms)
        made._taken = {node: list(rows) for node, rows in self._taken.items()}
        return made

    def total(self, name: str) -> int:
        """How much there is of what ``Need.amounts`` names."""
        if name not in self._totals:
            self._totals[name] = sum(_amount(room, name) for room in self._total)
        return self._totals[name]

    def fits(self, node: str, need: Need) -> bool:
        """Whether a replica fits on a node now."""
        room = self._rooms.get(node)
        return room is not None and _gpus_for(room, need) is not None

    def best(self, need: Need, among: Iterable[str]) -> str | None:
        """The node that is fullest afterwards of those that fit; equals by their address."""
        fitting = [node for node in among if self.fits(node, need)]
        return min(fitting, key=lambda node: (*self._left(node), node), default=None)

    def take(self, node: str, need: Need) -> None:
        """Put a replica there; one that runs there already is put there though it does not fit."""
        room = self._rooms[node]
        gpus = _gpus_for(room, need) or ()
        self._taken.setdefault(node, []).append((need, gpus))
        self._rooms[node] = _less(room, need, gpus, 1)

    def give_back(self, node: str, need: Need) -> None:
        """Take a replica with this need away again."""
        rows = self._taken[node]
        at = next(i for i, (had, _) in enumerate(rows) if had == need)
        _, gpus = rows.pop(at)
        self._rooms[node] = _less(self._rooms[node], need, gpus, -1)

    def _left(self, node: str) -> tuple[int, int, int]:
        room = self._rooms[node]
        return sum(milli for _, milli in room.gpus), room.cpu_milli, room.memory_mib


def _amount(room: Room, name: str) -> int:
    if name == "cpu":
        return room.cpu_milli
    if name == "memory":
        return room.memory_mib
    model = name.partition(" ")[2]
    return sum(milli for gpu, milli in room.gpus if model in gpu.lower())


def _gpus_for(room: Room, need: Need) -> tuple[int, ...] | None:
    """Which GPUs a replica would take, the fullest that do; None when it does not fit."""
    if room.cpu_milli < need.cpu_milli or room.memory_mib < need.memory_mib:
        return None
    if not need.gpu_count:
        return ()
    wanted = need.gpu.lower()
    free = sorted(
        (milli, index)
        for index, (name, milli) in enumerate(room.gpus)
        if wanted in name.lower() and milli >= need.gpu_milli
    )
    if len(free) < need.gpu_count:
        return None
    return tuple(index for _, index in free[: need.gpu_count])


def _less(room: Room, need: Need, gpus: Sequence[int], sign: int) -> Room:
    times = Counter(gpus)
    return msgspec.structs.replace(
        room,
        cpu_milli=room.cpu_milli - sign * need.cpu_milli,
        memory_mib=room.memory_mib - sign * need.memory_mib,
        gpus=tuple(
            (name, milli - sign * times[index] * need.gpu_milli)
            for index, (name, milli) in enumerate(room.gpus)
        ),
    )
