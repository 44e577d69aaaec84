"""Placement: what holds for every world, and against a second, naive sum of costs."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st
from tests.rules.scenery import address, anywhere, worlds
from tests.rules.test_residency_prop import naive

from isochrone.rules import costs as terms
from isochrone.rules.choice import Limits, choose
from isochrone.rules.costs import Costs, Grant, Option
from isochrone.rules.expected import expected_us, weights_ppm
from isochrone.rules.placement import decide, explain, replay
from isochrone.schema.decision import Decision, FreeNode, PlacementInputs
from isochrone.schema.digests import canonical, digest
from isochrone.schema.node import Offer
from isochrone.schema.service import ReplicaRange

replace = msgspec.structs.replace


def by_address(made: PlacementInputs) -> dict[str, FreeNode]:
    return {free.node.address: free for free in made.nodes}


# -- the mask ------------------------------------------------------------------------------------


@given(worlds())
def test_no_winner_escapes_the_mask(made: PlacementInputs) -> None:
    """Neither the node nor the gateways that may hand it requests."""
    residency, decision = made.service.residency, decide(made)
    for winner in decision.winners:
        found = by_address(made)[winner].node
        assert naive(residency, found.whereabouts)
    legal = {g.http_url for g in made.gateways if naive(residency, g.whereabouts)}
    assert {row.gateway_url for row in decision.coverage} <= legal


@given(worlds())
def test_winners_can_take_a_replica_each(made: PlacementInputs) -> None:
    for winner in decide(made).winners:
        free = by_address(made)[winner]
        assert free.alive
        assert made.service.model.engine in free.node.capacity.engines
        assert free.holds or free.free_cpu_milli >= made.service.resources.cpu_milli


# -- limits --------------------------------------------------------------------------------------


@given(worlds())
def test_numbers_budget_and_providers_are_kept(made: PlacementInputs) -> None:
    decision = decide(made)
    usable = [row for row in decision.candidates if not row.excluded_by]
    limit = made.service.max_price_microusd_per_hour
    assert len(set(decision.winners)) == len(decision.winners)
    assert limit is None or decision.price_microusd_per_hour <= limit
    assert sum(site.replicas for _, site in decision.sites) == len(decision.winners)
    if made.kind == "sites":
        assert len(decision.winners) <= made.service.replicas.max
        least = made.service.replicas.min
    else:
        least = sum(site.replicas for site in made.sites)
        assert len(decision.winners) <= least
    if len(decision.winners) < least:
        assert decision.unmet
        assert limit is not None or len(decision.winners) == len(usable)
    owners = {by_address(made)[winner].node.provider for winner in decision.winners}
    if limit is None and len(decision.winners) > 1 and len({row.provider for row in usable}) > 1:
        assert len(owners) > 1


@given(worlds())
def test_coverage_is_the_whole_audience(made: PlacementInputs) -> None:
    decision = decide(made)
    shares = Counter[str]()
    for point in made.audience:
        shares[point.place.country] += round(point.weight * 1_000_000)
    if decision.winners:
        assert {row.country: round(row.weight * 1_000_000) for row in decision.coverage} == shares
        assert all(
            0 <= row.met_share <= 1 and row.p50_ms <= row.p95_ms for row in decision.coverage
        )
    else:
        assert decision.coverage == ()


# -- order, price, replay ------------------------------------------------------------------------


@given(worlds(), st.randoms(use_true_random=False))
def test_the_order_of_what_is_given_changes_nothing(made: PlacementInputs, chance: Any) -> None:
    nodes, gateways, people = (
        chance.sample(range(n), n)
        for n in (len(made.nodes), len(made.gateways), len(made.audience))
    )
    shuffled = replace(
        made,
        nodes=tuple(made.nodes[n] for n in nodes),
        gateways=tuple(made.gateways[g] for g in gateways),
        audience=tuple(made.audience[i] for i in people),
        client_rtt_ms=tuple(tuple(made.client_rtt_ms[i][g] for g in gateways) for i in people),
        node_rtt_ms=tuple(tuple(made.node_rtt_ms[g][n] for n in nodes) for g in gateways),
        blocs=dict(reversed(made.blocs.items())),
    )
    assert replace(decide(shuffled), inputs="") == replace(decide(made), inputs="")


@given(worlds(mask=anywhere), st.data())
def test_a_cheaper_equal_node_never_loses(made: PlacementInputs, data: st.DataObject) -> None:
    """A twin at a lower price is chosen whenever its dearer original is."""
    assume(made.nodes)
    index = data.draw(st.integers(0, len(made.nodes) - 1))
    original = made.nodes[index]
    price = original.node.offer.cpu_core_microusd_per_hour
    assume(price > 0)
    offer = Offer(
        cpu_core_microusd_per_hour=data.draw(st.integers(0, price - 1)),
        memory_gib_microusd_per_hour=0,
    )
    twin = replace(original, node=replace(original.node, address=address(99), offer=offer))
    rows = tuple((*row, row[index]) for row in made.node_rtt_ms)
    decision = decide(replace(made, nodes=(*made.nodes, twin), node_rtt_ms=rows))
    if original.node.address in decision.winners:
        assert address(99) in decision.winners


@given(worlds(mask=anywhere))
def test_a_winner_stays_a_winner_when_it_becomes_cheaper(made: PlacementInputs) -> None:
    """With one replica to place; of several, a neighbour's choice may depend on the money left."""
    one = replace(made, service=replace(made.service, replicas=ReplicaRange(min=1, max=1)))
    one = replace(one, kind="sites", sites=())
    decision = decide(one)
    assume(decision.winners)
    (winner,) = decision.winners
    cheaper = tuple(
        replace(
            free,
            node=replace(
                free.node,
                offer=Offer(
                    cpu_core_microusd_per_hour=free.node.offer.cpu_core_microusd_per_hour // 2,
                    memory_gib_microusd_per_hour=0,
                ),
            ),
        )
        if free.node.address == winner
        else free
        for free in one.nodes
    )
    assert decide(replace(one, nodes=cheaper)).winners == (winner,)


