"""The supervising process of one cell: starts it, keeps its record, ends it on a signal.

One supervisor per data directory (a lock says so; it dies with its holder). SIGTERM, SIGINT and
SIGHUP end the cell in order; a second one while it ends changes nothing. Parts left behind by a
supervisor that was killed hard are ended first, by (pid, start time).
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from isochrone.cell.cell import Cell
from isochrone.cell.config import CellConfig
from isochrone.cell.record import (
    CellRecord,
    drop_record,
    end_leftovers,
    read_record,
    write_record,
)
from isochrone.cell.running import running
from isochrone.schema.errors import Conflict, IsochroneError, Unavailable

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

LOCK = "cell.lock"


async def supervise(config: CellConfig) -> None:
    """Run the cell until a signal; raises what starting it raises, then nothing runs."""
    with only_one(config.folder):
        left = read_record(config.folder)
        if left is not None:
            await asyncio.to_thread(end_leftovers, left)
        await _Supervisor(config).run()


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Hold the data directory; raises Conflict when another supervisor does."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / LOCK).open("w")
    except OSError as error:
        raise Unavailable(
            f"The data directory {folder} cannot be used: {error.strerror}.",
            fix="Choose another one.",
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Conflict(
                f"A cell already runs from {folder}.", fix="End it with `isochrone down`."
            ) from error
        yield


class _Supervisor:
    def __init__(self, config: CellConfig) -> None:
        self._folder = config.folder
        self._cell = Cell(config, on_change=self._write)
        self._state: Literal["starting", "ready", "stopping", "failed"] = "starting"
        self._problem = ""
        identity = running(os.getpid())
        assert identity is not None
        self._identity = identity

    async def run(self) -> None:
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        starting = asyncio.create_task(self._cell.start())

        def end() -> None:
            ended.set()
            starting.cancel()

        for number in SIGNALS:
            loop.add_signal_handler(number, end)
        self._write()
        try:
            await asyncio.wait((starting,))
            if not starting.cancelled():
                starting.result()
                self._enter("ready")
                await ended.wait()
            self._enter("stopping")
        except IsochroneError as error:
            self._problem = error.sentence()
            self._enter("failed")
            raise
        finally:
            await self._cell.stop()
            if self._state != "failed":
                drop_record(self._folder)

    def _enter(self, state: Literal["ready", "stopping", "failed"]) -> None:
        self._state = state
        self._write()

    def _write(self) -> None:
        cell = self._cell
        record = CellRecord(
            cell=cell.config.name,
            state=self._state,
            supervisor=self._identity,
            http_urls=cell.http_urls,
            gateways=tuple(ready.gateway for ready in cell.gateways),
            parts=cell.records(),
            problem=self._problem,
            notes=cell.notes,
        )
        try:
            write_record(self._folder, record)
        except OSError as error:
            sys.stderr.write(f"The cell's record cannot be written: {error.strerror}.\n")
