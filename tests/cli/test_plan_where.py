"""A plan is of one service alone: the joint rule of a home cell would choose the same sites."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from isochrone.atlas.audience import audience_points
from isochrone.atlas.cities import city
from isochrone.cli.plan_facts import Planner
from isochrone.cli.plan_ground import candidates, inputs_of, site_at
from isochrone.client.declaration import parse_declaration
from isochrone.rules.eligible import eligibilities, legal_gateways
from isochrone.rules.expected import at_percentile_us, expected_us, weights_ppm
from isochrone.rules.rewards import STANDBY_FULL_CPU_MILLI, coverage_bps
from isochrone.rules.where import decide
from isochrone.schema.decision import PlacementInputs
from isochrone.schema.where import WhereClaim, WhereInputs, WhereService, WhereSite

EPOCH_MS = 3_600_000


def us(ms: float) -> int:
    return round(ms * 1000)


def joint(inputs: PlacementInputs) -> WhereInputs:
    """The same question as the home cell asks it, of this service only."""
    service = inputs.service
    unpriced = msgspec.structs.replace(service, max_price_microusd_per_hour=None)
    verdicts = eligibilities(msgspec.structs.replace(inputs, service=unpriced))
    sites = tuple(
        WhereSite(
            name=free.node.address, cell=free.node.cell, provider=free.node.provider,
            metro=free.node.place.metro, nodes=1, cpu_milli=free.free_cpu_milli,
            memory_mib=free.free_memory_mib, gpu_milli=sum(free.free_gpu_milli),
            offer=free.node.offer, gateways=((n, us(inputs.node_rtt_ms[n][n])),),
        )
        for n, free in enumerate(inputs.nodes)
    )  # fmt: skip
    claim = WhereClaim(
        resources=service.resources,
        gateways=legal_gateways(inputs),
        slots=tuple(int(not verdict.excluded_by) for verdict in verdicts),
    )
    one = WhereService(
        service="plan.chat", revision=1, claim=0, least=service.replicas.min,
        most=service.replicas.max, budget=service.max_price_microusd_per_hour,
        objective_us=us(service.objective.latency_ms), percentile=service.objective.percentile,
        service_us=us(inputs.service_ms),
        audience=tuple(enumerate(weights_ppm(inputs).tolist())),
    )  # fmt: skip
    return WhereInputs(
        cell="plan", epoch=0, at_unix_ms=0, seed=0,
        gateways=tuple(gateway.cell for gateway in inputs.gateways),
        points=tuple(point.place for point in inputs.audience),
        client_us=tuple(tuple(map(us, row)) for row in inputs.client_rtt_ms),
        sites=sites, claims=(claim,), services=(one,),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("audience", "latency_ms", "more"),
    [
        ("DE", 70, ""),
        ("world", 250, ""),
        ("Europe", 80, "residency: {allow: [EU]}\nmax_price_usd_per_hour: 12\n"),
    ],
)
def test_the_joint_rule_chooses_the_same_sites(audience: str, latency_ms: int, more: str) -> None:
    text = (
        "name: chat\nmodel: {engine: upstream, task: chat}\nresources: {gpu: H100}\n"
        f"replicas: 2..12\naudience: [{audience}]\nobjective: {{latency_ms: {latency_ms}}}\n{more}"
    )
    service = parse_declaration(text, "service.yaml", Path()).service
    planner, sites = Planner(service, 2.0), candidates(service)
    points = audience_points(service.audience)
    inputs = inputs_of(service, sites, points, planner.rtt_ms(points, sites))
    chosen, _, _ = planner.choose(sites)
    grants = decide(joint(inputs)).services[0].grants
    assert len(chosen) >= 2
    assert sorted(site.place.metro for site in chosen) == sorted(
        site.metro for _, site in grants for _ in range(site.replicas)
    )


def test_what_a_further_site_adds_is_what_a_pool_pays_for_standby() -> None:
    """The number of ``plan`` worked out again, point by point, with the curve of the rewards."""
    text = (
        "name: chat\nmodel: {engine: upstream, task: tensor}\nresources: {cpus: 1}\n"
        "replicas: 2..3\naudience: [DE, FR]\nobjective: {latency_ms: 24}\n"
    )
    service = parse_declaration(text, "service.yaml", Path()).service
    planner = Planner(service, 2.0)
    names = ("berlin", "paris", "munich", "lyon", "madrid", "hamburg")
    sites = [site_at(city(name).place, service, name) for name in names]
    chosen = sites[:2]
    inputs = inputs_of(service, sites, planner.audience, planner.rtt_ms(planner.audience, sites))
    times = at_percentile_us(expected_us(inputs, range(len(sites)))[0], 95.0)
    in_time = times <= 24_000
    weights = weights_ppm(inputs).tolist()
    machine = STANDBY_FULL_CPU_MILLI * EPOCH_MS

    def paid_bps(site: int) -> int:
        gained = 0
        for point, weight in enumerate(weights):
            standing = int(in_time[point, : len(chosen)].sum())
            more = standing + int(in_time[point, site])
            covered = [coverage_bps(count * machine, EPOCH_MS) for count in (standing, more)]
            gained += weight * (covered[1] - covered[0])
        return gained // sum(weights)

    told = {row.metro: row.adds_bps for row in planner.further(chosen, sites)}
    assert set(told) == set(names[2:])
    assert told == {name: paid_bps(n) for n, name in enumerate(names) if n >= 2}
    assert told["lyon"] > 300
    assert told["madrid"] < told["munich"]
