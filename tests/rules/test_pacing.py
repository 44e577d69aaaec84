"""So many a second, whatever is asked for."""

from __future__ import annotations

from isochrone.rules.pacing import Pace


def test_a_pause_fills_it_for_a_second_and_no_more() -> None:
    pace = Pace(2)
    assert [pace.allows(10.0) for _ in range(3)] == [True, True, False]
    assert [pace.allows(now_s) for now_s in (10.5, 10.6, 11.0)] == [True, False, True]
    assert sum(pace.allows(100.0) for _ in range(9)) == 2
