"""What the decision on all services of this home looks at: machines that are alike as one site.

``rules.where`` decides for all services together, on the sites that ``joint_sites`` gathers from
what every cell says it has. ``rules.eligible`` is asked once for every kind of machine and every
kind of demand. A replica that was granted but is not there yet counts as held
where it was granted, so that a decision a moment later does not turn it back.

Rules of this file: pure; the order of nodes, cells and services changes nothing. What it does not
do: choose nodes, which each service's own placement does, and finally each cell.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from isochrone.controller.declared import Declared
from isochrone.controller.home import Standing
from isochrone.controller.inputs import Stamp, audience_of, named_blocs, whole_ground
from isochrone.controller.joint_sites import (
    Alike,
    Machine,
    has_room,
    largest,
    machines_of,
    sites_of,
    ways_to,
    where_site,
)
from isochrone.controller.view import World, held
from isochrone.controller.ways import client_rows
from isochrone.rules.eligible import eligibilities, legal_gateways
from isochrone.rules.expected import service_prior_ms
from isochrone.rules.rotation import seed_for
from isochrone.schema.decision import GatewaySite, PlacementInputs
from isochrone.schema.digests import canonical
from isochrone.schema.place import Place
from isochrone.schema.plans import CellOffers
from isochrone.schema.where import (
    WhereClaim,
    WhereExclusion,
    WhereInputs,
    WhereService,
)

PPM = 1_000_000


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """A service to be decided on. ``troubled``: cells that could not place what it was granted.
    ``wanted``: how many replicas demand asks for; None: as many as it declares."""

    declared: Declared
    standing: Standing | None
    troubled: frozenset[str]
    wanted: int | None = None


def gather(
    world: World, others: Mapping[str, CellOffers], subjects: Sequence[Subject], stamp: Stamp
) -> WhereInputs:
    """The inputs of one joint decision; raises InvalidInput for what nothing understands."""
    subjects = sorted(subjects, key=lambda subject: subject.declared.id)
    ground = whole_ground(world, others, "")
    sites = sites_of(shared(world, others, subjects))
    gateways = ground.gateways
    points, audiences = _audiences(subjects)
    claims = _Claims(gateways, sites, stamp)
    highest = _highest(subjects)
    services = tuple(
        _service(subject, claims, sites, audiences[subject.declared.id], highest, world.service_ms)
        for subject in subjects
    )
    ways = ways_to(gateways, sites, ground.rtt_ms)
    return WhereInputs(
        cell=stamp.cell,
        epoch=stamp.epoch,
        at_unix_ms=stamp.at_unix_ms,
        seed=seed_for(stamp.cell, 0, stamp.epoch, stamp.at_unix_ms),
        gateways=tuple(gateway.cell for gateway in gateways),
        points=points,
        client_us=_microseconds(client_rows(points, gateways, ground.ways)),
        sites=tuple(where_site(site, ways[number]) for number, site in enumerate(sites)),
        claims=tuple(claims.rows),
        services=services,
    )


def shared(
    world: World, others: Mapping[str, CellOffers], subjects: Sequence[Subject]
) -> list[Machine]:
    """The machines of all cells as if none of the subjects ran there."""
    rows = [*held(world), *(row for offers in others.values() for row in offers.replicas)]
    needs = {one.declared.id: one.declared.service.resources for one in subjects}
    return machines_of(whole_ground(world, others, "").nodes, rows, needs)


class _Claims:
    """Claims by what they ask for; each is judged once for every site."""

    def __init__(
        self, gateways: tuple[GatewaySite, ...], sites: Sequence[Alike], stamp: Stamp
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
        """A machine as large as any of each site, empty, and a service that may pay anything: what
        is asked here is law, engine, proof and kind, and not room or budget."""
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
            nodes=tuple(largest(site) for site in self._sites),
            client_rtt_ms=(),
            node_rtt_ms=(),
        )


def _slots(site: Alike, subject: Subject) -> int:
    """How many of a site's machines can hold a replica; in a cell that could not place it, those
    that hold one."""
    need, service = subject.declared.service.resources, subject.declared.id
    if site.machines[0].free.node.cell in subject.troubled:
        return sum(machine.holds[service] > 0 for machine in site.machines)
    return sum(has_room(machine.free, need) for machine in site.machines)


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


def _highest(subjects: Sequence[Subject]) -> dict[str, int]:
    """The highest priority of each tenant. A service counts by how far it is below it: priorities
    order one tenant's services, and to say 9 of all of them gains nothing over others."""
    highest: dict[str, int] = {}
    for subject in subjects:
        tenant, priority = subject.declared.tenant, subject.declared.service.priority
        highest[tenant] = max(priority, highest.get(tenant, priority))
    return highest


def _service(
    subject: Subject,
    claims: _Claims,
    sites: Sequence[Alike],
    audience: tuple[tuple[int, int], ...],
    highest: Mapping[str, int],
    measured_ms: Mapping[str, float],
) -> WhereService:
    service, id_ = subject.declared.service, subject.declared.id
    service_ms = measured_ms.get(id_) or service_prior_ms(service.model)
    return WhereService(
        service=id_,
        revision=service.revision,
        claim=claims.number(subject),
        least=service.replicas.min if subject.wanted is None else subject.wanted,
        most=service.replicas.max if subject.wanted is None else subject.wanted,
        gang=service.replicas.gang,
        budget=service.max_price_microusd_per_hour,
        priority=service.priority - highest[subject.declared.tenant],
        objective_us=max(1, round(service.objective.latency_ms * 1000)),
        percentile=service.objective.percentile,
        service_us=round(service_ms * 1000),
        audience=audience,
        held=_held(subject, sites),
    )


def _held(subject: Subject, sites: Sequence[Alike]) -> tuple[tuple[int, int], ...]:
    """Where its replicas are; where they were granted, while they are on their way there."""
    id_ = subject.declared.id
    there = {
        number: sum(machine.holds[id_] for machine in site.machines)
        for number, site in enumerate(sites)
    }
    standing = subject.standing
    granted = sum(site.replicas for _, site in standing.sites) if standing else 0
    if standing is not None and sum(there.values()) != granted:
        there = _granted(standing, sites, subject)
    return tuple((number, count) for number, count in sorted(there.items()) if count)


def _granted(standing: Standing, sites: Sequence[Alike], subject: Subject) -> dict[int, int]:
    """The granted replicas on the cheapest machines that a grant may mean."""
    left: Counter[tuple[str, str, str]] = Counter()
    for cell, site in standing.sites:
        if cell not in subject.troubled:
            left[cell, site.metro, site.provider] += site.replicas
    need = subject.declared.service.resources

    def price(number: int) -> tuple[int, int]:
        offer = sites[number].machines[0].free.node.offer
        return offer.price_microusd_per_hour(need), number

    found: dict[int, int] = {}
    for number in sorted(range(len(sites)), key=price):
        site_ = sites[number]
        node = site_.machines[0].free.node
        key = (node.cell, node.place.metro, node.provider)
        found[number] = min(left[key], len(site_.machines))
        left[key] -= found[number]
    return found


def _microseconds(rows: Iterable[Iterable[float]]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(round(float(ms) * 1000) for ms in row) for row in rows)
