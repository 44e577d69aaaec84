"""The way onto the shelf: over the fabric, in floods, and back from disk after a restart."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from tests.fabric.attesting import FRANKFURT, attestation, key, message, news, verdict

from isochrone.fabric.attested import AttestedShelf, Believed
from isochrone.fabric.attested_feed import (
    DOCUMENTS_MAX,
    NEWS_PER_S,
    QUEUE_MAX,
    SETTLE_S,
    Feed,
)
from isochrone.fabric.connection import Fabric
from isochrone.fabric.reaches import KEPT, Reach, Reaches
from isochrone.lab.twins.fabric import MemoryCells, MemoryFabric
from isochrone.schema.documents import pack, unpack
from isochrone.schema.place import Place
from isochrone.schema.probing import S_ATTESTED, S_HOUSE_ATTESTED, S_HOUSE_VANTAGES, S_VANTAGES
from isochrone.schema.proof import S_VERDICTS

NODE, STRANGER = key("node"), key("stranger")
VANTAGES = [key(f"vantage {number}") for number in range(3)]
PROVEN = (("DE",),) * 3


async def until(condition: Callable[[], object], within_s: float = 10.0) -> None:
    ends_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < ends_s, "waited in vain"
        await asyncio.sleep(0.005)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def told_by_all() -> bytes:
    return message(*(attestation(vantage, NODE, now_ms()) for vantage in VANTAGES))


def shelf_on(folder: Path) -> tuple[AttestedShelf, Feed]:
    """With a map on disk, so that no child is asked."""
    folder.mkdir(exist_ok=True)
    row = (50.11, 8.68, (("DE", 0.0), ("FR", 90.0)))
    (folder / KEPT).write_bytes(msgspec.json.encode([row]))
    reaches = Reaches(folder)
    keys = [vantage.address for vantage in VANTAGES]
    shelf = AttestedShelf(Believed(validators=keys), reaches.of)
    return shelf, Feed(shelf, reaches, folder)


@asynccontextmanager
async def following(folder: Path, fabric: Fabric) -> AsyncIterator[tuple[AttestedShelf, Feed]]:
    shelf, feed = shelf_on(folder)
    await feed.start(fabric)
    try:
        yield shelf, feed
    finally:
        await feed.close()


@pytest.fixture
async def fabric(tmp_path: Path) -> AsyncIterator[Fabric]:
    store = MemoryCells(None).store("fra")
    store.start()
    made = await MemoryFabric.join(store, "one", tmp_path / "one", wait_s=0.3)
    yield made
    await made.close()
    store.stop()


def discs(shelf: AttestedShelf) -> tuple[tuple[str, ...], ...]:
    return shelf.whereabouts(NODE.address, "DE", "").discs


async def test_what_is_told_is_known_and_after_a_restart_again(
    fabric: Fabric, tmp_path: Path
) -> None:
    async with following(tmp_path / "kept", fabric) as (shelf, _):
        fabric.publish(S_ATTESTED, told_by_all())
        fabric.publish(S_VANTAGES, news(VANTAGES[0], 1))
        for validator in VANTAGES:
            fabric.publish(S_VERDICTS, verdict(validator, 1, NODE.address))
        await until(lambda: discs(shelf) == PROVEN)
        await until(lambda: shelf.vantages() and shelf.barred(NODE.address, 1))
    async with following(tmp_path / "kept", fabric) as (shelf, _):
        await until(lambda: discs(shelf) == PROVEN)


async def test_repetitions_are_not_checked_again(fabric: Fabric, tmp_path: Path) -> None:
    async with following(tmp_path / "kept", fabric) as (shelf, feed):
        said = told_by_all()
        feed.attested(S_ATTESTED, said)
        await until(lambda: shelf.counters["taken"] == 3)
        for _ in range(50):
            feed.attested(S_ATTESTED, said)
        feed.attested(S_ATTESTED, told_by_all())
        await until(lambda: shelf.counters["taken"] == 6)
        assert shelf.counters["taken"] + shelf.counters["refused"] == 6


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1" * 100,
        b"[" * 100_000,
        message(),
        message(*[b""] * (DOCUMENTS_MAX + 1)),
        b"x" * (2 * 1024 * 1024),
    ],
)
async def test_nonsense_is_counted_and_harms_nobody(
    fabric: Fabric, tmp_path: Path, data: bytes
) -> None:
    async with following(tmp_path / "kept", fabric) as (shelf, feed):
        feed.attested(S_ATTESTED, data)
        for subject in (S_VANTAGES, S_VERDICTS):
            fabric.publish(subject, data)
        feed.attested(S_ATTESTED, message(b"nonsense", attestation(STRANGER, NODE, now_ms())))
        feed.attested(S_ATTESTED, told_by_all())
        await until(lambda: discs(shelf) == PROVEN)
        assert shelf.counters["unreadable"] == 1
        assert shelf.counters["not_believed"] == 2


async def test_a_flood_is_bounded_and_what_is_known_stays(fabric: Fabric, tmp_path: Path) -> None:
    """Documents that claim to be of a believed key, signed by another."""
    async with following(tmp_path / "kept", fabric) as (shelf, feed):
        feed.attested(S_ATTESTED, told_by_all())
        await until(lambda: discs(shelf) == PROVEN)
        for number in range(3 * QUEUE_MAX):
            forged = attestation(VANTAGES[0], NODE, number, signer=STRANGER)
            feed.attested(S_ATTESTED, message(forged))
        assert shelf.counters["dropped"] > QUEUE_MAX
        await until(lambda: shelf.counters["refused"] > 0)
        assert discs(shelf) == PROVEN


async def test_a_flood_of_guests_holds_up_nobody_else(fabric: Fabric, tmp_path: Path) -> None:
    """Here of 40 s, so whoever waited behind it would be late."""
    async with following(tmp_path / "kept", fabric) as (shelf, feed):
        forged = [
            attestation(VANTAGES[0], NODE, number, signer=STRANGER) for number in range(QUEUE_MAX)
        ]
        for document in forged:
            feed.attested(S_ATTESTED, message(*([document] * 125)))
        feed.attested(S_HOUSE_ATTESTED, told_by_all())
        await until(lambda: discs(shelf) == PROVEN, within_s=3)
        for number in range(2 * NEWS_PER_S):
            feed.news(S_VANTAGES, news(VANTAGES[0], number + 1))
        feed.news(S_HOUSE_VANTAGES, news(VANTAGES[1], 1))
        assert len(shelf.vantages()) == 2


async def test_a_flood_of_news_costs_so_many_checks_and_no_more(tmp_path: Path) -> None:
    """In a believed vantage's name, and lists of the barred, which name no signer."""
    shelf, _ = shelf_on(tmp_path / "kept")
    feed = Feed(shelf, Reaches(None), None, clock=lambda: 1.0)
    feed.news(S_VANTAGES, news(VANTAGES[0], 1))
    strangers, barring = news(STRANGER, 2), verdict(STRANGER, 1, NODE.address)
    said = unpack(news(VANTAGES[0], 2))
    forged = pack(msgspec.structs.replace(said, signature=unpack(strangers).signature))
    for _ in range(NEWS_PER_S):
        feed.news(S_VANTAGES, strangers)  # is seen to be a stranger's, and costs nothing
        feed.news(S_VANTAGES, forged)
        feed.news(S_VERDICTS, barring)
    feed.news(S_VERDICTS, barring)
    assert shelf.counters == {"dropped": 2, "not_believed": 3 * NEWS_PER_S - 1}
    assert [one.at_unix_ms for one in shelf.vantages()] == [1]


