"""What the fairness between tenants promises, in the model that its docstring states."""

import random
from collections import Counter
from collections.abc import Mapping
from fractions import Fraction

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from tests.rules.fairness_cells import cells, needs, over, pool, pools, slots, wants

from isochrone.rules.fairness import Demand, entitled, order
from isochrone.rules.fairness_room import Need, Rooms

seeds = st.integers(0, 2**32)
World = tuple[list[Demand], Rooms, Mapping[str, int]]


def share(demand: Demand, count: int, rooms: Rooms, weight: int) -> Fraction:
    return max(
        Fraction(amount * count, weight * rooms.total(name))
        for name, amount in demand.need.amounts().items()
    )


def left(demands: list[Demand], rooms: Rooms, got: Mapping[str, int]) -> dict[str, int]:
    used = {"cpu": 0, "memory": 0}
    for demand in demands:
        for name, amount in demand.need.amounts().items():
            used[name] += amount * got[demand.service]
    return {name: rooms.total(name) - amount for name, amount in used.items()}


@given(pools(), seeds)
def test_nothing_lies_idle_that_somebody_wants_and_can_use(world: World, seed: int) -> None:
    demands, rooms, weights = world
    got = entitled(demands, rooms, weights, seed)
    rest = left(demands, rooms, got)
    assert all(amount >= 0 for amount in rest.values())
    for demand in demands:
        assert got[demand.service] <= demand.wanted
        if got[demand.service] < demand.wanted:
            assert any(rest[name] < amount for name, amount in demand.need.amounts().items())


@given(pools(), seeds)
def test_no_envy_beyond_one_replica(world: World, seed: int) -> None:
    """Who lacks something, and could use what another one's last replica occupied, is at most that
    replica's share below it."""
    demands, rooms, weights = world
    got = entitled(demands, rooms, weights, seed)
    rest = left(demands, rooms, got)
    for poor in (d for d in demands if got[d.service] < d.wanted):
        for rich in (d for d in demands if d is not poor and got[d.service]):
            freed = {n: rest[n] + rich.need.amounts()[n] for n in rest}
            if any(freed[n] < amount for n, amount in poor.need.amounts().items()):
                continue  # the other's last replica would be of no use to it
            has = share(poor, got[poor.service], rooms, weights[poor.tenant])
            before = share(rich, got[rich.service] - 1, rooms, weights[rich.tenant])
            assert before <= has


@given(st.integers(1, 40), st.lists(st.integers(1, 4), min_size=2, max_size=5), seeds)
def test_with_equal_replicas_each_tenant_gets_its_weight_within_one(
    count: int, weight: list[int], seed: int
) -> None:
    weights = {f"tenant-{n}": w for n, w in enumerate(weight)}
    got = entitled([over(count, t, count) for t in weights], slots(count), weights, seed)
    assert sum(got.values()) == count
    for one in weights:
        for two in weights:
            a, b = got[f"{one}.asr"], got[f"{two}.asr"]
            assert Fraction(a - 1, weights[one]) <= Fraction(b, weights[two])


def places(liar: Demand, others: list[Demand]) -> int:
    """How many of one's own replicas the place of another tenant's holds when it does not fit any
    more, by the resource that holds most: of the largest."""
    own = liar.need.amounts()
    return max(
        (
            (amount - 1) // own[name]
            for other in others
            if other.wanted
            for name, amount in other.need.amounts().items()
            if own[name]
        ),
        default=0,
    )


def split_gain(demands: list[Demand], rooms: Rooms, weights: Mapping[str, int], seed: int) -> int:
    """What the first tenant gains by being k accounts, k its weight, that each ask for all."""
    whole, *others = demands
    count = weights[whole.tenant]
    parts = [wants(f"part-{n}", whole.wanted, whole.need) for n in range(count)]
    honest = entitled(demands, rooms, weights, seed)[whole.service]
    alone = {part.tenant: 1 for part in parts}
    split = entitled([*others, *parts], rooms, {**weights, **alone}, seed)
    return min(whole.wanted, sum(split[part.service] for part in parts)) - honest


@given(pools(), seeds, st.integers(2, 5))
def test_k_accounts_gain_at_most_k_replicas_and_anothers_place(
    world: World, seed: int, count: int
) -> None:
    demands, rooms, weights = world
    gain = split_gain(demands, rooms, {**weights, demands[0].tenant: count}, seed)
    assert gain <= count + places(demands[0], demands[1:])


@given(pools(), seeds, st.integers(2, 5))
def test_of_equal_replicas_k_accounts_gain_at_most_k(world: World, seed: int, count: int) -> None:
    demands, rooms, weights = world
    equal = [msgspec.structs.replace(demand, need=demands[0].need) for demand in demands]
    assert split_gain(equal, rooms, {**weights, demands[0].tenant: count}, seed) <= count


@given(pools(), seeds, st.integers(1, 30))
def test_asking_for_more_than_is_of_use_gains_nothing(world: World, seed: int, more: int) -> None:
    demands, rooms, weights = world
    liar, *others = demands
    lie = msgspec.structs.replace(liar, wanted=liar.wanted + more)
    got = entitled([lie, *others], rooms, weights, seed)[liar.service]
    assert min(got, liar.wanted) == entitled(demands, rooms, weights, seed)[liar.service]


