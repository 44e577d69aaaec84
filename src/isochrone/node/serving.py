"""The fast path: a request comes in a stream, goes to an engine, and its answer goes back.

Intuition: a gateway chose this replica from a snapshot, so the node checks what only it knows
now: that it holds the lease, that the gateway stands inside the lease's residency and its text of
the lease is not older than the node's, that the engine is ready, that there is room. Everything
else is passing bytes. There is no task or future per request: the stream calls in, the engine
calls back.

Rules:

* A refusal is a head with status ≥ 400, ``code`` and ``retry``, before any byte of an answer, so
  that the gateway can try elsewhere.
* An answer that the engine gives in one go leaves in one frame (head, body, trailer); of one that
  streams, each piece leaves at once. What tells them apart is one turn of the event loop.
* A writer that is told to wait pauses the engine; a gateway that hangs up cancels it.
* Bodies are whole before the engine sees them: at most ``BODY_BYTES_MAX`` each, and
  ``COLLECTED_BYTES_MAX`` in all that are still arriving.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Protocol

from isochrone.engines.engine import (
    BODY_BYTES_MAX,
    Cancel,
    Engine,
    EngineRequest,
    EngineStats,
)
from isochrone.node.answers import AnswerBook, KeptAnswer
from isochrone.node.mask import admits, why_outside
from isochrone.node.tallies import Tallies, Tally
from isochrone.rules.tallying import CUT, OK, outcome_of
from isochrone.schema.digests import UNREADABLE
from isochrone.schema.errors import (
    IsochroneError,
    Misdirected,
    Overloaded,
    Stale,
    TheirFault,
    TooLarge,
)
from isochrone.schema.frames import AnswerHeader, AnswerTrailer, Ask, pack, unpack_open
from isochrone.schema.lease import Lease
from isochrone.wire.channel import Stream, StreamSink

COLLECTED_BYTES_MAX = 256 * 1024 * 1024
"""Bodies on their way in, all requests together: four of the largest."""

IN_FLIGHT_MAX = 1024
"""Requests at the node at once. Engines bound their own queues; this bounds their sum."""

OPERATIONS = frozenset({"infer", "metadata", "embeddings", "chat.completions", "completions"})


class Desk(Protocol):
    """What serving needs of a replica."""

    lease: Lease
    engine: Engine | None
    name: str
    serving: bool
    in_flight: int

    def released(self) -> None:
        """A request has left the replica."""


class Serving:
    """Takes streams for the replicas in ``desks`` (by lease id). ``in_flight``: requests now."""

    def __init__(
        self, node: str, desks: Mapping[str, Desk], tallies: Tallies, answers: AnswerBook
    ) -> None:
        self.node = node
        self.desks = desks
        self.tallies = tallies
        self.answers = answers
        self.in_flight = 0
        self.collected_bytes = 0
        self.counters: Counter[str] = Counter()

    def on_open(
        self, stream: Stream, header: bytes, body: bytes, ended: bool, gateway: str, country: str
    ) -> StreamSink:
        """Take a request, or refuse it at once. ``country``: where the asking gateway stands."""
        try:
            ask = unpack_open(header)
        except UNREADABLE:
            return self.refuse(stream, TheirFault("The stream's header cannot be read."))
        if not isinstance(ask, Ask):
            return self.refuse(stream, TheirFault("A node gives no files.", code="not_supported"))
        tally = self.tallies.of(gateway, ask.lease, ask.audience)
        try:
            desk = self._admit(ask, country)
            tally.check()
        except IsochroneError as error:
            outcome = outcome_of(error.status, error.code)
            tally.counter.over(outcome, -1, 0, 0, len(body), 0)
            return self.refuse(stream, error)
        answer = _Answer(self, stream, desk, tally)
        tally.counter.in_flight += 1
        asking = _Asking(self, ask, answer, gateway)
        desk.in_flight += 1
        self.in_flight += 1
        if ended:
            asking.submit(body)
        elif body:
            asking.on_data(body)
        return _DEAF if answer.over else asking

    def _admit(self, ask: Ask, country: str) -> Desk:
        desk = self.desks.get(ask.lease)
        if desk is None or ask.node != self.node or ask.service != desk.lease.service:
            raise Stale("This node does not hold that lease.", retry="elsewhere")
        if not admits(desk.lease, country):
            raise Misdirected(
                why_outside(desk.lease, country, "The gateway"),
                fix="Ask through a gateway inside the residency.",
                code="residency",
            )
        if ask.lease_revision < desk.lease.revision:
            raise Stale("The lease has been superseded.", retry="elsewhere")
        if not desk.serving:
            raise Stale("The replica is not serving.", code="not_serving", retry="elsewhere")
        if ask.operation not in OPERATIONS:
            raise TheirFault(f"There is no operation {ask.operation[:40]!r}.")
        if self.in_flight >= IN_FLIGHT_MAX:
            raise Overloaded(f"The node has {IN_FLIGHT_MAX} requests in flight.")
        return desk

    def refuse(self, stream: Stream, error: IsochroneError) -> StreamSink:
        """Answer with the error's status, code and hint, and ignore what still comes."""
        self.counters[error.code] += 1
        head = AnswerHeader(
            status=error.status, code=error.code, message=error.sentence(), retry=error.retry
        )
        stream.answer(pack(head), end=True)
        return _DEAF

    def released(self, desk: Desk) -> None:
        """A request is over, however it ended."""
        self.in_flight -= 1
        desk.in_flight -= 1
        desk.released()


