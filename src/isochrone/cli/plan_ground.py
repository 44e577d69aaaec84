"""What a plan is made on: sites that could be, what they would cost, and the inputs of the rules.

Every site of a plan is a cell of its own with one gateway and one node, of one independent
provider, in the middle of its metro. So the shipped rule (``rules.placement``) chooses among them
exactly as it would among real nodes, and a plan for a network that nobody has bought yet obeys the
same residency, budget and objective.

A replica with GPUs costs its GPUs at what is asked for one with its share of the machine; a replica
without costs its cores and memory (``atlas.gpu_prices``). A hyperscaler rents whole GPUs, so a
fraction costs a whole one there.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from isochrone.atlas import gpu_prices
from isochrone.atlas.blocs import blocs, blocs_version
from isochrone.atlas.cities import city, place_named
from isochrone.atlas.roundtrips import SAME_METRO_MS
from isochrone.atlas.sites import CandidateSite, CloudRegion, candidate_sites
from isochrone.cli.tables import count, usd_short
from isochrone.rules.expected import service_prior_ms
from isochrone.schema.decision import AudiencePoint, FreeNode, GatewaySite, PlacementInputs
from isochrone.schema.errors import InvalidInput, IsochroneError, NotFound
from isochrone.schema.node import Capacity, Device, Node, Offer, Resources
from isochrone.schema.place import Place, Whereabouts
from isochrone.schema.service import Service

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

RoundTrips = Callable[[Sequence[Place], Sequence[Place]], "Floats"]
"""Expected round trips in milliseconds, row by column: ``atlas.roundtrips.matrix`` or a better."""

GPU_MEMORY_MIB = 1
"""Of a planned GPU: its model decides, and its price holds whatever memory it has."""


SITES_MOST = 3_000
"""Candidates in a file, more than are packaged: each is looked at from every city of the audience
(4,091 in the world), and so many take half a minute and 1.2 GB."""


class PlanSite(msgspec.Struct, frozen=True, kw_only=True):
    """A site that could serve: the price is of one replica, micro-US-dollars per hour."""

    name: str
    place: Place
    provider: str
    price_microusd_per_hour: int | None


def candidates(service: Service) -> tuple[PlanSite, ...]:
    """The packaged candidates at what an independent provider would ask for a replica there.

    Raises NotFound for a GPU model without a known price.
    """
    return tuple(
        PlanSite(
            name=site.name,
            place=site.place,
            provider=f"independent-{site.place.metro}",
            price_microusd_per_hour=independent_price(service.resources, site.place.country),
        )
        for site in candidate_sites()
    )


def own_sites(path: Path, service: Service) -> tuple[PlanSite, ...]:
    """Candidates from a CSV file: ``city``, and optionally ``provider``, ``usd_per_hour``.

    ``city``: a name of the atlas or ``LATITUDE,LONGITUDE`` (quoted). ``usd_per_hour``: of one
    replica; where it is empty, what an independent provider would ask. Raises InvalidInput or
    NotFound with the line.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(islice(csv.DictReader(file), SITES_MOST + 1))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InvalidInput(f"{path} cannot be read: {error}.", fix="Name a CSV file.") from error
    if not rows or "city" not in rows[0]:
        raise InvalidInput(
            f"{path} lists no sites.",
            fix="Write a CSV file with the header `city,provider,usd_per_hour`.",
        )
    if len(rows) > SITES_MOST:
        raise InvalidInput(
            f"{path} lists more than {SITES_MOST} sites.", fix="Name those that come into question."
        )
    found = [_own_site(path, line, row, service) for line, row in enumerate(rows, start=2)]
    lines: dict[tuple[Place, str], int] = {}
    for line, site in enumerate(found, start=2):
        first = lines.setdefault((site.place, site.provider), line)
        if first != line:
            raise InvalidInput(
                f"{path}, line {line}: {site.name} of {site.provider} stands in line {first}, too.",
                fix="Give each provider's site one line.",
            )
    return tuple(found)


