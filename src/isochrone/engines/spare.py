"""One pre-started idle worker, so that a cold start costs only the model's load.

Intuition: starting Python and importing onnxruntime takes longer than loading most models. One
idle process per node pays for that ahead of time; it knows nothing until its first LOAD, so no
tenant's data can be in it. It costs about 55 MB, so a node starts it only when its first ONNX model
begins to arrive (the fetch hides the start), and keeps one from then on.
"""

from __future__ import annotations

import asyncio
import contextlib

from isochrone.engines.worker import Worker, start_worker
from isochrone.schema.errors import Unavailable

#: The worker that a spare is.
MODULE = "isochrone.engines.onnx_worker"


class WorkerSpare:
    """Keeps one idle ONNX worker. One per node process.

    ``await fill()`` or ``prepare()`` starts it; an engine takes it with ``await take()`` and calls
    ``prepare()`` when it has loaded, so that the next spare does not compete with the load; ``await
    close()`` ends it.
    """

    def __init__(self) -> None:
        self._worker: Worker | None = None
        self._filling: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def pid(self) -> int:
        """Process id of the idle worker, 0 when there is none."""
        return self._worker.pid if self._worker is not None and self._worker.alive else 0

    async def fill(self) -> None:
        """Start the idle worker unless there is one. Raises ``Unavailable`` when it cannot."""
        if self._closed or (self._worker is not None and self._worker.alive):
            return
        lost, self._worker = self._worker, None
        if lost is not None:
            await lost.stop()
        worker = await start_worker(MODULE)
        if self._closed or self._worker is not None:
            await worker.stop()
        else:
            self._worker = worker

    async def take(self) -> Worker | None:
        """The idle worker, if there is one that lives; it is the taker's from now on.

        One that is about to be there is waited for: that is sooner than starting another.
        """
        if not self.pid and self._filling is not None:
            await asyncio.shield(self._filling)  # it goes on when this taker is cancelled
        if not self.pid:
            return None
        worker, self._worker = self._worker, None
        return worker

    def prepare(self) -> None:
        """Start a spare in the background unless there is one; on a failure there is none."""
        if self._filling is None or self._filling.done():
            self._filling = asyncio.get_running_loop().create_task(self._fill_quietly())

    async def close(self) -> None:
        """End the idle worker and wait for it. Idempotent."""
        self._closed = True
        if self._filling is not None:
            await self._filling
        if self._worker is not None:
            await self._worker.stop()
            self._worker = None

    async def _fill_quietly(self) -> None:
        with contextlib.suppress(Unavailable):
            await self.fill()