class _Deaf:
    """The sink of a stream that was refused: what still comes is dropped."""

    __slots__ = ()

    def on_head(self, header: bytes) -> None: ...

    def on_data(self, data: bytes) -> None: ...

    def on_end(self, trailer: bytes) -> None: ...

    def on_reset(self, code: str, message: str) -> None: ...

    def on_writable(self) -> None: ...


_DEAF = _Deaf()


class _Asking:
    """The request's side of a stream (a StreamSink): collects the body, then asks the engine."""

    __slots__ = ("_answer", "_ask", "_gateway", "_pieces", "_serving", "_size")

    def __init__(self, serving: Serving, ask: Ask, answer: _Answer, gateway: str) -> None:
        self._gateway = gateway
        self._serving = serving
        self._ask = ask
        self._answer = answer
        self._pieces: list[bytes] = []
        self._size = 0

    def submit(self, body: bytes) -> None:
        """Ask the engine; the whole body is here."""
        self._answer.bytes_in = len(body)
        ask, answer = self._ask, self._answer
        engine = answer.desk.engine
        if engine is None:  # it was stopped while the body came in
            answer.on_error(Stale("The replica has ended.", code="not_serving", retry="elsewhere"))
            return
        if answer.desk.lease.answer_checks:
            answer.kept = self._serving.answers.begin(self._gateway, ask, body)
        answer.began = time.perf_counter()
        answer.cancel = engine.submit(
            EngineRequest(
                service=answer.desk.name,
                operation=ask.operation,  # type: ignore[arg-type]  # checked by _admit
                headers=ask.headers,
                body=body,
                deadline_s=ask.timeout_ms / 1000 if ask.timeout_ms > 0 else None,
            ),
            answer,
        )

    def on_head(self, header: bytes) -> None:
        pass  # a request has none

    def on_data(self, data: bytes) -> None:
        size = len(data)
        self._size += size
        self._serving.collected_bytes += size
        self._pieces.append(data)
        if self._size > BODY_BYTES_MAX:
            self._drop()
            limit = BODY_BYTES_MAX >> 20
            self._answer.on_error(TooLarge(f"The request's body is larger than {limit} MiB."))
        elif self._serving.collected_bytes > COLLECTED_BYTES_MAX:
            self._drop()
            self._answer.on_error(Overloaded("The node is taking in too many large requests."))

    def on_end(self, trailer: bytes) -> None:
        body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._drop()
        self.submit(body)

    def on_reset(self, code: str, message: str) -> None:
        self._drop()
        self._answer.abandon()

    def on_writable(self) -> None:
        self._answer.resume()

    def _drop(self) -> None:
        self._serving.collected_bytes -= self._size
        self._size = 0
        self._pieces = []


