"""Who reads and who runs, among a worker's threads.

Intuition (leader and followers): one thread more than there may be runs. Whichever thread is free
reads the pipe, and the thread that read a request runs it, while the next one takes over the
reading; so an idle worker answers without handing anything from thread to thread, and a busy one
still hears a cancellation, which stops the run itself. onnxruntime releases the interpreter while
it computes.

Rules: at most ``slots`` runs at once; the others wait in order. Each request gets exactly one
answer, cancelled ones a 499.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

from isochrone.engines.worker_frames import Answer, Kind
from isochrone.engines.worker_pipe import Pipe
from isochrone.schema.errors import OurFault


class Stop(Protocol):
    """What stops a run that has begun: onnxruntime's ``RunOptions``."""

    terminate: bool


class Turns:
    """Serves a pipe with ``answer(payload, stop)``; ``make_stop()`` gives each run its own."""

    def __init__(
        self,
        pipe: Pipe,
        slots: int,
        answer: Callable[[memoryview, Stop], tuple[Answer, list[bytes]]],
        make_stop: Callable[[], Stop],
    ) -> None:
        self._pipe, self._answer, self._make_stop = pipe, answer, make_stop
        self._reading = threading.Lock()
        self._state = threading.Lock()  # guards the three below
        self._free = self._slots = slots
        self._waiting: OrderedDict[int, memoryview] = OrderedDict()
        self._running: dict[int, Stop] = {}

    def serve(self) -> None:
        """Until the node is gone: ``EOFError``, from whichever thread reads."""
        for _ in range(self._slots):
            threading.Thread(target=self._work, daemon=True).start()
        self._work()

    def _work(self) -> None:
        while True:
            with self._reading:
                turn = self._next()
                while turn is None:
                    self._read()
                    turn = self._next()
            while turn is not None:
                self._run(*turn)
                turn = self._next()

    def _next(self) -> tuple[int, memoryview, Stop] | None:
        """The oldest request, if one may run now."""
        with self._state:
            if not self._waiting or not self._free:
                return None
            number, payload = self._waiting.popitem(last=False)
            self._free -= 1
            stop = self._running[number] = self._make_stop()
            return number, payload, stop

    def _run(self, number: int, payload: memoryview, stop: Stop) -> None:
        answer, body = self._answer(payload, stop)
        with self._state:
            del self._running[number]
            self._free += 1
        try:
            self._pipe.write(Kind.ANSWER, number, answer, body)
        except OurFault as error:
            self._pipe.write(Kind.ANSWER, number, Answer(500, [], 0, error=error.message), [])

    def _read(self) -> None:
        for kind, number, payload in self._pipe.read():
            if kind is Kind.RUN:
                with self._state:
                    self._waiting[number] = payload
            elif kind is Kind.CANCEL:
                self._cancel(number)

    def _cancel(self, number: int) -> None:
        with self._state:
            dropped = self._waiting.pop(number, None)
            stop = self._running.get(number)
            if stop is not None:
                stop.terminate = True
        if dropped is not None:
            self._pipe.write(Kind.ANSWER, number, Answer(499, [], 0), [])
