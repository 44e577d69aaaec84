"""The greedy order against its plain definition, and against the best set of all."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from isochrone.rules.coverage_order import gains, order


@st.composite
def worlds(draw: st.DrawFn) -> tuple[np.ndarray, list[np.ndarray]]:
    points, sites = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    weights = np.array(draw(st.lists(st.integers(0, 9), min_size=points, max_size=points)))
    bits = st.lists(st.booleans(), min_size=points * sites, max_size=points * sites)
    near = np.array(draw(bits), dtype=np.bool_).reshape(points, sites)
    far = near | np.array(draw(bits), dtype=np.bool_).reshape(points, sites)
    return weights.astype(np.int64), [near, far]


def covered(weights: np.ndarray, reaches: list[np.ndarray], chosen: list[int]) -> int:
    return sum(int(weights[reach[:, chosen].any(axis=1)].sum()) for reach in reaches)


@given(worlds(), st.integers(0, 5))
def test_each_site_is_the_first_of_those_that_add_most(
    world: tuple[np.ndarray, list[np.ndarray]], count: int
) -> None:
    weights, reaches = world
    chosen = order(weights, reaches, count)
    for position, site in enumerate(chosen):
        before = chosen[:position]
        standing = covered(weights, reaches, before)
        added = [
            covered(weights, reaches, [*before, n]) - standing if n not in before else 0
            for n in range(reaches[0].shape[1])
        ]
        assert site == added.index(max(added))
        assert max(added) > 0


@given(worlds(), st.integers(1, 4))
def test_it_covers_at_least_the_classic_share_of_the_best_set(
    world: tuple[np.ndarray, list[np.ndarray]], count: int
) -> None:
    weights, reaches = world
    sites = range(reaches[0].shape[1])
    best = max(
        covered(weights, reaches, list(some))
        for some in combinations(sites, min(count, len(sites)))
    )
    assert covered(weights, reaches, order(weights, reaches, count)) >= (1 - 1 / np.e) * best


@given(worlds())
def test_what_is_reached_already_adds_nothing(
    world: tuple[np.ndarray, list[np.ndarray]],
) -> None:
    weights, (near, _) = world
    supply = near[:, :1].sum(axis=1).astype(np.int64)  # the first site stands
    added = gains(weights, near, supply)
    for site in range(near.shape[1]):
        both = covered(weights, [near], [0, site])
        assert added[site] == both - covered(weights, [near], [0])
    assert 0 not in order(weights, [near], 9, start=(0,))
