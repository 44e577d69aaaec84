"""What a provider is told of a site that lost."""

from __future__ import annotations

import msgspec
import pytest
from tests.rules.where.small_worlds import CORE, inputs, service, site

from isochrone.rules.where import decide, margins, winning_price
from isochrone.schema.errors import InvalidInput
from isochrone.schema.where import WhereClaim, WhereExclusion, WhereInputs


def offered(price: int) -> WhereInputs:
    """Three sites that differ in price; the third may not be used."""
    sites = [site(0, price=1000), site(1, price=price), site(2, price=10)]
    claim = WhereClaim(
        resources=CORE,
        gateways=(0,),
        slots=(4, 4, 0),
        excluded=(WhereExclusion(site=2, rule="residency", detail="US is not admitted"),),
    )
    return inputs(sites, [service("tenant.one")], claims=(claim,))


def test_the_winning_price_wins_and_one_more_does_not() -> None:
    made = offered(1500)
    decision = decide(made)
    assert decision.services[0].sites == ((0, 1),)
    won, lost, barred = margins(made, decision, "tenant.one")
    assert won.replicas == 1
    assert winning_price(won, decision.services[0].unit) is None
    assert (lost.instead_of, lost.barrier) == (0, "")
    assert (barred.excluded_by, barred.detail) == ("residency", "US is not admitted")
    price = winning_price(lost, decision.services[0].unit)
    assert price == 999
    assert decide(offered(999)).services[0].sites == ((1, 1),)
    assert decide(offered(1001)).services[0].sites == ((0, 1),)


def test_a_site_without_room_says_that() -> None:
    made = inputs(
        [site(0, price=100, cores=1), site(1, price=500)],
        [service("tenant.one"), service("tenant.two")],
    )
    decision = decide(made)
    loser = next(p for p in decision.services if p.sites == ((1, 1),))
    other = next(p for p in decision.services if p.sites == ((0, 1),))
    row = margins(made, decision, loser.service)[0]
    assert row.barrier == "room"
    assert row.more is not None
    assert row.more < 0
    assert loser.contended == -row.more
    assert loser.taken_by == (other.service,)
    assert other.contended == 0


def test_a_budget_says_that() -> None:
    made = inputs([site(0, price=100), site(1, price=500)], [service("tenant.one", budget=200)])
    assert margins(made, decide(made), "tenant.one")[1].barrier == "budget"


def test_a_service_that_nobody_knows() -> None:
    made = offered(1500)
    with pytest.raises(InvalidInput):
        margins(made, decide(made), "tenant.other")


def test_a_site_that_is_full_for_all_is_excluded_by_resources() -> None:
    made = offered(1500)
    bare = msgspec.structs.replace(made.claims[0], excluded=())
    made = msgspec.structs.replace(made, claims=(bare,))
    assert margins(made, decide(made), "tenant.one")[2].excluded_by == "resources"
