"""One number: what rewards pay standby for, and what a planner says a further site would add."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from isochrone.rules.coverage_gain import WHOLE_BPS, coverage_bps, gain_bps
from isochrone.rules.coverage_order import gains
from isochrone.rules.rewards import STANDBY_FULL_CPU_MILLI, payout_microusd, spread
from isochrone.schema.deployment import Terms

EPOCH_MS = 3_600_000

supplies = st.integers(0, 10**12)


@given(st.lists(supplies, max_size=6), st.integers(1, 10**12))
def test_gains_one_after_another_are_the_coverage_together(more: list[int], full: int) -> None:
    standing, gained = 0, 0
    for one in more:
        gained += gain_bps(standing, one, full)
        standing += one
    assert gained == coverage_bps(sum(more), full) <= WHOLE_BPS


@given(supplies, supplies, st.integers(0, 10**9), st.integers(1, 10**9))
def test_whoever_comes_later_gains_at_most_a_rounding_more(
    have: int, later: int, more: int, full: int
) -> None:
    first, second = sorted((have, have + later))
    assert gain_bps(second, more, full) <= gain_bps(first, more, full) + 1


def test_a_pool_pays_what_the_planner_says_a_site_adds() -> None:
    """An audience that only its own metro can serve in time: the planner's shares are the pools'.

    Fees are spread over the audience; a metro without standby then pays a whole machine exactly
    the share of the fees that the planner says a site there would add.
    """
    audience = (("lyon", 25), ("paris", 75))
    pools = spread({audience: 1_000_000}, {})
    weights = np.array([weight for _, weight in audience], dtype=np.int64)
    own_metro_only = np.eye(2, dtype=np.bool_)
    added = gains(weights, own_metro_only, np.zeros(2, dtype=np.int64))
    terms = Terms(standby_microusd_per_core_hour=10**9)  # no top price in the way
    for (metro, _), share in zip(audience, added.tolist(), strict=True):
        machine = STANDBY_FULL_CPU_MILLI * EPOCH_MS
        paid = payout_microusd(pools[metro], machine, EPOCH_MS, terms)
        assert paid == 1_000_000 * share // 100
    # Where one machine stands already, neither the pool nor the planner gives for another.
    assert gains(weights, own_metro_only, np.array([1, 0], dtype=np.int64)).tolist() == [0, 75]
    covered = payout_microusd(pools["lyon"], machine, EPOCH_MS, terms)
    assert payout_microusd(pools["lyon"], 2 * machine, EPOCH_MS, terms) == covered
