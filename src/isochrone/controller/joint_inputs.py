"""What the decision on all services of this home looks at: machines that are alike as one site.

``rules.where`` decides for all services together, on *sites*: machines of one provider in one
metro and cell that no rule tells apart. This module gathers them from what every cell says it has,
and asks ``rules.eligible`` once for every kind of machine and every kind of demand.

What a service of this home holds counts as free, since this decision may put it elsewhere; what
other homes' services hold does not. A replica that was granted but is not there yet counts as held
where it was granted, so that a decision a moment later does not turn it back.

Rules of this file: pure; the order of nodes, cells and services changes nothing. What it does not
do: choose nodes, which each service's own placement does, and finally each cell.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import median_low

import msgspec

from isochrone.atlas.roundtrips import matrix
from isochrone.controller.declared import Declared
from isochrone.controller.home import Standing
from isochrone.controller.inputs import Stamp, audience_of, named_blocs, whole_ground
from isochrone.controller.view import World, held
from isochrone.rules.devices import WHOLE, choose, gpu_names
from isochrone.rules.eligible import eligibilities, legal_gateways
from isochrone.rules.expected import service_prior_ms
from isochrone.schema.decision import FreeNode, GatewaySite, PlacementInputs
from isochrone.schema.digests import canonical
from isochrone.schema.node import Resources
from isochrone.schema.place import Place
from isochrone.schema.plans import CellOffers, HeldReplica
from isochrone.schema.where import (
    WhereClaim,
    WhereExclusion,
    WhereInputs,
    WhereService,
    WhereSite,
)

PPM = 1_000_000


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """A service to be decided on. ``troubled``: cells that could not place what it was granted."""

    declared: Declared
    standing: Standing | None
    troubled: frozenset[str]


class _Machine(msgspec.Struct, frozen=True):
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


class _Site(msgspec.Struct, frozen=True):
    name: str
    machines: list[_Machine]


def gather(
    world: World, others: Mapping[str, CellOffers], subjects: Sequence[Subject], stamp: Stamp
) -> WhereInputs:
    """The inputs of one joint decision; raises InvalidInput for what nothing understands."""
    subjects = sorted(subjects, key=lambda subject: subject.declared.id)
    ground = whole_ground(world, others, "")
    rows = [*held(world), *(row for offers in others.values() for row in offers.replicas)]
    sites = _sites(_machines(ground.nodes, rows, subjects))
    gateways = ground.gateways
    points, audiences = _audiences(subjects)
    claims = _Claims(gateways, sites, stamp)
    services = tuple(_service(subject, claims, sites, audiences) for subject in subjects)
    ways = _ways(gateways, sites, ground.rtt_ms)
    return WhereInputs(
        cell=stamp.cell,
        epoch=stamp.epoch,
        at_unix_ms=stamp.at_unix_ms,
        seed=_number(f"{stamp.cell}|{stamp.epoch}|{stamp.at_unix_ms}"),
        gateways=tuple(gateway.cell for gateway in gateways),
        points=points,
        client_us=_microseconds(matrix(points, [g.place for g in gateways]) if points else ()),
        sites=tuple(_where_site(site, ways[number]) for number, site in enumerate(sites)),
        claims=tuple(claims.rows),
        services=services,
    )


# -- machines and sites --------------------------------------------------------------------------


def _machines(
    nodes: Iterable[FreeNode], rows: Iterable[HeldReplica], subjects: Sequence[Subject]
) -> list[_Machine]:
    needs = {s.declared.id: s.declared.service.resources for s in subjects}
    holds: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        if row.service in needs and row.desired == "serving" and row.alive:
            holds[row.node][row.service] += 1
    machines = []
    for free in nodes:
        mine = holds[free.node.address]
        for service in sorted(mine.elements()):
            free = _given_back(free, needs[service])
        if free.alive or mine:
            machines.append(_Machine(free, mine))
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


def _sites(machines: Iterable[_Machine]) -> list[_Site]:
    alike: defaultdict[bytes, list[_Machine]] = defaultdict(list)
    for machine in machines:
        alike[canonical(machine.node_key)].append(machine)
    sites = []
    for key, members in alike.items():
        node = members[0].free.node
        kind = hashlib.blake2b(key, digest_size=4).hexdigest()
        name = f"{node.cell}/{node.place.metro}/{node.provider}/{kind}"
        sites.append(_Site(name, sorted(members, key=lambda m: m.free.node.address)))
    return sorted(sites, key=lambda site: site.name)


def _where_site(site: _Site, ways: tuple[tuple[int, int], ...]) -> WhereSite:
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


def _ways(
    gateways: Sequence[GatewaySite], sites: Sequence[_Site], measured: Mapping[str, float]
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
        ways.append(
            tuple(
                (index, round(1000 * (median_low(known) if known else float(prior[index][number]))))
                for index, gateway in enumerate(gateways)
                if gateway.cell == cell
            )
        )
    return ways


# -- services and what they ask for --------------------------------------------------------------


class _Claims:
    """Claims by what they ask for; each is judged once for every site."""

    def __init__(
        self, gateways: tuple[GatewaySite, ...], sites: Sequence[_Site], stamp: Stamp
    ) -> None:
        self.rows: list[WhereClaim] = []
        self._gateways = gateways
        self._sites = sites
        self._stamp = stamp
        self._numbers: dict[bytes, int] = {}

    def number(self, subject: Subject) -> int:
        """The position of the subject's claim."""
        service = subject.declared.service
        troubled = sorted(subject.troubled)
        mine = subject.declared.id if troubled else ""
        asked = (service.resources, service.residency, service.model.engine, troubled, mine)
        key = canonical(asked)
        if key not in self._numbers:
            self._numbers[key] = len(self.rows)
            self.rows.append(self._claim(subject))
        return self._numbers[key]

    def _claim(self, subject: Subject) -> WhereClaim:
        inputs = self._judged(subject.declared)
        verdicts = eligibilities(inputs)
        slots, excluded = [], []
        for number, (site, verdict) in enumerate(zip(self._sites, verdicts, strict=True)):
            if verdict.excluded_by:
                rule, detail = verdict.excluded_by, verdict.detail
                excluded.append(WhereExclusion(site=number, rule=rule, detail=detail))
            slots.append(0 if verdict.excluded_by else _slots(site, subject))
        return WhereClaim(
            resources=subject.declared.service.resources,
            gateways=legal_gateways(inputs),
            slots=tuple(slots),
            excluded=tuple(excluded),
        )

    def _judged(self, declared: Declared) -> PlacementInputs:
        """One machine of each site, empty and with a service that may pay anything: what is asked
        here is law, engine, proof and kind, and not room or budget."""
        service = msgspec.structs.replace(declared.service, max_price_microusd_per_hour=None)
        residency = service.residency
        return PlacementInputs(
            kind="sites",
            service=service,
            tenant=declared.tenant,
            cell=self._stamp.cell,
            epoch=self._stamp.epoch,
            at_unix_ms=self._stamp.at_unix_ms,
            seed=0,
            blocs_version="",
            blocs=named_blocs((*residency.allow, *residency.deny)),
            gateways=self._gateways,
            audience=(),
            nodes=tuple(_empty(site.machines[0].free) for site in self._sites),
            client_rtt_ms=(),
            node_rtt_ms=(),
        )


