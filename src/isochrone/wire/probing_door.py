"""The vantage's probe port: takes plain connections, and measures those of bursts it expects.

Rules: whoever dials has ``DIAL_S`` to write a burst's greeting; ``STRANGERS_MAX`` connections may
be without one; beyond that the one that has been silent longest is hung up on, since a subject
greets as soon as it has dialled. A greeting that nobody expects, or that comes twice, is hung up
on. Bursts are measured by threads of a small pool (``BURSTS_MAX``): nothing that a dialler does
holds the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from isochrone.schema.errors import OurFault, Overloaded, Timeout
from isochrone.wire.listening import cannot_listen
from isochrone.wire.probing import BURST_S, DIAL_S, GREETING_BYTES, Sample, greeting
from isochrone.wire.probing_burst import SYSTEM, Clocks, probe_all

STRANGERS_MAX: Final = 256
"""Connections that have not greeted: whoever is to keep a subject 20 ms away out has to dial 12,800
times a second."""

BURSTS_MAX: Final = 8
"""Threads: subjects that answer in drops hold one for ten seconds each."""

_PAUSE_S: Final = 0.1
"""After an accept that failed (no descriptors left), so that failing does not fill a core."""


class ProbeDoor:
    """A listening port; ``open`` it, ``measure`` bursts, ``close`` it. ``counters``: diallers."""

    def __init__(self, clocks: Clocks = SYSTEM) -> None:
        self.counters: Counter[str] = Counter()
        self._clocks = clocks
        self._listener: socket.socket | None = None
        self._expected: dict[bytes, asyncio.Future[socket.socket]] = {}
        self._strangers: dict[asyncio.Task[None], None] = {}
        self._lines: set[socket.socket] = set()
        self._threads = ThreadPoolExecutor(BURSTS_MAX, "probes")

    async def open(self, host: str, port: int) -> int:
        """Listen on ``host:port`` (0: any free one); the port. Raises Unavailable."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
            listener.listen(STRANGERS_MAX)
        except OSError as error:
            listener.close()
            raise cannot_listen(host, port, error) from None
        listener.setblocking(False)
        self._listener = listener
        self._listen()
        return int(listener.getsockname()[1])

    async def close(self) -> None:
        """Hang up on everybody; bursts under way end with an error."""
        listener, self._listener = self._listener, None
        if listener is not None:
            asyncio.get_running_loop().remove_reader(listener)
            listener.close()
        strangers = list(self._strangers)
        for stranger in strangers:
            stranger.cancel()
        await asyncio.gather(*strangers, return_exceptions=True)
        for future in self._expected.values():
            future.cancel()
        for line in self._lines:
            _hang_up(line)
        await asyncio.to_thread(self._threads.shutdown)

    def expect(self, burst: bytes) -> asyncio.Future[socket.socket]:
        """Let whoever greets with this burst in; call ``forget`` in the end."""
        if self._listener is None:
            raise OurFault("The probe port is not open.")
        if len(self._expected) >= STRANGERS_MAX:
            raise Overloaded("Too many bursts are waited for.", code="too_many_bursts")
        future = self._expected[greeting(burst)] = asyncio.get_running_loop().create_future()
        return future

    def forget(self, burst: bytes) -> None:
        """The burst is over or was not begun; its connection is closed."""
        future = self._expected.pop(greeting(burst), None)
        if future is None or future.cancel() or future.cancelled():
            return
        line = future.result()
        if line in self._lines:  # nobody has begun to measure it
            self._lines.discard(line)
            line.close()

    async def measure(
        self, dialled: asyncio.Future[socket.socket], probes: int
    ) -> tuple[Sample, ...]:
        """Wait until the subject has dialled, then probe it; raises as ``probe_all``, or Timeout.

        The line is closed afterwards: its end tells the subject that the burst is over.
        """
        try:
            async with asyncio.timeout(DIAL_S):
                line = await dialled
        except TimeoutError:
            raise Timeout("The subject did not dial.", code="not_dialled") from None
        burst = self._threads.submit(_probe_and_close, line, probes, self._clocks)
        try:
            return await asyncio.wrap_future(burst)
        finally:
            self._lines.discard(line)
            if burst.cancelled():  # no thread has begun with it, none will close it
                line.close()
            else:
                _hang_up(line)

    def _listen(self) -> None:
        if self._listener is not None:
            asyncio.get_running_loop().add_reader(self._listener, self._accept, self._listener)

    def _accept(self, listener: socket.socket) -> None:
        """Somebody dials. Not ``sock_accept``: what it has accepted is lost if it is cancelled."""
        loop = asyncio.get_running_loop()
        try:
            line, _ = listener.accept()
        except BlockingIOError:
            return
        except OSError:  # no descriptors are left, or the dialler is gone again
            self.counters["accept_failed"] += 1
            loop.remove_reader(listener)
            loop.call_later(_PAUSE_S, self._listen)
            return
        if len(self._strangers) >= STRANGERS_MAX:
            self.counters["too_many_strangers"] += 1
            oldest = next(iter(self._strangers))
            del self._strangers[oldest]
            oldest.cancel()
        task = loop.create_task(self._greet(line))
        self._strangers[task] = None
        task.add_done_callback(functools.partial(self._met, line))

    def _met(self, line: socket.socket, stranger: asyncio.Task[None]) -> None:
        """A stranger is one no more; hung up on unless it is waited for (or no loop ran for it)."""
        self._strangers.pop(stranger, None)
        if line not in self._lines:
            line.close()

    async def _greet(self, line: socket.socket) -> None:
        """Read who it is; hand the line over to who waits for it."""
        try:
            line.setblocking(False)
            async with asyncio.timeout(DIAL_S):
                said = await _exactly(line, GREETING_BYTES)
            future = self._expected.get(said)
            if future is None or future.done():
                self.counters["unexpected"] += 1
                return
            self.counters["greeted"] += 1
            self._lines.add(line)
            future.set_result(line)
        except (OSError, EOFError, TimeoutError):
            self.counters["silent"] += 1


def _probe_and_close(line: socket.socket, probes: int, clocks: Clocks) -> tuple[Sample, ...]:
    """In a thread, which alone closes what it reads: a number closed under it would be reused."""
    with line:
        return probe_all(line, probes, BURST_S, clocks)


def _hang_up(line: socket.socket) -> None:
    """Wake whoever reads it; no error if it is closed already."""
    with contextlib.suppress(OSError):
        line.shutdown(socket.SHUT_RDWR)


async def _exactly(line: socket.socket, count: int) -> bytes:
    loop = asyncio.get_running_loop()
    said = b""
    while len(said) < count:
        piece = await loop.sock_recv(line, count - len(said))
        if not piece:
            raise EOFError
        said += piece
    return said