@given(worlds())
def test_replay_gives_the_record(made: PlacementInputs) -> None:
    decision = decide(made)
    record = canonical(decision)
    assert replay(record, canonical(made)) == record
    assert decision.inputs == digest(made)


@given(worlds())
def test_every_node_is_explained(made: PlacementInputs) -> None:
    lines = explain(decide(made))
    for free in made.nodes:
        assert any(line.startswith(f"  {free.node.address} ") for line in lines)


# -- hysteresis ----------------------------------------------------------------------------------


def settled(made: PlacementInputs, decision: Decision) -> PlacementInputs:
    nodes = tuple(
        replace(free, holds=int(free.node.address in decision.winners)) for free in made.nodes
    )
    return replace(made, nodes=nodes)


@given(worlds())
def test_what_was_chosen_stays_chosen(made: PlacementInputs) -> None:
    """Once the winners hold the service, looking again moves nobody."""
    fresh = replace(made, nodes=tuple(replace(free, holds=0) for free in made.nodes))
    decision = decide(fresh)
    again = decide(settled(fresh, decision))
    assert set(again.winners) == set(decision.winners)


# -- the sum -------------------------------------------------------------------------------------


def naive_cost(
    options: Sequence[Option],
    grant: Grant,
    late_us: Sequence[Sequence[int]],
    weights: Sequence[int],
    objective_us: int,
    chosen: Sequence[int],
) -> int:
    """The cost of a set, term by term, from the definitions of the constants."""
    prices = sorted(option.price for option in options)
    unit = max(1, prices[(len(prices) - 1) // 2])
    total = 0
    for i, weight in enumerate(weights):
        worst = weight * (terms.MISSED_POINTS + terms.LATENCY_POINTS * terms.LATENCY_CAP)
        reached = [worst, worst]
        for n in chosen:
            capped = min(late_us[i][n], terms.LATENCY_CAP * objective_us)
            missed = terms.MISSED_POINTS * weight if late_us[i][n] > objective_us else 0
            reached.append(missed + weight * terms.LATENCY_POINTS * capped // objective_us)
        best, second, *_ = sorted(reached)
        total += best + second * terms.BACKUP_PER_MILLE // 1000
    for n in chosen:
        price = min(options[n].price, terms.PRICE_CAP * unit)
        total += price * terms.PRICE_POINTS * terms.POINT // unit
        total -= terms.HOLD_POINTS * terms.POINT * options[n].holds
    for names, pair, granted, reward in (
        ([options[n].provider for n in chosen], 20, grant.providers, 300),
        ([options[n].metro for n in chosen], 5, {}, 0),
        ([options[n].site for n in chosen], 0, grant.sites, 2000),
    ):
        have = Counter(names)
        total += terms.POINT * pair * sum(c * (c - 1) // 2 for c in have.values())
        filled = sum(min(have[name], count) for name, count in granted.items())
        total -= terms.POINT * reward * filled
    return total


@st.composite
def searches(draw: st.DrawFn) -> tuple[list[Option], Limits, Grant, list[list[int]], list[int]]:
    names = st.sampled_from("abc")
    options = draw(
        st.lists(
            st.builds(
                Option,
                price=st.integers(0, 3000),
                provider=names,
                metro=names,
                holds=st.booleans(),
                site=names,
            ),
            min_size=1,
            max_size=7,
        )
    )
    options.sort(key=lambda option: option.price)
    least = draw(st.integers(0, 4))
    limits = Limits(
        least=least,
        most=least + draw(st.integers(0, 2)),
        budget=draw(st.sampled_from([None, 2000, 5000])),
        gang=draw(st.booleans()),
    )
    counts = st.dictionaries(names, st.integers(1, 2), max_size=2)
    grant = draw(st.one_of(st.just(Grant()), st.builds(Grant, sites=counts, providers=counts)))
    people = draw(st.integers(1, 4))
    times = st.lists(st.integers(1000, 400_000), min_size=len(options), max_size=len(options))
    weights = draw(st.lists(st.integers(0, 500_000), min_size=people, max_size=people))
    return options, limits, grant, [draw(times) for _ in range(people)], weights


@given(searches())
def test_the_choice_is_within_limits_and_no_single_exchange_is_better(
    case: tuple[list[Option], Limits, Grant, list[list[int]], list[int]],
) -> None:
    options, limits, grant, p50_us, weights = case
    sums = Costs(options, grant, np.array(p50_us), np.array(weights), 60_000, 50.0)
    choice = choose(options, limits, sums)
    chosen = list(choice.chosen)

    def cost(indices: Sequence[int]) -> int:
        return naive_cost(options, grant, p50_us, weights, 60_000, indices)

    def allowed(indices: Sequence[int]) -> bool:
        paid = limits.budget is None or sum(options[n].price for n in indices) <= limits.budget
        owners = {options[n].provider for n in indices}
        return paid and (not choice.two_providers or len(indices) < 2 or len(owners) > 1)

    assert choice.cost == cost(chosen)
    assert allowed(chosen)
    broken = limits.gang and choice.least < limits.least
    assert not chosen if broken else choice.least <= len(chosen) <= limits.most
    if broken:
        return
    for place in range(len(chosen)):
        for n in set(range(len(options))) - set(chosen):
            trial = [*chosen[:place], n, *chosen[place + 1 :]]
            if allowed(trial):
                assert cost(trial) >= cost(chosen)
                assert not choice.margins[n].barrier
                assert choice.margins[n].by <= cost(trial) - cost(chosen)


@given(worlds())
def test_expected_times_are_the_best_way_through_legal_gateways(made: PlacementInputs) -> None:
    residency = made.service.residency
    everyone = list(range(len(made.nodes)))
    p50_us, through = expected_us(made, everyone)
    for n, free in enumerate(made.nodes):
        ways = [
            g
            for g, site in enumerate(made.gateways)
            if site.cell == free.node.cell and naive(residency, site.whereabouts)
        ]
        for i in range(len(made.audience)):
            if not ways:
                assert through[i, n] == -1
                continue
            best = min(made.client_rtt_ms[i][g] + made.node_rtt_ms[g][n] for g in ways)
            assert p50_us[i, n] == round(1000 * (best + made.service_ms))
    assert weights_ppm(made).sum() <= 1_000_000 + len(made.audience)
