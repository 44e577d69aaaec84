"""The leadership machine, step by step: who claims when, and when acting stops."""

from __future__ import annotations

from isochrone.controller.leadership import (
    ACT_S,
    BEAT_S,
    TAKEOVER_S,
    Failed,
    Learned,
    Seen,
    State,
    Tick,
    Write,
    Wrote,
    may_act,
    resignation,
    start,
    step,
)
from isochrone.schema.leadership import Leadership

CONNECTED = Tick(connected=True)


def leading(now_s: float = 0.0, floor: int = 0) -> State:
    state, write = step(start("a/1", floor, now_s), CONNECTED, now_s)
    assert write is not None
    state, _ = step(state, Wrote(write.entry, 1, now_s), now_s)
    return state


def test_an_empty_table_is_claimed_at_once() -> None:
    _, write = step(start("a/1", 4, 0.0), CONNECTED, 0.0)
    assert write == Write(Leadership(leader="a/1", epoch=5, beat=0), None)


def test_nothing_is_written_while_the_fabric_is_away() -> None:
    state = start("a/1", 0, 0.0)
    for now_s in range(100):
        state, write = step(state, Tick(connected=False), float(now_s))
        assert write is None


def test_a_leader_renews_every_beat_and_acts() -> None:
    state = leading()
    assert may_act(state, 0.1)
    state, write = step(state, CONNECTED, BEAT_S)
    assert write == Write(Leadership(leader="a/1", epoch=1, beat=1), 1)


def test_a_leader_that_cannot_renew_stops_acting() -> None:
    state = leading()
    state, _ = step(state, CONNECTED, BEAT_S)
    state, _ = step(state, Failed(), BEAT_S + 1.0)
    assert may_act(state, ACT_S)
    assert not may_act(state, ACT_S + 0.001)


def test_a_frozen_leader_wakes_up_not_acting() -> None:
    assert not may_act(leading(), 60.0)


def test_a_standby_takes_over_after_silence_only() -> None:
    state = start("b/1", 0, 0.0)
    state, _ = step(state, Seen(Leadership(leader="a/1", epoch=7, beat=3), 30), 1.0)
    state, write = step(state, CONNECTED, 1.0 + TAKEOVER_S - 0.01)
    assert write is None
    state, write = step(state, CONNECTED, 1.0 + TAKEOVER_S)
    assert write == Write(Leadership(leader="b/1", epoch=8, beat=0), 30)


def test_a_beat_restarts_the_count() -> None:
    state = start("b/1", 0, 0.0)
    state, _ = step(state, Seen(Leadership(leader="a/1", epoch=7, beat=3), 30), 0.0)
    state, _ = step(state, Seen(Leadership(leader="a/1", epoch=7, beat=4), 31), 2.9)
    state, write = step(state, CONNECTED, 4.0)
    assert write is None


def test_time_without_fabric_does_not_count_as_silence() -> None:
    state = start("b/1", 0, 0.0)
    state, _ = step(state, Seen(Leadership(leader="a/1", epoch=7, beat=3), 30), 0.0)
    state, _ = step(state, Tick(connected=False), 10.0)
    state, write = step(state, CONNECTED, 10.0 + TAKEOVER_S - 0.1)
    assert write is None


def test_a_resigned_leader_is_followed_at_once() -> None:
    write = resignation(leading())
    assert write is not None
    state, _ = step(start("b/1", 0, 0.0), Seen(write.entry, 9), 0.0)
    state, claim = step(state, CONNECTED, 0.0)
    assert claim == Write(Leadership(leader="b/1", epoch=2, beat=0), 9)
    assert resignation(state) is None


def test_our_own_dead_process_is_followed_at_once() -> None:
    state, _ = step(start("a/2", 0, 0.0), Seen(Leadership(leader="a/1", epoch=7, beat=3), 30), 0.0)
    _, write = step(state, CONNECTED, 0.0)
    assert write == Write(Leadership(leader="a/2", epoch=8, beat=0), 30)


def test_who_was_overtaken_stands_by() -> None:
    state, _ = step(leading(), Seen(Leadership(leader="b/1", epoch=2, beat=0), 5), 0.1)
    assert not may_act(state, 0.1)
    assert state.role == "standby"


def test_a_vanished_entry_is_written_again_with_a_higher_epoch() -> None:
    state, _ = step(leading(), Seen(None, 0), 3 * BEAT_S)
    state, write = step(state, CONNECTED, 3 * BEAT_S)
    assert write == Write(Leadership(leader="a/1", epoch=2, beat=0), None)


def test_a_lagging_watch_does_not_unseat_a_leader() -> None:
    state = leading()
    state, _ = step(state, Wrote(Leadership(leader="a/1", epoch=1, beat=1), 2, 0.5), 0.5)
    later, _ = step(state, Seen(Leadership(leader="a/1", epoch=1, beat=0), 1), 0.6)
    assert later == state


def test_a_leader_that_learns_of_a_higher_epoch_stops_and_rises_above_it() -> None:
    state, _ = step(leading(), Learned(40), 0.1)
    assert not may_act(state, 0.1)
    state, write = step(state, CONNECTED, 0.3)
    assert write == Write(Leadership(leader="a/1", epoch=41, beat=0), 1)
    state, _ = step(state, Wrote(write.entry, 2, 0.3), 0.3)
    assert may_act(state, 0.4)
