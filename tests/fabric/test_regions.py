"""Statistical regions: when a child is asked, how long its answers hold, whom they admit."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from tests.fabric.attesting import attestation, key

from isochrone.atlas.blocs import blocs
from isochrone.atlas.latency_place import model as model_file
from isochrone.atlas.latency_place_fit import sites
from isochrone.atlas.roundtrips import measured
from isochrone.fabric import regions as module
from isochrone.fabric.attestations import place_attestation
from isochrone.fabric.attested import AttestedShelf, Believed
from isochrone.fabric.regions import HOLDS_S, PAUSE, PLACES_MIN, Regions, Seen, alike, shortest
from isochrone.rules.location import Bound
from isochrone.rules.residency import admits, evidence_of
from isochrone.schema.place import Place, Region, Whereabouts
from isochrone.schema.service import Residency

NODE, OWN = key("node"), "the provider"
ATTESTED_AT_MS = 1_000_000
HERE = Region(countries=("DE",), latitude=50.0, longitude=8.0, error_km=75.0)


def place(number: int) -> Place:
    return Place(latitude=float(number), longitude=0.0, country="DE", metro=f"city-{number}")


def bound(number: int, account: str = "", rtt_us: int = 10_000) -> Bound:
    return Bound(
        account=account or f"account {number % 3}",
        vantage=f"vantage {number}",
        place=place(number),
        rtt_us=rtt_us,
        burst_at_unix_ms=0,
    )


def ten(rtt_us: int = 10_000) -> list[Bound]:
    return [bound(number, rtt_us=rtt_us) for number in range(10)]


def test_a_region_takes_ten_places_and_three_accounts() -> None:
    assert len(shortest(ten())) == 10
    assert shortest(ten()[:9]) == ()
    assert shortest([*ten()[:9], bound(0, "another")]) == (), "one place twice"
    assert shortest([bound(number, f"account {number % 2}") for number in range(20)]) == ()
    city = msgspec.structs.replace(bound(9), place=msgspec.structs.replace(place(8), longitude=0.3))
    assert shortest([*ten()[:9], city]) == (), "another door in the same city"
    nobodys = msgspec.structs.replace(bound(9), account="")
    assert shortest([*ten()[:9], nobodys]) == ()


def test_the_model_was_measured_with_as_few_vantages() -> None:
    assert min(level.vantages for level in model_file().levels) == PLACES_MIN


def test_of_a_place_the_shortest_counts_whatever_the_order() -> None:
    rows = [*ten(), bound(4, "another", 9_000), bound(4, "a third", 11_000)]
    assert shortest(rows) == shortest(rows[::-1])
    assert dict(shortest(rows))[place(4)] == 9_000


def test_what_hardly_differs_is_alike() -> None:
    before = shortest(ten())
    assert alike(before, shortest(ten(10_400)))
    assert not alike(before, shortest(ten(10_600)))
    assert not alike(before, shortest([*ten(), bound(11)]))
    assert not alike(before, shortest([*ten()[:9], bound(11)]))
    assert not alike(before, ())


class Model:
    """Regions with a clock, what is known of each subject, and a child that is asked in words."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path | None = None) -> None:
        self.at_s = 0.0
        self.took_s = 1.0
        self.bounds: dict[str, list[Bound]] = {}
        self.asked: list[int] = []
        self.answers: Callable[[int], list[Region | None] | None] = lambda count: [HERE] * count
        self.told: list[set[str]] = []
        self.regions = Regions(folder, clock=lambda: self.at_s)
        monkeypatch.setattr(module, "ask_child", self._ask)

    async def _ask(
        self, _module: str, question: list[Seen], _kind: object, _within_s: float
    ) -> list[Region | None] | None:
        self.asked.append(len(question))
        self.at_s += self.took_s
        return self.answers(len(question))

    async def pass_(self, seconds: float) -> None:
        self.at_s += seconds
        await self.regions.turn(
            lambda subject, _own: self.bounds.get(subject, ()), self.told.append
        )

    def of(self, subject: str = "node") -> Region | None:
        return self.regions.of(subject, OWN)


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Model:
    return Model(monkeypatch)


