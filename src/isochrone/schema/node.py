"""Nodes: one machine of a provider, what it has, and what it asks for it."""

from __future__ import annotations

from typing import Literal

import msgspec

from isochrone.schema.place import NOWHERE, Place, Whereabouts


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """A processor found on the machine. ``memory_mib`` is 0 where it shares the machine's."""

    kind: Literal["cpu", "gpu"]
    name: str
    memory_mib: int = 0


class Resources(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one replica occupies: thousandths of a CPU core, MiB of memory, GPUs.

    ``gpu_milli``: thousandths of each of its ``gpu_count`` GPUs (1-1000); below 1000 only for one
    GPU, which it then shares. ``gpu`` names a device model that must match by substring
    (``H100``); empty means any.
    ``gflops_min``: billions of operations a second that validators must have measured of the whole
    node; 0: whatever it has, measured or not.
    """

    cpu_milli: int = 500
    memory_mib: int = 512
    gpu_count: int = 0
    gpu_milli: int = 1000
    gpu: str = ""
    gflops_min: int = 0


class Capacity(msgspec.Struct, frozen=True, kw_only=True):
    """What a node can give: detected, then cut to the provider's limits."""

    cpu_milli: int
    memory_mib: int
    devices: tuple[Device, ...] = ()
    engines: tuple[str, ...] = ()


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """A provider's prices in micro-US-dollars per hour, per unit of capacity."""

    cpu_core_microusd_per_hour: int
    memory_gib_microusd_per_hour: int
    gpu_microusd_per_hour: int = 0

    def price_microusd_per_hour(self, resources: Resources) -> int:
        """The price of one replica, each part rounded up to a whole micro-dollar."""
        cpu = -(-self.cpu_core_microusd_per_hour * resources.cpu_milli // 1000)
        memory = -(-self.memory_gib_microusd_per_hour * resources.memory_mib // 1024)
        gpu = -(-self.gpu_microusd_per_hour * resources.gpu_count * resources.gpu_milli // 1000)
        return cpu + memory + gpu


class NodeGrant(msgspec.Struct, frozen=True, kw_only=True):
    """A provider's signed word that a node is its own: claimed place, offer, optional limits.

    Signed with the provider's key as a ``node-grant`` document; the node shows it in its greeting
    and proves ``node`` with its own key. A grant with a higher ``revision`` replaces a lower one.
    """

    node: str
    place: Place
    offer: Offer
    revision: int
    cpu_milli_max: int | None = None
    memory_mib_max: int | None = None


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """A node as the network knows it: granted, detected, joined to a cell, and measured.

    ``whereabouts``, ``barred`` (why nothing may run there, or empty) and ``proven_*`` (0: not
    measured) are what their reader believes: whoever takes a node from a table or from another
    cell writes in what it heard of validators itself (``fabric.attested``).
    """

    address: str
    provider: str
    cell: str
    place: Place
    capacity: Capacity
    offer: Offer
    grant: bytes
    revision: int
    whereabouts: Whereabouts = NOWHERE
    barred: str = ""
    proven_memory_mib: int = 0
    proven_mflops: int = 0