def _own_site(path: Path, line: int, row: dict[str, str], service: Service) -> PlanSite:
    try:
        place = place_named(row["city"] or "")
    except IsochroneError as error:
        raise InvalidInput(f"{path}, line {line}: {error.message}", fix=error.fix) from error
    asked = (row.get("usd_per_hour") or "").strip()
    try:
        price = round(float(asked) * 1_000_000) if asked else None
    except (ValueError, OverflowError):
        price = -1
    if price is not None and price < 0:
        raise InvalidInput(
            f"{path}, line {line}: {asked[:40]!r} is no price.",
            fix="Write US dollars per hour for one replica, as 2.95.",
        )
    if price is None:
        price = _asked_there(path, line, service, place)
    provider = (row.get("provider") or "").strip() or f"own-{place.metro}"
    return PlanSite(
        name=called(row["city"], place),
        place=place,
        provider=provider,
        price_microusd_per_hour=price,
    )


def _asked_there(path: Path, line: int, service: Service, place: Place) -> int:
    try:
        return independent_price(service.resources, place.country)
    except IsochroneError as error:
        raise InvalidInput(f"{path}, line {line}: {error.message}", fix=error.fix) from error


def called(written: str, place: Place) -> str:
    """A city as a user wrote it; of a point, the city that is nearest."""
    words = written.strip()
    return words if words[:1].isalpha() else city(place.metro).name


def site_at(site: CandidateSite | Place, service: Service, name: str) -> PlanSite:
    """One further site at a place, at what an independent provider would ask there."""
    place = site.place if isinstance(site, CandidateSite) else site
    price = independent_price(service.resources, place.country)
    return PlanSite(
        name=name,
        place=place,
        provider=f"independent-{place.metro}",
        price_microusd_per_hour=price,
    )


def cloud_sites(regions: Sequence[CloudRegion], service: Service) -> tuple[PlanSite, ...]:
    """Regions of a hyperscaler as sites, at its list price for what can hold one replica."""
    return tuple(
        PlanSite(
            name=region.region,
            place=region.place,
            provider=region.provider,
            price_microusd_per_hour=hyperscaler_price(service.resources, region),
        )
        for region in regions
    )


