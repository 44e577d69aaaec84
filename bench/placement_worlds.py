"""Seeded worlds for the joint placement benchmark: real metros and round trips, invented machines.

Metros and round trips are the atlas's (measured between data centres); audience cities are drawn
by population. Machines, prices and services are drawn: prices lognormal around a provider's and a
metro's level, rooms so that what all services ask for at most is about ``load`` of what there is
(popular places run out long before), some budgets that bind, some services under a residency, some
that run already.
"""

from __future__ import annotations

import msgspec
import numpy as np

from isochrone.atlas.blocs import countries
from isochrone.atlas.cities import all_cities
from isochrone.atlas.roundtrips import matrix, measured_places
from isochrone.rules.where.state import Machines
from isochrone.schema.node import Offer, Resources
from isochrone.schema.place import Place
from isochrone.schema.where import WhereClaim, WhereInputs, WhereService, WhereSite

ASKED = (
    Resources(cpu_milli=1000, memory_mib=2048),
    Resources(cpu_milli=4000, memory_mib=8192),
    Resources(cpu_milli=4000, memory_mib=16384, gpu_count=1),
    Resources(cpu_milli=2000, memory_mib=8192, gpu_count=1, gpu_milli=500),
)
"""A small model on cores, a larger one, one on a GPU, one on half a GPU."""

OBJECTIVES_MS = (20.0, 40.0, 60.0, 100.0, 150.0)
CONTINENTS = ("EU", "NA", "AS", "SA", "AF", "OC")
ROOM = (16_000, 65_536, 2_000)
"""A machine: 16 cores, 64 GiB, two GPUs where it has some."""


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """How large a world is. ``load``: share of all machines' room asked for at most."""

    sites: int
    nodes_per_site: int
    services: int
    cities: int
    metros: int
    providers: int
    laws: int = 4
    load: float = 0.5


def world(size: Size, seed: int) -> WhereInputs:
    """A world of that size; equal seeds, equal worlds."""
    draw = np.random.default_rng(seed)
    all_metros = measured_places()
    metros = [all_metros[n] for n in draw.choice(len(all_metros), size.metros, replace=False)]
    cities = _cities(size.cities, draw)
    sites = _sites(size, metros, draw)
    laws = [_law(draw) for _ in range(size.laws)]
    pairs = [(asked, law) for asked in ASKED for law in laws]
    claims = [_claim(asked, law, sites, metros) for asked, law in pairs]
    services = [_service(n, size, claims, sites, cities, draw) for n in range(size.services)]
    client_us = np.rint(matrix(cities, metros) * 1000).astype(int)
    return WhereInputs(
        cell="home",
        epoch=1,
        at_unix_ms=0,
        seed=seed,
        gateways=tuple(metro.metro for metro in metros),
        points=tuple(cities),
        client_us=tuple(tuple(row) for row in client_us.tolist()),
        sites=tuple(_with_room(size, sites, claims, services, draw)),
        claims=tuple(claims),
        services=tuple(services),
    )


def machines(size: Size, seed: int) -> tuple[WhereInputs, Machines]:
    """The same world on single machines, each of them partly used by others already."""
    made = world(size, seed)
    draw = np.random.default_rng([seed, 1])
    count = size.sites * size.nodes_per_site
    site = np.repeat(np.arange(size.sites), size.nodes_per_site)
    free = draw.beta(0.7, 0.7, (count, 2))
    gpus = np.array([bool(s.device) for s in made.sites])[site][:, None]
    rows = Machines(
        site=site,
        cpu_milli=np.rint(free[:, 0] * ROOM[0] / 500).astype(np.int64) * 500,
        memory_mib=np.rint(free[:, 1] * ROOM[1] / 512).astype(np.int64) * 512,
        gpu_milli=draw.choice([0, 500, 1000], (count, 2), p=[0.6, 0.1, 0.3]) * gpus,
    )
    room = rows.room(size.sites)
    sites = tuple(
        msgspec.structs.replace(
            old, cpu_milli=int(free[0]), memory_mib=int(free[1]), gpu_milli=int(free[2])
        )
        for old, free in zip(made.sites, room, strict=True)
    )
    services = tuple(msgspec.structs.replace(old, held=()) for old in made.services)
    return msgspec.structs.replace(made, sites=sites, services=services), rows


def with_slots(inputs: WhereInputs, rows: Machines) -> WhereInputs:
    """The inputs with each claim's slots counted: machines that have room for one replica."""
    claims = []
    for claim in inputs.claims:
        need = claim.resources
        asked = (need.cpu_milli, need.memory_mib, need.gpu_count, need.gpu_milli)
        fitting = rows.site[rows.fits(asked, slice(None))]
        counts = np.bincount(fitting, minlength=len(inputs.sites))
        slots = np.minimum(counts, claim.slots)
        claims.append(msgspec.structs.replace(claim, slots=tuple(slots.tolist())))
    return msgspec.structs.replace(inputs, claims=tuple(claims))


def _cities(count: int, draw: np.random.Generator) -> list[Place]:
    known = [found for found in all_cities() if found.population >= 300_000 and not found.part_of]
    share = np.array([found.population for found in known], dtype=float) ** 0.7
    chosen = draw.choice(len(known), min(count, len(known)), replace=False, p=share / share.sum())
    return [known[n].place for n in chosen]


