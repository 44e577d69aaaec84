"""``python -m isochrone.validator --config file.json``: one validator, until SIGTERM or SIGINT.

Exit status 0 after an orderly end; 1 with one sentence on standard error when it cannot start.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import msgspec

from isochrone.fabric.asking import ONE_THREAD

# Before numpy: its threads would wait for each other on a busy machine, and the loop with them.
os.environ.update(ONE_THREAD)

from isochrone.schema.errors import Conflict, IsochroneError, Unavailable
from isochrone.validator.config import Ready, ValidatorConfig, load_config
from isochrone.validator.validator import Validator

ENDING_MAX_S = 4.0
"""Threads may wait minutes for the chain; what counts is on disk by then, so nobody waits for them.
Below the grace that a cell gives its parts."""

THREADS = 64
"""A call to a chain that hangs holds its thread for up to two minutes; records are taken meanwhile.
Threads are made when they are needed."""

USAGE = "Usage: python -m isochrone.validator [--config] CONFIG.json\n"


async def run(config: ValidatorConfig) -> None:
    """Validate until a signal."""
    ended = asyncio.Event()

    def end() -> None:
        if not ended.is_set():
            leaving = threading.Timer(ENDING_MAX_S, os._exit, (0,))
            leaving.daemon = True
            leaving.start()
        ended.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, end)
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS))
    validator = await Validator.open(config)
    try:
        _write_ready(config, validator)
        await ended.wait()
    finally:
        await validator.close()


def _write_ready(config: ValidatorConfig, validator: Validator) -> None:
    if not config.ready_file:
        return
    ready = Ready(
        pid=os.getpid(), validator=validator.key.address, cell=config.cell, url=validator.url
    )
    if validator.posts is not None:
        ready = msgspec.structs.replace(
            ready,
            channel_host=config.channel_host,
            probe_host=config.probe_host,
            **validator.posts._asdict(),
        )
    path = Path(config.ready_file)
    beside = path.with_suffix(".part")
    beside.write_bytes(msgspec.json.encode(ready))
    beside.replace(path)


@contextmanager
def _only_one(state_dir: Path) -> Iterator[None]:
    """Hold the state directory: two processes with one journal would sign against each other."""
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
                f"Another validator runs from {state_dir}.", fix="Give each its own state_dir."
            ) from error
        yield


def main(arguments: list[str]) -> int:
    """The process; returns its exit status."""
    paths = [argument for argument in arguments if argument != "--config"]
    if len(paths) != 1:
        sys.stderr.write(USAGE)
        return 1
    try:
        config = load_config(Path(paths[0]))
        logging.basicConfig(
            stream=sys.stderr,
            level=config.log_level.upper(),
            format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        )
        with _only_one(Path(config.state_dir)):
            asyncio.run(run(config))
    except IsochroneError as error:
        sys.stderr.write(error.sentence() + "\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
