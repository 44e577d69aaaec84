"""The order of tries: what holds for every fleet, load and seed."""

import os
import subprocess
import sys
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from tests.rules.routes import candidate, route_candidates
from tests.rules.test_residency_prop import BLOCS, COUNTRIES, naive, residencies

from isochrone.rules.residency import admits
from isochrone.rules.routing import (
    HEDGE_MAX_MS,
    HEDGE_MIN_MS,
    SHORTLIST_MS,
    SHORTLIST_RATIO,
    STRANGER_MS,
    STRANGER_RATIO,
    RouteCandidate,
    hedge_after_ms,
    queue_ms,
    rank,
    score_ms,
)
from isochrone.schema.place import Whereabouts
from isochrone.schema.service import Residency

seeds = st.integers(0, 2**40)


@given(route_candidates(), seeds)
def test_every_legal_replica_is_tried_once_and_no_other(
    fleet: list[RouteCandidate], seed: int
) -> None:
    legal = [index for index, row in enumerate(fleet) if row.legal]
    assert sorted(rank(fleet, seed)) == legal


@given(residencies, st.lists(st.sampled_from(COUNTRIES), max_size=8), seeds)
def test_no_try_escapes_the_mask(residency: Residency, places: list[str], seed: int) -> None:
    """Route and every retry and hedge after it: the whole order stays inside."""
    fleet = [
        candidate(f"n{i}", legal=admits(residency, Whereabouts(country=country), BLOCS))
        for i, country in enumerate(places)
    ]
    where = [Whereabouts(country=country) for country in places]
    assert all(naive(residency, where[i]) for i in rank(fleet, seed))


@given(route_candidates(), seeds)
def test_suspects_come_last(fleet: list[RouteCandidate], seed: int) -> None:
    suspicion = [fleet[index].suspect for index in rank(fleet, seed)]
    assert suspicion == sorted(suspicion)


def usable(fleet: list[RouteCandidate], seed: int) -> list[RouteCandidate]:
    return [fleet[index] for index in rank(fleet, seed) if not fleet[index].suspect]


@given(route_candidates(), seeds)
def test_the_first_is_about_as_good_as_the_best(fleet: list[RouteCandidate], seed: int) -> None:
    rows = usable(fleet, seed)
    if rows:
        best_ms = min(score_ms(row) for row in rows)
        assert score_ms(rows[0]) <= best_ms * SHORTLIST_RATIO + SHORTLIST_MS


@given(route_candidates(), seeds)
def test_the_most_loaded_of_the_shortlist_is_never_first(
    fleet: list[RouteCandidate], seed: int
) -> None:
    rows = usable(fleet, seed)
    if len(rows) < 2:
        return
    limit_ms = min(map(score_ms, rows)) * SHORTLIST_RATIO + SHORTLIST_MS
    queues = sorted(queue_ms(row) for row in rows if score_ms(row) <= limit_ms)
    if len(queues) > 1 and queues[-1] > queues[-2]:
        assert queue_ms(rows[0]) < queues[-1]


@given(route_candidates(), seeds)
def test_the_second_is_another_node_and_preferably_a_stranger(
    fleet: list[RouteCandidate], seed: int
) -> None:
    rows = usable(fleet, seed)
    others = [row for row in rows[1:] if row.node != rows[0].node]
    if not others:
        return
    second = rows[1]
    assert second.node != rows[0].node
    best_ms = min(map(score_ms, others))
    near = [row for row in others if score_ms(row) <= best_ms * STRANGER_RATIO + STRANGER_MS]
    strangers = [row for row in near if row.provider != rows[0].provider]
    assert second.provider != rows[0].provider or not strangers
    assert score_ms(second) == min(map(score_ms, strangers or others))


@given(route_candidates(), seeds)
def test_equal_arguments_give_an_equal_order(fleet: list[RouteCandidate], seed: int) -> None:
    assert rank(fleet, seed) == rank(tuple(fleet), seed)


@given(route_candidates())
def test_a_hedge_is_never_too_early_nor_too_late(fleet: list[RouteCandidate]) -> None:
    for row in fleet:
        assert HEDGE_MIN_MS <= hedge_after_ms(row) <= HEDGE_MAX_MS
        assert hedge_after_ms(row) in (HEDGE_MIN_MS, HEDGE_MAX_MS) or hedge_after_ms(
            row
        ) > score_ms(row)


def orders() -> list[list[int]]:
    fleet = [
        candidate(f"n{i}", provider=f"p{i % 3}", rtt_ms=10.0 + i / 4, in_flight=i % 3)
        for i in range(9)
    ]
    return [rank(fleet, seed) for seed in range(200)]


def test_a_fresh_process_with_another_hash_seed_gives_the_same_orders() -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"from {__name__} import orders; print(orders())"],
        capture_output=True,
        check=True,
        timeout=60,
        cwd=Path(__file__).parents[2],
        env={"PYTHONHASHSEED": "4711", "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.stdout.decode() == f"{orders()}\n"
    assert len({order[0] for order in orders()}) == 3, "the seed must change the order"