def independent_price(need: Resources, country: str) -> int:
    """One replica at an independent provider in a country, micro-US-dollars per hour."""
    if need.gpu_count:
        gpu = gpu_prices.gpu_named(need.gpu)
        whole = gpu_prices.independent_microusd_per_hour(gpu, country)
        return -(-whole * need.gpu_count * need.gpu_milli // 1000)
    core = gpu_prices.CPU_CORE_MICROUSD * need.cpu_milli / 1000
    memory = gpu_prices.MEMORY_GIB_MICROUSD * need.memory_mib / 1024
    return round((core + memory) * gpu_prices.price_factor(country))


def hyperscaler_price(need: Resources, region: CloudRegion) -> int | None:
    """One replica in a hyperscaler's region; None where no price of its is known."""
    country = region.place.country
    if need.gpu_count:
        gpu = _priced_gpu(need)
        whole = gpu and gpu_prices.hyperscaler_microusd_per_hour(gpu, region.region, country)
        return whole * need.gpu_count if whole else None
    unit = gpu_prices.hyperscaler_microusd_per_hour(gpu_prices.CPU, region.region, country)
    # Cores and memory come four gibibytes to a core: whichever is more is paid.
    units = max(need.cpu_milli / 1000, need.memory_mib / 4096)
    return None if unit is None else round(unit * units)


def prices_note(need: Resources) -> str:
    """What the prices of a plan rest on, and their bias, in a few sentences."""
    aws = "hyperscaler: AWS on-demand list of 2026-01-21, before discounts"
    index = "times the country's index by AWS's own list"
    if not need.gpu_count:
        return f"Independent prices: one neocloud's list price of cores and memory, {index}; {aws}."
    gpu = _priced_gpu(need)
    if gpu is None:
        return f"No price of {need.gpu} is known beside those given with --sites."
    named = gpu if need.gpu else f"{gpu} (no model is named)"
    general, market = gpu_prices.ask(gpu, "neocloud"), gpu_prices.ask(gpu, "marketplace")
    if general is None:
        return f"Prices of {named}; {aws}."
    note = (
        f"Independent prices of {named}: median of {count(general.rows, 'offer')} of "
        f"{count(general.providers, 'neocloud')} ({', '.join(general.dates)}), {index}; {aws}."
    )
    if market is None:
        return note
    return (
        f"{note} A marketplace's cheapest offers have a median of "
        f"{usd_short(market.microusd_per_hour)}, which no plan counts on."
    )


def _priced_gpu(need: Resources) -> str | None:
    """The priced model that a service asks for; None when its only prices are a user's own."""
    try:
        return gpu_prices.gpu_named(need.gpu)
    except NotFound:
        return None


def planned(service: Service) -> Service:
    """The service as it is planned: a place's proof comes with the machine, so it is assumed."""
    residency = msgspec.structs.replace(service.residency, evidence="declared")
    return msgspec.structs.replace(service, residency=residency)


def inputs_of(
    service: Service,
    sites: Sequence[PlanSite],
    audience: Sequence[AudiencePoint],
    client_rtt_ms: Floats,
) -> PlacementInputs:
    """The rules' inputs for a choice among sites; ``client_rtt_ms``: audience × sites."""
    named = service.residency.allow + service.residency.deny
    known = blocs()
    inner = (SAME_METRO_MS,) * len(sites)
    return PlacementInputs(
        kind="sites",
        service=planned(service),
        tenant="plan",
        cell="plan",
        epoch=0,
        at_unix_ms=0,
        seed=0,
        blocs_version=blocs_version(),
        blocs={name: tuple(sorted(known[name])) for name in sorted(set(named)) if name in known},
        gateways=tuple(_gateway(site, n) for n, site in enumerate(sites)),
        audience=tuple(audience),
        nodes=tuple(_node(service, site, n) for n, site in enumerate(sites)),
        client_rtt_ms=tuple(map(tuple, client_rtt_ms.tolist())),
        node_rtt_ms=(inner,) * len(sites),
        service_ms=service_prior_ms(service.model),
    )


def _cell(site: PlanSite, number: int) -> str:
    return f"{site.place.metro}-{number:04}"


def _gateway(site: PlanSite, number: int) -> GatewaySite:
    return GatewaySite(
        cell=_cell(site, number),
        place=site.place,
        http_url="",
        whereabouts=Whereabouts(country=site.place.country),
    )


def _node(service: Service, site: PlanSite, number: int) -> FreeNode:
    need = service.resources
    device = Device(kind="gpu", name=need.gpu or "any", memory_mib=GPU_MEMORY_MIB)
    return FreeNode(
        node=Node(
            address=_cell(site, number),
            provider=site.provider,
            cell=_cell(site, number),
            place=site.place,
            capacity=Capacity(
                cpu_milli=need.cpu_milli,
                memory_mib=need.memory_mib,
                devices=(device,) * need.gpu_count,
                engines=(service.model.engine,),
            ),
            offer=_offer(need, site.price_microusd_per_hour or 0),
            grant=b"",
            revision=1,
            whereabouts=Whereabouts(country=site.place.country),
            proven_memory_mib=need.memory_mib,
            proven_mflops=need.gflops_min * 1000,
        ),
        free_cpu_milli=need.cpu_milli,
        free_memory_mib=need.memory_mib,
        free_gpu_milli=(1000,) * need.gpu_count,
    )


def _offer(need: Resources, price: int) -> Offer:
    """An offer by which one replica costs ``price`` (at most a micro-dollar less)."""
    gpus = need.gpu_count * need.gpu_milli
    core = price * 1000 // need.cpu_milli if need.cpu_milli and not gpus else 0
    return Offer(
        cpu_core_microusd_per_hour=core,
        memory_gib_microusd_per_hour=0,
        gpu_microusd_per_hour=price * 1000 // gpus if gpus else 0,
    )
