"""The choice of the home cell."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from isochrone.node.home import GONE_S, NEARER_FOR_S, Home, View, judge


def test_the_first_home_is_the_nearest() -> None:
    assert judge(Home(), View(rtts_ms={"fra": 12.0, "sin": 160.0}), 0.0).cell == "fra"


def test_no_answer_no_home() -> None:
    assert judge(Home(), View(rtts_ms={}), 0.0).cell is None


def test_a_short_outage_moves_nothing() -> None:
    away = View(rtts_ms={"sin": 160.0})
    home = judge(Home(cell="fra"), away, 100.0)
    home = judge(home, away, 100.0 + GONE_S - 0.1)
    assert home.cell == "fra"
    home = judge(home, View(rtts_ms={"fra": 12.0}, connected=True), 109.9)
    assert home == Home(cell="fra")
    assert judge(home, away, 111.0).cell == "fra"


def test_a_home_that_is_gone_is_left_for_one_that_answers() -> None:
    home = judge(Home(cell="fra"), View(rtts_ms={}), 100.0)
    home = judge(home, View(rtts_ms={}), 100.0 + 3 * GONE_S)
    assert home.cell == "fra"  # nowhere to go
    assert judge(home, View(rtts_ms={"sin": 160.0}), 101.0 + 3 * GONE_S).cell == "sin"


def test_a_clearly_nearer_cell_is_taken_after_long_and_when_idle() -> None:
    view = View(rtts_ms={"fra": 30.0, "par": 10.0}, connected=True, idle=True)
    home = judge(Home(cell="fra"), view, 0.0)
    assert home.nearer == "par"
    home = judge(home, view, NEARER_FOR_S - 1)
    assert home.cell == "fra"
    busy = View(rtts_ms=view.rtts_ms, connected=True, idle=False)
    home = judge(home, busy, NEARER_FOR_S + 1)
    assert home.cell == "fra"
    assert judge(home, view, NEARER_FOR_S + 2).cell == "par"


def test_a_break_starts_the_wait_again() -> None:
    near = View(rtts_ms={"fra": 30.0, "par": 10.0}, connected=True)
    even = View(rtts_ms={"fra": 30.0, "par": 29.0}, connected=True)
    home = judge(judge(Home(cell="fra"), near, 0.0), even, 300.0)
    assert home.nearer is None
    assert judge(judge(home, near, 301.0), near, NEARER_FOR_S + 1).cell == "fra"


@given(st.floats(1, 300), st.floats(0, 1e6))
def test_noise_below_the_thresholds_never_starts_a_move(here_ms: float, now_s: float) -> None:
    there_ms = max(0.81 * here_ms, here_ms - 4.9)
    view = View(rtts_ms={"fra": here_ms, "par": there_ms}, connected=True)
    assert judge(Home(cell="fra"), view, now_s) == Home(cell="fra")
