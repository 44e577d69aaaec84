"""ONNX models behind the engine interface: the node's side of the worker in ``onnx_worker.py``.

Intuition: this process only moves bytes. A request's body goes to the worker as it came and the
answer's body comes back in pieces; decoding, checking, tokenising and running happen over there,
so no callback here costs more than writing to a socket.

Rules: the worker is sent a few requests more than it can run (``AHEAD``), so that it never waits
for this loop; a cancellation still overtakes them. A worker that dies takes its requests with it:
they fail at once with ``Unavailable`` (retry elsewhere) and the engine restarts it with back-off.
A run of more than ``run_timeout_s`` is stopped; a worker that cannot even do that is killed the
same way.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from isochrone.engines.engine import (
    BODY_BYTES_MAX,
    AnswerSink,
    Cancel,
    EngineReport,
    EngineRequest,
    EngineState,
    EngineStats,
)
from isochrone.engines.error_bodies import LENGTH_HEADER, oip_error_body, openai_error_body
from isochrone.engines.jobs import Job, JobQueue
from isochrone.engines.options import OnnxOptions, check_options, pick
from isochrone.engines.restarts import Restarts
from isochrone.engines.spare import MODULE, WorkerSpare
from isochrone.engines.worker import Worker, start_worker
from isochrone.engines.worker_frames import Answer, Failed, Kind, Load, Ready, Run
from isochrone.engines.worker_loading import load_worker
from isochrone.schema.errors import (
    IsochroneError,
    Overloaded,
    Timeout,
    Unavailable,
)

#: Requests sent to the worker beyond those it runs: hides this loop's reaction time (about 0.1 ms)
#: from models faster than it, while at most this many requests queue where only a CANCEL frame
#: reaches them.
AHEAD = 4

#: How often a stuck run is looked for while there are any, seconds.
WATCH_S = 0.25

#: How long a worker may take to stop a run, seconds, before it counts as stuck.
STOP_S = 2.0

#: Request headers that the worker reads.
_HEADERS = ("content-encoding", LENGTH_HEADER)

_JSON = ("content-type", "application/json")


class OnnxEngine:
    """An ``Engine`` over one worker process. ``files``: ``*.onnx`` and, for the ``embeddings``
    task, ``*.json`` with the tokenizer. Raises ``InvalidInput`` as ``make_engine`` says."""

    def __init__(
        self,
        files: Mapping[str, Path],
        options: Mapping[str, Any],
        *,
        spare: WorkerSpare | None = None,
        gpus: Sequence[int] = (),
    ) -> None:
        self.options = check_options(options, OnnxOptions)
        self.concurrency = self.options.concurrency
        self.on_died: Callable[[str], None] = _nobody
        self._load = _load(files, self.options)
        self._spare = spare if not gpus else None  # a spare was started without one
        self._gpus = tuple(gpus)
        self._state: EngineState = "loading"
        self._worker: Worker | None = None
        self._ready: Ready | None = None
        self._restarts = Restarts()
        self._restarting: asyncio.Task[None] | None = None
        self._current: Job | None = None
        self._answer: Answer | None = None
        self._progress_at = self._turn_at = self._oldest_since = 0.0
        self._oldest = -1

    @property
    def state(self) -> EngineState:
        """See ``Engine``."""
        return self._state

    @property
    def in_flight(self) -> int:
        """See ``Engine``."""
        return len(self._jobs) if self._state != "loading" else 0

    async def start(self) -> None:
        """See ``Engine``."""
        self._loop = asyncio.get_running_loop()
        self._jobs = JobQueue(
            self._loop,
            window=self.concurrency + AHEAD,
            waiting_max=self.options.queue_max,
            run=self._send,
            drop=self._drop,
        )
        self._watch: asyncio.TimerHandle | None = None
        try:
            await self._launch()
        except BaseException:
            self._state = "stopped"
            raise
        if self._state == "stopped":
            await self.stop()
            raise Unavailable("The engine was stopped while it was loading.")
        self._state = "ready"

    def submit(self, request: EngineRequest, sink: AnswerSink) -> Cancel:
        """See ``Engine``."""
        job = self._jobs.job(request, sink)
        if self._state != "ready":
            error = Unavailable(f"The engine is {self._state}.")
            self._jobs.soon(job.fail, error)
        elif request.operation == "infer" or request.operation == self.options.task:
            if len(request.body) > BODY_BYTES_MAX:
                self._refuse(job, 413, f"the body is larger than {BODY_BYTES_MAX} bytes")
            else:
                self._jobs.put(job)
        elif request.operation == "metadata":
            body = msgspec.json.encode(self.metadata())
            head = [_JSON, ("content-length", str(len(body)))]
            self._jobs.soon(job.answer, 200, head, body, EngineStats(0, 0))
        else:
            self._refuse(job, 400, f"this service does not answer {request.operation}")
        return job

    async def stop(self) -> None:
        """See ``Engine``."""
        was, self._state = self._state, "stopped"
        if self._restarting is not None:
            self._restarting.cancel()
            await asyncio.gather(self._restarting, return_exceptions=True)
        worker, self._worker = self._worker, None
        if was != "loading":
            self._jobs.fail_all(Unavailable("The replica was stopped."))
            self._unwatch()
        if worker is not None:
            await worker.stop()

    def metadata(self) -> dict[str, Any]:
        """See ``Engine``."""
        if self._ready is None:
            raise Unavailable("The engine has not loaded its model yet.")
        return self._ready.metadata

    def report(self) -> EngineReport:
        """See ``Engine``."""
        ready, worker = self._ready, self._worker
        return EngineReport(
            load_ms=ready.load_ms if ready else 0.0,
            warm_ms=ready.warm_ms if ready else 0.0,
            rss_mb=worker.rss_mb() if worker else 0.0,
            device=ready.device if ready else "",
            pid=worker.pid if worker else 0,
            restarts=self._restarts.total,
        )

    # The worker's life.

    async def _launch(self) -> None:
        """Get a worker, load, and wait until it is ready. On an error no worker is left."""
        worker = await self._spare.take() if self._spare is not None else None
        if worker is None:
            worker = await start_worker(MODULE, self._gpus)
        self._ready = await load_worker(worker, self._load, self.options.load_timeout_s)
        self._worker = worker
        self._started_at = time.monotonic()
        worker.attach(self)
        if self._spare is not None:
            self._spare.prepare()

    def on_lost(self) -> None:
        """The worker is gone: fail what it had, restart it."""
        self._current = self._answer = None
        if self._state != "ready":
            return
        self._state = "restarting"
        self._unwatch()
        self._jobs.fail_all(Unavailable("The engine's worker died."))
        self._restarting = self._loop.create_task(self._restart())

    async def _restart(self) -> None:
        """Say why, then start again and again with back-off."""
        worker, self._worker = self._worker, None
        if worker is not None:
            reason = await worker.reason()
            await worker.stop()
            self.on_died(reason)
        stood_s = time.monotonic() - self._started_at
        while self._state == "restarting":
            self._restarts, delay_s = self._restarts.after(stood_s)
            await asyncio.sleep(delay_s)
            try:
                await self._launch()
            except IsochroneError as error:
                self.on_died(error.sentence())
                stood_s = 0.0
            else:
                self._state = "ready"

    # One request.

    def _send(self, job: Job) -> None:
        request, worker = job.request, self._worker
        if request is None or worker is None:
            return
        headers = {name: request.headers[name] for name in _HEADERS if name in request.headers}
        worker.send(Kind.RUN, job.number, Run(request.operation, headers), request.body)
        job.request = None  # the body is on its way: do not keep it twice
        if self._watch is None:
            self._watch = self._loop.call_later(WATCH_S, self._look)

    def _drop(self, job: Job) -> None:
        if self._worker is not None:
            self._worker.send(Kind.CANCEL, job.number, None)

    def on_answer(self, number: int, answer: Answer, body_length: int) -> None:
        """Head of an answer: see ``WorkerHandler``."""
        self._progress_at = time.monotonic()
        self._current, self._answer = self._jobs.running.get(number), answer
        job = self._current
        if job is not None and job.sink is not None and not answer.error:
            job.sink.on_head(answer.status, answer.headers)

    def on_answer_data(self, data: bytes) -> None:
        """Piece of its body."""
        job = self._current
        if job is not None and job.sink is not None:
            job.sink.on_data(data)

    def on_answer_end(self) -> None:
        """The answer is complete."""
        job, answer = self._current, self._answer
        self._current = self._answer = None
        if job is None or answer is None:
            return
        sink, job.sink = job.sink, None
        started_at, job_sent_at = self._turn_at, job.sent_at
        self._turn_at = self._progress_at
        self._jobs.done(job)
        if sink is None:
            return
        if answer.error:
            error = Overloaded if answer.status == Overloaded.status else Unavailable
            sink.on_error(error(answer.error))
            return
        queue_s = max(job_sent_at, started_at if self.concurrency == 1 else 0) - job.submitted_at
        sink.on_end(
            EngineStats(answer.engine_us, round(queue_s * 1e6), answer.tokens_in, answer.tokens_out)
        )

    def on_ready(self, ready: Ready) -> None:
        """Never: a loaded worker is ready once."""

    def on_failed(self, failed: Failed) -> None:
        """Never: a loaded worker does not fail to load."""

    def _refuse(self, job: Job, status: int, message: str) -> None:
        operation = job.request.operation if job.request is not None else "infer"
        form = oip_error_body if operation == "infer" else openai_error_body
        body = form(message)
        head = [_JSON, ("content-length", str(len(body)))]
        self._jobs.soon(job.answer, status, head, body, EngineStats(0, 0))

    # A stuck worker.

    def _look(self) -> None:
        """The oldest request sent is always one that runs: it must not stay the oldest."""
        self._watch = None
        if not self._jobs.running or self._worker is None:
            return
        number, now = next(iter(self._jobs.running)), time.monotonic()
        if number != self._oldest:
            self._oldest, self._oldest_since = number, now
        over_s = now - self._oldest_since - self.options.run_timeout_s
        if over_s > STOP_S:
            self._worker.kill()  # on_lost follows
        elif over_s > 0:
            self._give_up(self._jobs.running[number])
        self._watch = self._loop.call_later(WATCH_S, self._look)

    def _give_up(self, job: Job) -> None:
        """Stop a run that takes too long, and do not let another replica try it."""
        job.fail(
            Timeout(
                f"The model ran for more than {self.options.run_timeout_s:g} s.",
                fix="Send less at once, or raise the option run_timeout_s.",
                retry="never",
            )
        )
        self._drop(job)

    def _unwatch(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None


def _load(files: Mapping[str, Path], options: OnnxOptions) -> Load:
    paths = {"model": str(pick(files, ".onnx"))}
    if options.task == "embeddings":
        paths["tokenizer"] = str(pick(files, "tokenizer.json"))
    return Load(options.name, paths, msgspec.structs.asdict(options))


def _nobody(_: str) -> None:
    """Default of ``on_died``: nobody asked to know."""
