"""Routing: shares between equals, links that slow down, second tries, and what ranking costs."""

import timeit
from collections import Counter

from tests.rules.routes import candidate

from isochrone.rules.routing import HEDGE_MAX_MS, HEDGE_MIN_MS, hedge_after_ms, rank, score_ms


def test_idle_equals_share_the_work() -> None:
    fleet = [candidate(name) for name in ("a", "b", "c")]
    firsts = Counter(rank(fleet, seed)[0] for seed in range(3000))
    assert set(firsts) == {0, 1, 2}
    assert min(firsts.values()) > 900


def test_of_two_the_less_loaded_is_first() -> None:
    fleet = [candidate("a", in_flight=1, service_ms=1.0), candidate("b", service_ms=1.0)]
    assert {rank(fleet, seed)[0] for seed in range(50)} == {1}


def test_a_link_that_slows_down_loses_its_traffic() -> None:
    near, far = candidate("near", rtt_ms=2.0), candidate("far", rtt_ms=30.0)
    assert {rank([near, far], seed)[0] for seed in range(50)} == {0}
    slowed = candidate("near", rtt_ms=200.0)
    assert {rank([slowed, far], seed)[0] for seed in range(50)} == {1}


def test_a_queue_outweighs_distance() -> None:
    near = candidate("near", rtt_ms=2.0, in_flight=20, service_ms=10.0)
    far = candidate("far", rtt_ms=30.0, service_ms=10.0)
    assert rank([near, far], 1)[0] == 1
    assert score_ms(near) == 2.0 + 200.0 + 10.0


def test_more_workers_shorten_the_queue() -> None:
    assert score_ms(candidate("a", in_flight=4, concurrency=4)) == 10.0 + 5.0 + 5.0


def test_the_second_try_is_a_stranger_when_one_is_near() -> None:
    fleet = [
        candidate("a", "alder", rtt_ms=2.0),
        candidate("b", "alder", rtt_ms=12.0),
        candidate("c", "birch", rtt_ms=30.0),
    ]
    assert rank(fleet, 5) == [0, 2, 1]


def test_the_second_try_does_not_cross_an_ocean_to_find_a_stranger() -> None:
    fleet = [
        candidate("a", "alder", rtt_ms=2.0),
        candidate("b", "alder", rtt_ms=12.0),
        candidate("c", "birch", rtt_ms=160.0),
    ]
    assert rank(fleet, 5) == [0, 1, 2]


def test_two_replicas_of_one_node_are_no_second_chance() -> None:
    twin = candidate("a", rtt_ms=2.1)
    fleet = [candidate("a", rtt_ms=2.0), twin, candidate("b", rtt_ms=50.0)]
    assert rank(fleet, 3)[1] == 2


def test_suspects_are_used_when_nothing_else_is_left() -> None:
    fleet = [candidate("a", suspect=True), candidate("b", legal=False)]
    assert rank(fleet, 1) == [0]
    assert rank([], 1) == []


def test_hedges_follow_the_replicas_own_times() -> None:
    assert hedge_after_ms(candidate("quick", rtt_ms=1.0, service_ms=1.0)) == HEDGE_MIN_MS
    assert hedge_after_ms(candidate("far", rtt_ms=150.0)) == 1.5 * 155.0
    assert hedge_after_ms(candidate("slow", service_ms=5000.0)) == HEDGE_MAX_MS
    unsteady = candidate("unsteady", rtt_ms=50.0, deviation_ms=20.0)
    assert hedge_after_ms(unsteady) == 1.5 * (55.0 + 80.0)


def test_ranking_five_costs_microseconds() -> None:
    """3 µs when written; 15 is the promise. The best of many runs is not the neighbours' noise."""
    fleet = [candidate(str(i), "ab"[i % 2], rtt_ms=10 + 0.3 * i, in_flight=i % 2) for i in range(5)]
    best_s = min(timeit.repeat(lambda: rank(fleet, 7), number=200, repeat=25)) / 200
    assert best_s * 1e6 < 15.0
