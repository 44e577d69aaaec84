from __future__ import annotations

from isochrone.lab.delay_line import DelayLine, Signal


def contents(line: DelayLine, now_s: float) -> list[bytes | Signal]:
    out = []
    while (parcel := line.pop_due(now_s)) is not None:
        out.append(parcel.content)
    return out


def test_what_enters_leaves_a_delay_later_in_order() -> None:
    line = DelayLine(0.5, 100)
    line.push(b"a", 10.0)
    line.push(b"b", 10.2)
    line.push(Signal.END, 10.2)
    assert contents(line, 10.49) == []
    assert line.next_due_s == 10.5
    assert contents(line, 10.5) == [b"a"]
    assert contents(line, 99.0) == [b"b", Signal.END]
    assert line.next_due_s is None


def test_a_shorter_line_lets_nothing_overtake() -> None:
    line = DelayLine(5.0, 100)
    line.push(b"slow", 0.0)
    line.delay_s = 1.0
    line.push(b"fast", 0.1)
    assert contents(line, 4.9) == []
    assert line.pop_due(5.0) == (5.0, b"slow")
    assert line.pop_due(5.0) == (5.0, b"fast")  # due then, not late


def test_nothing_sets_out_before_the_line_is_open() -> None:
    line = DelayLine(1.0, 100)
    line.open_s = 3.0
    line.push(b"a", 0.0)
    assert line.next_due_s == 4.0


def test_a_held_line_keeps_everything_and_sends_it_anew_when_released() -> None:
    line = DelayLine(1.0, 100)
    line.push(b"a", 0.0)
    line.hold()
    line.push(b"b", 0.1)
    assert contents(line, 50.0) == []
    assert line.next_due_s is None
    line.release(60.0)
    assert contents(line, 60.9) == []
    line.push(b"c", 60.9)
    assert contents(line, 61.0) == [b"a", b"b"]
    assert contents(line, 61.9) == [b"c"]


def test_a_rate_spreads_bytes_out() -> None:
    line = DelayLine(1.0, 10_000, bytes_per_s=1000.0)
    line.push(b"x" * 500, 0.0)
    line.push(b"y" * 500, 0.0)
    line.push(b"z" * 100, 10.0)
    assert contents(line, 1.49) == []
    assert contents(line, 1.5) == [b"x" * 500]
    assert contents(line, 2.0) == [b"y" * 500]
    assert line.next_due_s == 11.1


def test_the_window_counts_bytes_inside() -> None:
    line = DelayLine(1.0, 10)
    line.push(b"12345", 0.0)
    assert not line.full
    line.push(b"67890", 0.5)
    assert line.full
    assert not line.half_empty
    assert contents(line, 1.0) == [b"12345"]
    assert not line.full
    assert line.half_empty
    line.clear()
    assert line.in_flight_bytes == 0
    assert line.next_due_s is None
