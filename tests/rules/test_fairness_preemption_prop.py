"""Preemption takes from those above their share alone, no more than needed, then it is quiet."""

from collections import Counter
from collections.abc import Mapping
from random import Random

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from tests.rules.fairness_cells import POOL, cells, over, pool, slots, wants

from isochrone.rules.fairness import Demand, entitled, order
from isochrone.rules.fairness_preemption import Victim, preempt
from isochrone.rules.fairness_room import Need, Rooms

seeds = st.integers(0, 2**32)
World = tuple[list[Demand], Rooms, Mapping[str, int]]


def without(demands: list[Demand], victims: tuple[Victim, ...]) -> list[Demand]:
    """The demands after the victims went."""
    gone = Counter((victim.service, victim.node) for victim in victims)
    return [
        msgspec.structs.replace(d, runs=tuple(node for node in d.runs if not gone[d.service, node]))
        for d in demands
    ]


def placed(
    demands: list[Demand], rooms: Rooms, weights: Mapping[str, int], seed: int
) -> list[Demand]:
    """One pass of fits in the fair order: each takes what is free, at most what it is due while
    others lack theirs."""
    fair = entitled(demands, rooms, weights, seed)
    trial = rooms.copy()
    for demand in demands:
        for node in demand.runs:
            trial.take(node, demand.need)
    after = {demand.service: demand for demand in demands}
    for service in order(demands, rooms, weights, seed):
        demand = after[service]
        runs = list(demand.runs)
        while len(runs) < (demand.wanted if demand.gang else min(demand.wanted, fair[service])):
            node = trial.best(demand.need, demand.nodes - set(runs))
            if node is None:
                break
            trial.take(node, demand.need)
            runs.append(node)
        if demand.gang and len(runs) < demand.wanted:
            for node in runs[len(demand.runs) :]:
                trial.give_back(node, demand.need)
            runs = list(demand.runs)
        after[service] = msgspec.structs.replace(demand, runs=tuple(runs))
    return [after[demand.service] for demand in demands]


@given(cells(), seeds)
def test_nobody_falls_below_its_fair_number_and_each_beneficiary_was_below(
    world: World, seed: int
) -> None:
    demands, rooms, weights = world
    fair = entitled(demands, rooms, weights, seed)
    victims = preempt(demands, rooms, fair, seed)
    runs = {demand.service: len(demand.runs) for demand in demands}
    lost = Counter(victim.service for victim in victims)
    for service, count in lost.items():
        assert runs[service] - count >= fair[service]
    for victim in victims:
        assert runs[victim.beneficiary] < fair[victim.beneficiary]
    assert not {v.beneficiary for v in victims} & set(lost)  # no cascade


@given(cells(), seeds)
def test_no_victim_could_be_left_out(world: World, seed: int) -> None:
    demands, rooms, weights = world
    fair = entitled(demands, rooms, weights, seed)
    victims = preempt(demands, rooms, fair, seed)
    of = {demand.service: demand for demand in demands}
    for spared in victims:
        mates = [v for v in victims if (v.node, v.beneficiary) == (spared.node, spared.beneficiary)]
        trial = rooms.copy()
        for demand in without(demands, tuple(v for v in mates if v != spared)):
            for node in demand.runs:
                trial.take(node, demand.need)
        assert not trial.fits(spared.node, of[spared.beneficiary].need)


@given(cells(), seeds)
def test_after_a_few_rounds_nothing_moves_any_more(world: World, seed: int) -> None:
    """Victims go, fits are made in the fair order, and again: it comes to rest."""
    demands, rooms, weights = world
    for _ in range(12):
        fair = entitled(demands, rooms, weights, seed)
        victims = preempt(demands, rooms, fair, seed)
        after = placed(without(demands, victims), rooms, weights, seed)
        if not victims and after == demands:
            return
        demands = after
    raise AssertionError("it never came to rest")


@given(cells(), seeds)
def test_who_is_leaving_already_is_not_chosen_again(world: World, seed: int) -> None:
    demands, rooms, weights = world
    fair = entitled(demands, rooms, weights, seed)
    victims = preempt(demands, rooms, fair, seed)
    assert preempt(demands, rooms, fair, seed, leaving=victims) == ()


@given(cells(), seeds, st.randoms(use_true_random=False))
def test_the_order_of_demands_changes_no_victim(world: World, seed: int, chance: Random) -> None:
    demands, rooms, weights = world
    fair = entitled(demands, rooms, weights, seed)
    victims = preempt(demands, rooms, fair, seed)
    assert preempt(chance.sample(demands, len(demands)), rooms, fair, seed) == victims


