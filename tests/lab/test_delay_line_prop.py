"""The line against a naive second model that keeps everything in a list."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from isochrone.lab.delay_line import DelayLine


class LineAgainstModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.line = DelayLine(0.01, 50)
        self.now_s = 0.0
        self.sent: list[tuple[bytes, float]] = []
        """What was pushed, with the earliest moment it may come out."""
        self.received = 0
        self.next_number = 0

    @rule(size=st.integers(0, 30))
    def push(self, size: int) -> None:
        content = self.next_number.to_bytes(4, "big") + b"." * size
        self.next_number += 1
        self.line.push(content, self.now_s)
        self.sent.append((content, self.now_s + self.line.delay_s))

    @rule(by_s=st.floats(0.0, 0.05))
    def pass_time(self, by_s: float) -> None:
        self.now_s += by_s

    @rule(delay_s=st.floats(0.0, 0.05))
    def change_length(self, delay_s: float) -> None:
        self.line.delay_s = delay_s

    @rule()
    def hold(self) -> None:
        self.line.hold()

    @rule()
    def release(self) -> None:
        if not self.line.held:
            return
        self.line.release(self.now_s)
        earliest_s = self.now_s + self.line.delay_s
        self.sent = self.sent[: self.received] + [
            (content, max(due_s, earliest_s)) for content, due_s in self.sent[self.received :]
        ]

    @rule()
    def receive(self) -> None:
        while (parcel := self.line.pop_due(self.now_s)) is not None:
            assert not self.line.held
            content, earliest_s = self.sent[self.received]
            assert parcel.content == content  # in order, nothing lost, nothing twice
            assert self.now_s >= earliest_s  # never early
            self.received += 1
        # Never late either: what remains has a reason to, its own or a predecessor's.
        waiting = self.sent[self.received :]
        if waiting and not self.line.held:
            assert waiting[0][1] > self.now_s or self._predecessor_was_later()

    def _predecessor_was_later(self) -> bool:
        due_s = self.line.next_due_s
        return due_s is not None and due_s <= max(due for _, due in self.sent[: self.received + 1])

    @invariant()
    def inside_is_counted(self) -> None:
        inside = sum(len(content) for content, _ in self.sent[self.received :])
        assert self.line.in_flight_bytes == inside
        assert self.line.full == (inside >= 50)


TestLineAgainstModel = LineAgainstModel.TestCase
