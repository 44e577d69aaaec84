"""Any history of digests: a beating node is never dead, and blindness kills nobody."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from isochrone.controller.liveness import SETTLE_S, SILENT_S, STALE_S, Heard, State, look

from .test_liveness import digest

NAMES = [f"n{i}" for i in range(12)]

Step = tuple[bool, dict[str, float], bool, float]
STEPS = st.tuples(
    st.booleans(),  # the gateway is heard
    st.dictionaries(st.sampled_from(NAMES), st.floats(0, 4000), max_size=12),
    st.booleans(),  # it has restarted
    st.floats(0.05, 2.0),  # seconds since the last look
)


@given(st.lists(STEPS, max_size=40))
def test_verdicts_follow_what_is_heard(history: list[Step]) -> None:
    state, newest, boot, now_s, booted_s = State(), None, 1, 0.0, 0.0
    dead: set[str] = set()
    for heard, listed, restarted, passed_s in history:
        now_s += passed_s
        if heard:
            boot += restarted
            if restarted or newest is None:
                booted_s = now_s
            newest = Heard(digest("g", listed, str(boot)), now_s)
        state, sight = look(state, [newest] if newest else [], now_s)
        fresh = newest is not None and now_s - newest.received_s <= STALE_S
        told = {n.node: n.beat_age_ms for n in newest.presence.nodes} if newest else {}
        died = {name for name in NAMES if name in sight.nodes} & {
            name for name in NAMES if sight.verdict(name) == "dead"
        }
        for name, age_ms in told.items():
            if fresh and age_ms <= SILENT_S * 1000:
                assert sight.verdict(name) == "alive"
        if not fresh or now_s - booted_s < SETTLE_S:
            assert died <= dead, "nobody dies while we cannot know"
        assert bool(sight.gateways) == fresh
        dead = died