def test_two_who_could_have_the_same_place_are_served_by_a_draw_and_not_by_order() -> None:
    taken = over(2, "a", 2, runs=[0, 1])
    late = [over(1, "b", 1), over(1, "c", 1)]
    fair = {"a.asr": 0, "b.asr": 1, "c.asr": 1}
    heirs = set()
    for seed in range(20):
        made = [preempt([taken, *row], slots(2), fair, seed) for row in (late, late[::-1])]
        assert made[0] == made[1]
        heirs |= {victim.beneficiary for victim in made[0]}
    assert heirs == {"b.asr", "c.asr"}


def test_where_the_fewest_go_whatever_they_are_worth() -> None:
    """Two unimportant halves on one node, an important whole on another: one goes."""
    half, whole = Need(cpu_milli=500, memory_mib=1), Need(cpu_milli=1000, memory_mib=1)
    nodes = frozenset({"node-0", "node-1"})
    demands = [
        wants("a", 1, half, name="one", nodes=nodes, runs=("node-0",)),
        wants("a", 1, half, name="two", nodes=nodes, runs=("node-0",)),
        wants("a", 1, whole, name="big", nodes=nodes, runs=("node-1",), priority=9),
        wants("b", 1, whole, nodes=nodes, per_node=1),
    ]
    fair = {"a.one": 0, "a.two": 0, "a.big": 0, "b.asr": 1}
    for seed in range(8):
        (victim,) = preempt(demands, slots(2), fair, seed)
        assert victim.service == "a.big"


def test_of_equals_on_one_node_the_least_urgent_goes() -> None:
    half = Need(cpu_milli=500, memory_mib=1)
    demands = [
        wants("a", 1, half, name="dear", nodes=frozenset({"node-0"}), runs=("node-0",), priority=8),
        wants("a", 1, half, name="cheap", nodes=frozenset({"node-0"}), runs=("node-0",)),
        wants("b", 1, half, nodes=frozenset({"node-0"})),
    ]
    fair = {"a.dear": 0, "a.cheap": 0, "b.asr": 1}
    for seed in range(8):
        (victim,) = preempt(demands, slots(1), fair, seed)
        assert victim.service == "a.cheap"


def test_a_late_tenant_gets_half_and_only_what_it_lacks_goes() -> None:
    demands = [over(4, "a", 4, runs=[0, 1, 2, 3]), over(4, "b", 4)]
    fair = entitled(demands, slots(4), {}, 1)
    victims = preempt(demands, slots(4), fair, 1)
    assert fair == {"a.asr": 2, "b.asr": 2}
    assert {(v.service, v.beneficiary) for v in victims} == {("a.asr", "b.asr")}
    assert len(victims) == 2


def test_nobody_goes_while_there_is_room() -> None:
    demands = [over(6, "a", 4, runs=[0, 1, 2, 3]), over(6, "b", 2)]
    assert preempt(demands, slots(6), entitled(demands, slots(6), {}, 1), 1) == ()


def test_of_what_is_above_its_share_the_least_urgent_goes_first() -> None:
    demands = [
        over(4, "a", 2, runs=[0, 1], name="dear", priority=8),
        over(4, "a", 2, runs=[2, 3], name="cheap", priority=2),
        over(4, "b", 1),
    ]
    fair = entitled(demands, slots(4), {}, 1)
    (victim,) = preempt(demands, slots(4), fair, 1)
    assert victim.service == "a.cheap"


def test_a_small_one_does_not_go_when_the_large_one_must_anyway() -> None:
    small = wants("a", 1, Need(cpu_milli=500), name="small", runs=(POOL,))
    large = wants("a", 1, Need(cpu_milli=3500), name="large", runs=(POOL,), priority=5)
    late = wants("b", 1, Need(cpu_milli=3500))
    demands, fair = [small, large, late], {"a.small": 0, "a.large": 0, "b.asr": 1}
    (victim,) = preempt(demands, pool(4000, 1), fair, 1)
    assert victim.service == "a.large"


def test_one_tenants_own_urgent_service_takes_its_other_ones_place() -> None:
    demands = [over(2, "a", 2, runs=[0, 1], name="low"), over(2, "a", 1, name="high", priority=3)]
    (victim,) = preempt(demands, slots(2), entitled(demands, slots(2), {}, 1), 1)
    assert (victim.service, victim.beneficiary) == ("a.low", "a.high")


def test_half_a_gang_is_no_reason_to_end_anybody() -> None:
    """The gang needs three nodes and may be on two only."""
    demands = [over(4, "a", 4, runs=[0, 1, 2, 3]), over(2, "b", 3, gang=True)]
    fair = entitled(demands, slots(4), {}, 1)
    assert fair["b.asr"] == 0
    assert preempt(demands, slots(4), fair | {"b.asr": 3}, 1) == ()
