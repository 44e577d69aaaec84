"""A round trip is never under-estimated, whatever one of the clocks does meanwhile."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from isochrone.wire.probing_burst import (
    CLOCKS_APART_MAX_NS,
    STAMP_LAG_MAX_NS,
    Instant,
    round_trip_ns,
)

TRUE_NS = st.integers(1, 400_000_000)
LATE_NS = st.integers(0, 20_000_000)
STEP_NS = st.one_of(
    st.just(0), st.integers(-60_000, 60_000), st.integers(-(10**12), 10**12)
)  # none, about the tolerance, anything
MOMENT = st.sampled_from(["before the stamp", "after the stamp"])


@given(TRUE_NS, LATE_NS, LATE_NS, STEP_NS, MOMENT, st.booleans())
@example(1, 0, 0, -CLOCKS_APART_MAX_NS, "before the stamp", True)
@example(1_000_000, 0, 0, -CLOCKS_APART_MAX_NS, "before the stamp", True)
@example(1_000_000, 0, STAMP_LAG_MAX_NS, 0, "before the stamp", True)
def test_it_is_at_least_what_passed_between_sending_and_arrival(
    true_ns: int, early_ns: int, late_ns: int, step_ns: int, moment: str, stamps: bool
) -> None:
    """The clocks are read ``early_ns`` before the nonce leaves, ``late_ns`` after the answer came;
    the wall clock steps once, at any time in between."""
    base = 1_700_000_000 * 10**9
    before = step_ns if moment == "before the stamp" else 0
    sent = Instant(base, 0)
    stamp = base + early_ns + true_ns + before if stamps else 0
    got = Instant(base + early_ns + true_ns + late_ns + step_ns, early_ns + true_ns + late_ns)
    rtt_ns, kernel = round_trip_ns(sent, got, stamp)
    assert rtt_ns >= true_ns
    assert kernel <= stamps


@given(TRUE_NS, st.integers(1, 10**12), LATE_NS)
def test_a_machine_that_slept_does_not_seem_nearer(
    true_ns: int, slept_ns: int, late_ns: int
) -> None:
    """The monotonic clock stands still in sleep, the wall clock does not."""
    awake_ns = max(0, true_ns - slept_ns)
    passed_ns = awake_ns + slept_ns
    sent, got = Instant(0, 0), Instant(passed_ns + late_ns, awake_ns + late_ns)
    rtt_ns, _ = round_trip_ns(sent, got, passed_ns)
    assert rtt_ns >= passed_ns


@given(TRUE_NS, st.integers(0, STAMP_LAG_MAX_NS))
def test_with_steady_clocks_the_kernels_stamp_is_exact(true_ns: int, late_ns: int) -> None:
    got = Instant(true_ns + late_ns, true_ns + late_ns)
    assert round_trip_ns(Instant(0, 0), got, true_ns) == (true_ns, True)


@given(st.integers(0, 2**62), TRUE_NS)
def test_a_stamp_that_makes_no_sense_is_not_believed(stamp_ns: int, true_ns: int) -> None:
    sent, got = Instant(10**18, 0), Instant(10**18 + true_ns, true_ns)
    rtt_ns, kernel = round_trip_ns(sent, got, stamp_ns)
    sane = 10**18 < stamp_ns <= 10**18 + true_ns <= stamp_ns + STAMP_LAG_MAX_NS
    assert kernel == sane
    assert sane or rtt_ns == true_ns
