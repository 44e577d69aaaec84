"""Process ids that can be trusted later: a pid with the moment its process started.

A pid alone is reused by the system; written to a file and read after a crash it may mean somebody
else's process. The pair (pid, start time) does not come twice, so nothing here ends a process that
we did not start.
"""

from __future__ import annotations

import signal
import time

import msgspec
import psutil

START_TOLERANCE_S = 0.05
"""Two readings of one process's start time differ by rounding only (clock ticks of 10 ms)."""

POLL_S = 0.02
"""Between two looks at a process that should end."""


class Running(msgspec.Struct, frozen=True):
    """A process: its id and when it started (Unix seconds by the system's process table)."""

    pid: int
    started_unix_s: float


def running(pid: int) -> Running | None:
    """The pair for a live pid, or None when there is no such process."""
    try:
        return Running(pid, psutil.Process(pid).create_time())
    except psutil.Error:
        return None


def is_running(process: Running) -> bool:
    """Whether exactly this process still runs (a zombie does not)."""
    return _handle(process) is not None


def end(process: Running, grace_s: float) -> bool:
    """End it: SIGTERM, and SIGKILL after ``grace_s``. True when it is gone.

    Blocks up to ``grace_s`` and two seconds more. False: not ours to end, or stuck in the kernel.
    """
    if not _send(process, signal.SIGTERM) or _gone_within(process, grace_s):
        return not is_running(process)
    _send(process, signal.SIGKILL)
    return _gone_within(process, 2.0)


def _handle(process: Running) -> psutil.Process | None:
    try:
        handle = psutil.Process(process.pid)
        same = abs(handle.create_time() - process.started_unix_s) <= START_TOLERANCE_S
        return handle if same and handle.status() != psutil.STATUS_ZOMBIE else None
    except psutil.Error:
        return None


def _send(process: Running, number: signal.Signals) -> bool:
    handle = _handle(process)
    if handle is None:
        return False
    try:
        handle.send_signal(number)
    except psutil.Error:
        return False
    return True


def _gone_within(process: Running, seconds: float) -> bool:
    deadline_s = time.monotonic() + seconds
    while is_running(process):
        if time.monotonic() >= deadline_s:
            return False
        time.sleep(POLL_S)
    return True
