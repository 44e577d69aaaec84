"""Classes, sizes, deadlines; who fails by which works."""

from __future__ import annotations

import random
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from isochrone.rules.hardware import (
    ROWS_OPENED,
    WORKS_TO_FAIL,
    again,
    drawn_rows,
    finding,
    moments,
    recall_nonce,
    verified_class,
    work_seed,
)
from isochrone.rules.seeded_work import GROUP, WIDTHS
from isochrone.rules.work_budget import BUCKET_S, SHARE, Budget, allows, begun, spent
from isochrone.rules.work_sizes import (
    HIDEABLE,
    MEMORY_MIB_MIN,
    RECALL_SHARE,
    ROUND_TRIP_US_MAX,
    ROWS_MIN,
    WORK_US_MAX,
    WorkSize,
    absurdity,
    claimed_mflops,
    class_of,
    deadline_us,
    floor_mflops,
    mflops_of,
    net_us,
    recall_deadline_us,
    work_for,
)
from isochrone.schema.work import WorkAttestation, WorkClaim

SIZE = WorkSize(65_536, 1024)
speeds = st.integers(1, 2**32)
memories = st.integers(MEMORY_MIB_MIN, 1 << 20)


def attested(mflops: int, recall_share: float = 0.1, right: bool = True) -> WorkAttestation:
    """A work at a speed, recalled in that share of the time that it took."""
    elapsed_us = deadline_us(SIZE, mflops)
    return WorkAttestation(
        node="0xn", validator="0xv", account="0xa", at_unix_ms=0, rows=SIZE.rows, width=SIZE.width,
        elapsed_us=elapsed_us, recalled_us=int(elapsed_us * recall_share),
        memory_mib=SIZE.memory_mib, mflops=mflops_of(SIZE, elapsed_us), right=right, result=b"",
    )  # fmt: skip


# --- sizes ---------------------------------------------------------------------------------------


@given(st.integers(1, 2**31))
def test_a_class_is_half_an_octave(mflops: int) -> None:
    lowest = floor_mflops(class_of(mflops))
    assert lowest <= mflops
    if mflops >= 4:
        assert class_of(lowest) == class_of(mflops) == class_of(lowest - 1) + 1
        assert abs(floor_mflops(class_of(mflops) + 2) - 2 * lowest) <= 2


