"""An asyncio event loop whose timers are exact to some tens of microseconds.

Why: emulating a round trip of 1.5 ms needs timers of 0.75 ms. asyncio's epoll selector rounds
every wait *up* to whole milliseconds, and so does libuv (uvloop), so an emulated metro would come
out at twice its distance.

How: on Linux one timer descriptor lies in the epoll set; the selector arms it for the exact time,
and then waits without a timeout; an expiry that comes when nobody waits for it any more costs one
empty wake-up. Elsewhere kqueue already takes nanoseconds, and
``select`` microseconds: the standard selector is used as it is.

Not here: anything about real time. On a loaded machine a process gets its processor late whatever
the timer says; ``lab.links`` measures and prints what was achieved.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import selectors
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from selectors import SelectorKey

_CLOCK_MONOTONIC = 1
_TFD_NONBLOCK = 0o4000
_TFD_CLOEXEC = 0o2000000
"""From Linux' <bits/timerfd.h> (the same on every architecture that we ship for)."""

LATEST_WAIT_S = 86_400.0
"""Longest single wait; asyncio itself never waits longer than a day."""


class _TimerSpec(ctypes.Structure):
    """``struct itimerspec``: interval (unused, 0), then the time to the expiry."""

    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("value_s", ctypes.c_long),
        ("value_ns", ctypes.c_long),
    )


class _TimerDescriptor:
    """A one-shot timer descriptor through the C library: ``os.timerfd_*`` came with Python 3.13."""

    def __init__(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._settime = libc.timerfd_settime
        self._spec = _TimerSpec()
        self._pointer = ctypes.byref(self._spec)
        self.fd: int = libc.timerfd_create(_CLOCK_MONOTONIC, _TFD_NONBLOCK | _TFD_CLOEXEC)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")

    def arm(self, wait_s: float) -> None:
        """Expire once in ``wait_s`` seconds (more than 0), forgetting any earlier order."""
        whole = int(wait_s)
        self._spec.value_s = whole
        self._spec.value_ns = max(1, int((wait_s - whole) * 1e9))
        if self._settime(self.fd, 0, self._pointer, None) != 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime")

    def acknowledge(self) -> None:
        """Take note of an expiry, so that the descriptor is no longer readable."""
        with contextlib.suppress(BlockingIOError):  # armed anew since: nothing to read
            os.read(self.fd, 8)


if sys.platform == "linux":

    class _ExactSelector(selectors.EpollSelector):
        """An epoll selector that honours fractions of a millisecond."""

        def __init__(self) -> None:
            super().__init__()
            self._timer = _TimerDescriptor()
            self.register(self._timer.fd, selectors.EVENT_READ)

        def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
            """As ``selectors.EpollSelector.select``, exact to the timer descriptor."""
            if timeout is not None and timeout > 0:
                self._timer.arm(min(timeout, LATEST_WAIT_S))
                timeout = None
            ready = super().select(timeout)
            for index, (key, _) in enumerate(ready):
                if key.fd == self._timer.fd:
                    self._timer.acknowledge()
                    del ready[index]
                    break
            return ready

        def close(self) -> None:
            """Close the timer and the epoll descriptor."""
            self.unregister(self._timer.fd)
            os.close(self._timer.fd)
            super().close()

else:  # macOS, BSD: kqueue takes nanoseconds as it is
    _ExactSelector = selectors.DefaultSelector


class PreciseSelector(_ExactSelector):
    """The platform's exact selector; remembers in ``woke_s`` when it last returned."""

    woke_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        """Wait for events as every selector does."""
        ready = super().select(timeout)
        self.woke_s = time.monotonic()
        return ready


class PreciseLoop(asyncio.SelectorEventLoop):
    """An asyncio event loop with exact timers."""

    def __init__(self) -> None:
        self._precise = PreciseSelector()
        super().__init__(self._precise)

    @property
    def woke_s(self) -> float:
        """When (on ``loop.time()``'s clock) the callbacks that run now became ready to run.

        Whatever a callback handles had happened by then; counting from here instead of from
        "now" keeps the work of earlier callbacks out of an emulated delay.
        """
        return self._precise.woke_s


def new_loop() -> PreciseLoop:
    """A new event loop with exact timers; the caller runs and closes it.

    ``asyncio.Runner(loop_factory=new_loop)`` is the usual way.
    """
    return PreciseLoop()
