"""Asking a request again, so that it looks like any other to the replica that gets it.

Intuition: whatever a replica can see of a request must be drawn from the same distribution as its
other requests. So a replay is a real request of the same service, goes the ordinary way (the same
dispatcher, masks, frames, headers, time limit, kind of id, counting and pay), and it *takes the
place* of one: when a request arrives that ranking sends to the replica to be asked, the replay goes
there instead, at once, and the request to its next best replica. Nothing that the replica knows of
time or of its own load can differ then, since that moment and that choice were a real request's.
(Moments made up, some gap after some request, come too soon after the one before; moments at which
requests go elsewhere are busier ones here. A classifier told both, with an AUC of 0.57 and 0.59.)
What it costs: at most ``share`` of a service's requests are answered by the second best.

Rules: at most ``share`` of a service's requests are asked again: each request earns that much, at
most ``CREDIT_MAX`` are saved up, so a service with little traffic gets few. A request without a
next best gives its place to nobody, and a replica that ranking never chooses is never asked. A
replay that finds no moment within ``PATIENCE_S`` is given up. Nothing waits, no task is made.

Cheapest lie caught: recognising checks by header, size, id, time, order or origin
(``bench.canary`` tries). Cheapest lie missed: a request that carries its own time or number in its
body comes some seconds later than that says; two replicas of one owner can tell each other what
they were asked, and know after the second time which request it was; so the second comes from
another provider where there is one.
"""

from __future__ import annotations

import asyncio
import random
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
HASTE: Final = 2.0
"""A request gives its place away with ``HASTE`` × ``share``, so that replays are not evenly spaced,
and the credit is used up."""
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


class _Queue:
    """One service's replays that wait, and how many may be sent."""

    __slots__ = ("credit", "waiting")

    def __init__(self) -> None:
        self.credit = 0.0
        self.waiting: list[Replay] = []


class Replays:
    """All replays of a gateway. ``share``: of a service's requests, at most.

    ``choices(flight)``: the nodes that ranking would ask now and that are well, in order.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        share: float,
        chances: random.Random,
        *,
        sender: Sender,
        choices: Callable[[Flight], list[str]],
        numbers: Numbers,
    ) -> None:
        self.sent = 0
        self._loop = loop
        self._share = share
        self._chances = chances
        self._sender = sender
        self._choices = choices
        self._numbers = numbers
        self._queues: dict[str, _Queue] = {}
        self._waiting = 0

    def arriving(self, arrived: Flight) -> None:
        """A request of a consenting service is about to be sent; on its path."""
        service = arrived.service.id
        queue = self._queues.get(service)
        if queue is None:
            if len(self._queues) >= SERVICES_MAX:
                del self._queues[next(iter(self._queues))]
            queue = self._queues[service] = _Queue()
        queue.credit = min(CREDIT_MAX, queue.credit + self._share)
        due = queue.waiting and queue.credit >= 1.0
        if due and self._chances.random() < HASTE * self._share:
            self._take_place(queue, arrived)

    def add(self, sample: Sample, node: str, owner: Told) -> None:
        """Ask a sample again of a node, when there is a moment; tells ``owner`` later."""
        replay = Replay(sample, node, owner, monotonic())
        queue = self._queues.get(sample.service)
        if queue is None or self._waiting >= PENDING_MAX:
            self._loop.call_soon(owner.replayed, replay, 0, {}, b"")
            return
        queue.waiting.append(replay)
        self._waiting += 1

    def tick(self, now_s: float) -> None:
        """Give up what found no moment."""
        for queue in self._queues.values():
            for replay in [one for one in queue.waiting if now_s > one.due_until_s]:
                self._leave(queue, replay)
                replay.owner.replayed(replay, 0, {}, b"")

    # -- the moment ------------------------------------------------------------------------------

    def _take_place(self, queue: _Queue, arrived: Flight) -> None:
        """Send a replay where the arrived request would go; that one goes to the next best."""
        choices = self._choices(arrived)
        if len(choices) < 2:
            return
        replay = next((one for one in queue.waiting if one.node == choices[0]), None)
        if replay is None:
            return
        self._leave(queue, replay)
        queue.credit -= 1.0
        arrived.tried[replay.node] = monotonic()
        self._send(self._flight(replay, arrived.service), replay)

    def _flight(self, replay: Replay, service: RoutedService) -> Flight:
        sample, now_s = replay.sample, monotonic()
        flight = Flight(
            number=self._numbers.take(),
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
        self.sent += 1
        try:
            self._sender.submit(flight)
        except IsochroneError:
            replay.owner.replayed(replay, 0, {}, b"")

    def _leave(self, queue: _Queue, replay: Replay) -> None:
        queue.waiting.remove(replay)
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