def _empty(free: FreeNode) -> FreeNode:
    capacity = free.node.capacity
    return msgspec.structs.replace(
        free,
        free_cpu_milli=capacity.cpu_milli,
        free_memory_mib=capacity.memory_mib,
        free_gpu_milli=(WHOLE,) * len(gpu_names(capacity)),
        alive=True,
    )


def _slots(site: _Site, subject: Subject) -> int:
    """How many of a site's machines can hold a replica; in a cell that could not place it, those
    that hold one."""
    need, service = subject.declared.service.resources, subject.declared.id
    if site.machines[0].free.node.cell in subject.troubled:
        return sum(machine.holds[service] > 0 for machine in site.machines)
    return sum(_has_room(machine.free, need) for machine in site.machines)


def _has_room(free: FreeNode, need: Resources) -> bool:
    return (
        free.free_cpu_milli >= need.cpu_milli
        and free.free_memory_mib >= need.memory_mib
        and choose(free.node.capacity, free.free_gpu_milli, need) is not None
    )


def _audiences(
    subjects: Sequence[Subject],
) -> tuple[tuple[Place, ...], dict[str, tuple[tuple[int, int], ...]]]:
    """The points of all audiences, each once, and each service's by position and millionths."""
    numbers: dict[bytes, int] = {}
    points: list[Place] = []
    audiences = {}
    for subject in subjects:
        shares: Counter[int] = Counter()
        for point in audience_of(subject.declared.service):
            key = canonical(point.place)
            if key not in numbers:
                numbers[key] = len(points)
                points.append(point.place)
            if math.isfinite(point.weight) and point.weight > 0:
                shares[numbers[key]] += round(point.weight * PPM)
        audiences[subject.declared.id] = tuple(sorted(shares.items()))
    return tuple(points), audiences


def _service(
    subject: Subject,
    claims: _Claims,
    sites: Sequence[_Site],
    audiences: Mapping[str, tuple[tuple[int, int], ...]],
) -> WhereService:
    service, id_ = subject.declared.service, subject.declared.id
    return WhereService(
        service=id_,
        revision=service.revision,
        claim=claims.number(subject),
        least=service.replicas.min,
        most=max(service.replicas.min, service.replicas.max),
        gang=service.replicas.gang,
        budget=service.max_price_microusd_per_hour,
        priority=service.priority,
        objective_us=max(1, round(service.objective.latency_ms * 1000)),
        percentile=service.objective.percentile,
        service_us=round(service_prior_ms(service.model) * 1000),
        audience=audiences[id_],
        held=_held(subject, sites),
    )


def _held(subject: Subject, sites: Sequence[_Site]) -> tuple[tuple[int, int], ...]:
    """Where its replicas are, or were granted while they are not all there yet."""
    id_ = subject.declared.id
    there = {
        number: sum(machine.holds[id_] for machine in site.machines)
        for number, site in enumerate(sites)
    }
    standing = subject.standing
    granted = sum(site.replicas for _, site in standing.sites) if standing else 0
    if standing is not None and sum(there.values()) < granted:
        there = _granted(standing, sites, subject.troubled)
    return tuple((number, count) for number, count in sorted(there.items()) if count)


def _granted(
    standing: Standing, sites: Sequence[_Site], troubled: frozenset[str]
) -> dict[int, int]:
    left: Counter[tuple[str, str, str]] = Counter()
    for cell, site in standing.sites:
        if cell not in troubled:
            left[cell, site.metro, site.provider] += site.replicas
    found: dict[int, int] = {}
    for number, site_ in enumerate(sites):
        node = site_.machines[0].free.node
        key = (node.cell, node.place.metro, node.provider)
        found[number] = min(left[key], len(site_.machines))
        left[key] -= found[number]
    return found


def _microseconds(rows: Iterable[Iterable[float]]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(round(float(ms) * 1000) for ms in row) for row in rows)


def _number(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=6).digest(), "big")
