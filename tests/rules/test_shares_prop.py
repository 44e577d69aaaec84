"""Sharing: nothing is left over, nobody is cut short, and one more unit takes from nobody."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from isochrone.rules.shares import apportion

weights = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 40) | st.integers(0, 10**12))


def dealt(total: int, shares: dict[str, int]) -> dict[str, int]:
    """The method by its definition: unit after unit to the highest weight per unit."""
    got = dict.fromkeys(shares, 0)
    for _ in range(total if any(shares.values()) else 0):
        got[min(shares, key=lambda n: (-Fraction(shares[n], got[n] + 1), n))] += 1
    return got


@given(st.integers(0, 60), weights)
def test_it_is_dealt_unit_by_unit(total: int, shares: dict[str, int]) -> None:
    assert apportion(total, shares) == dealt(total, shares)


@given(st.integers(0, 10**15), weights)
def test_everything_is_shared_and_nobody_gets_less_than_its_share_rounded_down(
    total: int, shares: dict[str, int]
) -> None:
    got = apportion(total, shares)
    whole = sum(shares.values())
    assert sum(got.values()) == (total if whole else 0)
    for name, weight in shares.items():
        assert got[name] >= (total * weight // whole if whole else 0)
        assert weight or not got[name]
        if total <= whole:
            assert got[name] <= weight


@given(st.integers(0, 10**9), weights)
def test_one_unit_more_goes_to_one_party_and_takes_from_none(
    total: int, shares: dict[str, int]
) -> None:
    before, after = apportion(total, shares), apportion(total + 1, shares)
    gains = [after[name] - before[name] for name in shares]
    assert sorted(gains) == [0] * (len(gains) - 1) + [1] if any(shares.values()) else not any(gains)
