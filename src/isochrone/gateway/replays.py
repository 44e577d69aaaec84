"""Asking a request again, so that it looks like any other to the replica that gets it.

Intuition: whatever a replica can see of a request must be drawn from the same distribution as its
other requests. So a replay is a real request of the same service, goes the ordinary way (the same
dispatcher, masks, frames, headers, time limit, kind of id, counting and pay), and it comes when
requests come: at a moment that is a recent gap between two of the service's requests after one of
them, and only if the ordinary ranking would choose that very replica at that moment. A replica that
ranking never chooses is never asked.

Rules: at most ``share`` of a service's requests are asked again: each request earns that much, at
most ``CREDIT_MAX`` are saved up, a service with little traffic gets few. A replay that finds no
moment within ``PATIENCE_S`` is given up. Nothing waits, no task is made.

Cheapest lie caught: recognising checks by header, size, id, time, order or origin
(``bench.canary`` tries). Cheapest lie missed: a request that carries its own time or number in its
body comes some seconds later than that says; two replicas of one owner can tell each other what
they were asked, and know after the second time which request it was; so the second comes from
another provider where there is one.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Final, Protocol

from isochrone.gateway.flight import Flight
from isochrone.gateway.numbers import Numbers
from isochrone.gateway.routes import RoutedService
from isochrone.gateway.samples import Sample
from isochrone.rules.answer_tree import CHECKED_BYTES_MAX
from isochrone.schema.errors import IsochroneError

CREDIT_MAX: Final = 2.0
PATIENCE_S: Final = 60.0
PENDING_MAX: Final = 256
"""Replays that wait for their moment."""
GAPS: Final = 64
"""Recent gaps of a service's arrivals that moments are drawn from."""
GAP_MOST_S: Final = 10.0
"""A longer gap is a pause between two times of use."""
SERVICES_MAX: Final = 1024


class Told(Protocol):
    """Who hears how a replay ended."""

    def replayed(self, replay: Replay, status: int, headers: dict[str, str], body: bytes) -> None:
        """An answer came; ``status`` 0: none did (no moment, no replica, an error)."""


class Sender(Protocol):
    """The dispatcher, as replays see it."""

    def submit(self, flight: Flight) -> None:
        """Send a request; raises Overloaded."""


class Replay:
    """One sample to be asked again of ``node``."""

    __slots__ = ("due_until_s", "node", "owner", "sample")

    def __init__(self, sample: Sample, node: str, owner: Told, now_s: float) -> None:
        self.sample = sample
        self.node = node
        self.owner = owner
        self.due_until_s = now_s + PATIENCE_S


class _Rhythm:
    """When a service's requests come."""

    __slots__ = ("credit", "gaps", "last_s", "waiting")

    def __init__(self) -> None:
        self.credit = 0.0
        self.last_s = 0.0
        self.gaps: deque[float] = deque(maxlen=GAPS)
        self.waiting: list[Replay] = []


