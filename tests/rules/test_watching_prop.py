"""Who measures whom: the same for everybody, foreseen by nobody, fair, never the own provider."""

from __future__ import annotations

import doctest
from collections import Counter
from math import comb

from hypothesis import given
from hypothesis import strategies as st

from isochrone.rules import watching
from isochrone.rules.watching import (
    COMMITTEE,
    MOMENTS,
    MOMENTS_MAX,
    Phases,
    committee,
    draws,
    examiners,
    moments,
    near_moment,
    node_share_ppm,
    phases,
    seed_of,
    watch_at,
)
from isochrone.schema.chain_snapshot import Watcher, WatchStart
from isochrone.schema.deployment import Deployment

names = st.text("abcdef0123456789", min_size=1, max_size=8)
secrets = st.binary(min_size=32, max_size=32)
deployments = st.builds(
    Deployment, genesis_unix_s=st.integers(0, 2**31), epoch_s=st.integers(6, 90_000)
)


def some(count: int) -> list[Watcher]:
    return [Watcher(key=f"k{i}", account=f"a{i}", stake_microusd=1 + i) for i in range(count)]


def hourly(watch: int) -> Phases:
    return phases(Deployment(genesis_unix_s=0, epoch_s=3600), watch)


def test_the_worked_examples_are_true() -> None:
    result = doctest.testmod(watching)
    assert result.attempted
    assert not result.failed


@given(deployments, st.integers(0, 10**6), st.integers(0, 10**6))
def test_phases_follow_each_other_and_end_with_the_epoch(
    deployment: Deployment, watch: int, within_ms: int
) -> None:
    clock = phases(deployment, watch)
    times = (clock.block_ms, clock.measure_ms, clock.commit_ms, clock.open_ms, clock.end_ms)
    assert list(times) == sorted(set(times))
    assert clock.end_ms == deployment.start_unix_ms(watch + 1)
    assert phases(deployment, watch + 1).block_ms >= clock.open_ms - 1, "its block comes after"
    at_ms = clock.block_ms + within_ms % (clock.open_ms - clock.block_ms)
    assert watch_at(deployment, at_ms) == watch


@given(st.text("abc", max_size=3), st.text("abc", max_size=3), st.integers(0, 9))
def test_the_seed_depends_on_the_manifest_the_block_and_the_watch(
    manifest: str, block: str, watch: int
) -> None:
    start = WatchStart(block=1, block_hash=f"0x{block}", manifest=manifest)
    seed = seed_of(start, watch)
    assert len(seed) == 64
    assert seed == seed_of(WatchStart(block=9, block_hash=f"0x{block}", manifest=manifest), watch)
    assert seed != seed_of(start, watch + 1)
    assert seed != seed_of(WatchStart(block_hash="0xother", manifest=manifest), watch)
    assert seed != seed_of(WatchStart(block_hash=f"0x{block}", manifest=manifest + "d"), watch)
    assert seed_of(WatchStart(manifest=manifest), watch) == "", "no block, no watch"


@given(st.integers(0, 20), names, names, st.integers(0, 19), st.randoms(use_true_random=False))
def test_a_committee_is_the_same_for_everybody_and_never_the_providers_own(
    count: int, seed: str, node: str, owner: int, chance: object
) -> None:
    watchers = some(count)
    mixed = list(watchers)
    chance.shuffle(mixed)  # type: ignore[attr-defined]
    found = committee(seed, node, watchers, f"a{owner}")
    assert found == committee(seed, node, mixed, f"a{owner}")
    assert f"k{owner}" not in found
    assert len(found) == min(COMMITTEE, count - (owner < count))
    everybody = examiners(seed, node, watchers, f"a{owner}", suspects=(node,))
    assert set(found) <= set(everybody)
    assert len(everybody) == count - (owner < count)


def test_a_committee_without_stake_is_none() -> None:
    broke = [Watcher(key="k", account="a", stake_microusd=0)]
    assert committee("aa", "n", broke) == ()


