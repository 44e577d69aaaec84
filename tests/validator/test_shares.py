"""Shares of a validator's spool: what is counted, and that nobody fills another's."""

from __future__ import annotations

import asyncio
import doctest
import logging
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.validator.town import key, lease_record, tally
from tests.validator.watched import appeal

from isochrone.records.spool import Spool
from isochrone.schema.deployment import Deployment
from isochrone.schema.documents import LEASE_RECORD, pack, seal, unpack
from isochrone.schema.record_batch import LeaseRecord, Links, RecordBatch
from isochrone.schema.tally import LINK_BYTES
from isochrone.schema.typed_data import Domain
from isochrone.validator import shares
from isochrone.validator.holdings import Holdings
from isochrone.validator.shares import NOBODY, POOL_PARTS, Shares, limits

EPOCH = 5
DEPLOYMENT = Deployment(genesis_unix_s=0, epoch_s=3600)
SPOOL_BYTES = 256 * 1024
HONEST, FLOODER = "0xhonest", "0xflooder"
OPERATORS = {
    key("gateway").address: HONEST,
    key("controller").address: HONEST,
    key("flooding controller").address: FLOODER,
    key("another of its keys").address: FLOODER,
}
BONDS = {HONEST: 100, FLOODER: 100}


def test_the_worked_examples_hold() -> None:
    tried = doctest.testmod(shares)
    assert tried.attempted >= 2
    assert not tried.failed


