"""Proposers: everybody bonded has a turn, and bond decides how often it is the first."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from isochrone.rules.proposer import order, proposer, seed_of

bonds = st.dictionaries(st.sampled_from(("0xa", "0xb", "0xc", "0xd")), st.integers(0, 10**15))


@given(st.integers(0, 10**6), st.text("0123456789abcdef", max_size=64), bonds)
def test_as_many_rounds_as_validators_give_everybody_a_turn(
    epoch: int, before: str, stakes: dict[str, int]
) -> None:
    bonded = {name for name, stake in stakes.items() if stake}
    turns = [proposer(epoch, n, before, stakes) for n in range(len(bonded))]
    assert set(turns) == bonded
    backwards = dict(reversed(stakes.items()))
    assert order(seed_of(epoch, before), backwards) == order(seed_of(epoch, before), stakes)
    assert bonded or not proposer(epoch, 0, before, stakes)


def test_twice_the_bond_is_first_twice_as_often() -> None:
    first = Counter(proposer(n, 0, "", {"0xa": 2, "0xb": 1}) for n in range(3_000))
    assert 1_900 < first["0xa"] < 2_100