class _Answer:
    """The answer's side (an engine's AnswerSink): writes head, pieces and trailer."""

    __slots__ = ("_body", "_bytes_out", "_head", "_latency_ms", "_paused", "_sent", "_serving",
                 "_status", "_stream", "_tally", "began", "bytes_in", "cancel", "desk",
                 "kept", "over")  # fmt: skip

    def __init__(self, serving: Serving, stream: Stream, desk: Desk, tally: Tally) -> None:
        self.desk = desk
        self._tally = tally
        self._status = 0
        self._latency_ms = -1.0
        self.bytes_in = self._bytes_out = 0
        self.began = time.perf_counter()
        self.cancel: Cancel | None = None
        self.kept: KeptAnswer | None = None
        self.over = False
        self._serving = serving
        self._stream = stream
        self._head: bytes | None = None
        self._body = b""
        self._sent = False
        self._paused = False

    def on_head(self, status: int, headers: Sequence[tuple[str, str]]) -> None:
        held_s = time.perf_counter() - self.began
        held_us = int(held_s * 1e6)
        self._status, self._latency_ms = status, held_s * 1000
        self._head = pack(AnswerHeader(status=status, headers=tuple(headers), held_us=held_us))
        asyncio.get_running_loop().call_soon(self._send_head)

    def on_data(self, data: bytes) -> None:
        self._bytes_out += len(data)
        if not self._sent:
            if not self._body:
                self._body = data
                if self.kept is not None:
                    self.kept.add(data)
                return
            self._send_head()
        if not self._stream.write(data) and not self._paused:
            self._paused = True
            if self.cancel is not None:
                self.cancel.pause()
        if self.kept is not None:
            self.kept.add(data)

    def on_end(self, stats: EngineStats) -> None:
        self._finish(outcome_of(self._status, ""), stats.tokens_in, stats.tokens_out)
        trailer = pack(
            AnswerTrailer(
                engine_us=stats.engine_us,
                queue_us=stats.queue_us,
                held_us=int((time.perf_counter() - self.began) * 1e6),
                in_flight=self.desk.in_flight,
                tokens_in=stats.tokens_in,
                tokens_out=stats.tokens_out,
            )
        )
        if self._sent:
            self._stream.finish(trailer)
        else:
            self._stream.answer(self._head or b"", self._body, end=True, trailer=trailer)
        if self.kept is not None and self._status == 200:
            self.kept.end()

    def on_error(self, error: IsochroneError) -> None:
        self._finish(CUT if self._sent else outcome_of(error.status, error.code))
        if self._sent:
            self._serving.counters[error.code] += 1
            self._stream.reset(error.code, error.message)
        else:
            self._serving.refuse(self._stream, error)

    def abandon(self) -> None:
        """The gateway has hung up: stop the engine's work on it."""
        if self.over:
            return
        self._serving.counters["cancelled"] += 1
        if self.cancel is not None:
            self.cancel()
        self._tally.counter.abandoned += 1
        self._finish(OK)

    def resume(self) -> None:
        """The stream may be written again."""
        if self._paused and not self.over and self.cancel is not None:
            self._paused = False
            self.cancel.resume()

    def _send_head(self) -> None:
        """One turn of the loop after the head (or at the second piece): it is a stream."""
        if self.over or self._sent or self._head is None:
            return
        self._sent = True
        self._stream.answer(self._head, self._body)
        self._body = b""

    def _finish(self, outcome: int, tokens_in: int = 0, tokens_out: int = 0) -> None:
        self.over = True
        counter = self._tally.counter
        counter.in_flight -= 1
        counter.over(
            outcome, self._latency_ms, tokens_in, tokens_out, self.bytes_in, self._bytes_out
        )
        self._stream.sink = _DEAF  # breaks the ring stream → asking → answer → stream
        self._serving.released(self.desk)
