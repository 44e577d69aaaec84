"""Making a started worker load its model, or saying why it could not.

Rules: after an error no process is left; what came instead of READY (a refusal, silence, death)
becomes one error with a sentence.
"""

from __future__ import annotations

import asyncio

from isochrone.engines.worker import Worker
from isochrone.engines.worker_frames import Answer, Failed, Kind, Load, Ready
from isochrone.schema.errors import InvalidInput, Overloaded, Timeout, Unavailable

_KINDS = {kind.code: kind for kind in (InvalidInput, Overloaded, Timeout)}


async def load_worker(worker: Worker, load: Load, timeout_s: float) -> Ready:
    """Send LOAD and wait for READY. The worker's handler is nobody afterwards.

    Raises ``InvalidInput``, ``Overloaded``, ``Timeout`` or ``Unavailable``; the worker is gone
    then.
    """
    loading = _Loading()
    worker.attach(loading)
    worker.send(Kind.LOAD, 0, load)
    try:
        async with asyncio.timeout(timeout_s):
            ready = await loading.ready
        worker.attach(None)
        if not worker.alive:
            raise Unavailable("The worker was lost just after it had loaded.")
        return ready
    except TimeoutError:
        worker.kill()
        await worker.stop()
        raise Timeout(
            f"The model did not load in {timeout_s:g} s.",
            fix="Raise the option load_timeout_s, or ask for more processor.",
        ) from None
    except _LostError:
        reason = await worker.reason()
        await worker.stop()
        raise Unavailable(
            f"While loading the model {reason}.", fix="It may need more memory."
        ) from None
    except BaseException:
        await worker.stop()
        raise


class _LostError(Exception):
    """The worker went while it was loading."""


class _Loading:
    """A worker's handler until it is ready."""

    def __init__(self) -> None:
        self.ready: asyncio.Future[Ready] = asyncio.get_running_loop().create_future()

    def on_ready(self, ready: Ready) -> None:
        if not self.ready.done():
            self.ready.set_result(ready)

    def on_failed(self, failed: Failed) -> None:
        kind = _KINDS.get(failed.code, Unavailable)
        if not self.ready.done():
            self.ready.set_exception(kind(failed.message, fix=failed.fix))

    def on_lost(self) -> None:
        if not self.ready.done():
            self.ready.set_exception(_LostError())

    def on_answer(self, number: int, answer: Answer, body_length: int) -> None:
        """Never: nothing was asked."""

    def on_answer_data(self, data: bytes) -> None:
        """Never."""

    def on_answer_end(self) -> None:
        """Never."""
