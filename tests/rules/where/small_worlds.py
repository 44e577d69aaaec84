"""Tiny joint decisions for tests: a few sites and services, and all there is to choose from."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from hypothesis import strategies as st

from isochrone.rules.where.case import Case
from isochrone.rules.where.ground import Integers
from isochrone.schema.node import Offer, Resources
from isochrone.schema.place import Place
from isochrone.schema.where import WhereClaim, WhereInputs, WhereService, WhereSite

CORE = Resources(cpu_milli=1000, memory_mib=1024)
GPU = Resources(cpu_milli=2000, memory_mib=1024, gpu_count=1)


def site(
    number: int,
    *,
    price: int = 1000,
    provider: str = "",
    metro: str = "",
    network: str = "",
    cores: int = 2,
    gpus: int = 0,
    gateway: int = 0,
    rtt_us: int = 1000,
) -> WhereSite:
    """A site on which a replica of one core costs ``price``."""
    return WhereSite(
        name=f"site-{number}",
        cell=f"cell-{gateway}",
        provider=provider or f"provider-{number}",
        metro=metro or f"metro-{number}",
        network=network,
        nodes=4,
        cpu_milli=1000 * cores,
        memory_mib=65_536,
        gpu_milli=1000 * gpus,
        offer=Offer(
            cpu_core_microusd_per_hour=price,
            memory_gib_microusd_per_hour=0,
            gpu_microusd_per_hour=10 * price,
        ),
        gateways=((gateway, rtt_us),),
    )


def service(
    name: str,
    *,
    claim: int = 0,
    least: int = 1,
    most: int = 1,
    budget: int | None = None,
    gang: bool = False,
    priority: int = 0,
    objective_ms: int = 50,
    audience: tuple[tuple[int, int], ...] = ((0, 1_000_000),),
    held: tuple[tuple[int, int], ...] = (),
) -> WhereService:
    return WhereService(
        service=name,
        revision=1,
        claim=claim,
        least=least,
        most=most,
        gang=gang,
        budget=budget,
        priority=priority,
        objective_us=1000 * objective_ms,
        percentile=95.0,
        service_us=2000,
        audience=audience,
        held=held,
    )


def inputs(
    sites: list[WhereSite],
    services: list[WhereService],
    *,
    client_ms: tuple[tuple[int, ...], ...] = ((10,),),
    claims: tuple[WhereClaim, ...] = (),
    seed: int = 1,
) -> WhereInputs:
    gateways = tuple(f"cell-{n}" for n in range(len(client_ms[0])))
    all_of_them = tuple(range(len(gateways)))
    everywhere = WhereClaim(resources=CORE, gateways=all_of_them, slots=(4,) * len(sites))
    return WhereInputs(
        cell="home",
        epoch=1,
        at_unix_ms=0,
        seed=seed,
        gateways=gateways,
        points=tuple(
            Place(latitude=0.0, longitude=0.0, country="DE", metro=f"point-{n}")
            for n in range(len(client_ms))
        ),
        client_us=tuple(tuple(1000 * ms for ms in row) for row in client_ms),
        sites=tuple(sites),
        claims=claims or (everywhere,),
        services=tuple(services),
    )


@st.composite
def tiny(draw: st.DrawFn) -> WhereInputs:
    """Three to five sites, two or three services of one or two replicas, little room."""
    gateways = draw(st.integers(1, 3))
    points = draw(st.integers(1, 3))
    count = draw(st.integers(3, 5))
    sites = [
        site(
            n,
            price=draw(st.integers(1, 40)) * 100,
            provider=f"provider-{draw(st.integers(0, 2))}",
            metro=f"metro-{draw(st.integers(0, 2))}",
            network=draw(st.sampled_from(("", "network-0", "network-1"))),
            cores=draw(st.integers(0, 3)),
            gpus=draw(st.integers(0, 1)),
            gateway=draw(st.integers(0, gateways - 1)),
            rtt_us=1000 * draw(st.integers(0, 2)),
        )
        for n in range(count)
    ]
    claims = tuple(
        WhereClaim(
            resources=resources,
            gateways=tuple(range(gateways)),
            slots=tuple(draw(st.lists(st.integers(0, 2), min_size=count, max_size=count))),
        )
        for resources in (CORE, GPU)
    )
    services = [_service(draw, number, count, points) for number in range(draw(st.integers(2, 3)))]
    rtt = st.tuples(*[st.integers(1, 120)] * gateways)
    client_ms = tuple(draw(rtt) for _ in range(points))
    return inputs(sites, services, client_ms=client_ms, claims=claims, seed=draw(st.integers(0, 9)))


def _service(draw: st.DrawFn, number: int, sites: int, points: int) -> WhereService:
    least = draw(st.integers(0, 2))
    most = max(1, least, draw(st.integers(1, 2)))
    weights = draw(st.lists(st.integers(0, 9), min_size=points, max_size=points))
    whole = max(1, sum(weights))
    return service(
        f"service-{number}",
        claim=draw(st.integers(0, 1)),
        least=least,
        most=most,
        gang=draw(st.booleans()),
        budget=draw(st.none() | st.integers(10, 900).map(lambda n: 100 * n)),
        objective_ms=draw(st.sampled_from((10, 40, 80))),
        audience=tuple((n, 1_000_000 * w // whole) for n, w in enumerate(weights) if w),
        held=((draw(st.integers(0, sites - 1)), 1),) if draw(st.booleans()) else (),
    )


def every_set(case: Case) -> list[list[int]]:
    """All sets that a case may have if it is alone: numbers, slots, budget and gang are right."""
    sites = range(len(case.claim.at))
    sets = [
        list(chosen)
        for count in range(case.most + 1)
        for chosen in itertools.combinations_with_replacement(sites, count)
    ]
    return [chosen for chosen in sets if _may(case, chosen)]


def _may(case: Case, chosen: list[int]) -> bool:
    slots = all(chosen.count(n) <= case.claim.slots[n] for n in chosen)
    paid = case.budget is None or case.price(chosen) <= case.budget
    gang = not case.service.gang or not chosen or len(chosen) >= case.least
    return slots and paid and gang


def cheapest(cases: list[Case], room: Integers) -> int:
    """The least sum of money that any sets for all cases cost together, by trying them all."""
    return min(_tried(cases, room))


def _tried(cases: list[Case], room: Integers) -> Iterator[int]:
    if not cases:
        yield 0
        return
    first, *rest = cases
    for chosen in every_set(first):
        left = room.copy()
        for n in chosen:
            left[first.claim.at[n]] -= first.claim.need
        if (left >= 0).all():
            yield first.of(chosen) * first.claim.unit + cheapest(rest, left)