def test_seats_are_spread_evenly_and_change_with_the_seed() -> None:
    watchers, nodes = some(12), [f"node-{i}" for i in range(1_200)]
    seats = Counter(key for node in nodes for key in committee("aa", node, watchers))
    assert len(seats) == 12
    mean = len(nodes) * COMMITTEE / 12  # 500; binomial, standard deviation 17
    assert all(abs(count - mean) < 5 * 17 for count in seats.values())
    same = sum(committee("aa", n, watchers) == committee("ab", n, watchers) for n in nodes)
    assert same < 12, "one in 792 by chance"


@given(secrets, names, st.integers(0, 1000), st.integers(1, 8))
def test_moments_lie_in_the_watch_and_follow_from_the_secret_alone(
    secret: bytes, node: str, watch: int, mean: int
) -> None:
    clock = hourly(watch)
    found = moments(secret, node, clock, mean)
    assert found == moments(secret, node, clock, mean)
    assert 1 <= len(found) <= MOMENTS_MAX
    assert list(found) == sorted(set(found))
    assert clock.measure_ms <= found[0]
    assert found[-1] <= clock.commit_ms - clock.tolerance_ms
    assert all(near_moment(at, found, clock) for at in found)
    assert not near_moment(found[-1] + clock.tolerance_ms + 1, found, clock)
    other = bytes([secret[0] ^ 1]) + secret[1:]
    assert found != moments(other, node, clock, mean)
    assert found != moments(secret, node + "'", clock, mean)


def test_a_moment_seen_says_nothing_about_the_next_one() -> None:
    """The gap to the next moment is as long after a moment as after any time: no rest to be had."""
    clock = hourly(3)
    window_ms = clock.commit_ms - clock.measure_ms
    counts: Counter[int] = Counter()
    after, anytime = [], []
    for i in range(3_000):
        found = moments(i.to_bytes(32, "big"), "node", clock)
        counts[len(found)] += 1
        half = clock.measure_ms + window_ms // 2
        anytime += [any(half < at <= half + window_ms // 4 for at in found)]
        early = [at for at in found[:1] if at < half]
        after += [any(at < later <= at + window_ms // 4 for later in found) for at in early]
    mean = sum(number * times for number, times in counts.items()) / 3_000
    assert abs(mean - MOMENTS) < 0.15
    assert counts[1] > counts[7], "as chance has it, not a fixed number"
    assert abs(sum(after) / len(after) - sum(anytime) / len(anytime)) < 0.06


@given(secrets, names, names, st.integers(0, 8))
def test_draws_are_apart_by_label_and_place(secret: bytes, node: str, label: str, n: int) -> None:
    found = draws(secret, node, label, n)
    assert len(set(found)) == n
    assert all(len(one) == 32 for one in found)
    assert not set(found) & set(draws(secret, node, label + "'", n))


@given(st.integers(600, 90_000), st.integers(1, 100))
def test_a_watch_costs_a_node_less_than_a_hundredth_of_its_time(
    epoch_s: int, measurers: int
) -> None:
    """With every moment that can be drawn, of a committee and of all 50 validators of a suspect."""
    assert node_share_ppm(epoch_s) < 10_000
    assert node_share_ppm(epoch_s, min(measurers, 50)) <= 10_000


def test_four_hostile_of_twelve_have_a_committee_in_15_percent_of_draws() -> None:
    """Why a committee only flags; no draw of ours changes it, and none makes it worse."""
    who, bought = some(12), {"k0", "k1", "k2", "k3"}
    drawn = [len(bought & set(committee("5eed", f"n{i}", who))) >= 3 for i in range(6_000)]
    exact = sum(comb(4, n) * comb(8, 5 - n) for n in (3, 4)) / comb(12, 5)
    assert round(exact, 2) == 0.15
    assert abs(sum(drawn) / len(drawn) - exact) < 0.02
