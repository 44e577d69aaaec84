from __future__ import annotations

from isochrone.engines.restarts import DELAYS_S, STOOD_S, Restarts


def test_crashes_in_a_row_wait_ever_longer_up_to_a_limit() -> None:
    restarts, delays = Restarts(), []
    for _ in range(len(DELAYS_S) + 3):
        restarts, delay_s = restarts.after(1.0)
        delays.append(delay_s)
    assert delays == [*DELAYS_S, *[DELAYS_S[-1]] * 3]
    assert restarts.total == len(delays)


def test_a_crash_after_standing_is_a_first_one() -> None:
    restarts = Restarts()
    for _ in range(4):
        restarts, _ = restarts.after(0.0)
    restarts, delay_s = restarts.after(STOOD_S)
    assert delay_s == DELAYS_S[0]
    assert restarts == Restarts(total=5, in_a_row=1)
