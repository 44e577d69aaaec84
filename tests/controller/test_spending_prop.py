"""The bound on vouchers: examples that stand in its docstrings, and what holds for any history."""

from __future__ import annotations

import doctest

from hypothesis import given
from hypothesis import strategies as st

from isochrone.controller import spending
from isochrone.controller.spending import (
    Spending,
    accrued,
    bound_microusd,
    granted,
    plausible_microusd,
)
from isochrone.schema.deployment import Terms
from isochrone.schema.settling import VoucherRequest

TERMS = Terms()


def test_the_worked_examples_hold() -> None:
    tried = doctest.testmod(spending)
    assert tried.attempted >= 7
    assert tried.failed == 0


def asked(cumulative: int, redeemed: int = 0) -> VoucherRequest:
    return VoucherRequest(
        service="s", epoch=1, cumulative_microusd=cumulative, redeemed_microusd=redeemed
    )


looks = st.lists(
    st.tuples(
        st.lists(st.integers(0, 10**7), max_size=4),
        st.integers(0, 60_000),
        st.integers(0, 10**12),
        st.integers(0, 10**6),
    ),
    max_size=12,
)


@given(looks)
def test_signed_amounts_only_grow_and_stay_within_what_was_used(
    history: list[tuple[list[int], int, int, int]],
) -> None:
    known = Spending()
    base, begun = 0, False
    price_ms = replica_ms = 0
    for prices, elapsed_ms, cumulative, redeemed in history:
        known = accrued(known, prices, elapsed_ms)
        price_ms += sum(prices) * elapsed_ms
        replica_ms += len(prices) * elapsed_ms
        before = known.signed_microusd
        if not begun:
            most = plausible_microusd(known, TERMS)
            base, begun = min(redeemed, most), redeemed <= most
        known = granted(known, asked(cumulative, redeemed), TERMS)
        assert (known.base_microusd, known.begun) == (base, begun)
        assert known.signed_microusd >= before
        most = price_ms + sum(prices) * spending.SLACK_MS
        relays = (
            (replica_ms + len(prices) * spending.SLACK_MS)
            * spending.RELAY_REQUESTS_PER_S_MAX
            // 1000
        )
        limit = base + most * 1.02 / 3_600_000 + relays * 0.2 + spending.ROUNDING_MICROUSD + 3
        assert known.signed_microusd <= max(before, limit)
        assert known.signed_microusd <= max(before, cumulative)


@given(st.lists(st.integers(0, 10**7), min_size=1, max_size=5), st.integers(1, 3_600_000))
def test_the_bound_covers_every_honest_charge(prices: list[int], elapsed_ms: int) -> None:
    """What settlement charges for replicas that served all the time: use, fee and relays."""
    known = accrued(Spending(), prices, elapsed_ms)
    requests = elapsed_ms * 150 // 1000 * len(prices)
    use = sum(price * elapsed_ms // 3_600_000 for price in prices)
    fee = -(-use * TERMS.fee_bps // 10_000)
    relay = -(-requests * TERMS.relay_nanousd_per_request // 1000)
    charge = use + fee + relay
    assert granted(known, asked(charge), TERMS).signed_microusd == charge


def test_a_pause_is_counted_only_up_to_an_hour() -> None:
    day = accrued(Spending(), (1000,), 24 * 3_600_000)
    assert day.price_ms == 1000 * spending.GAP_MS_MAX
    assert accrued(Spending(), (1000,), -5).price_ms == 0, "a clock set back takes nothing away"


def test_the_first_request_tells_where_the_chain_stands() -> None:
    known = accrued(Spending(), (3_600_000,), 1000)
    first = granted(known, asked(10**9, redeemed=5_000), TERMS)
    assert first.base_microusd == 5_000
    again = granted(first, asked(10**9, redeemed=10**8), TERMS)
    assert again.base_microusd == 5_000
    assert bound_microusd(again, TERMS) == bound_microusd(first, TERMS)


def test_more_than_a_year_of_the_most_there_was_is_not_believed() -> None:
    known = accrued(accrued(Spending(), (3_000, 1_000), 10), (), 10)  # the replicas are gone again
    most = plausible_microusd(known, Terms(relay_nanousd_per_request=0))
    assert most == 365 * 24 * 4_000 * 102 // 100 + spending.ROUNDING_MICROUSD
    free = Terms(relay_nanousd_per_request=0)
    lied = granted(known, asked(10**15, redeemed=most + 1), free)
    assert (lied.base_microusd, lied.begun) == (most, False)
    grown = accrued(lied, (3_000, 1_000, 5_000), 10)
    honest = granted(grown, asked(10**15, redeemed=most + 1), free)
    assert (honest.base_microusd, honest.begun) == (most + 1, True)
    assert granted(honest, asked(10**15, redeemed=10**9), free).base_microusd == most + 1