@given(st.integers(100, 2**30))
def test_the_next_weaker_class_misses_the_deadline(claimed: int) -> None:
    claim = floor_mflops(class_of(claimed))
    within_us = deadline_us(SIZE, claim)
    assert SIZE.flops / claim <= within_us
    assert SIZE.flops / (claim - 1) >= within_us - 1
    assert class_of(mflops_of(SIZE, within_us * 1415 // 1000)) < class_of(claim)


@given(st.integers(100, 2**30))
def test_an_honest_claim_has_room(measured: int) -> None:
    claim = claimed_mflops(measured)
    assert class_of(claim) == class_of(measured) - 1
    assert 1.35 < measured / claim < 2.1


@given(memories, speeds)
def test_a_work_fits_what_is_claimed(memory_mib: int, mflops: int) -> None:
    size = work_for(memory_mib, mflops)
    assert size is not None
    assert size.memory_mib <= memory_mib
    assert size.rows >= ROWS_MIN
    assert size.rows % GROUP == 0
    assert size.width in WIDTHS
    assert size.rows == ROWS_MIN or size.flops <= mflops * WORK_US_MAX
    assert not absurdity(bytes(16), size, memory_mib)
    if size.memory_mib < memory_mib // 2 and memory_mib > 256:  # more would take too long
        assert 2 * size.flops > mflops * WORK_US_MAX or size.rows == 1 << 25


def test_recomputing_half_misses_the_recall() -> None:
    """At every speed up to ``HIDEABLE`` times the claim, with nothing else to do."""
    claim = 70_000
    for true in (claim, int(claim * 1.42), 2 * claim, int(HIDEABLE * claim)):
        half_us = SIZE.flops // 2 // true
        assert half_us >= recall_deadline_us(SIZE, claim)
    assert SIZE.flops // 2 // (3 * claim) < recall_deadline_us(SIZE, claim)
    assert HIDEABLE == RECALL_SHARE / 2


@given(st.integers(1, 10**9), st.integers(-5, 10**9))
def test_a_round_trip_is_allowed_for_and_bounded(gross_us: int, rtt_us: int) -> None:
    assert 1 <= net_us(gross_us, rtt_us) <= gross_us
    assert net_us(gross_us, rtt_us) >= gross_us - ROUND_TRIP_US_MAX


@given(st.binary(max_size=40), st.integers(), st.integers(), st.integers(0, 1 << 20))
def test_what_a_stranger_orders_fits_or_is_refused(
    work: bytes, rows: int, width: int, memory_mib: int
) -> None:
    if absurdity(work, WorkSize(rows, width), memory_mib) == "":
        assert len(work) == 16
        assert rows * width * 2 <= memory_mib << 20


# --- verdicts ------------------------------------------------------------------------------------

CLAIM = WorkClaim(memory_mib=128, mflops=floor_mflops(33))
SLOW = floor_mflops(32)
FAST = floor_mflops(34)


@given(st.lists(st.booleans(), min_size=1, max_size=6), st.lists(st.booleans(), max_size=6))
def test_one_good_work_clears_whatever_noise_did(
    slow: Sequence[bool], late: Sequence[bool]
) -> None:
    noisy = [attested(SLOW if bad else FAST) for bad in slow]
    noisy += [attested(FAST, 0.9 if bad else 0.1) for bad in late]
    found = finding([*noisy, attested(FAST)], CLAIM)
    assert found.verdict == "ok"
    assert "p10/p50/p90" in found.note


def test_a_weaker_class_fails_after_repetition_and_not_before() -> None:
    for works in range(1, WORKS_TO_FAIL):
        assert finding([attested(SLOW)] * works, CLAIM).verdict == "unknown"
        assert again([attested(SLOW)] * works, CLAIM)
    assert finding([attested(SLOW)] * WORKS_TO_FAIL, CLAIM).verdict == "failed"
    assert not again([attested(SLOW)] * WORKS_TO_FAIL, CLAIM)


def test_memory_that_is_not_there_fails_after_repetition() -> None:
    late = attested(FAST, 0.5)  # half of the rows made again at its own speed
    assert finding([late] * 2, CLAIM).verdict == "unknown"
    assert finding([late] * 3, CLAIM).verdict == "failed"


def test_one_wrong_row_is_enough() -> None:
    assert finding([attested(FAST), attested(FAST, right=False)], CLAIM).verdict == "failed"
    assert not again([attested(FAST, right=False)], CLAIM)


def test_nothing_measured_is_unknown() -> None:
    assert finding([], CLAIM).verdict == "unknown"
    assert finding([attested(FAST)], None).verdict == "unknown"
    assert finding([attested(FAST)], WorkClaim(memory_mib=64, mflops=0)).verdict == "unknown"
    assert again([], CLAIM)
    assert not again([attested(FAST)], CLAIM)


def test_a_noisy_neighbour_shows_as_spread() -> None:
    chances = random.Random(4)
    quiet = verified_class([attested(100_000)] * 20, CLAIM)
    noisy = verified_class([attested(chances.choice([100_000, 45_000])) for _ in range(20)], CLAIM)
    assert quiet is not None
    assert noisy is not None
    assert quiet.mflops_p10 * 1.01 > quiet.mflops_p90
    assert noisy.mflops_p10 * 2 < noisy.mflops_p90
    assert quiet.device_class == 33
    assert quiet.memory_mib == SIZE.memory_mib
    assert verified_class([attested(FAST, right=False)], CLAIM) is None
    forgotten = verified_class([attested(FAST, 0.9)], CLAIM)
    assert forgotten is not None
    assert forgotten.memory_mib == 0


# --- chances -------------------------------------------------------------------------------------


@given(st.binary(min_size=32, max_size=32), st.integers(64, 1 << 25))
def test_rows_are_drawn_once_each_and_by_chance_alone(chance: bytes, rows: int) -> None:
    drawn = drawn_rows(chance, rows)
    assert len(set(drawn)) == ROWS_OPENED
    assert list(drawn) == sorted(drawn)
    assert 0 <= drawn[0] <= drawn[-1] < rows
    assert len({work_seed(chance), recall_nonce(chance), chance[:16]}) == 3


def test_all_validators_come_to_the_same_moments() -> None:
    first = moments("seed", 1_000, 61_000, 3)
    assert first == moments("seed", 1_000, 61_000, 3)
    assert first != moments("other", 1_000, 61_000, 3)
    assert first != moments("seed", 1_000, 61_000, 3, zone="frankfurt")
    assert all(1_000 + 20_000 * i <= at < 21_000 + 20_000 * i for i, at in enumerate(first))
    starts = [moments(str(n), 0, 1_000)[0] for n in range(2_000)]
    assert 450 < sum(starts) / len(starts) < 550


# --- the budget ----------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.integers(0, 15), st.floats(0, 2_000), st.floats(0.1, 12)), max_size=60)
)
def test_works_take_less_than_a_hundredth_of_the_time(
    asks: list[tuple[int, float, float]],
) -> None:
    budget, now_s, worked_s = Budget(), 0.0, 0.0
    for validator, pause_s, took_s in asks:
        now_s += pause_s
        if allows(budget, str(validator), now_s):
            budget = begun(budget, str(validator), now_s)
            now_s += took_s
            budget = spent(budget, took_s, now_s)
            worked_s += took_s
    assert worked_s <= BUCKET_S + SHARE * now_s + 12


def test_one_validator_cannot_empty_the_bucket() -> None:
    budget, now_s = Budget(), 0.0
    for _ in range(1_000):
        now_s += 30
        if allows(budget, "greedy", now_s):
            budget = spent(begun(budget, "greedy", now_s), 8.0, now_s + 8)
    assert allows(budget, "patient", now_s)
    assert not allows(begun(budget, "patient", now_s), "patient", now_s + 1)
