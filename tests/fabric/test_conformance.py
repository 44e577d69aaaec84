"""What every fabric does, real or twin: tables compare, follow, survive; messages and answers."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from tests.fabric.cells import until
from tests.fabric.conftest import Join
from tests.fabric.kinds import Cell

from isochrone.fabric.stream import RouteStream
from isochrone.fabric.table import VALUE_BYTES_MAX
from isochrone.schema.errors import Conflict, InvalidInput, Timeout, TooLarge, Unavailable

SERVICE = "0x00112233445566778899aabbccddeeff00112233.fraud-scorer"


class Thing(msgspec.Struct, frozen=True):
    size: int


async def test_writes_compare_and_readers_follow(join: Join) -> None:
    mine = await (await join("one")).table("things", Thing)
    theirs = await (await join("two")).table("things", Thing)
    revision = await mine.put(SERVICE, Thing(1), revision=None)
    assert mine.entries[SERVICE].value == Thing(1)
    await until(lambda: SERVICE in theirs.entries)
    for wrong in (None, 0, revision + 5):
        with pytest.raises(Conflict):
            await theirs.put(SERVICE, Thing(9), revision=wrong)
    newer = await theirs.put(SERVICE, Thing(2), revision=revision)
    assert newer > revision
    await until(lambda: mine.entries[SERVICE].value == Thing(2))
    with pytest.raises(Conflict):
        await mine.delete(SERVICE, revision=revision)
    await mine.delete(SERVICE, revision=newer)
    assert not mine.entries
    await until(lambda: not theirs.entries)
    assert theirs.trustworthy
    again = await theirs.put(SERVICE, Thing(3), revision=None)
    assert again > newer
    await until(lambda: mine.entries.get(SERVICE) == theirs.entries[SERVICE])


async def test_of_two_writers_at_once_one_wins(join: Join) -> None:
    tables = [await (await join(name)).table("things", Thing) for name in ("one", "two")]
    for attempt in range(10):
        outcomes = await asyncio.gather(
            *(t.put(f"k{attempt}", Thing(i), revision=None) for i, t in enumerate(tables)),
            return_exceptions=True,
        )
        assert sorted(isinstance(outcome, Conflict) for outcome in outcomes) == [False, True]


async def test_update_retries_lost_races(join: Join) -> None:
    tables = [await (await join(name)).table("counters", Thing) for name in ("one", "two")]

    def add(old: Thing | None) -> Thing:
        return Thing((old.size if old else 0) + 1)

    for _ in range(4):
        await asyncio.gather(*(table.update("n", add) for table in tables))
    await until(lambda: all(table.entries["n"].value == Thing(8) for table in tables))


async def test_update_may_leave_things_as_they_are(join: Join) -> None:
    table = await (await join("one")).table("things", Thing)
    assert await table.update("a", lambda _: None) is None
    await table.put("a", Thing(1), revision=None)
    assert await table.update("a", lambda _: None) == table.entries["a"]


async def test_bad_keys_and_values_are_refused(join: Join) -> None:
    table = await (await join("one")).table("blobs", bytes, raw=True)
    for key in ("", ".a", "a.", "a..b", "a b", "a*", "a>", "_seal", "a\n", "k" * 600):
        with pytest.raises(InvalidInput):
            await table.put(key, b"", revision=None)
    with pytest.raises(TooLarge):
        await table.put("a", bytes(VALUE_BYTES_MAX), revision=None)
    await table.put("a", bytes(VALUE_BYTES_MAX - 8), revision=None)
    assert not table.refused


async def test_changes_are_told_once_each(join: Join) -> None:
    mine = await (await join("one")).table("things", Thing)
    theirs = await (await join("two")).table("things", Thing)
    told: list[dict[str, int]] = []
    theirs.on_change.append(
        lambda: told.append({k: e.value.size for k, e in theirs.entries.items()})
    )

    def explode() -> None:
        raise RuntimeError("a reader's mistake")

    theirs.on_change.insert(0, explode)
    revision = await mine.put("a", Thing(1), revision=None)
    await until(lambda: told)
    await mine.delete("a", revision=revision)
    await until(lambda: len(told) == 2)
    assert told == [{"a": 1}, {}]


async def test_a_restart_of_the_server_resynchronises(cell: Cell, join: Join) -> None:
    one, two = await join("one"), await join("two")
    table, theirs = await one.table("things", Thing), await two.table("things", Thing)
    a = await table.put("a", Thing(1), revision=None)
    b = await table.put("b", Thing(1), revision=None)
    again = asyncio.Event()
    one.on_reconnect.append(again.set)
    await cell.kill()
    await until(lambda: not one.connected)
    assert one.silent_for_s() >= 0
    assert {k: e.value for k, e in table.entries.items()} == {"a": Thing(1), "b": Thing(1)}
    with pytest.raises(Unavailable):
        await table.put("c", Thing(2), revision=None)
    assert not one.publish("iso.fra.x", b"")
    assert one.dropped == 1
    await cell.start()
    await asyncio.wait_for(again.wait(), 20)
    assert one.connected
    assert one.silent_for_s() == 0
    await until(lambda: theirs.trustworthy and two.connected)
    while True:  # until the other has looked again: writes are refused before
        try:
            await theirs.put("a", Thing(5), revision=a)
            break
        except Unavailable:
            await asyncio.sleep(0.02)
    await theirs.delete("b", revision=b)
    await until(lambda: {k: e.value for k, e in table.entries.items()} == {"a": Thing(5)})
    assert table.trustworthy


async def test_what_happened_during_an_absence_is_caught_up(cell: Cell, join: Join) -> None:
    one, two = await cell.connect("one"), await join("two")
    table, theirs = await one.table("things", Thing), await two.table("things", Thing)
    a = await table.put("a", Thing(1), revision=None)
    b = await table.put("b", Thing(1), revision=None)
    await one.close()
    await theirs.put("a", Thing(2), revision=a)
    await theirs.delete("b", revision=b)
    await theirs.put("c", Thing(3), revision=None)
    back = await (await join("one")).table("things", Thing)
    await until(lambda: back.seen.is_set())
    assert back.trustworthy
    assert {k: e.value.size for k, e in back.entries.items()} == {"a": 2, "c": 3}


async def test_without_a_server_entries_come_from_disk(cell: Cell, join: Join) -> None:
    before = await cell.connect("one")
    table = await before.table("things", Thing)
    await table.put("a", Thing(7), revision=None)
    await before.close()
    await cell.kill()
    alone = await join("one")
    table = await alone.table("things", Thing)
    assert not alone.connected
    assert alone.silent_for_s() > 0
    assert not table.seen.is_set()
    assert table.entries["a"].value == Thing(7)
    with pytest.raises(Unavailable):
        await alone.request("iso.fra.plan", b"", 1.0)
    await cell.start()
    await until(table.seen.is_set)
    assert table.entries["a"].value == Thing(7)
    assert table.trustworthy


async def test_deleted_data_is_not_believed_until_reseeded(cell: Cell, join: Join) -> None:
    one, two = await join("one"), await join("two")
    table, theirs = await one.table("things", Thing), await two.table("things", Thing)
    for name in ("a", "b", "c"):
        await table.put(name, Thing(1), revision=None)
    await until(lambda: len(theirs.entries) == 3)
    await cell.kill()
    cell.wipe()
    await cell.start()
    await until(lambda: not table.trustworthy and not theirs.trustworthy)
    assert set(table.entries) == set(theirs.entries) == {"a", "b", "c"}
    await table.reseed()
    assert table.trustworthy
    await until(lambda: theirs.trustworthy)  # every key of theirs is back
    assert set(theirs.entries) == {"a", "b", "c"}
    newcomer = await (await join("three")).table("things", Thing)
    assert set(newcomer.entries) == {"a", "b", "c"}


async def test_an_authority_ends_every_readers_doubt(cell: Cell, join: Join) -> None:
    one, two = await join("one"), await join("two")
    table, theirs = await one.table("things", Thing), await two.table("things", Thing)
    for name in ("a", "b", "c"):
        await table.put(name, Thing(1), revision=None)
    await until(lambda: len(theirs.entries) == 3)
    await cell.kill()
    cell.wipe()
    await cell.start()
    await until(lambda: not table.trustworthy and not theirs.trustworthy)
    await table.reseed({"a": Thing(1), "d": Thing(4)})
    await until(lambda: theirs.trustworthy)
    for each in (table, theirs):
        assert {k: e.value.size for k, e in each.entries.items()} == {"a": 1, "d": 4}


async def test_a_reader_that_was_away_believes_the_seal(cell: Cell, join: Join) -> None:
    one, away = await join("one"), await cell.connect("away")
    table, theirs = await one.table("things", Thing), await away.table("things", Thing)
    await table.put("a", Thing(1), revision=None)
    await table.put("b", Thing(1), revision=None)
    await until(lambda: len(theirs.entries) == 2)
    await away.close()
    await cell.kill()
    cell.wipe()
    await cell.start()
    await until(lambda: not table.trustworthy)
    await table.reseed({"a": Thing(1)})
    back = await (await join("away")).table("things", Thing)
    await until(back.seen.is_set)
    assert back.trustworthy
    assert set(back.entries) == {"a"}


async def test_a_store_put_back_from_an_old_copy_is_not_believed(cell: Cell, join: Join) -> None:
    one = await join("one")
    table = await one.table("things", Thing)
    revision = await table.put("a", Thing(1), revision=None)
    await table.put("b", Thing(1), revision=None)
    await cell.kill()
    cell.keep_copy()
    await cell.start()
    await until(lambda: one.connected and one.generation == 2)

    async def write() -> None:
        while True:
            try:
                await table.put("a", Thing(2), revision=revision)
                return
            except Unavailable:
                await asyncio.sleep(0.02)

    await asyncio.wait_for(write(), 20)
    await table.put("c", Thing(3), revision=None)
    await cell.kill()
    cell.restore_copy()
    await cell.start()
    await until(lambda: not table.trustworthy)
    assert {k: e.value.size for k, e in table.entries.items()} == {"a": 2, "b": 1, "c": 3}
    await table.reseed()
    newcomer = await (await join("two")).table("things", Thing)
    assert {k: e.value.size for k, e in newcomer.entries.items()} == {"a": 2, "b": 1, "c": 3}


async def test_a_comparison_heals_what_the_watch_did_not_tell(cell: Cell, join: Join) -> None:
    one, two = await join("one"), await join("two")
    table = await one.table("things", Thing)
    theirs = await two.table("things", Thing, compare_every_s=0.2)
    await table.put("a", Thing(1), revision=None)
    await until(lambda: "a" in theirs.entries)
    theirs._view.entries.clear()  # as if the event had been lost
    await until(lambda: "a" in theirs.entries)


async def test_a_corrupt_value_is_refused_and_the_old_one_stays(cell: Cell, join: Join) -> None:
    fabric = await join("one")
    table = await fabric.table("things", Thing, compare_every_s=0.2)
    revision = await table.put("a", Thing(1), revision=None)
    bucket = fabric.line().bucket("things")
    revision = await bucket.write("a", b"garbage that no checksum matches", revision)
    await until(lambda: table.refused > 0)
    assert table.entries["a"].value == Thing(1)
    entry = await table.update("a", lambda old: Thing((old or Thing(0)).size + 1))
    assert entry is not None
    assert entry.value == Thing(2)
    assert table.trustworthy


async def test_messages_keep_their_order_and_reach_everybody_once(join: Join) -> None:
    one, two = await join("one"), await join("two")
    heard: list[tuple[str, bytes]] = []
    await two.subscribe("iso.*.presence.*", lambda subject, data: heard.append((subject, data)))
    for n in range(200):
        assert one.publish("iso.fra.presence.g1", b"%d" % n)
        one.publish("iso.fra.other", b"not for them")
    await until(lambda: len(heard) >= 200)
    assert heard == [("iso.fra.presence.g1", b"%d" % n) for n in range(200)]


async def test_subscriptions_outlive_connections(cell: Cell, join: Join) -> None:
    one, two = await join("one"), await join("two")
    heard: list[bytes] = []

    def take(_subject: str, data: bytes) -> None:
        heard.append(data)
        raise RuntimeError("a reader's mistake")

    await two.subscribe("iso.fra.x", take)
    await cell.kill()
    await until(lambda: not one.connected and not two.connected)
    heard_away: list[bytes] = []
    await two.subscribe("iso.fra.x", lambda _, data: heard_away.append(data))
    await cell.start()
    await until(lambda: one.connected and two.connected)
    one.publish("iso.fra.x", b"1")
    one.publish("iso.fra.x", b"2")
    await until(lambda: len(heard) == 2 and len(heard_away) == 2)
    assert heard == heard_away == [b"1", b"2"]


async def test_requests_are_answered_and_absence_is_said(join: Join) -> None:
    one, two = await join("one"), await join("two")

    async def double(data: bytes) -> bytes:
        return data * 2

    async def standby(_data: bytes) -> None:
        return None

    await one.respond("iso.fra.double", double)
    await two.respond("iso.fra.double", standby)
    answers = await asyncio.gather(
        *(two.request("iso.fra.double", b"%d" % n, 5.0) for n in range(20))
    )
    assert answers == [b"%d%d" % (n, n) for n in range(20)]
    with pytest.raises(Unavailable, match="Nobody answers") as nobody:
        await one.request("iso.fra.nobody", b"", 1.0)
    assert nobody.value.fix
    await one.respond("iso.fra.silent", standby)
    with pytest.raises(Timeout):
        await two.request("iso.fra.silent", b"", 0.1)


async def test_a_request_does_not_outwait_its_connection(cell: Cell, join: Join) -> None:
    one = await join("one")
    asked = asyncio.Event()

    async def hang(_data: bytes) -> bytes:
        asked.set()
        await asyncio.Event().wait()
        return b""

    await one.respond("iso.fra.hang", hang)
    asking = asyncio.create_task(one.request("iso.fra.hang", b"", 60.0))
    await asyncio.wait_for(asked.wait(), 5)
    await cell.kill()
    with pytest.raises(Unavailable):
        await asyncio.wait_for(asking, 10)


async def test_the_newest_routing_table_is_kept_for_whoever_starts(cell: Cell, join: Join) -> None:
    leader, early = RouteStream(await join("leader")), RouteStream(await join("early"))
    heard: list[tuple[str, bytes]] = []
    await early.follow(lambda name, data: heard.append((name, data)))
    for n in range(20):
        assert await leader.publish(b"table %d" % n)
    await until(lambda: len(heard) == 20)
    assert heard[-1] == ("fra", b"table 19")
    async with asyncio.timeout(20):
        latest = None
        while latest != b"table 19":  # the store syncs each one to its disk first
            latest = await leader.latest()
            await asyncio.sleep(0.01)
    late: list[tuple[str, bytes]] = []
    await RouteStream(await join("late")).follow(lambda name, data: late.append((name, data)))
    assert late == [("fra", b"table 19")]
    await cell.kill()
    fabric = await join("starts alone")
    alone: list[tuple[str, bytes]] = []
    await RouteStream(fabric).follow(lambda name, data: alone.append((name, data)))
    assert alone == []
    assert not await leader.publish(b"nobody hears")
    await cell.start()
    await until(lambda: alone)
    assert set(alone) == {("fra", b"table 19")}


async def test_a_look_during_writes_misses_no_key(join: Join) -> None:
    one, two = await join("one"), await join("two")
    table = await one.table("things", Thing)
    keys = {f"k{n}" for n in range(10)}
    for key in keys:
        await table.put(key, Thing(0), revision=None)

    async def write() -> None:
        while True:
            for key in sorted(keys):
                await table.update(key, lambda old: Thing((old or Thing(0)).size + 1))
                await asyncio.sleep(0)

    writing = asyncio.create_task(write())
    for _ in range(60):
        watch = await two.line().bucket("things").watch()
        await watch.close()
        assert {stored.key for stored in watch.whole.stored} == keys
        assert {stored.key for stored in (await two.line().bucket("things").look()).stored} == keys
    assert not writing.done()
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
