"""What services that meet are given, one rule after the other."""

from __future__ import annotations

import msgspec
import pytest
from tests.rules.where.small_worlds import inputs, service, site

from isochrone.rules.where import RULE, decide, replay
from isochrone.rules.where.chance import Chance
from isochrone.schema.digests import canonical, digest
from isochrone.schema.errors import InvalidInput
from isochrone.schema.where import WhereInputs

GOLDEN = "20bf7d2a0d44c4b4b5b822b691fc2f01fde3ab6713211b76f3972f3184dad96a"


def placed(made: WhereInputs) -> dict[str, dict[str, int]]:
    return {
        row.service: {made.sites[n].name: replicas for n, replicas in row.sites}
        for row in decide(made).services
    }


def test_the_near_site_goes_to_whom_it_matters_more() -> None:
    """One near place; one service misses everybody without it, the other is only slower."""
    sites = [site(0, cores=1, gateway=0), site(1, cores=4, gateway=1)]
    services = [service("hurried", objective_ms=40), service("patient", objective_ms=400)]
    for order in (services, services[::-1]):
        made = inputs(sites, order, client_ms=((10, 100),))
        assert placed(made) == {"hurried": {"site-0": 1}, "patient": {"site-1": 1}}


def test_a_higher_priority_is_placed_first() -> None:
    sites = [site(0, cores=1, gateway=0), site(1, cores=4, gateway=1)]
    services = [
        service("hurried", objective_ms=40),
        service("patient", objective_ms=400, priority=1),
    ]
    made = inputs(sites, services, client_ms=((10, 100),))
    assert placed(made) == {"hurried": {"site-1": 1}, "patient": {"site-0": 1}}


def test_never_all_on_one_provider_when_two_can_be_had() -> None:
    sites = [site(n, price=100, provider="cheap") for n in range(3)] + [site(3, price=9000)]
    made = inputs(sites, [service("spread", least=2, most=2)])
    assert "site-3" in placed(made)["spread"]


def test_a_gang_is_placed_whole_or_not_at_all() -> None:
    sites = [site(0, cores=1), site(1, cores=1)]
    three = service("gang", least=3, most=3, gang=True)
    assert placed(inputs(sites, [three])) == {"gang": {}}
    two = service("gang", least=2, most=2, gang=True)
    assert placed(inputs(sites, [two])) == {"gang": {"site-0": 1, "site-1": 1}}


def test_what_runs_stays_unless_moving_gains_more_than_it_costs() -> None:
    sites = [site(0, price=1000), site(1, price=900)]
    standing = service("standing", held=((0, 1),))
    assert placed(inputs(sites, [standing])) == {"standing": {"site-0": 1}}
    cheaper = [site(0, price=1000), site(1, price=500)]
    assert placed(inputs(cheaper, [standing])) == {"standing": {"site-1": 1}}


def test_a_shared_network_is_avoided_at_equal_price() -> None:
    sites = [site(0, network="one"), site(1, network="one"), site(2, network="two")]
    rows = placed(inputs(sites, [service("spread", least=2, most=2)], seed=3))
    assert "site-2" in rows["spread"]


def test_equal_sites_win_as_often_over_seeds() -> None:
    """Providers, not machines: one with three sites wins no more often than one with one."""
    sites = [site(n, provider="many") for n in range(3)] + [site(3, provider="single")]
    rows = [placed(inputs(sites, [service("any")], seed=seed))["any"] for seed in range(200)]
    single = sum("site-3" in row for row in rows)
    assert 75 <= single <= 125


def test_a_record_names_its_rule_and_another_is_refused() -> None:
    made = inputs([site(0)], [service("one")])
    decision = decide(made)
    assert (decision.rule, decision.inputs) == (RULE, digest(made))
    assert replay(canonical(decision), canonical(made)) == canonical(decision)
    foreign = msgspec.structs.replace(decision, rule="where/0")
    with pytest.raises(InvalidInput, match="where/0"):
        replay(canonical(foreign), canonical(made))


@pytest.mark.parametrize(
    "broken",
    [
        {"services": (service("one"), service("one"))},
        {"services": (service("one", claim=1),)},
        {"services": (service("one", audience=((7, 1),)),)},
        {"services": (service("one", held=((9, 1),)),)},
        {"services": (service("one", objective_ms=0),)},
        {"sites": (site(0), site(0))},
        {"client_us": ((1, 2),)},
        {"sites": (site(0, gateway=4),)},
    ],
)
def test_inputs_that_contradict_themselves_are_refused(broken: dict[str, object]) -> None:
    made = msgspec.structs.replace(inputs([site(0)], [service("one")]), **broken)
    with pytest.raises(InvalidInput):
        decide(made)


def test_nothing_to_place_and_nowhere_to_go() -> None:
    assert decide(inputs([site(0)], [])).services == ()
    nowhere = decide(inputs([], [service("one")]))
    assert nowhere.services[0].sites == ()
    assert nowhere.services[0].costs.short > 0


def test_draws_are_the_published_ones() -> None:
    """SplitMix64 from seed 1234567, the reference values of its first outputs."""
    chance = Chance(1234567)
    assert [chance.below(1 << 64) for _ in range(3)] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ]


def test_a_decision_of_this_rule_stays_the_same_for_years() -> None:
    """Another digest here means that old records do not replay: give the rule a new version."""
    sites = [
        site(n, price=700 + 130 * n, provider=f"provider-{n % 3}", cores=1 + n % 2, gateway=n % 2)
        for n in range(6)
    ]
    services = [
        service(
            f"service-{n}",
            least=1 + n % 2,
            most=3,
            objective_ms=30 + 20 * n,
            audience=((0, 300_000 + 100_000 * n), (1, 700_000 - 100_000 * n)),
            held=((n, 1),),
        )
        for n in range(4)
    ]
    made = inputs(sites, services, client_ms=((8, 45), (60, 12)))
    assert digest(decide(made)) == GOLDEN