def _sites(size: Size, metros: list[Place], draw: np.random.Generator) -> list[WhereSite]:
    """Machines of a few providers in every metro; nearly all providers are in several metros."""
    level = draw.lognormal(0.0, 0.25, size.providers)
    region = draw.lognormal(0.0, 0.25, len(metros))
    sites = []
    for n in range(size.sites):
        metro = n % len(metros)
        provider = int(draw.integers(size.providers))
        price = level[provider] * region[metro] * draw.lognormal(0.0, 0.1)
        sites.append(
            WhereSite(
                name=f"site-{n:06d}",
                cell=metros[metro].metro,
                provider=f"provider-{provider:04d}",
                metro=metros[metro].metro,
                country=metros[metro].country,
                network=f"network-{int(draw.integers(max(2, size.providers // 2))):04d}",
                device="H100" if draw.random() < 0.6 else "",
                nodes=size.nodes_per_site,
                cpu_milli=0,
                memory_mib=0,
                offer=Offer(
                    cpu_core_microusd_per_hour=round(20_000 * price),
                    memory_gib_microusd_per_hour=round(2_500 * price),
                    gpu_microusd_per_hour=round(2_000_000 * price),
                ),
                gateways=((metro, 500 * int(draw.integers(1, 4))),),
            )
        )
    return sites


def _law(draw: np.random.Generator) -> frozenset[str]:
    """Countries where data may go: everywhere, or those of one or two continents."""
    if draw.random() < 0.5:
        return frozenset(countries())
    chosen = set(draw.choice(CONTINENTS[:3], int(draw.integers(1, 3)), replace=False).tolist())
    return frozenset(code for code, found in countries().items() if found.continent in chosen)


def _claim(
    asked: Resources, law: frozenset[str], sites: list[WhereSite], metros: list[Place]
) -> WhereClaim:
    each = ROOM[2] // (asked.gpu_count * asked.gpu_milli) if asked.gpu_count else 1
    slots = [
        s.nodes if s.country in law and each and (s.device or not asked.gpu_count) else 0
        for s in sites
    ]
    legal = tuple(n for n, metro in enumerate(metros) if metro.country in law)
    return WhereClaim(resources=asked, gateways=legal, slots=tuple(slots))


def _service(
    number: int,
    size: Size,
    claims: list[WhereClaim],
    sites: list[WhereSite],
    cities: list[Place],
    draw: np.random.Generator,
) -> WhereService:
    usable = [n for n, claim in enumerate(claims) if sum(s > 0 for s in claim.slots) >= 4]
    claim = int(draw.choice(usable))
    places = np.flatnonzero(claims[claim].slots)
    least = int(draw.integers(1, 4))
    prices = sorted(sites[n].offer.price_microusd_per_hour(claims[claim].resources) for n in places)
    most = least + int(draw.integers(0, 4))
    budget = None
    if draw.random() < 0.3:
        budget = round(prices[len(prices) // 3] * least * draw.uniform(1.0, 1.4))
    held: dict[int, int] = {}
    if draw.random() < 0.5:
        for n in draw.choice(places, min(least, len(places)), replace=False).tolist():
            held[n] = 1
    return WhereService(
        service=f"service-{number:05d}",
        revision=1,
        claim=claim,
        least=least,
        most=most,
        budget=budget,
        objective_us=round(float(draw.choice(OBJECTIVES_MS)) * 1000),
        percentile=float(draw.choice([90.0, 95.0, 99.0])),
        service_us=int(draw.integers(2_000, 12_000)),
        audience=_audience(cities, draw),
        held=tuple(sorted(held.items())),
    )


def _audience(cities: list[Place], draw: np.random.Generator) -> tuple[tuple[int, int], ...]:
    """All cities, with the weight of half of the services mostly around one of them."""
    weights = draw.lognormal(0.0, 1.0, len(cities))
    if draw.random() < 0.5:
        centre = cities[int(draw.integers(len(cities)))]
        far = np.array([(c.latitude - centre.latitude) ** 2 for c in cities]) + np.array(
            [(c.longitude - centre.longitude) ** 2 for c in cities]
        )
        weights = weights * np.exp(-far / 800.0)
    share = np.rint(weights / weights.sum() * 1_000_000).astype(int)
    return tuple((n, int(w)) for n, w in enumerate(share.tolist()) if w > 0)


def _with_room(
    size: Size,
    sites: list[WhereSite],
    claims: list[WhereClaim],
    services: list[WhereService],
    draw: np.random.Generator,
) -> list[WhereSite]:
    """Rooms of whole machines, scaled so that the most that is asked for is ``load`` of them."""
    asked = np.zeros(3)
    for service in services:
        need = claims[service.claim].resources
        asked += service.most * np.array(
            (need.cpu_milli, need.memory_mib, need.gpu_count * need.gpu_milli)
        )
    uneven = draw.lognormal(0.0, 0.6, len(sites))
    gpus = np.array([bool(site.device) for site in sites])
    held = np.zeros((len(sites), 3))
    for service in services:
        need = claims[service.claim].resources
        for site, replicas in service.held:
            held[site] += replicas * np.array(
                (need.cpu_milli, need.memory_mib, need.gpu_count * need.gpu_milli)
            )
    made = []
    for n, site in enumerate(sites):
        share = uneven[n] / uneven.sum() / size.load
        gpu = uneven[n] / uneven[gpus].sum() / size.load if gpus[n] else 0.0
        room = np.maximum(held[n], [asked[0] * share, asked[1] * share, asked[2] * gpu])
        made.append(
            msgspec.structs.replace(
                site,
                cpu_milli=round(float(room[0])),
                memory_mib=round(float(room[1])),
                gpu_milli=round(float(room[2]) / 500) * 500,
            )
        )
    return made
