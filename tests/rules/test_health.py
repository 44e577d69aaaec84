"""Health: nodes that stop, break, slow down and come back, told as timelines."""

import random

import pytest

from isochrone.rules.health import (
    BEAT_S,
    EJECTION_MAX_S,
    EJECTION_S,
    FAILURES_TO_EJECT,
    FORGIVE_ANSWERS,
    PROBE_S,
    SILENCE_MAX_S,
    SILENCE_MIN_S,
    SLOW_EXCESS_MS,
    SLOW_SAMPLES_MIN,
    Answered,
    Asked,
    Beat,
    ChannelLost,
    ChannelOpened,
    Failed,
    Health,
    eject,
    fresh,
    is_slow,
    may_eject,
    silence_limit_s,
    step,
    verdict,
    view_is_doubtful,
)


def beating(seconds: float, jitter_s: float = 0.0, seed: int = 1) -> tuple[Health, float]:
    """A node that has beaten for that long, and the instant of its last beat."""
    chance = random.Random(seed)
    state, now_s = fresh(0.0), 0.0
    while now_s < seconds:
        now_s += BEAT_S + chance.uniform(-jitter_s, jitter_s)
        state = step(state, Beat(), now_s)
    return state, now_s


def broken(state: Health, now_s: float, times: int = FAILURES_TO_EJECT) -> Health:
    for _ in range(times):
        state = step(state, Failed("engine_down"), now_s)
    return state


def answering(latency_ms: float, count: int) -> Health:
    state = fresh(0.0)
    for _ in range(count):
        state = step(state, Answered(latency_ms), 0.0)
    return state


@pytest.mark.parametrize("jitter_s", [0.0, 0.05, 0.15, 0.24])
def test_a_frozen_process_is_avoided_within_two_seconds(jitter_s: float) -> None:
    state, last_s = beating(20.0, jitter_s)
    assert verdict(state, last_s + SILENCE_MIN_S - 0.01) == "alive"
    assert verdict(state, last_s + SILENCE_MAX_S + 0.01) == "silent"


def test_regular_beats_are_missed_sooner_than_irregular_ones() -> None:
    steady, _ = beating(20.0)
    restless, _ = beating(20.0, jitter_s=0.24)
    assert silence_limit_s(steady) == SILENCE_MIN_S
    assert silence_limit_s(restless) > SILENCE_MIN_S


def test_a_node_that_thaws_is_alive_at_its_first_beat() -> None:
    state, last_s = beating(5.0)
    assert verdict(state, last_s + 10.0) == "silent"
    assert verdict(step(state, Beat(), last_s + 10.0), last_s + 10.1) == "alive"


def test_answers_are_signs_of_life_but_teach_no_rhythm() -> None:
    state = fresh(0.0)
    for index in range(200):
        state = step(state, Answered(1.0), index * 0.001)
    assert silence_limit_s(state) == silence_limit_s(fresh(0.0))
    assert verdict(state, 0.8) == "alive"


def test_a_closed_channel_is_lost_until_it_opens() -> None:
    state, now_s = beating(1.0)
    state = step(state, ChannelLost(), now_s)
    assert verdict(state, now_s) == "lost"
    assert verdict(step(state, ChannelOpened(), now_s + 60.0), now_s + 60.0) == "alive"


def test_fewer_failures_in_a_row_eject_nobody() -> None:
    state = broken(fresh(0.0), 0.0, FAILURES_TO_EJECT - 1)
    assert verdict(state, 0.0) == "alive"
    state = step(state, Answered(1.0), 0.1)
    assert verdict(broken(state, 0.2, FAILURES_TO_EJECT - 1), 0.2) == "alive"


def test_three_failures_rest_it_and_the_rest_ends() -> None:
    state = broken(fresh(0.0), 0.0)
    assert verdict(state, 0.0) == "ejected"
    state = step(state, Beat(), EJECTION_S)
    assert verdict(state, EJECTION_S) == "alive"


def test_a_burst_of_failures_is_one_ejection() -> None:
    """Thirty requests in flight fail when a node breaks; it is not thirty times as bad."""
    state = broken(fresh(0.0), 0.0, times=30)
    assert state.ejections == 1
    assert state.ejected_until_s == EJECTION_S