class Replays:
    """All replays of a gateway. ``share``: of a service's requests, at most.

    ``first_choice(flight)``: the node that ranking would ask now, "" for none; ``service(id)``: as
    routed now, None: not any more.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        share: float,
        chances: random.Random,
        *,
        sender: Sender,
        first_choice: Callable[[Flight], str],
        numbers: Numbers,
        service: Callable[[str], RoutedService | None],
    ) -> None:
        self.sent = 0
        self._loop = loop
        self._share = share
        self._chances = chances
        self._sender = sender
        self._first_choice = first_choice
        self._numbers = numbers
        self._service = service
        self._rhythms: dict[str, _Rhythm] = {}
        self._waiting = 0
        self._timers: set[asyncio.TimerHandle] = set()

    def arrived(self, service: str) -> None:
        """A request of a consenting service was sent; on its path."""
        rhythm = self._rhythms.get(service)
        if rhythm is None:
            if len(self._rhythms) >= SERVICES_MAX:
                del self._rhythms[next(iter(self._rhythms))]
            rhythm = self._rhythms[service] = _Rhythm()
        now_s = monotonic()
        if rhythm.last_s:
            rhythm.gaps.append(min(GAP_MOST_S, now_s - rhythm.last_s))
        rhythm.last_s = now_s
        rhythm.credit = min(CREDIT_MAX, rhythm.credit + self._share)
        due = rhythm.waiting and rhythm.credit >= 1.0 and rhythm.gaps
        # By chance, so that replays do not follow each other closer than requests do.
        if due and self._chances.random() < max(self._share, 1 / GAPS):
            self._look_after(self._chances.choice(rhythm.gaps), service)

    def add(self, sample: Sample, node: str, owner: Told) -> None:
        """Ask a sample again of a node, when there is a moment; tells ``owner`` later."""
        replay = Replay(sample, node, owner, monotonic())
        rhythm = self._rhythms.get(sample.service)
        if rhythm is None or self._waiting >= PENDING_MAX:
            self._loop.call_soon(owner.replayed, replay, 0, {}, b"")
            return
        rhythm.waiting.append(replay)
        self._waiting += 1

    def tick(self, now_s: float) -> None:
        """Give up what found no moment."""
        for rhythm in self._rhythms.values():
            for replay in [one for one in rhythm.waiting if now_s > one.due_until_s]:
                self._leave(rhythm, replay)
                replay.owner.replayed(replay, 0, {}, b"")

    def close(self) -> None:
        """Nothing more is sent."""
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

    # -- the moment --------------------------------------------------------------------------------

    def _look_after(self, gap_s: float, service: str) -> None:
        def look() -> None:
            self._timers.discard(timer)
            self._look(service)

        timer = self._loop.call_later(gap_s, look)
        self._timers.add(timer)

    def _look(self, service: str) -> None:
        rhythm, routed = self._rhythms.get(service), self._service(service)
        if rhythm is None or rhythm.credit < 1.0 or routed is None:
            return
        if not routed.route.answer_checks:
            return
        for replay in rhythm.waiting:
            flight = self._flight(replay, routed)
            if self._first_choice(flight) == replay.node:
                self._leave(rhythm, replay)
                rhythm.credit -= 1.0
                self._send(flight, replay)
                return

    def _flight(self, replay: Replay, service: RoutedService) -> Flight:
        sample, now_s = replay.sample, monotonic()
        flight = Flight(
            number=self._numbers.last + 1,
            request_id="",
            service=service,
            caller=sample.caller,
            operation=sample.operation,
            headers=sample.headers,
            body=sample.body,
            reply=_Collected(replay),
            started_s=now_s,
            deadline_s=now_s + sample.allowed_ms / 1000,
        )
        flight.allowed_ms = sample.allowed_ms
        return flight

    def _send(self, flight: Flight, replay: Replay) -> None:
        flight.only = replay.node
        flight.number = self._numbers.take()
        self.sent += 1
        try:
            self._sender.submit(flight)
        except IsochroneError:
            replay.owner.replayed(replay, 0, {}, b"")

    def _leave(self, rhythm: _Rhythm, replay: Replay) -> None:
        rhythm.waiting.remove(replay)
        self._waiting -= 1


class _Collected:
    """A flight's ``Reply``: collects the answer, up to a bound."""

    __slots__ = ("_headers", "_pieces", "_replay", "_size", "_status")

    def __init__(self, replay: Replay) -> None:
        self._replay = replay
        self._status = 0
        self._headers: dict[str, str] = {}
        self._pieces: list[bytes] = []
        self._size = 0

    def whole(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self._tell(status, {name.lower(): value for name, value in headers}, body)

    def begin(self, status: int, headers: list[tuple[str, str]]) -> None:
        self._status = status
        self._headers = {name.lower(): value for name, value in headers}

    def piece(self, data: bytes) -> bool:
        self._size += len(data)
        if self._size <= CHECKED_BYTES_MAX:
            self._pieces.append(data)
        return True

    def end(self) -> None:
        whole = self._size <= CHECKED_BYTES_MAX
        self._tell(self._status if whole else 0, self._headers, b"".join(self._pieces))

    def fail(self, error: IsochroneError, headers: list[tuple[str, str]]) -> None:
        self._tell(0, {}, b"")

    def cut(self) -> None:
        self._tell(0, {}, b"")

    def _tell(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self._replay.owner.replayed(self._replay, status, headers, body)
