"""A bond in one slot, a role's sums in another: nothing spills over, nothing is lost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.contracts.network import address_of, boa, refused, source

UNITS, EPOCHS, SECONDS = 2**52 - 1, 2**24 - 1, 2**39 - 1
EMPTY = (0, 0, 0, 0, 0, 0)


@pytest.fixture(scope="module")
def modules() -> Iterator[Any]:
    with boa.env.anchor():
        yield source("tests/contracts/modules_in_test.vy").deploy(address_of("bonds"))


def test_a_record_holds_every_bond_that_fits(modules: Any) -> None:
    edges = st.sampled_from((0, 1, UNITS // 3))
    units = st.one_of(edges, st.integers(0, UNITS // 3))
    epochs = st.one_of(st.sampled_from((0, EPOCHS)), st.integers(0, EPOCHS))
    seconds = st.one_of(st.sampled_from((0, SECONDS)), st.integers(0, SECONDS))

    @given(st.tuples(units, units, units, epochs, epochs, seconds))
    def check(bond: tuple[int, ...]) -> None:
        record = modules.packed(bond)
        assert record < 2**255  # else it would be a pointer
        assert tuple(modules.unpacked(record)) == bond

    check()


@pytest.mark.parametrize(
    ("bond", "why"),
    [
        ((UNITS, 1, 0, 2, 0, 0), "bonds: too large"),
        ((0, 0, UNITS + 1, 2, 0, 0), "bonds: too large"),
        ((1, 0, 0, 2, 0, SECONDS + 1), "bonds: too late"),
    ],
)
def test_what_does_not_fit_is_refused(modules: Any, bond: tuple[int, ...], why: str) -> None:
    refused(modules.packed, bond, why=why)


@pytest.mark.parametrize("since", [7, 8, 9], ids=["settled", "next", "later"])
def test_a_roles_sums_have_a_largest_size(modules: Any, since: int) -> None:
    """Sixty bits hold 256 of the largest bonds; the next is refused and spills nowhere."""
    largest = (0, UNITS, 0, since, 0, 0)
    sums = 0
    for _ in range(256):
        sums = modules.recounted(sums, EMPTY, largest, 7)
    assert modules.total(sums, since) == 256 * UNITS
    assert modules.total(sums, 7) == (256 * UNITS if since == 7 else 0)
    assert modules.total(modules.recounted(sums, largest, EMPTY, 7), 9) == 255 * UNITS
    sums = modules.recounted(sums, EMPTY, (0, 255, 0, since, 0, 0), 7)
    for other in (7, 8, 9):  # wherever the one unit too many would go
        refused(modules.recounted, sums, EMPTY, (0, 1, 0, other, 0, 0), 7, why="bonds: too large")


def test_forfeit_stake_disturbs_no_sum(modules: Any) -> None:
    sums = modules.recounted(0, EMPTY, (5, 6, 7, 9, 0, 0), 7)
    forfeited = modules.forfeited(sums, UNITS)
    for epoch in (7, 8, 9, 10):
        assert modules.total(forfeited, epoch) == modules.total(sums, epoch)
    refused(modules.forfeited, forfeited, 1, why="bonds: burn first")
    later = modules.recounted(forfeited, EMPTY, (1, 0, 0, 2, 0, 0), 9)
    assert later >> 204 == UNITS
    assert modules.total(later, 9) == 5 + 6 + 1
