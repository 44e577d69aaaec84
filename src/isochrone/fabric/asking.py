"""A short-lived child that works out what needs numpy or a map, and ends.

Intuition: gateways count microseconds and must not load numpy, hold the world's borders or keep the
interpreter's lock for long; a module of ``atlas`` reads one question from standard input, in JSON,
writes a list of answers, and is gone with all that it loaded.

Rules: the child has a session of its own, one thread of arithmetic, and is waited for; it is ended
after the time that the caller gives, or when the caller is cancelled. Whatever it says that cannot
be read is no answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from typing import Final, TypeVar

import msgspec

from isochrone.schema.digests import UNREADABLE

T = TypeVar("T")

ONE_THREAD: Final = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
"""The cores beside it serve requests."""

log = logging.getLogger(__name__)


async def ask_child(module: str, question: object, kind: type[T], within_s: float) -> T | None:
    """What ``python -m module`` answers to a question, both JSON; None when it failed."""
    try:
        return await _ask(module, msgspec.json.encode(question), kind, within_s)
    except (OSError, TimeoutError, *UNREADABLE) as error:
        log.warning("%s gave no answer: %r", module, error)
        return None


async def _ask(module: str, question: bytes, kind: type[T], within_s: float) -> T:
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
        env=os.environ | ONE_THREAD,
    )
    try:
        async with asyncio.timeout(within_s):
            told, _ = await child.communicate(question)
        return msgspec.json.decode(told, type=kind)
    finally:
        if child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            await child.wait()
