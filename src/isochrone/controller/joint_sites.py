"""Machines that are alike, taken together: the sites that all services of a home compete for.

Intuition: a decision on many services need not tell apart what no rule, price or audience can tell
apart. Machines of one provider in one metro and cell, with the same prices, engines, GPUs and the
same proofs, are one site with the sum of their room.

What this home's own services hold counts as free, since the decision may put it elsewhere; what
other homes' services hold does not. Names of sites follow from what makes them alike, so that the
same machines have the same name in every decision.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import median_low

import msgspec

from isochrone.atlas.roundtrips import matrix
from isochrone.controller.ways import whole_steps
from isochrone.rules.devices import WHOLE, choose, gpu_names
from isochrone.schema.decision import FreeNode, GatewaySite
from isochrone.schema.digests import canonical
from isochrone.schema.node import Resources
from isochrone.schema.plans import HeldReplica
from isochrone.schema.where import WhereSite


class Machine(msgspec.Struct, frozen=True):
    """A node with what this home's services may use of it."""

    free: FreeNode
    holds: Counter[str]

    @property
    def node_key(self) -> tuple[object, ...]:
        """What rules or prices can tell machines apart by."""
        node = self.free.node
        return (
            node.cell,
            node.place.metro,
            node.provider,
            node.offer,
            sorted(node.capacity.engines),
            sorted(gpu_names(node.capacity)),
            node.whereabouts,
            node.barred,
            node.proven_memory_mib,
            node.proven_mflops,
        )


class Alike(msgspec.Struct, frozen=True):
    """A site: its name and its machines, by address."""

    name: str
    machines: list[Machine]


def machines_of(
    nodes: Iterable[FreeNode], rows: Iterable[HeldReplica], needs: Mapping[str, Resources]
) -> list[Machine]:
    """The nodes that are alive or hold something of ours. ``needs``: our services and what one
    replica of each occupies; ``rows``: the replicas of all cells.

    What drains is about to leave: its room counts as free, or a service would lose its only replica
    to another one's that is just moving away.
    """
    holds: defaultdict[str, Counter[str]] = defaultdict(Counter)
    leaving: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        if row.service in needs and row.alive and row.desired in ("serving", "draining"):
            (holds if row.desired == "serving" else leaving)[row.node][row.service] += 1
    machines = []
    for free in nodes:
        mine = holds[free.node.address]
        for service in sorted((mine + leaving[free.node.address]).elements()):
            free = _given_back(free, needs[service])
        if free.alive or mine:
            machines.append(Machine(free, mine))
    return machines


def _given_back(free: FreeNode, need: Resources) -> FreeNode:
    """A node without one replica of ours; its GPUs are taken for those that have the least left."""
    milli = list(free.free_gpu_milli)
    for number in sorted(range(len(milli)), key=lambda n: (milli[n], n))[: need.gpu_count]:
        milli[number] = min(WHOLE, milli[number] + need.gpu_milli)
    return msgspec.structs.replace(
        free,
        free_cpu_milli=free.free_cpu_milli + need.cpu_milli,
        free_memory_mib=free.free_memory_mib + need.memory_mib,
        free_gpu_milli=tuple(milli),
    )


def sites_of(machines: Iterable[Machine]) -> list[Alike]:
    """The machines by what makes them alike; sites by name."""
    alike: defaultdict[bytes, list[Machine]] = defaultdict(list)
    for machine in machines:
        alike[canonical(machine.node_key)].append(machine)
    sites = []
    for key, members in alike.items():
        node = members[0].free.node
        kind = hashlib.blake2b(key, digest_size=4).hexdigest()
        name = f"{node.cell}/{node.place.metro}/{node.provider}/{kind}"
        sites.append(Alike(name, sorted(members, key=lambda m: m.free.node.address)))
    return sorted(sites, key=lambda site: site.name)


def where_site(site: Alike, ways: tuple[tuple[int, int], ...]) -> WhereSite:
    """The site as a joint decision sees it. ``ways``: as ``ways_to`` gives them."""
    node = site.machines[0].free.node
    free = [machine.free for machine in site.machines]
    return WhereSite(
        name=site.name,
        cell=node.cell,
        provider=node.provider,
        metro=node.place.metro,
        country=node.whereabouts.country,
        device="+".join(sorted(set(gpu_names(node.capacity)))),
        nodes=len(free),
        cpu_milli=sum(one.free_cpu_milli for one in free),
        memory_mib=sum(one.free_memory_mib for one in free),
        gpu_milli=sum(sum(one.free_gpu_milli) for one in free),
        offer=node.offer,
        gateways=ways,
    )


def ways_to(
    gateways: Sequence[GatewaySite], sites: Sequence[Alike], measured: Mapping[str, float]
) -> list[tuple[tuple[int, int], ...]]:
    """For each site its cell's gateways and the round trip to its machines: measured, the middle
    one of them, else the atlas's."""
    places = [site.machines[0].free.node.place for site in sites]
    prior = matrix([g.place for g in gateways], places) if gateways and places else ()
    ways = []
    for number, site in enumerate(sites):
        addresses = [machine.free.node.address for machine in site.machines]
        known = [measured[address] for address in addresses if address in measured]
        cell = site.machines[0].free.node.cell
        middle = whole_steps(median_low(known)) if known else 0.0
        ways.append(
            tuple(
                (index, round(1000 * (middle if known else float(prior[index][number]))))
                for index, gateway in enumerate(gateways)
                if gateway.cell == cell
            )
        )
    return ways


def as_empty(free: FreeNode) -> FreeNode:
    """A node as if nothing ran on it."""
    capacity = free.node.capacity
    return msgspec.structs.replace(
        free,
        free_cpu_milli=capacity.cpu_milli,
        free_memory_mib=capacity.memory_mib,
        free_gpu_milli=(WHOLE,) * len(gpu_names(capacity)),
        alive=True,
    )


def largest(site: Alike) -> FreeNode:
    """One for all machines of the site, empty, with the most cores and memory that any has: who
    asks for more finds no room in the site, who asks for less may."""
    capacities = [machine.free.node.capacity for machine in site.machines]
    return msgspec.structs.replace(
        as_empty(site.machines[0].free),
        free_cpu_milli=max(one.cpu_milli for one in capacities),
        free_memory_mib=max(one.memory_mib for one in capacities),
    )


def has_room(free: FreeNode, need: Resources) -> bool:
    """Whether a node has room for one replica."""
    return (
        free.free_cpu_milli >= need.cpu_milli
        and free.free_memory_mib >= need.memory_mib
        and choose(free.node.capacity, free.free_gpu_milli, need) is not None
    )