async def test_no_child_is_started_where_there_is_nothing_to_say(model: Model) -> None:
    model.bounds["node"] = ten()[:9]
    model.bounds["not asked for"] = ten()
    assert model.of() is None
    for _ in range(10):
        await model.pass_(60)
    assert model.asked == []
    assert model.of() is None
    model.bounds["node"] = ten()
    await model.pass_(60)
    assert model.asked == [1], "whoever asked once need not ask again"
    assert model.of() == HERE
    assert model.told == [{"node"}]


async def test_nobody_is_asked_twice_for_the_same_and_seldom_for_others(model: Model) -> None:
    model.took_s = 2.0
    model.bounds["node"] = ten()
    model.of()
    await model.pass_(0)
    for step in range(1, 20):
        model.bounds["node"] = ten(10_000 + step)
        await model.pass_(60)
    assert model.asked == [1]
    model.bounds["node"] = ten(20_000)
    await model.pass_(0)
    assert model.asked == [1, 1]
    model.bounds["node"] = ten(40_000)
    await model.pass_(PAUSE * model.took_s - 1)
    assert model.asked == [1, 1]
    await model.pass_(1)
    assert model.asked == [1, 1, 1]


async def test_a_region_outlives_what_it_rests_on_by_minutes_only(model: Model) -> None:
    model.bounds["node"] = ten()
    model.of()
    await model.pass_(0)
    model.answers = lambda _count: None
    model.bounds["node"] = ten(20_000)
    await model.pass_(HOLDS_S - 1)
    assert model.of() == HERE
    await model.pass_(2)
    assert model.of() is None
    assert model.told == [{"node"}, {"node"}]
    model.answers = lambda count: [HERE] * count
    await model.pass_(200)
    assert model.of() == HERE
    model.bounds["node"] = []
    await model.pass_(HOLDS_S + 2)
    assert model.of() is None


async def test_the_model_that_cannot_say_takes_the_region_away(model: Model) -> None:
    model.bounds["node"] = ten()
    model.of()
    await model.pass_(0)
    model.answers = lambda count: [None] * count
    model.bounds["node"] = ten(20_000)
    await model.pass_(200)
    assert model.of() is None
    assert model.told == [{"node"}, {"node"}]
    await model.pass_(200)
    assert len(model.asked) == 2


@pytest.mark.parametrize("answer", [None, [], [HERE] * 3])
async def test_a_child_that_fails_proves_nothing_and_is_asked_again(
    model: Model, answer: list[Region | None] | None
) -> None:
    model.answers = lambda _count: answer
    model.bounds["node"] = ten()
    model.of()
    await model.pass_(0)
    assert model.of() is None
    assert not model.regions.complete
    await model.pass_(61)
    assert model.asked == [1, 1]
    assert model.regions.complete, "a broken child does not keep everything unsettled"


async def test_a_child_that_does_not_come_to_the_end_goes_on_next_time(model: Model) -> None:
    model.answers = lambda count: [HERE] * min(count, 2)
    names = {f"node {number}" for number in range(5)}
    for name in names:
        model.bounds[name] = ten()
        model.of(name)
    for _ in range(3):
        await model.pass_(60)
    assert model.asked == [5, 3, 1]
    assert {name for name in names if model.of(name)} == names


async def test_after_a_restart_it_counts_when_the_same_was_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = Model(monkeypatch, tmp_path)
    before.bounds["node"] = ten()
    before.of()
    await before.pass_(0)
    after = Model(monkeypatch, tmp_path)
    await after.pass_(3)
    assert after.of() is None
    after.bounds["node"] = ten(10_100)
    await after.pass_(3)
    assert after.of() == HERE
    assert after.asked == []
    (tmp_path / module.KEPT).write_bytes(b"nonsense")
    assert Model(monkeypatch, tmp_path).of() is None


