"""Joint decisions against all there is to choose from, and what must hold of any of them."""

from __future__ import annotations

import random
from collections import Counter

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.rules.where import small_worlds as small
from tests.rules.where.small_worlds import cheapest, tiny

from isochrone.rules.where import decide, replay
from isochrone.rules.where.deciding import cases_of
from isochrone.schema.digests import canonical
from isochrone.schema.where import WhereDecision, WhereInputs


@given(tiny())
@settings(max_examples=40)
def test_nothing_is_better_in_tiny_worlds(inputs: WhereInputs) -> None:
    ground, cases = cases_of(inputs)
    ours = sum(placed.costs.total * placed.unit for placed in decide(inputs).services)
    assert ours == cheapest(cases, ground.room)


@given(tiny())
@settings(max_examples=40)
def test_every_limit_is_kept(inputs: WhereInputs) -> None:
    decision = decide(inputs)
    _, cases = cases_of(inputs)
    used: Counter[tuple[int, int]] = Counter()
    for case, placed in zip(cases, decision.services, strict=True):
        claim = inputs.claims[case.service.claim]
        count = sum(replicas for _, replicas in placed.sites)
        assert count <= case.most
        assert count == 0 or not case.service.gang or count >= case.least
        assert case.budget is None or placed.price_microusd_per_hour <= case.budget
        for site, replicas in placed.sites:
            assert replicas <= claim.slots[site]
            for resource, need in enumerate(case.claim.need.tolist()):
                used[site, resource] += need * replicas
    for (site, resource), amount in used.items():
        at = inputs.sites[site]
        assert amount <= (at.cpu_milli, at.memory_mib, at.gpu_milli)[resource]


@given(tiny(), st.integers(0, 1000))
@settings(max_examples=25)
def test_the_order_of_everything_changes_nothing(inputs: WhereInputs, seed: int) -> None:
    chance = random.Random(seed)
    orders = {
        what: chance.sample(range(count), count)
        for what, count in (
            ("sites", len(inputs.sites)),
            ("services", len(inputs.services)),
            ("points", len(inputs.points)),
        )
    }
    shuffled = _shuffled(inputs, orders)
    assert _by_name(inputs, decide(inputs)) == _by_name(shuffled, decide(shuffled))


def test_nor_does_it_where_many_equals_compete() -> None:
    """Six services on eight sites for one replica each, most of them alike: many equal sums."""
    chance = random.Random(0)
    sites = [
        small.site(
            n,
            price=chance.choice([1000, 1000, 1200]),
            provider=f"provider-{n % 4}",
            metro=f"metro-{n % 5}",
            cores=1,
            gateway=n % 2,
        )
        for n in range(8)
    ]
    services = [
        small.service(
            f"service-{n}",
            least=1 + n % 2,
            most=2 + n % 2,
            objective_ms=chance.choice([30, 60]),
            audience=((0, 500_000), (1, 500_000)),
        )
        for n in range(6)
    ]
    made = small.inputs(sites, services, client_ms=((8, 45), (60, 12)), seed=0)
    counts = (("sites", 8), ("services", 6), ("points", 2))
    shuffled = _shuffled(made, {what: chance.sample(range(n), n) for what, n in counts})
    assert _by_name(made, decide(made)) == _by_name(shuffled, decide(shuffled))


def _by_name(inputs: WhereInputs, decision: WhereDecision) -> dict[str, object]:
    return {
        placed.service: (
            sorted((inputs.sites[site].name, replicas) for site, replicas in placed.sites),
            placed.costs,
            placed.grants,
            placed.taken_by,
        )
        for placed in decision.services
    }


def _shuffled(inputs: WhereInputs, orders: dict[str, list[int]]) -> WhereInputs:
    site_at = {old: new for new, old in enumerate(orders["sites"])}
    point_at = {old: new for new, old in enumerate(orders["points"])}
    claims = tuple(
        msgspec.structs.replace(claim, slots=tuple(claim.slots[old] for old in orders["sites"]))
        for claim in inputs.claims
    )
    services = tuple(
        msgspec.structs.replace(
            inputs.services[old],
            audience=tuple((point_at[p], w) for p, w in inputs.services[old].audience),
            held=tuple((site_at[s], n) for s, n in inputs.services[old].held),
        )
        for old in orders["services"]
    )
    return msgspec.structs.replace(
        inputs,
        sites=tuple(inputs.sites[old] for old in orders["sites"]),
        points=tuple(inputs.points[old] for old in orders["points"]),
        client_us=tuple(inputs.client_us[old] for old in orders["points"]),
        claims=claims,
        services=services,
    )


@given(tiny())
@settings(max_examples=10)
def test_a_record_replays_byte_for_byte(inputs: WhereInputs) -> None:
    record = canonical(decide(inputs))
    assert replay(record, canonical(inputs)) == record


@given(tiny())
@settings(max_examples=25)
def test_deciding_again_what_stands_moves_nothing_that_costs_more(inputs: WhereInputs) -> None:
    """What runs saves its move, so a second decision is never dearer than the first would be."""
    first = decide(inputs)
    services = tuple(
        msgspec.structs.replace(service, held=placed.sites)
        for service, placed in zip(inputs.services, first.services, strict=True)
    )
    again = decide(msgspec.structs.replace(inputs, services=services))
    standing = sum((p.costs.total - p.costs.moved) * p.unit for p in first.services)
    assert sum(p.costs.total * p.unit for p in again.services) <= standing
