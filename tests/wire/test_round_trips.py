"""Round trips are measured by tokens that cannot be guessed."""

from __future__ import annotations

import pytest

from isochrone.wire.round_trips import RoundTrips


def test_min_average_and_last():
    trips = RoundTrips()
    for n, rtt_s in enumerate((0.010, 0.030, 0.020)):
        trips.sent(b"%d" % n, 100.0 + n)
        assert trips.answered(b"%d" % n, 100.0 + n + rtt_s)
    assert trips.min_ms == pytest.approx(10.0)
    assert trips.last_ms == pytest.approx(20.0)
    assert trips.ewma_ms == pytest.approx((10 * 0.875 + 30 * 0.125) * 0.875 + 20 * 0.125)


def test_answers_that_nobody_asked_for_do_not_count():
    trips = RoundTrips()
    trips.sent(b"a", 1.0)
    assert not trips.answered(b"b", 1.0)
    assert trips.answered(b"a", 1.5)
    assert not trips.answered(b"a", 1.6)
    assert trips.last_ms == pytest.approx(500.0)


def test_what_was_never_answered_is_forgotten():
    trips = RoundTrips()
    for n in range(1000):
        trips.sent(b"%d" % n, float(n))
    assert len(trips._sent_s) == 64
    assert not trips.answered(b"0", 1001.0)
