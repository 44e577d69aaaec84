"""Presence: the newest digest of each gateway, its age by the reader's clock."""

from __future__ import annotations

import itertools
from pathlib import Path

import msgspec
import pytest
from tests.fabric.cells import until

from isochrone.fabric.presence import FORGET_S, PresenceBoard, PresencePublisher, subject
from isochrone.lab.twins.fabric import MemoryCells, MemoryFabric
from isochrone.schema.place import Place
from isochrone.schema.routing import GatewayPresence


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def digest(
    sequence: int, *, gateway: str = "0xg1", boot: str = "b1", cell: str = "fra"
) -> GatewayPresence:
    return GatewayPresence(
        gateway=gateway,
        cell=cell,
        place=Place(latitude=50.1, longitude=8.7, country="DE", metro="frankfurt"),
        http_url="http://127.0.0.1:1",
        channel_host="127.0.0.1",
        channel_port=2,
        fingerprint="f",
        boot=boot,
        sequence=sequence,
    )


def tell(board: PresenceBoard, presence: GatewayPresence) -> None:
    board.receive(subject(presence.cell, presence.gateway), msgspec.msgpack.encode(presence))


def test_age_is_counted_from_arrival() -> None:
    clock = Clock()
    board = PresenceBoard(clock)
    tell(board, digest(1))
    clock.now_s += 2.5
    assert board.heard() == [(digest(1), 2.5)]
    tell(board, digest(2))
    assert board.heard() == [(digest(2), 0.0)]


@pytest.mark.parametrize("late", [1, 2])
def test_a_late_or_repeated_digest_of_the_same_boot_is_refused(late: int) -> None:
    clock = Clock()
    board = PresenceBoard(clock)
    tell(board, digest(2))
    clock.now_s += 1
    tell(board, digest(late))
    assert board.heard() == [(digest(2), 1.0)]
    assert board.refused == 1


def test_a_restarted_gateway_begins_again() -> None:
    board = PresenceBoard(Clock())
    tell(board, digest(900))
    tell(board, digest(1, boot="b2"))
    assert board.heard() == [(digest(1, boot="b2"), 0.0)]


def test_a_former_boots_late_digest_does_not_replace_the_new_one() -> None:
    board = PresenceBoard(Clock())
    tell(board, digest(900))
    tell(board, digest(1, boot="b2"))
    tell(board, digest(901))
    assert board.heard() == [(digest(1, boot="b2"), 0.0)]
    assert board.refused == 1


def test_gateways_are_forgotten_after_a_while() -> None:
    clock = Clock()
    board = PresenceBoard(clock)
    tell(board, digest(1))
    clock.now_s += FORGET_S / 2
    tell(board, digest(1, gateway="0xg2", cell="sin"))
    assert [p.gateway for p, _ in board.heard()] == ["0xg1", "0xg2"]
    assert [p.gateway for p, _ in board.heard("sin")] == ["0xg2"]
    clock.now_s += FORGET_S / 2 + 1
    assert [p.gateway for p, _ in board.heard()] == ["0xg2"]


@pytest.mark.parametrize("data", [b"", b"\xc1", b"noise", msgspec.msgpack.encode({"gateway": 1})])
def test_noise_is_refused(data: bytes) -> None:
    board = PresenceBoard(Clock())
    board.receive("iso.fra.presence.x", data)
    assert board.heard() == []
    assert board.refused == 1


def test_a_digest_on_another_gateways_subject_is_refused() -> None:
    board = PresenceBoard(Clock())
    board.receive(subject("fra", "0xg2"), msgspec.msgpack.encode(digest(1)))
    board.receive(subject("sin", "0xg1"), msgspec.msgpack.encode(digest(1)))
    assert board.heard() == []
    assert board.refused == 2


async def test_digests_arrive_again_and_again(tmp_path: Path) -> None:
    cells = MemoryCells()
    here = await MemoryFabric.join(cells.store("fra"), "g1", tmp_path / "g1")
    there = await MemoryFabric.join(cells.store("sin"), "g2", tmp_path / "g2")
    board = await PresenceBoard.follow(there)
    told: list[int] = []
    board.on_digest.append(lambda presence: told.append(presence.sequence))

    failing = itertools.count()

    def make(sequence: int) -> GatewayPresence:
        if next(failing) == 1:
            raise RuntimeError("a digest that cannot be made")
        return digest(sequence)

    publisher = PresencePublisher(here, make)
    await until(lambda: len(told) >= 2)
    publisher.now()
    await until(lambda: len(told) >= 3)
    assert told == sorted(set(told))
    assert [p.gateway for p, _ in board.heard("fra")] == ["0xg1"]
    await publisher.close()
    for fabric in (here, there):
        await fabric.close()
