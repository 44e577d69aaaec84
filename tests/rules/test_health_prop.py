"""Health over any history: detection is bounded, states are values, rests end."""

from hypothesis import given
from hypothesis import strategies as st

from isochrone.rules.health import (
    EJECTED_SHARE_MAX,
    EJECTION_MAX_S,
    FAILURES_TO_EJECT,
    PROBE_S,
    SILENCE_MAX_S,
    SILENCE_MIN_S,
    Answered,
    Asked,
    Beat,
    ChannelLost,
    ChannelOpened,
    Event,
    Failed,
    Health,
    fresh,
    may_eject,
    silence_limit_s,
    step,
    verdict,
)

events: st.SearchStrategy[Event] = st.one_of(
    st.just(Beat()),
    st.just(Asked()),
    st.builds(Answered, st.floats(0.0, 5000.0)),
    st.builds(Failed, st.sampled_from(("engine_down", "timeout"))),
    st.just(ChannelLost()),
    st.just(ChannelOpened()),
)
histories = st.lists(st.tuples(st.floats(0.0, 3.0), events), max_size=60)


def lived(history: list[tuple[float, Event]]) -> tuple[Health, float]:
    state, now_s = fresh(0.0), 0.0
    for gap_s, event in history:
        now_s += gap_s
        before = (state.heard_s, state.failures, state.ejected_until_s)
        after = step(state, event, now_s)
        assert before == (state.heard_s, state.failures, state.ejected_until_s)
        state = after
    return state, now_s


@given(histories)
def test_after_any_history_silence_is_noticed_in_time(history: list[tuple[float, Event]]) -> None:
    state, now_s = lived(history)
    assert SILENCE_MIN_S <= silence_limit_s(state) <= SILENCE_MAX_S
    state = step(step(state, ChannelOpened(), now_s), Beat(), now_s)
    assert verdict(state, now_s + SILENCE_MIN_S - 0.001) != "silent"
    assert verdict(state, now_s + SILENCE_MAX_S + 0.001) == "silent"


@given(histories)
def test_every_rest_ends(history: list[tuple[float, Event]]) -> None:
    state, now_s = lived(history)
    assert state.ejected_until_s <= now_s + max(EJECTION_MAX_S, PROBE_S)


@given(histories)
def test_a_lost_channel_is_believed_whatever_else_happened(
    history: list[tuple[float, Event]],
) -> None:
    state, now_s = lived(history)
    assert verdict(step(state, ChannelLost(), now_s), now_s) == "lost"


@given(st.lists(st.sampled_from((Answered(5.0), Failed("timeout"))), max_size=40))
def test_only_failures_in_a_row_eject(outcomes: list[Event]) -> None:
    """A node at rest stays there; before that, the longest row of failures decides."""
    state, row, longest = fresh(0.0), 0, 0
    for index, outcome in enumerate(outcomes):
        state = step(state, outcome, index * 0.001)
        row = row + 1 if isinstance(outcome, Failed) else 0
        longest = max(longest, row)
    assert (verdict(state, 0.05) == "ejected") == (longest >= FAILURES_TO_EJECT)


@given(st.integers(1, 3000))
def test_statistics_never_rest_more_than_a_tenth(fleet: int) -> None:
    resting = 0
    while may_eject(resting, fleet):
        resting += 1
    assert resting == max(1, int(fleet * EJECTED_SHARE_MAX))