async def test_it_is_settled_when_everybody_had_time_to_speak() -> None:
    """Since the start, and again after an absence or a stall in which proofs may have grown old."""
    at_s, believed = [0.0], Believed(validators=[VANTAGES[0].address])
    shelf = AttestedShelf(
        believed, lambda _place: None, valid_ms=40_000, now_unix_ms=lambda: int(at_s[0] * 1000)
    )
    feed = Feed(shelf, Reaches(None), None, clock=lambda: at_s[0])

    def after(seconds: float, *, connected: bool = True) -> bool:
        """Second by second."""
        for _ in range(int(seconds)):
            at_s[0] += 1
            feed.look(connected)
        return feed.settled

    assert not after(14)
    assert after(1)
    assert after(9, connected=False), "away for less than a quarter of the validity"
    assert after(1)
    assert not after(11, connected=False)
    assert not after(15)
    assert after(1)
    at_s[0] += 11  # the process stood still
    assert not feed.settled
    nobody = AttestedShelf(Believed(), lambda _place: None)
    assert Feed(nobody, Reaches(None), None, clock=lambda: 0.0).settled


async def test_nothing_is_settled_while_what_was_kept_waits_to_be_checked(
    fabric: Fabric, tmp_path: Path
) -> None:
    """A large network's takes longer than vantages need to speak."""
    folder, at_s = tmp_path / "kept", [1000.0]
    async with following(folder, fabric) as (shelf, _):
        fabric.publish(S_ATTESTED, told_by_all())
        await until(lambda: discs(shelf) == PROVEN)
    shelf, _ = shelf_on(folder)
    feed = Feed(shelf, Reaches(folder), folder, clock=lambda: at_s[0])
    await feed.start(fabric)

    def later() -> bool:
        at_s[0] += SETTLE_S
        return feed.settled

    try:
        assert not later()
        await until(later)
        assert discs(shelf) == PROVEN
    finally:
        await feed.close()


async def test_a_child_works_out_what_the_map_says(tmp_path: Path) -> None:
    """The real one; its answers are kept."""
    reaches = Reaches(tmp_path)
    known: list[bool] = []
    reaches.on_known.append(lambda: known.append(True))
    assert reaches.of(FRANKFURT) is None
    task = asyncio.get_running_loop().create_task(reaches.run())
    try:
        await until(lambda: known)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    found = reaches.of(FRANKFURT)
    assert found is not None
    assert found[0] == ("DE", 0.0)
    assert Reaches(tmp_path).of(FRANKFURT) == found


async def test_of_too_many_places_the_newest_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """A vantage that says ever new places keeps nobody else's off the map."""

    async def land(places: Sequence[Place]) -> list[Reach]:
        return [((place.country, 0.0),) for place in places]

    monkeypatch.setattr("isochrone.fabric.reaches.PLACES_MAX", 3)
    monkeypatch.setattr("isochrone.fabric.reaches._ask", land)
    reaches = Reaches(None)
    told = [msgspec.structs.replace(FRANKFURT, latitude=float(n)) for n in range(6)]
    task = asyncio.get_running_loop().create_task(reaches.run())
    try:
        for place in told:
            reaches.of(place)
            await until(lambda: reaches.complete)
        assert [reaches.of(place) is not None for place in told] == [False] * 3 + [True] * 3
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
