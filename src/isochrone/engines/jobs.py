"""Requests of one engine on their way: a bounded queue in front of a bounded window.

Intuition: an engine works on ``window`` requests; the others wait here, where dropping one costs
nothing. A job is the request's ``Cancel`` and its place in the queue.

Rules: a job that ended, by answer, error or cancellation, never touches its sink again. A job that
waits beyond its deadline is answered ``Timeout`` instead of being run. Order is first come, first
served.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Protocol

from isochrone.engines.engine import AnswerSink, EngineRequest, EngineStats
from isochrone.schema.errors import IsochroneError, Overloaded, Timeout


class Pausable(Protocol):
    """What a job needs of the call that runs it."""

    def cancel(self) -> None:
        """Stop it at its source."""

    def pause(self) -> None:
        """Produce nothing for now."""

    def resume(self) -> None:
        """Produce again."""


class Job:
    """One request. Calling it cancels it."""

    __slots__ = ("_queue", "call", "number", "request", "sent_at", "sink", "submitted_at")

    def __init__(self, queue: JobQueue, number: int, request: EngineRequest, sink: AnswerSink):
        self._queue = queue
        self.number = number
        self.request: EngineRequest | None = request
        self.sink: AnswerSink | None = sink
        self.submitted_at = queue.time()
        self.sent_at = 0.0
        #: What runs it elsewhere, if that can be paused or cancelled by itself (an HTTP call).
        self.call: Pausable | None = None

    @property
    def queue_time(self) -> Callable[[], float]:
        """The clock that its instants are of."""
        return self._queue.time

    def __call__(self) -> None:
        """Cancel. See ``Cancel``."""
        if self.sink is not None:
            self.sink = None
            self._queue.cancelled(self)

    def pause(self) -> None:
        """See ``Cancel``."""
        if self.call is not None:
            self.call.pause()

    def resume(self) -> None:
        """See ``Cancel``."""
        if self.call is not None:
            self.call.resume()

    def fail(self, error: IsochroneError) -> None:
        """End with an error."""
        sink, self.sink, self.request = self.sink, None, None
        if sink is not None:
            sink.on_error(error)

    def answer(
        self, status: int, headers: Sequence[tuple[str, str]], body: bytes, stats: EngineStats
    ) -> None:
        """End with a whole answer."""
        sink, self.sink, self.request = self.sink, None, None
        if sink is not None:
            sink.on_head(status, headers)
            sink.on_data(body)
            sink.on_end(stats)


class JobQueue:
    """``run(job)`` is called for at most ``window`` jobs at once; the engine calls ``done(job)``
    when one has left. ``drop(job)`` is called when a running job is cancelled."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        window: int,
        waiting_max: int,
        run: Callable[[Job], None],
        drop: Callable[[Job], None],
    ) -> None:
        # Not loop.time(): uvloop's counts whole milliseconds and stands still inside a callback.
        self.time = time.monotonic
        self.running: OrderedDict[int, Job] = OrderedDict()
        self._loop = loop
        self._waiting: OrderedDict[int, Job] = OrderedDict()
        self._window, self._waiting_max = window, waiting_max
        self._run, self._drop = run, drop
        self._number = 0

    def __len__(self) -> int:
        """Jobs running and waiting."""
        return len(self.running) + len(self._waiting)

    def job(self, request: EngineRequest, sink: AnswerSink) -> Job:
        """A job that is not queued (yet)."""
        self._number = (self._number + 1) & 0xFFFF_FFFF
        return Job(self, self._number, request, sink)

    def soon(self, call: Callable[..., None], *arguments: object) -> None:
        """Call from the loop, so that no sink is called inside ``submit``."""
        self._loop.call_soon(call, *arguments)

    def put(self, job: Job) -> None:
        """Queue a job; ``Overloaded`` (soon) when the queue is full."""
        if len(self._waiting) >= self._waiting_max and len(self.running) >= self._window:
            waiting = len(self._waiting)
            self.soon(job.fail, Overloaded(f"{waiting} requests already wait for this replica."))
            return
        self._waiting[job.number] = job
        self._fill()

    def done(self, job: Job) -> None:
        """A running job has left; the next one runs."""
        self.running.pop(job.number, None)
        self._fill()

    def cancelled(self, job: Job) -> None:
        """A job's owner gave up: forget it, or tell whoever runs it."""
        if self._waiting.pop(job.number, None) is None and job.number in self.running:
            self._drop(job)
        job.request = None

    def fail_all(self, error: IsochroneError) -> None:
        """End every job with an error."""
        jobs = [*self.running.values(), *self._waiting.values()]
        self.running.clear()
        self._waiting.clear()
        for job in jobs:
            job.fail(error)

    def _fill(self) -> None:
        while self._waiting and len(self.running) < self._window:
            _, job = self._waiting.popitem(last=False)
            request, now = job.request, self.time()
            if request is None:
                continue
            if request.deadline_s is not None and now >= job.submitted_at + request.deadline_s:
                self.soon(job.fail, Timeout("The deadline passed while the request was queued."))
                continue
            job.sent_at = now
            self.running[job.number] = job
            self._run(job)
