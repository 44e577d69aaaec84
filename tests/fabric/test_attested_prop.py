"""The shelf against a naive one that keeps everything it was ever told."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from tests.fabric.attesting import FRANKFURT, REACHES, reach_of

from isochrone.fabric.attested_bounds import AHEAD_MS, Bounds
from isochrone.schema.probing import PlaceAttestation

VALID_MS = 1000
ACCOUNTS = ("alice", "bob", "carol", "")
REACH = dict(REACHES[FRANKFURT.latitude, FRANKFURT.longitude])

said = st.builds(
    PlaceAttestation,
    subject=st.sampled_from(["n", "m"]),
    vantage=st.sampled_from(["v", "w", "x", "y"]),
    account=st.sampled_from(ACCOUNTS),
    place=st.just(FRANKFURT),
    burst_at_unix_ms=st.integers(-1200, 1200),  # from the moment it is told
    rtt_us=st.sampled_from([100, 900, 2000, 20_000]),
    probes=st.just(1),
    kernel_time=st.just(False),
    transcript=st.binary(min_size=3, max_size=3),
)


@given(st.lists(st.tuples(said, st.integers(0, 700)), max_size=12), st.integers(0, 1500))
def test_what_counts_is_young_and_of_some_account(
    told: list[tuple[PlaceAttestation, int]], later_ms: int
) -> None:
    bounds, now_ms = Bounds(VALID_MS, {}, reach_of), 1_000_000
    everything = []
    for number, (one, pause_ms) in enumerate(told):
        at_ms = now_ms + one.burst_at_unix_ms
        one = msgspec.structs.replace(one, burst_at_unix_ms=at_ms)
        kept = bounds.take(one, str(number).encode(), now_ms)
        assert not kept or now_ms - VALID_MS <= at_ms <= now_ms + AHEAD_MS
        everything.append(one)
        now_ms += pause_ms
    now_ms += later_ms
    bounds.judge(bounds.subjects(), now_ms)
    for subject in ("n", "m"):
        young = [
            one
            for one in everything
            if one.subject == subject and one.account and one.burst_at_unix_ms >= now_ms - VALID_MS
        ]
        discs = bounds.discs(subject, "alice")
        others = {one.account for one in young} - {"alice"}
        assert len(discs) <= len(others), "one for each other account at most"
        for disc in discs:
            assert disc
            assert any(set(disc) >= _touched(one.rtt_us) for one in young), "nothing is made up"
        assert not (discs and not young)


def _touched(rtt_us: int) -> set[str]:
    return {country for country, km in REACH.items() if km <= rtt_us * 0.149896229}
