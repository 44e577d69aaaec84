"""Ending in time: tasks that must hear a cancellation, and a process that must be gone.

Intuition: a task is cancelled by an exception, and whoever catches it at the wrong moment (the
fabric's client does, and Python 3.11's ``wait_for`` when what it waits for is done in the same
turn) goes on as if nothing had been asked. So it is asked again until it has ended. And where
something still hangs (a disk that does not answer holds a thread that nothing can cancel), the
process leaves without it: everything on its disk is whole at every instant, and what it did not
hand over a standby takes three seconds later.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Iterable
from typing import Any

ASK_AGAIN_S = 0.1
"""A task that heard the cancellation ends within a turn or two of the event loop."""

ENDING_MAX_S = 5.0
"""From the signal to the end, whatever hangs: below the six seconds after which a cell kills its
parts. Handing over takes milliseconds, against a frozen fabric about three seconds."""

log = logging.getLogger(__name__)


async def end_tasks(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks until each has ended; what they raised is dropped."""
    waiting = {task for task in tasks if not task.done()}
    while waiting:
        for task in waiting:
            task.cancel()
        _, waiting = await asyncio.wait(waiting, timeout=ASK_AGAIN_S)


def leave_within(seconds: float) -> None:
    """End this process with status 1 unless it has ended by itself; returns at once."""
    timer = threading.Timer(seconds, _leave, (seconds,))
    timer.daemon = True
    timer.start()


def _leave(seconds: float) -> None:
    log.error("not ended within %g s: leaving what hangs", seconds)
    os._exit(1)
