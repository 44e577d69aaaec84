"""Rewards: a fee is spent once, coverage knows no trade, and a pool pays at most what it has."""

from hypothesis import given
from hypothesis import strategies as st

from isochrone.rules.rewards import coverage_bps, fee_parts, payout_microusd, spread
from isochrone.schema.deployment import Terms

HOUR_MS = 3_600_000
amounts = st.integers(0, 10**12)
rates = st.integers(0, 10_000)


@given(amounts, amounts, rates)
def test_a_fee_is_spent_once(fee: int, need: int, share: int) -> None:
    parts = fee_parts(fee, need, Terms(validator_share_bps=share))
    three = (parts.validation_microusd, parts.pool_microusd, parts.rebate_microusd)
    assert sum(three) == fee
    assert min(three) >= 0
    assert parts.pool_microusd <= need


@given(amounts, amounts, st.integers(0, 10**15), st.integers(0, 100_000))
def test_a_pool_pays_at_most_a_unit_more_for_a_unit_more(
    pool: int, more: int, stood: int, price: int
) -> None:
    terms = Terms(standby_microusd_per_core_hour=price)
    before = payout_microusd(pool, stood, HOUR_MS, terms)
    after = payout_microusd(pool + more, stood, HOUR_MS, terms)
    assert 0 <= before <= pool
    assert 0 <= after - before <= more


@given(st.integers(0, 10**15), st.integers(0, 10**15))
def test_more_standby_covers_no_less_and_never_more_than_all(one: int, other: int) -> None:
    low, high = sorted((one, other))
    assert coverage_bps(low, HOUR_MS) <= coverage_bps(high, HOUR_MS) <= 10_000


audiences = st.dictionaries(st.sampled_from("abcde"), st.integers(1, 9), min_size=1).map(
    lambda weights: tuple(sorted(weights.items()))
)


@given(st.dictionaries(audiences, amounts), st.dictionaries(st.sampled_from("abcxyz"), amounts))
def test_every_contribution_lies_in_its_audience(
    contributions: dict[tuple[tuple[str, int], ...], int], pools: dict[str, int]
) -> None:
    filled = spread(contributions, pools)
    assert sum(filled.values()) == sum(pools.values()) + sum(contributions.values())
    places = {metro for audience in contributions for metro, _ in audience}
    assert all(filled.get(metro, 0) == pools[metro] for metro in pools.keys() - places)
