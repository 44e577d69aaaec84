"""How a watch began: its first block, and only what stood there then."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.ledger.worlds import EPOCH_S, TwinWorld, key

from isochrone.lab.twins.chain import MemoryChain
from isochrone.ledger.watch_start import NO_WATCH, first_block
from isochrone.rules.watching import phases

VALIDATOR, VOTER = key("validator"), key("voter")


@pytest.fixture
def world() -> TwinWorld:
    made = TwinWorld()
    made.bond(VALIDATOR, "validator", 20, voting_key=VOTER)
    made.pass_epochs(3)
    made.mine(3)
    return made


def seconds_to(world: TwinWorld, at_ms: int) -> int:
    return max(0, -(-at_ms // 1000) - world.chain.head().timestamp_s)


@settings(max_examples=40)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=30), st.integers(-5, 400))
def test_the_first_block_is_found_as_by_looking_at_each(gaps: list[int], offset_s: int) -> None:
    chain = MemoryChain()
    for gap in gaps:
        chain.advance(gap)
    at_ms = (chain.block(0).timestamp_s + offset_s) * 1000
    last = chain.head()
    blocks = [chain.block(n) for n in range(last.number + 1)]
    naive = next((one for one in blocks if one.timestamp_s * 1000 >= at_ms), None)
    assert first_block(chain, at_ms, 0, last) == naive


def test_it_is_the_same_however_late_one_asks(world: TwinWorld) -> None:
    watch = world.epoch() + 1
    clock = phases(world.deployment, watch)
    world.pass_time(seconds_to(world, clock.block_ms - 2_000))
    world.mine(3)
    soon = world.snapshots()
    assert soon.watch_start(watch, world.chain.final()) == NO_WATCH, "it has not begun"
    world.pass_time(seconds_to(world, clock.block_ms), blocks=1)
    first = world.chain.head()
    world.bond(key("late"), "validator", 30)
    root = world.signed_root(world.epoch() - 1, 0, VOTER)
    world.contracts.vault.post_root(VALIDATOR, *root)
    world.mine(3)
    start = soon.watch_start(watch, world.chain.final())
    assert (start.block, start.block_hash) == (first.number, first.hash)
    assert [one.key for one in start.watchers] == [VOTER.address], "who bonded later is not in it"
    assert start.manifest == "", "nor a root that came later"
    world.pass_epochs(3)
    world.mine(3)
    again = world.snapshots()
    assert again.watch_start(watch, world.chain.final()) == start
    assert again.take(watch, strict=False).watch == start
    later = again.take(world.epoch(), strict=False).watch
    assert later.manifest == root[0].manifest
    assert {one.key for one in later.watchers} == {VOTER.address, key("late").address}


def test_a_chain_that_stood_still_has_no_watch(world: TwinWorld) -> None:
    watch = world.epoch() + 1
    clock = phases(world.deployment, watch)
    world.pass_time(seconds_to(world, clock.commit_ms) + EPOCH_S)
    world.mine(3)
    assert world.snapshots().watch_start(watch, world.chain.final()) == NO_WATCH
