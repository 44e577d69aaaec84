"""A set of sites costs a service what the same nodes cost it in a single placement."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from tests.rules.where.small_worlds import every_set, tiny

from isochrone.rules.costs import HOLD_POINTS, POINT, Costs, Grant, Option
from isochrone.rules.where.deciding import cases_of
from isochrone.schema.where import WhereInputs


@given(tiny(), st.data())
def test_costs_are_those_of_a_single_placement(inputs: WhereInputs, data: st.DataObject) -> None:
    """With every slot as a node of its own; networks and limits come on top here."""
    _, cases = cases_of(inputs)
    case = data.draw(st.sampled_from(cases))
    sets = every_set(case)
    chosen = data.draw(st.sampled_from(sets))
    nodes = [n for n, slots in enumerate(case.claim.slots.tolist()) for _ in range(slots)]
    if not nodes:
        return
    site = [inputs.sites[case.claim.at[n]] for n in nodes]
    kept = [nodes[:k].count(n) < case.held[n] for k, n in enumerate(nodes)]
    options = [
        Option(price=int(case.claim.price[n]), provider=s.provider, metro=s.metro, holds=hold)
        for n, s, hold in zip(nodes, site, kept, strict=True)
    ]
    points = [point for point, _ in case.service.audience]
    p50_us = case.claim.times_us[case.claim.spot][nodes][:, points].T + case.service.service_us
    costs = Costs(
        options, Grant(), p50_us, case.weights, case.service.objective_us, case.service.percentile
    )
    picked = [
        [m for m, n in enumerate(nodes) if n == at][k]
        for at in set(chosen)
        for k in range(chosen.count(at))
    ]
    terms = case.terms(chosen)
    networks = [inputs.sites[case.claim.at[n]].network for n in chosen]
    known = [name for name in networks if name]
    paired = sum(known[:k].count(name) for k, name in enumerate(known))
    same_site = sum(
        chosen[:k].count(n)
        for k, n in enumerate(chosen)
        if not inputs.sites[case.claim.at[n]].network
    )
    beside = terms.short + terms.alone + 5 * POINT * (paired + same_site)
    moved = HOLD_POINTS * POINT * case.held_total
    assert case.of(chosen) - beside == costs.of(picked) + moved


@given(tiny(), st.data())
def test_one_more_costs_what_the_set_with_it_costs(
    inputs: WhereInputs, data: st.DataObject
) -> None:
    _, cases = cases_of(inputs)
    case = data.draw(st.sampled_from(cases))
    chosen = data.draw(st.sampled_from(every_set(case)))
    each = case.each_with(chosen).tolist()
    assert each == [case.of([*chosen, n]) for n in range(len(case.claim.at))]
    assert case.terms(chosen).total == case.of(chosen)
    assert all(value >= 0 for value in (case.terms(chosen).missed, case.terms(chosen).moved))


@given(tiny())
def test_no_claim_has_more_room_than_slots(inputs: WhereInputs) -> None:
    ground, cases = cases_of(inputs)
    for case in cases:
        assert (case.claim.limit(ground.room) <= case.claim.slots).all()
        assert (case.claim.limit(np.zeros_like(ground.room)) == 0).all()