@given(
    capacity=st.integers(0, 2**31),
    bonds=st.dictionaries(st.text(max_size=3), st.integers(1, 2**52), max_size=20),
)
def test_shares_and_pool_are_the_spool_and_follow_the_bond(
    capacity: int, bonds: dict[str, int]
) -> None:
    made = limits(capacity, bonds)
    assert made.keys() == bonds.keys()
    assert sum(made.values()) + capacity // POOL_PARTS <= capacity
    for one in bonds:
        for other in bonds:
            if bonds[one] >= bonds[other]:
                assert made[one] >= made[other]
    if bonds and capacity >= 1000 * len(bonds):
        assert min(made.values()) >= min(shares.FLOOR_BYTES, capacity // 3 // len(bonds))


def test_what_is_filled_is_given_back_with_its_epoch_and_follows_its_key() -> None:
    room = Shares(800)
    room.fill(1, "k", 60)
    room.fill(2, "k", 40)
    assert not room.fits("k", 1), "the pool is 100"
    room.admit({"k": "0xa"}, {"0xa": 7})
    assert room.limit("0xa") == 700
    assert room.fits("k", 600)
    assert not room.fits("k", 601)
    assert room.fits("stranger", 100)
    room.forget_before(2)
    assert room.fits("k", 660)
    room.admit({}, {})
    assert (room.limit("0xa"), room.fits("k", 60), room.fits("k", 61)) == (0, True, False)


# --- over a spool --------------------------------------------------------------------------------


def holdings_on(folder: Path) -> Holdings:
    spool = Spool.open(folder, bytes_max=SPOOL_BYTES, free_bytes_min=0)
    return Holdings(DEPLOYMENT, spool, "me", lambda: DEPLOYMENT.start_unix_ms(EPOCH) + 1)


def flood(number: int) -> RecordBatch:
    """A lease record that the flooder made up; one of its keys has signed it."""
    told = msgspec.json.decode(
        unpack(lease_record(EPOCH, 1, f"made-up-{number}")).body, type=LeaseRecord
    )
    signer = key("flooding controller" if number % 2 else "another of its keys")
    return RecordBatch(epoch=EPOCH, source="", documents=(pack(seal(LEASE_RECORD, told, signer)),))


def honest(number: int) -> RecordBatch:
    head, links = tally(Domain(), EPOCH, session=f"{number:032x}")
    lease = lease_record(EPOCH, 1, f"lease-{number}")
    return RecordBatch(epoch=EPOCH, source="", heads=(head,), links=(links,), documents=(lease,))


def used(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


async def flooded(holdings: Holdings, first: int = 0) -> list[RecordBatch]:
    """As much as the flooder's share takes, and 20 more; what was refused."""
    refused: list[RecordBatch] = []
    number = first
    while len(refused) < 20:
        made = flood(number)
        if not await holdings.take(made):
            refused.append(made)
        number += 1
        assert number < first + 1000, "nothing is ever refused"
    return refused


def test_a_flooding_operator_fills_its_own_share_and_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    holdings = holdings_on(tmp_path)
    first = flood(0)

    async def play() -> None:
        await holdings.admit(OPERATORS, BONDS)
        with caplog.at_level(logging.ERROR):
            refused = await flooded(holdings)
        assert caplog.text.count(FLOODER) == 1, "said once"
        (why,) = holdings.crowded
        assert "operator 0xflooder: its share of" in why
        assert used(tmp_path) <= SPOOL_BYTES // 2
        assert await holdings.on_batch(msgspec.msgpack.encode(refused[0])) is None
        assert await holdings.take(first), "what is here already is still acknowledged"
        for number in range(15):  # half the spool is left for whoever is honest
            assert await holdings.take(honest(number))
        mixed = msgspec.structs.replace(
            honest(99), documents=(*honest(99).documents, *refused[0].documents)
        )
        assert not await holdings.take(mixed), "not all of it is kept"
        assert await holdings.take(honest(99)), "the honest part was"
        _, held = holdings.file(EPOCH)
        bound = holdings.binding(held)
        assert bound.positions == held.positions
        assert len(bound.positions) == 16
        assert {signer for _, _, signer in bound.papers} == {key("controller").address}
        assert len(bound.papers) == 16 < len(held.papers), "a flood binds no proposer"
        await holdings.settled_to(EPOCH, EPOCH)
        assert holdings.crowded, "until room is made"
        await holdings.settled_to(EPOCH + 3, EPOCH + 3)
        assert holdings.binding(held).papers == held.papers
        assert holdings.crowded == ()

    asyncio.run(play())
    holdings.close()


def test_chains_of_a_flooding_operator_bind_nobody(tmp_path: Path) -> None:
    holdings = holdings_on(tmp_path)
    flooding = {key("gateway").address: FLOODER, key("flooding controller").address: FLOODER}

    async def play() -> None:
        await holdings.admit({**OPERATORS, **flooding}, BONDS)
        head, links = tally(Domain(), EPOCH)
        assert await holdings.take(
            RecordBatch(epoch=EPOCH, source="", heads=(head,), links=(links,))
        )
        _, held = holdings.file(EPOCH)
        assert holdings.binding(held) == held
        await flooded(holdings)
        assert holdings.binding(held).positions == {}

    asyncio.run(play())
    holdings.close()


def test_different_floods_for_each_validator_stop_no_proposal(tmp_path: Path) -> None:
    one, other = holdings_on(tmp_path / "one"), holdings_on(tmp_path / "other")

    async def play() -> None:
        for number, holdings in enumerate((one, other)):
            await holdings.admit(OPERATORS, BONDS)
            await holdings.take(honest(0))
            await flooded(holdings, first=1000 * (number + 1))
        files = [holdings.file(EPOCH) for holdings in (one, other)]
        for holdings, (file, _) in zip((other, one), files, strict=True):
            await holdings.take_file(file)
        for holdings, (_, held), (_, there) in zip((one, other), files, files[::-1], strict=True):
            assert held.papers - there.papers, "each has what the other has no room for"
            assert not holdings.binding(held).papers - there.papers

    asyncio.run(play())
    one.close()
    other.close()


def test_the_shares_are_counted_again_after_a_restart(tmp_path: Path) -> None:
    holdings = holdings_on(tmp_path)
    refused: list[RecordBatch] = []

    async def play() -> None:
        await holdings.admit(OPERATORS, BONDS)
        refused.extend(await flooded(holdings))

    asyncio.run(play())
    held = holdings.file(EPOCH)
    holdings.close()

    spool = Spool.open(tmp_path, bytes_max=SPOOL_BYTES, free_bytes_min=0)
    again = Holdings.over(DEPLOYMENT, spool, "me", lambda: DEPLOYMENT.start_unix_ms(EPOCH) + 1)
    assert again.file(EPOCH) == held, "more than the pool, and yet all of it"

    async def go_on() -> None:
        await again.admit(OPERATORS, BONDS)
        assert not await again.take(refused[0])
        assert await again.take(honest(0))

    asyncio.run(go_on())
    again.close()


def test_links_that_nobody_claims_fill_the_pool_alone(tmp_path: Path) -> None:
    holdings = holdings_on(tmp_path)

    async def play() -> None:
        await holdings.admit(OPERATORS, BONDS)
        taken = 0
        for number in range(200):
            loose = Links(chain=number.to_bytes(32, "big"), first=1, bodies=bytes(8 * LINK_BYTES))
            taken += await holdings.take(RecordBatch(epoch=EPOCH, source="", links=(loose,)))
        assert 0 < taken * 8 * LINK_BYTES <= SPOOL_BYTES // POOL_PARTS
        assert any("no known operator" in why for why in holdings.crowded)
        assert holdings._shares.account("anybody") == NOBODY
        assert await holdings.take(honest(0))

    asyncio.run(play())
    holdings.close()


def test_a_full_pool_keeps_no_node_from_its_appeal(tmp_path: Path) -> None:
    """Anybody can fill the pool, and a validator that likes a verdict could."""
    holdings = holdings_on(tmp_path)
    node = key("node-0").address

    async def play() -> None:
        await holdings.admit(OPERATORS, BONDS, {}, {}, (node,))
        for number in range(200):
            loose = Links(chain=number.to_bytes(32, "big"), first=1, bodies=bytes(8 * LINK_BYTES))
            await holdings.take(RecordBatch(epoch=EPOCH, source="", links=(loose,)))
        assert holdings.crowded
        holdings._shares.fill(EPOCH, "anybody", 8 * LINK_BYTES)  # to the last byte
        for who, taken in (("node-0", True), ("node-1", False)):
            asked = RecordBatch(epoch=EPOCH, source="", documents=(appeal(who, EPOCH),))
            assert await holdings.take(asked) == taken, "of nodes that a provider bonded for"
        _, held = holdings.file(EPOCH)
        assert [signer for kind, _, signer in holdings.binding(held).papers] == [node]

    asyncio.run(play())
    holdings.close()


def test_nobody_fills_an_operators_share_with_links_that_it_made_up(tmp_path: Path) -> None:
    holdings = holdings_on(tmp_path)
    head, links = tally(Domain(), EPOCH)

    async def play() -> None:
        await holdings.admit(OPERATORS, BONDS)
        assert await holdings.take(RecordBatch(epoch=EPOCH, source="", heads=(head,)))
        taken = 0
        for number in range(200):
            bodies = number.to_bytes(4, "big") * (8 * LINK_BYTES // 4)
            forged = Links(chain=links.chain, first=10 + number, bodies=bodies)
            taken += await holdings.take(RecordBatch(epoch=EPOCH, source="", links=(forged,)))
        assert 0 < taken < 200
        assert HONEST not in " ".join(holdings.crowded)
        for number in range(15):
            assert await holdings.take(honest(number)), "with their head, links need no pool"
        assert await holdings.take(
            RecordBatch(epoch=EPOCH, source="", heads=(head,), links=(links,))
        )
        _, held = holdings.file(EPOCH)
        assert held.positions[links.chain] == head.position

    asyncio.run(play())
    before = holdings.file(EPOCH)
    holdings.close()
    spool = Spool.open(tmp_path, bytes_max=SPOOL_BYTES, free_bytes_min=0)
    again = Holdings.over(DEPLOYMENT, spool, "me", lambda: DEPLOYMENT.start_unix_ms(EPOCH) + 1)
    assert again.file(EPOCH) == before
    again.close()


def test_only_what_is_new_is_written(tmp_path: Path) -> None:
    """Nobody fills an operator's share with what it has handed over before."""
    holdings = holdings_on(tmp_path)

    async def play() -> None:
        await holdings.admit(OPERATORS, BONDS)
        assert await holdings.take(honest(0))
        before = used(tmp_path)
        for number in range(10):
            padded = msgspec.structs.replace(
                honest(0), documents=(*honest(0).documents, *flood(number).documents)
            )
            assert await holdings.take(padded)
        each = len(msgspec.msgpack.encode(flood(0)))
        assert used(tmp_path) - before < 10 * (each + 200)

    asyncio.run(play())
    holdings.close()
