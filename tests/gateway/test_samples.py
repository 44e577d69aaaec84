"""Samples are bounded and fair; replays are few and only take the place of a request."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from isochrone.gateway.answer_keeping import AnswerKeeper
from isochrone.gateway.numbers import Numbers
from isochrone.gateway.replays import CREDIT_MAX, PATIENCE_S, Replay, Replays
from isochrone.gateway.samples import LEAVES_MAX, SAMPLES, Room, Round, Sample
from isochrone.rules.answer_tree import CHECKED_BYTES_MAX
from isochrone.schema.frames import AnswerHeader

UNUSED: Any = None
SAMPLE = Sample(
    service="s",
    lease="l",
    node="n1",
    provider="p",
    operation="infer",
    headers={},
    body=b"{}",
    answer_headers={},
    answer=b"[]",
    request_digest=b"",
    answer_digest=b"",
    caller=UNUSED,
    allowed_ms=100,
    seen=frozenset(),
)


def fed(answers: int, seed: int, room: Room | None = None, size: int = 2) -> Round:
    current = Round("n", "s", room or Room(), random.Random(seed))
    sample = msgspec.structs.replace(SAMPLE, answer=bytes(size))
    for number in range(answers):
        wanted = current.wants()
        current.add(number.to_bytes(32, "big"), sample if wanted else None)
    return current


def test_every_answer_has_the_same_chance() -> None:
    kept = [index for seed in range(400) for index in fed(80, seed).samples]
    assert len(kept) == 400 * SAMPLES
    halves = sum(index < 40 for index in kept) / len(kept)
    assert 0.45 < halves < 0.55
    assert len(set(kept)) == 80


def test_leaves_and_bytes_are_bounded() -> None:
    room = Room(1_000)
    current = fed(LEAVES_MAX + 50, 1, room, size=300)
    assert len(current.leaves) == LEAVES_MAX
    assert room.used <= room.most
    assert len(current.samples) <= 3
    current.clear()
    assert room.used == 0


def flight(**fields: Any) -> Any:
    service = SimpleNamespace(id="s", route=SimpleNamespace(answer_checks=True))
    made = {"only": "", "body": b"{}", "service": service, "operation": "infer", "headers": {}}
    made |= {"caller": None, "allowed_ms": 1, "tried": {"n1": 0.0}}
    return SimpleNamespace(**(made | fields))


def option(**fields: Any) -> Any:
    replica = SimpleNamespace(lease="l", node="n1", provider="p")
    return SimpleNamespace(**({"relay": False, "replica": replica} | fields))


@pytest.mark.parametrize(
    ("status", "size", "leaves"), [(200, 10, 1), (404, 10, 0), (200, CHECKED_BYTES_MAX + 1, 0)]
)
def test_only_whole_good_answers_have_a_leaf(status: int, size: int, leaves: int) -> None:
    keeper = AnswerKeeper(random.Random(1))
    keeping = keeper.begin(flight(), option())
    assert keeping is not None
    keeping.head(AnswerHeader(status=status))
    keeping.add(bytes(size))
    keeping.end()
    held = keeper.rounds.get("l")
    assert (len(held.leaves) if held else 0) == leaves
    assert keeper.room.used == (12 if leaves else 0)


def test_what_is_cut_or_asked_again_is_no_sample() -> None:
    keeper = AnswerKeeper(random.Random(1))
    cut = keeper.begin(flight(), option())
    assert cut is not None
    cut.add(b"abc")
    cut.drop()
    assert keeper.room.used == 0
    assert not keeper.rounds
    again = keeper.begin(flight(only="n1"), option())
    assert again is not None
    again.head(AnswerHeader(status=200))
    again.add(b"abc")
    again.end()
    assert len(keeper.rounds["l"].leaves) == 1
    assert not keeper.rounds["l"].samples
    assert keeper.begin(flight(body=None), option()) is None
    assert keeper.begin(flight(), option(relay=True)) is None


class Sent:
    """A dispatcher, an owner and a loop in one: remembers."""

    def __init__(self) -> None:
        self.flights: list[Any] = []
        self.ended: list[int] = []

    def submit(self, made: Any) -> None:
        self.flights.append(made)

    def replayed(self, replay: Replay, status: int, headers: dict[str, str], body: bytes) -> None:
        self.ended.append(status)

    def call_soon(self, call: Any, *arguments: Any) -> None:
        call(*arguments)


def replays(sent: Sent, choices: list[str], share: float = 0.01) -> Replays:
    loop: Any = sent
    return Replays(
        loop,
        share,
        random.Random(5),
        sender=sent,
        choices=lambda asked: choices,
        numbers=Numbers("boot"),
    )


def test_at_most_one_request_in_a_hundred_is_asked_again() -> None:
    sent = Sent()
    made = replays(sent, ["n2", "n1"])
    made.arriving(flight())
    places = 0
    for _ in range(5_000):
        if len(sent.flights) == made.sent:
            made.add(SAMPLE, "n2", sent)
        arrived = flight(tried={})
        made.arriving(arrived)
        places += "n2" in arrived.tried
    assert 25 <= len(sent.flights) <= 5_000 / 100 + CREDIT_MAX
    assert places == len(sent.flights), "each took the place of a request, which goes elsewhere"
    assert {one.only for one in sent.flights} == {"n2"}


@pytest.mark.parametrize("choices", [["n2"], ["n1", "n2"], []])
def test_no_place_is_taken_that_was_not_the_nodes(choices: list[str]) -> None:
    """Not the only replica's, and none of a node that ranking would not choose."""
    sent = Sent()
    made = replays(sent, choices, 0.5)
    made.arriving(flight())
    made.add(SAMPLE, "n2", sent)
    for _ in range(200):
        made.arriving(flight(tried={}))
    assert not sent.flights
    made.tick(1e12)
    assert sent.ended == [0], "it was given up"
    assert PATIENCE_S < 1e12
