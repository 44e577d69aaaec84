"""What a proposal must not miss: marks at the cut-off and after, and who is asked again."""

from __future__ import annotations

import pytest

from isochrone.schema.documents import RECORDS_WANTED, unpack, unseal
from isochrone.schema.identity import PrivateKey
from isochrone.schema.settling import S_WANTED, RecordsWanted
from isochrone.validator import news
from isochrone.validator.cutoff import NOTHING, Cutoff
from isochrone.validator.holdings import Mark

KEY = PrivateKey(b"\x07" * 32)


class Fabric:
    """Counts what is published; ``generation`` grows with every connection."""

    def __init__(self) -> None:
        self.generation = 1
        self.wanted: list[int] = []

    def publish(self, subject: str, data: bytes) -> bool:
        assert subject == S_WANTED
        wanted, signer = unseal(unpack(data), RECORDS_WANTED, RecordsWanted)
        assert (signer, wanted.at_unix_ms) == (KEY.address, 1_234)
        self.wanted.append(wanted.epoch)
        return True


class Holdings:
    """As many changes and gaps as the test says."""

    def __init__(self) -> None:
        self.changes = 0
        self.gaps = False

    def incomplete(self, _epoch: int) -> bool:
        return self.gaps


class Exchange:
    """A mark is named by how much had changed."""

    def __init__(self, holdings: Holdings) -> None:
        self._holdings = holdings

    async def tell(self, _epoch: int) -> Mark:
        return mark(self._holdings.changes)


def mark(changes: int) -> Mark:
    return Mark(positions={b"changes": changes}, papers=frozenset())


@pytest.fixture
def holdings() -> Holdings:
    return Holdings()


@pytest.fixture
def fabric() -> Fabric:
    return Fabric()


@pytest.fixture
def cutoff(fabric: Fabric, holdings: Holdings) -> Cutoff:
    return Cutoff(fabric, KEY, holdings, Exchange(holdings), lambda: 1_234)  # type: ignore[arg-type]


async def test_what_was_held_at_the_cut_off_binds_every_round(
    cutoff: Cutoff, holdings: Holdings
) -> None:
    assert cutoff.mark(5, 0) == NOTHING
    holdings.changes = 3
    await cutoff.see(5, -1)
    holdings.changes = 4
    await cutoff.see(5, -1)
    assert cutoff.mark(5, 0) == cutoff.mark(5, 9) == mark(3)
    assert cutoff.mark(6, 0) == NOTHING, "that epoch is not cut off yet"


async def test_what_came_later_binds_from_two_rounds_on(cutoff: Cutoff, holdings: Holdings) -> None:
    await cutoff.see(5, -1)
    holdings.changes = 4
    await cutoff.see(5, 1)
    holdings.changes = 5
    await cutoff.see(5, 1)
    assert [cutoff.mark(5, round_) for round_ in (1, 2, 3, 4)] == [
        mark(0),
        mark(0),
        mark(4),
        mark(4),
    ]
    await cutoff.see(5, 2)
    assert cutoff.mark(5, 4) == mark(5)
    await cutoff.see(6, -1)
    assert cutoff.mark(6, 9) == mark(5), "a new epoch begins anew"
    assert cutoff.mark(5, 9) == NOTHING


async def test_gateways_are_asked_again_by_who_was_away_or_misses_links(
    cutoff: Cutoff, fabric: Fabric, holdings: Holdings
) -> None:
    await cutoff.see(5, -1)
    await cutoff.see(6, -1)
    assert fabric.wanted == [5], "a process that is new in an epoch asks once"
    fabric.generation = 2
    await cutoff.see(7, -1)
    assert fabric.wanted == [5, 7], "one whose connection was lost as well"
    holdings.gaps = True
    await cutoff.see(8, -1)
    assert fabric.wanted == [5, 7, 8]


def test_the_worked_example_of_low_deposits_holds() -> None:
    import doctest

    tried = doctest.testmod(news)
    assert tried.attempted >= 2
    assert tried.failed == 0
