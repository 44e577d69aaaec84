"""``python -m isochrone.controller config.json``: one controller process, until SIGTERM or SIGINT.

Exit status 0 after an orderly end; 1 with one sentence on standard error when it cannot start.
"""

from __future__ import annotations

import asyncio
import fcntl
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from isochrone.fabric.asking import ONE_THREAD

# Before numpy: its threads would wait for each other on a busy machine, and the leader with them.
os.environ.update(ONE_THREAD)

from isochrone.controller.config import ControllerConfig, Ready, load_config
from isochrone.controller.controller import Controller
from isochrone.controller.ending import ENDING_MAX_S, end_tasks, leave_within
from isochrone.schema.errors import Conflict, IsochroneError, Unavailable

USAGE = "Usage: python -m isochrone.controller CONFIG.json\n"


async def run(config: ControllerConfig) -> None:
    """Control the cell until a signal; gone ``ENDING_MAX_S`` after it at the latest."""
    ended = asyncio.Event()

    def end() -> None:
        if not ended.is_set():
            leave_within(ENDING_MAX_S)
        ended.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, end)
    controller = await _opened(config, ended)
    if controller is None:
        return
    gc.freeze()  # what is loaded now stays: the collector need not walk it again and again
    try:
        _write_ready(config, controller.address)
        await ended.wait()
    finally:
        await controller.close()


async def _opened(config: ControllerConfig, ended: asyncio.Event) -> Controller | None:
    """The controller, or None when the signal came first (a frozen fabric makes opening slow)."""
    opening = asyncio.create_task(Controller.open(config))
    signalled = asyncio.create_task(ended.wait())
    await asyncio.wait((opening, signalled), return_when=asyncio.FIRST_COMPLETED)
    await end_tasks([signalled])
    if opening.done():
        return opening.result()
    await end_tasks([opening])
    return None


def _write_ready(config: ControllerConfig, address: str) -> None:
    if not config.ready_file:
        return
    ready = Ready(pid=os.getpid(), controller=address, cell=config.cell)
    path = Path(config.ready_file)
    beside = path.with_suffix(".part")
    beside.write_bytes(msgspec.json.encode(ready))
    beside.replace(path)


@contextmanager
def _only_one(state_dir: Path) -> Iterator[None]:
    """Hold the state directory, so that an entry of an earlier process is known to be dead."""
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        lock = (state_dir / "lock").open("w")
    except OSError as error:
        raise Unavailable(
            f"The state directory {state_dir} cannot be used: {error.strerror}.",
            fix="Free space or choose another one.",
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Conflict(
                f"Another controller runs from {state_dir}.", fix="Give each its own state_dir."
            ) from error
        yield


def main(arguments: list[str]) -> int:
    """The process; returns its exit status."""
    if len(arguments) != 1:
        sys.stderr.write(USAGE)
        return 1
    try:
        config = load_config(Path(arguments[0]))
        logging.basicConfig(
            stream=sys.stderr,
            level=config.log_level.upper(),
            format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        )
        with (
            _only_one(Path(config.state_dir)),
            asyncio.Runner(loop_factory=new_loop()) as runner,
        ):
            runner.run(run(config))
    except IsochroneError as error:
        sys.stderr.write(error.sentence() + "\n")
        return 1
    return 0


def new_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's loop where it exists, asyncio's own elsewhere."""
    try:
        import uvloop
    except ImportError:
        return None
    make: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return make


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
