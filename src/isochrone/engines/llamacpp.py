"""GGUF language models behind the engine interface: a llama.cpp server of our own as an upstream.

Intuition: the worker process runs llama.cpp's HTTP server on the loopback; from there on everything
is ``UpstreamEngine``'s: paths, streaming, cancellation by closing, token counts. This module adds
the process's life: start, death, restart with back-off.

Rules: requests in flight when the worker dies fail with ``Unavailable`` (retry elsewhere). Works
only with the optional packages of ``requirements/llm.txt``; without them ``start`` says so.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from isochrone.engines.engine import (
    AnswerSink,
    Cancel,
    EngineReport,
    EngineRequest,
    EngineState,
)
from isochrone.engines.jobs import JobQueue
from isochrone.engines.options import LlamaOptions, check_options, pick
from isochrone.engines.restarts import Restarts
from isochrone.engines.upstream import PoolFactory, UpstreamEngine
from isochrone.engines.worker import Worker, start_worker
from isochrone.engines.worker_frames import Answer, Failed, Load, Ready
from isochrone.engines.worker_loading import load_worker
from isochrone.schema.errors import IsochroneError, Unavailable

MODULE = "isochrone.engines.llama_worker"


class LlamaEngine:
    """An ``Engine`` over one llama.cpp worker. ``files``: one ``*.gguf``."""

    def __init__(
        self,
        files: Mapping[str, Path],
        options: Mapping[str, Any],
        *,
        pool_factory: PoolFactory,
        gpus: Sequence[int] = (),
    ) -> None:
        self.options = check_options(options, LlamaOptions)
        self.concurrency = self.options.concurrency
        self.on_died: Callable[[str], None] = lambda _: None
        self._path = pick(files, ".gguf")
        self._pool_factory = pool_factory
        self._gpus = tuple(gpus)
        self._state: EngineState = "loading"
        self._worker: Worker | None = None
        self._server: UpstreamEngine | None = None
        self._ready: Ready | None = None
        self._restarts = Restarts()
        self._restarting: asyncio.Task[None] | None = None

    @property
    def state(self) -> EngineState:
        """See ``Engine``. Also ``restarting`` while the live server does not answer."""
        if self._state == "ready" and self._server is not None:
            return self._server.state
        return self._state

    @property
    def in_flight(self) -> int:
        """See ``Engine``."""
        return self._server.in_flight if self._server is not None else 0

    async def start(self) -> None:
        """See ``Engine``."""
        self._loop = asyncio.get_running_loop()
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
        if self._server is not None:
            return self._server.submit(request, sink)
        queue = JobQueue(self._loop, window=0, waiting_max=0, run=_never, drop=_never)
        job = queue.job(request, sink)
        queue.soon(job.fail, Unavailable(f"The engine is {self._state}."))
        return job

    async def stop(self) -> None:
        """See ``Engine``."""
        self._state = "stopped"
        if self._restarting is not None:
            self._restarting.cancel()
            await asyncio.gather(self._restarting, return_exceptions=True)
        server, self._server = self._server, None
        worker, self._worker = self._worker, None
        if server is not None:
            await server.stop()
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

    async def _launch(self) -> None:
        """A worker with a server that answers. On an error no worker is left."""
        key = secrets.token_urlsafe(24)
        worker = await start_worker(MODULE, self._gpus)
        options = msgspec.structs.asdict(self.options) | {"key": key}
        load = Load(self.options.name, {"model": str(self._path)}, options)
        self._ready = await load_worker(worker, load, self.options.load_timeout_s)
        server = UpstreamEngine(
            {
                "base_url": f"http://127.0.0.1:{self._ready.extra['port']}",
                "name": self.options.name,
                "task": self.options.task,
                "api_key": key,
                "concurrency": self.options.concurrency,
                "queue_max": self.options.queue_max,
            },
            pool_factory=self._pool_factory,
        )
        try:
            await server.start()
            if not worker.alive:
                raise Unavailable("The worker was lost just after it had loaded.")
        except BaseException:
            await server.stop()
            await worker.stop()
            raise
        self._worker, self._server = worker, server
        self._started_at = time.monotonic()
        worker.attach(self)

    def on_lost(self) -> None:
        """The worker is gone: fail what it had, restart it."""
        if self._state == "ready":
            self._state = "restarting"
            self._restarting = self._loop.create_task(self._restart())

    async def _restart(self) -> None:
        server, self._server = self._server, None
        worker, self._worker = self._worker, None
        if server is not None:
            await server.stop()
        if worker is not None:
            reason = await worker.reason()
            await worker.stop()
            self.on_died(reason)
        stood_s = time.monotonic() - self._started_at
        while self._state == "restarting":
            self._restarts, delay_s = self._restarts.after(stood_s)
            stood_s = 0.0
            await asyncio.sleep(delay_s)
            try:
                await self._launch()
            except IsochroneError as error:
                self.on_died(error.sentence())
            else:
                self._state = "ready"

    # The rest of a worker's handler: a server's pipe stays silent.

    def on_ready(self, ready: Ready) -> None:
        """Never."""

    def on_failed(self, failed: Failed) -> None:
        """Never."""

    def on_answer(self, number: int, answer: Answer, body_length: int) -> None:
        """Never."""

    def on_answer_data(self, data: bytes) -> None:
        """Never."""

    def on_answer_end(self) -> None:
        """Never."""


def _never(_: object) -> None:
    """A queue without a window runs nothing."""