def test_rests_double_up_to_the_cap() -> None:
    state, now_s, rests = broken(fresh(0.0), 0.0), 0.0, []
    for _ in range(8):
        rests.append(state.ejected_until_s - now_s)
        now_s = state.ejected_until_s
        state = step(step(state, Asked(), now_s), Failed("engine_down"), now_s + 0.01)
        now_s += 0.01
    assert rests == pytest.approx([1, 2, 4, 8, 16, EJECTION_MAX_S, EJECTION_MAX_S, EJECTION_MAX_S])


def test_one_request_probes_while_the_others_stay_away() -> None:
    state = broken(fresh(0.0), 0.0)
    now_s = EJECTION_S + 0.1
    state = step(step(state, Beat(), now_s), Asked(), now_s)
    assert verdict(state, now_s) == "ejected"
    assert step(state, Asked(), now_s + 0.1) == state
    good = step(state, Answered(3.0), now_s + 0.2)
    assert verdict(good, now_s + 0.2) == "alive"
    bad = step(state, Failed("engine_down"), now_s + 0.2)
    assert bad.ejected_until_s == pytest.approx(now_s + 0.2 + 2 * EJECTION_S)


def test_a_probe_that_never_comes_back_costs_little() -> None:
    state = step(broken(fresh(0.0), 0.0), Asked(), EJECTION_S)
    later_s = EJECTION_S + PROBE_S
    state = step(state, Beat(), later_s)
    assert verdict(state, later_s) == "alive"
    assert step(state, Asked(), later_s).probing


def test_an_answer_from_before_the_ejection_does_not_end_the_rest() -> None:
    state = step(broken(fresh(0.0), 0.0), Answered(3.0), 0.5)
    assert verdict(state, 0.6) == "ejected"
    probed = step(step(state, Asked(), 1.0), Failed("engine_down"), 1.1)
    assert probed.ejections == 2


def test_good_answers_make_up_for_ejections() -> None:
    state = step(broken(fresh(0.0), 0.0), Asked(), 1.0)
    for index in range(FORGIVE_ANSWERS):
        assert state.ejections == 1
        state = step(state, Answered(1.0), 1.0 + index * 0.01)
    assert state.ejections == 0


def test_slow_is_slower_than_the_peers_by_far() -> None:
    peers = [answering(10.0, SLOW_SAMPLES_MIN) for _ in range(3)]
    assert is_slow(answering(31.0, SLOW_SAMPLES_MIN), peers)
    assert not is_slow(answering(29.0, SLOW_SAMPLES_MIN), peers)
    assert not is_slow(answering(31.0, SLOW_SAMPLES_MIN - 1), peers)
    assert not is_slow(answering(31.0, SLOW_SAMPLES_MIN), [])
    assert not is_slow(answering(31.0, SLOW_SAMPLES_MIN), [answering(10.0, 2)])


def test_when_all_are_slow_none_is() -> None:
    fleet = [answering(500.0, SLOW_SAMPLES_MIN) for _ in range(4)]
    assert not any(is_slow(fleet[i], fleet[:i] + fleet[i + 1 :]) for i in range(4))


def test_microseconds_are_noise() -> None:
    peers = [answering(0.02, SLOW_SAMPLES_MIN)] * 3
    assert not is_slow(answering(0.2, SLOW_SAMPLES_MIN), peers)
    assert is_slow(answering(0.1 + SLOW_EXCESS_MS, SLOW_SAMPLES_MIN), peers)


def test_after_its_rest_a_slow_one_is_judged_by_new_answers() -> None:
    peers = [answering(10.0, SLOW_SAMPLES_MIN)] * 3
    state = answering(100.0, SLOW_SAMPLES_MIN)
    assert is_slow(state, peers)
    state = step(eject(state, 0.0), Asked(), EJECTION_S)
    for _ in range(SLOW_SAMPLES_MIN):
        state = step(state, Answered(10.0), EJECTION_S + 0.1)
        assert not is_slow(state, peers)


def test_our_own_stall_is_not_everybodys_death() -> None:
    assert view_is_doubtful(vanished=6, fleet=10)
    assert not view_is_doubtful(vanished=5, fleet=10)
    assert not view_is_doubtful(vanished=9, fleet=9), "a small fleet may really be gone"


def test_at_least_one_and_at_most_a_tenth_may_rest() -> None:
    assert [sum(may_eject(n, fleet) for n in range(fleet)) for fleet in (1, 9, 10, 25, 100)] == [
        1, 1, 1, 2, 10,
    ]  # fmt: skip