async def test_it_is_bounded(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Strangers with ever new keys do not push out who has a region."""
    monkeypatch.setattr(module, "KNOWN_MAX", 3)
    for number in range(9):
        model.bounds[f"node {number}"] = ten()
    for number in range(3):
        model.of(f"node {number}")
    await model.pass_(0)
    for number in range(3, 9):
        model.of(f"node {number}")
        await model.pass_(60)
    assert model.asked == [3]
    assert [model.of(f"node {number}") is not None for number in range(9)] == [True] * 3 + [
        False
    ] * 6


def shelf_that_saw(metro: str, regions: Regions) -> AttestedShelf:
    """A node in a city, seen by every other city of the table; each vantage its own account."""
    seen = [(p, trip) for p in sites().places if (trip := measured(metro, p.metro)) is not None]
    vantages = [key(place.metro) for place, _ in seen]
    shelf = AttestedShelf(
        Believed(gateways=[vantage.address for vantage in vantages]),
        lambda _place: (),
        region_of=regions.of,
        now_unix_ms=lambda: ATTESTED_AT_MS,
    )
    for vantage, (where, trip) in zip(vantages, seen, strict=True):
        document = attestation(
            vantage, NODE, ATTESTED_AT_MS, place=where, rtt_us=round(trip.min_ms * 1000)
        )
        shelf.take([(place_attestation(document), document)])
    return shelf


async def test_a_real_child_says_where_and_only_the_statistical_class_hears(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "LOOK_S", 0.01)
    regions = Regions(None)
    shelf = shelf_that_saw("melbourne", regions)

    def where(country: str = "AU") -> Whereabouts:
        return shelf.whereabouts(NODE.address, country, OWN)

    home = Residency(allow=("AU",), evidence="statistical")
    assert not admits(home, where(), blocs()), "until there is a region"
    told: list[str] = []
    shelf.on_change.append(told.extend)
    work = asyncio.get_running_loop().create_task(
        regions.run(shelf.independent, shelf.regions_changed)
    )
    try:
        ends_s = time.monotonic() + 20
        while not told:
            assert time.monotonic() < ends_s, "waited in vain"
            await asyncio.sleep(0.01)
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
    found = shelf.region(NODE.address, OWN)
    assert found is not None
    assert found.countries == ("AU",)
    assert told == [NODE.address]
    assert admits(home, where(), blocs())
    assert evidence_of(where(), home, blocs()) == "statistical"
    assert not admits(Residency(allow=("AU",)), where(), blocs()), "physical is the default"
    assert not admits(Residency(allow=("NZ",), evidence="statistical"), where("NZ"), blocs())
    assert not admits(Residency(allow=("EU",), evidence="statistical"), where(), blocs())
    assert not admits(home, shelf.whereabouts(NODE.address, "AU", ""), blocs()), "another account's"


def test_a_region_and_two_discs_are_not_three() -> None:
    where = Whereabouts(country="AU", discs=(("AU",),) * 2, region=("AU",))
    assert not admits(Residency(allow=("AU",)), where, blocs())
    assert admits(Residency(allow=("AU",), evidence="statistical"), where, blocs())


def test_own_and_distrusted_vantages_are_not_looked_at() -> None:
    shelf = shelf_that_saw("melbourne", Regions(None))
    everybody = shelf.independent(NODE.address, OWN)
    own = everybody[0].account
    assert own not in {one.account for one in shelf.independent(NODE.address, own)}
    assert len(shelf.independent(NODE.address, own)) == len(everybody) - 1
    liar, others = everybody[1], everybody[2:5]
    for one in others:  # it answers them from where it does not stand
        document = attestation(
            key(one.place.metro), key(liar.place.metro), ATTESTED_AT_MS, place=one.place, rtt_us=1
        )
        shelf.take([(place_attestation(document), document)])
    shelf.sweep()
    left = [one.vantage for one in shelf.independent(NODE.address, OWN)]
    assert left == [one.vantage for one in everybody if one is not liar]
