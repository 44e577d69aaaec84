"""What controllers make of gateways' reports: lost, repeated, restarted, untrue."""

from __future__ import annotations

import msgspec
import pytest

from isochrone.controller.demand import (
    FORGOTTEN_S,
    GATEWAYS_MAX,
    KEPT_MAX,
    STEP_MAX,
    DemandBoard,
    Taken,
)
from isochrone.schema.demand import DemandReport, ServiceDemand, demand_subject


class Gateway:
    """Reports of one gateway, by hand."""

    def __init__(self, board: DemandBoard, name: str = "0xg", boot: str = "a") -> None:
        self.board = board
        self.name = name
        self.boot = boot
        self.sequence = 0

    def tell(self, *rows: tuple[int, ...], service: str = "t.s", subject: str = "") -> None:
        self.sequence += 1
        report = DemandReport(
            gateway=self.name,
            cell="fra",
            boot=self.boot,
            sequence=self.sequence,
            services=tuple(ServiceDemand(service, *row) for row in rows),
        )
        self.last = (subject or demand_subject("fra", self.name), msgspec.msgpack.encode(report))
        self.board.receive(*self.last)


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def board(clock: Clock) -> DemandBoard:
    return DemandBoard(clock)


def test_sums_are_told_and_differences_taken(board: DemandBoard) -> None:
    one, two = Gateway(board, "0xa"), Gateway(board, "0xb")
    one.tell((3, 1, 500, 0, 2, 0))
    two.tell((5, 5, 100, 1, 0, 0))
    assert board.is_asked("t.s")
    assert board.take("t.s") == Taken(8, 6, 600, 1, 2, 0)
    assert not board.is_asked("t.s")
    one.tell((4, 4, 900, 0, 0, 0))
    one.tell((6, 4, 900, 0, 2, 0))  # what a lost report would have said is in the next one
    assert board.take("t.s") == Taken(3, 3, 400, 0, 2, 0)


def test_a_repeated_report_and_an_older_one_change_nothing(board: DemandBoard) -> None:
    gateway = Gateway(board)
    gateway.tell((3, 3, 30, 0, 0, 0))
    first = gateway.last
    gateway.tell((5, 5, 50, 0, 0, 0))
    board.receive(*gateway.last)
    board.receive(*first)
    assert board.refused == 2
    assert board.take("t.s").arrivals == 5


def test_a_gateway_that_ran_for_long_brings_no_flood_but_who_waits_counts(
    board: DemandBoard,
) -> None:
    gateway = Gateway(board)
    gateway.sequence = 5000
    gateway.tell((90_000, 89_000, 10**8, 3, 0, 2))
    taken = board.take("t.s")
    assert (taken.arrivals, taken.completed, taken.busy_ms) == (2, 0, 0)
    assert taken.waiting == 2
    gateway.tell((90_004, 89_000, 10**8, 3, 0, 2))
    assert board.take("t.s").arrivals == 4


def test_a_restarted_gateway_counts_from_the_beginning(board: DemandBoard) -> None:
    Gateway(board, boot="a").tell((50, 50, 50, 0, 0, 0))
    board.take("t.s")
    Gateway(board, boot="b").tell((2, 2, 7, 0, 0, 0))
    assert board.take("t.s") == Taken(2, 2, 7, 0, 0, 0)


def test_nobody_waits_at_a_silent_gateway(board: DemandBoard, clock: Clock) -> None:
    Gateway(board).tell((2, 0, 0, 0, 1, 1))
    board.take("t.s")
    clock.now_s += 60
    assert not board.is_asked("t.s")
    assert board.take("t.s") == Taken()


def test_what_is_not_a_report_is_refused(board: DemandBoard) -> None:
    gateway = Gateway(board)
    gateway.tell((-5, 0, 0, 0, 0, 0))
    gateway.tell((5, 0, 0, 0, 0, 0), subject="iso.fra.demand.0xother")
    gateway.tell(*[(1, 0, 0, 0, 0, 0)] * 300)
    board.receive(demand_subject("fra", "0xg"), b"nonsense")
    board.receive(demand_subject("fra", "0xg"), b"x" * 10**6)
    assert board.refused == 5
    assert board.take("t.s") == Taken()


def test_who_waits_is_heard_at_once(board: DemandBoard) -> None:
    heard: list[int] = []
    board.on_wait.append(lambda: heard.append(1))
    gateway = Gateway(board)
    gateway.tell((1, 1, 1, 0, 0, 0))
    assert not heard
    gateway.tell((2, 1, 1, 0, 0, 1))
    assert heard


def test_what_is_kept_of_a_gateway_is_bounded_and_nothing_is_counted_twice(
    board: DemandBoard,
) -> None:
    """A gateway that names ever new services fills nobody's memory; one of the dropped services
    that is told of again is not taken for as many new requests as it ever had."""
    gateway = Gateway(board)
    gateway.tell((500, 500, 9, 0, 0, 0))
    assert board.take("t.s").arrivals == 500
    for number in range(KEPT_MAX + 50):
        gateway.tell((1, 1, 1, 0, 0, 0), service=f"t.s{number}")
    (kept,) = board._gateways.values()
    assert len(kept.rows) == KEPT_MAX
    assert len(kept.taken) <= KEPT_MAX
    assert board.take("t.s0") == Taken(), "told of longest ago"
    newest = f"t.s{KEPT_MAX + 49}"
    gateway.tell((3, 1, 1, 0, 0, 0), service=newest)
    assert board.take(newest).arrivals == 2, "since it was first told of"
    gateway.tell((502, 500, 9, 0, 0, 2))
    assert board.take("t.s") == Taken(2, 0, 0, 0, 0, 2), "who waits is news"
    gateway.tell((507, 505, 9, 0, 0, 2))
    assert board.take("t.s").arrivals == 5


def test_a_name_too_many_is_refused_until_another_was_silent_for_long(
    board: DemandBoard, clock: Clock
) -> None:
    for number in range(GATEWAYS_MAX):
        Gateway(board, f"0x{number}").tell((1, 1, 1, 0, 0, 0))
        clock.now_s += 0.01
    late = Gateway(board, "0xlate")
    late.tell((1, 0, 0, 0, 0, 1))
    assert board.refused == 1
    assert board.take("t.s").waiting == 0
    clock.now_s += FORGOTTEN_S
    late.tell((1, 0, 0, 0, 0, 1))
    assert board.take("t.s").waiting == 1
    assert len(board._gateways) == GATEWAYS_MAX


def test_the_most_absurd_sums_are_bounded_and_a_step_is_the_most_that_a_liar_moves(
    board: DemandBoard,
) -> None:
    """Ever new boots, sums of 64 bits, and back again."""
    most = 2**63
    for boot in ("a", "b", "c"):
        Gateway(board, boot=boot).tell((most, most, most, most, most, most))
    assert board.take("t.s") == Taken(
        STEP_MAX, STEP_MAX, 1000 * STEP_MAX, STEP_MAX, STEP_MAX, STEP_MAX
    )
