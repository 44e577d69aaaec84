"""Life: more answers and smaller claims never make it worse; noise hardly ever makes it failed."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from isochrone.rules.life import BPS, CHANCE_MAX, LOST_BPS, MISSED_MIN, chance, finding

asked_and_answered = st.integers(0, 64).flatmap(
    lambda asked: st.tuples(st.just(asked), st.integers(0, asked))
)
RANK = {"failed": 0, "unknown": 1, "ok": 2}


@given(asked_and_answered, st.integers(0, BPS))
def test_an_answer_more_is_never_worse(counts: tuple[int, int], claimed: int) -> None:
    asked, answered = counts
    if answered < asked:
        here, there = (finding(asked, n, claimed).verdict for n in (answered, answered + 1))
        assert RANK[here] <= RANK[there]


@given(asked_and_answered, st.integers(0, BPS), st.integers(0, BPS))
def test_who_claims_less_is_never_found_worse(
    counts: tuple[int, int], one: int, other: int
) -> None:
    less, more = sorted((one, other))
    assert RANK[finding(*counts, more).verdict] <= RANK[finding(*counts, less).verdict]


@given(st.integers(1, 64), st.integers(0, BPS))
def test_an_honest_node_is_found_failed_once_in_a_hundred_at_most(asked: int, claimed: int) -> None:
    """Its answers are lost as the rule allows for, and it is away as it says."""
    away = min(Fraction(1), Fraction(BPS - claimed, BPS) * Fraction(3, 2))
    lost = away + (1 - away) * Fraction(LOST_BPS, BPS)
    failing = [
        n for n in range(asked + 1) if finding(asked, asked - n, claimed).verdict == "failed"
    ]
    if failing:
        assert min(failing) >= MISSED_MIN
        assert chance(asked, min(failing), claimed) <= CHANCE_MAX
        assert failing == list(range(min(failing), asked + 1))
        assert lost < 1


def test_a_claim_beyond_all_time_is_all_the_time() -> None:
    assert finding(4, 0, 10 * BPS).verdict == finding(4, 0, BPS).verdict == "failed"
    assert finding(4, 0, -5).verdict == "unknown"