@given(pools(), seeds, needs)
def test_misreporting_a_need_gains_at_most_one_replica_as_claimed_and_anothers_place(
    world: World, seed: int, said: Need
) -> None:
    demands, rooms, weights = world
    liar, *others = demands
    lie = msgspec.structs.replace(liar, need=said, wanted=liar.wanted + 5)
    honest = entitled(demands, rooms, weights, seed)[liar.service]
    got = entitled([lie, *others], rooms, weights, seed)[liar.service]
    real, claimed = liar.need.amounts(), said.amounts()
    useful = min(claimed[name] * got // real[name] for name in real if real[name])
    one = max(-(-claimed[name] // real[name]) for name in real if real[name])
    assert min(useful, liar.wanted) - honest <= one + places(liar, others)


def test_a_split_in_two_seldom_gains_more_than_one_replica_and_most_lies_lose() -> None:
    """How often, over 400 pools of four tenants with replicas of any size."""
    chance, gains, lies = random.Random(5), Counter[int](), Counter[int]()

    def need() -> Need:
        return Need(cpu_milli=100 * chance.randint(1, 40), memory_mib=chance.randint(1, 4000))

    for seed in range(400):
        demands = [wants(f"tenant-{n}", chance.randint(1, 30), need()) for n in range(4)]
        rooms = pool(chance.randint(1, 40) * 1000, chance.randint(1, 40) * 1000)
        weights = {demand.tenant: 2 for demand in demands}
        gains[split_gain(demands, rooms, weights, seed)] += 1
        lie = msgspec.structs.replace(demands[0], need=need())
        real, claimed = demands[0].need.amounts(), lie.need.amounts()
        got = entitled([lie, *demands[1:]], rooms, weights, seed)[lie.service]
        useful = min(claimed[name] * got // real[name] for name in ("cpu", "memory"))
        honest = entitled(demands, rooms, weights, seed)[lie.service]
        lies[min(useful, lie.wanted) - honest] += 1
    assert sum(count for gain, count in gains.items() if gain > 1) <= 20, gains
    assert sum(count for gain, count in lies.items() if gain > 0) <= 20, lies


@given(cells(), seeds, st.randoms(use_true_random=False))
def test_the_order_of_demands_changes_nothing(world: World, seed: int, chance: object) -> None:
    demands, rooms, weights = world
    other = list(demands)
    chance.shuffle(other)  # type: ignore[attr-defined]
    assert entitled(other, rooms, weights, seed) == entitled(demands, rooms, weights, seed)
    assert order(other, rooms, weights, seed) == order(demands, rooms, weights, seed)


@given(cells(), seeds)
def test_gangs_are_whole_and_priorities_order_a_tenants_own(world: World, seed: int) -> None:
    demands, rooms, weights = world
    got = entitled(demands, rooms, weights, seed)
    for demand in demands:
        assert got[demand.service] in (
            (0, demand.wanted) if demand.gang else range(demand.wanted + 1)
        )


@given(st.integers(1, 10), seeds)
def test_the_higher_of_one_tenants_services_is_served_first(count: int, seed: int) -> None:
    high = over(count, "a", count, name="high", priority=7)
    low = over(count, "a", count, name="low", runs=range(count))
    got = entitled([low, high], slots(count), {}, seed)
    assert got == {"a.high": count, "a.low": 0}


def test_priority_counts_nothing_between_tenants() -> None:
    demands = [over(10, "a", 10, priority=9), over(10, "b", 10)]
    assert entitled(demands, slots(10), {}, 3) == {"a.asr": 5, "b.asr": 5}


def test_the_example_of_the_paper() -> None:
    """9 cores and 18 GB; A's tasks take 1 core and 4 GB, B's 3 cores and 1 GB: 3 and 2 tasks."""
    demands = [
        wants("a", 9, Need(cpu_milli=1000, memory_mib=4000)),
        wants("b", 9, Need(cpu_milli=3000, memory_mib=1000)),
    ]
    for seed in range(8):
        assert entitled(demands, pool(9000, 18000), {}, seed) == {"a.asr": 3, "b.asr": 2}


def test_a_big_demand_that_does_not_fit_blocks_nobody() -> None:
    big = wants("a", 3, Need(cpu_milli=50_000, memory_mib=1), name="big")
    small = wants("a", 3, Need(cpu_milli=1000, memory_mib=1), name="small")
    other = wants("b", 3, Need(cpu_milli=1000, memory_mib=1))
    got = entitled([big, small, other], pool(8000, 8000), {}, 1)
    assert got == {"a.big": 0, "a.small": 3, "b.asr": 3}


def test_a_named_gpu_is_its_own_scarcity() -> None:
    """Ten T4 and no core to speak of: cores are not what the two compete for."""
    need = Need(cpu_milli=1, memory_mib=1, gpu_count=1, gpu="T4")
    half = Need(cpu_milli=1, memory_mib=1, gpu_count=1, gpu_milli=500)
    got = entitled([wants("a", 99, need), wants("b", 99, half)], pool(10**6, 10**6, 10), {}, 1)
    assert got == {"a.asr": 5, "b.asr": 10}


def test_who_runs_wins_a_tie_and_equals_win_equally_often() -> None:
    for seed in range(20):
        demands = [over(5, "a", 5, runs=[0, 1, 2]), over(5, "b", 5, runs=[3, 4])]
        assert entitled(demands, slots(5), {}, seed) == {"a.asr": 3, "b.asr": 2}
    fresh = [over(5, "a", 5), over(5, "b", 5)]
    wins = sum(entitled(fresh, slots(5), {}, seed)["a.asr"] == 3 for seed in range(400))
    assert 140 <= wins <= 260  # six standard deviations around half


def test_the_order_follows_what_runs() -> None:
    demands = [
        over(9, "a", 9, runs=[0, 1, 2, 3]),
        over(9, "b", 9, name="low"),
        over(9, "b", 9, name="high", priority=5),
        over(9, "c", 9, runs=[4]),
    ]
    assert order(demands, slots(9), {}, 1) == ["b.high", "b.low", "c.asr", "a.asr"]
    rich = order(demands, slots(9), {"a": 100}, 1)
    assert rich.index("a.asr") < rich.index("c.asr")
