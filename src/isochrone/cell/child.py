"""One supervised process: started, waited for until it says it is ready, restarted, stopped.

A part says that it is ready by writing its ready file (JSON); before every start the old one is
removed, so a ready file always speaks of the process that runs. The first start must succeed:
a part that ends before it is ready is an error that carries its own last words (a port in use,
a wrong configuration). After that a part that ends is started again, at once the first time, then
after pauses that double up to ``PAUSE_MAX_S``, for as long as the cell runs.

Freezing is not watched: a part that stands still is the others' business (they judge beats).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import msgspec

from isochrone.cell.running import Running, running
from isochrone.schema.errors import Timeout, Unavailable

READY_POLL_S = 0.01
"""A part starts in 0.1-1 s; a look costs 10 µs."""

WATCH_POLL_S = 0.05
"""Between two looks at whether a part still runs: a restart takes far longer than this."""

PAUSE_FIRST_S, PAUSE_MAX_S = 0.1, 5.0
"""Pauses between restarts: short enough for an accident, long enough not to burn a core when a
part cannot start at all."""

STEADY_S = 10.0
"""A part that ran for so long starts again without a pause."""

LOG_BYTES_MAX = 5 * 1024 * 1024
"""A log file larger than this is put aside (one generation) when the part starts."""

LAST_WORDS_BYTES = 2000

ALLOCATOR = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_TRIM_THRESHOLD_": "131072",
    "MALLOC_MMAP_THRESHOLD_": "131072",
}
"""Makes glibc give memory of large bodies and files back (elsewhere it means nothing): a part
computes in one thread, so one arena is enough, and one that had passed on bodies of 640 KB and
three models kept 80 MB without this, 64 MB with it. What a person has set goes first."""


class ChildSpec(msgspec.Struct, frozen=True, kw_only=True):
    """How to run a part. ``ready_file`` None: ready as soon as it runs; its name may be a pattern.

    ``grace_s``: how long it may take to end after SIGTERM before it is killed. ``word``: a last
    word that holds it explains best why the part ended (else its last line does).
    """

    name: str
    argv: tuple[str, ...]
    log_path: Path
    ready_file: Path | None = None
    ready_within_s: float = 20.0
    grace_s: float = 6.0
    word: str = ""


class Child:
    """One part and its supervision. ``repr`` tells its state."""

    def __init__(self, spec: ChildSpec, *, on_change: Callable[[], None] = lambda: None) -> None:
        self.spec = spec
        self.restarts = 0
        self.ready: dict[str, Any] = {}
        self._on_change = on_change
        self._process: subprocess.Popen[bytes] | None = None
        self._identity: Running | None = None
        self._watch: asyncio.Task[None] | None = None
        self._started_s = 0.0
        self._pause_s = 0.0
        self._log_from = 0

    def __repr__(self) -> str:
        state = f"pid {self.pid}" if self.pid else "stopped"
        return f"Child({self.spec.name}, {state}, restarts {self.restarts})"

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    @property
    def identity(self) -> Running | None:
        """The process id with its start time, while it runs."""
        return self._identity if self.pid else None

    async def start(self) -> dict[str, Any]:
        """Start it and wait until it is ready; returns what its ready file says.

        Raises Unavailable when it ends before, Timeout when it takes longer than the spec allows;
        in both cases nothing is left running.
        """
        self._spawn()
        try:
            await self._until_ready()
        except BaseException:
            await self.stop()
            raise
        self._watch = asyncio.create_task(self._keep_up(), name=f"keep-up-{self.spec.name}")
        self._on_change()
        return self.ready

    async def stop(self) -> None:
        """End it (SIGTERM, then SIGKILL after the grace) and wait for it; safe to call twice."""
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)
        await self._end()
        self._on_change()

    def kill(self) -> None:
        """SIGKILL, without waiting and without ending the supervision (it is started again)."""
        if self._process is not None and self.pid:
            self._process.kill()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, e.g. SIGSTOP and SIGCONT in a trial."""
        if self._process is not None and self.pid:
            self._process.send_signal(number)

    def _spawn(self) -> None:
        spec = self.spec
        if spec.ready_file is not None:
            spec.ready_file.parent.mkdir(parents=True, exist_ok=True)
            for old in spec.ready_file.parent.glob(spec.ready_file.name):
                old.unlink()
        with _open_log(spec.log_path) as log:
            self._log_from = log.tell()
            try:
                self._process = subprocess.Popen(
                    spec.argv,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env={**ALLOCATOR, **os.environ},
                    start_new_session=True,
                )
            except OSError as error:
                raise Unavailable(
                    f"{spec.name} cannot be started: {error.strerror} ({spec.argv[0]}).",
                    fix="Install the project again; its environment is incomplete.",
                ) from error
        self._identity = running(self._process.pid)
        self._started_s = time.monotonic()

    async def _until_ready(self) -> None:
        spec = self.spec
        deadline_s = self._started_s + spec.ready_within_s
        while not self._look_ready():
            if not self.pid:
                raise Unavailable(
                    f"{spec.name} ended before it was ready: {self._last_words()}",
                    fix=f"Its log is {spec.log_path}.",
                )
            if time.monotonic() > deadline_s:
                raise Timeout(
                    f"{spec.name} was not ready within {spec.ready_within_s:.0f} s.",
                    fix=f"Its log is {spec.log_path}.",
                )
            await asyncio.sleep(READY_POLL_S)

    def _last_words(self) -> str:
        """The last line that this start of it wrote, for people."""
        try:
            with self.spec.log_path.open("rb") as log:
                size = self.spec.log_path.stat().st_size
                log.seek(max(self._log_from, size - LAST_WORDS_BYTES))
                lines = log.read().decode(errors="replace").strip().splitlines()
        except OSError:
            lines = []
        telling = [line for line in lines if self.spec.word in line]
        return (telling or lines or ["it said nothing."])[-1].strip()

    def _look_ready(self) -> bool:
        path = self.spec.ready_file
        if path is None:
            return self.pid is not None
        for found in path.parent.glob(path.name):
            with contextlib.suppress(OSError, msgspec.DecodeError):
                content = msgspec.json.decode(found.read_bytes())
                self.ready = content if isinstance(content, dict) else {}
                return True
        return False

    async def _keep_up(self) -> None:
        while True:
            await asyncio.sleep(WATCH_POLL_S)
            if self.pid:
                continue
            steady = time.monotonic() - self._started_s >= STEADY_S
            pause_s = 0.0 if steady else self._pause_s
            self._pause_s = (
                PAUSE_FIRST_S if steady else min(PAUSE_MAX_S, 2 * pause_s or PAUSE_FIRST_S)
            )
            await asyncio.sleep(pause_s)
            self.restarts += 1
            with contextlib.suppress(Unavailable, Timeout):
                self._spawn()
                await self._until_ready()
            self._on_change()

    async def _end(self) -> None:
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            process.terminate()
            process.send_signal(signal.SIGCONT)  # a frozen process could not end
        deadline_s = time.monotonic() + self.spec.grace_s
        while process.poll() is None:
            if time.monotonic() > deadline_s:
                process.kill()
                deadline_s = float("inf")
            await asyncio.sleep(READY_POLL_S)


def _open_log(path: Path) -> IO[bytes]:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > LOG_BYTES_MAX:
        path.replace(path.with_suffix(".1.log"))
    return path.open("ab")
