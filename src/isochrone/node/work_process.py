"""The node's end of a work's process: started for one work, spoken to in turn, always waited for.

It lives in a session of its own, sees of the node's environment only what ``_ENVIRONMENT`` names
(no key, no token), and leaves when its input closes; if it does not, it is killed by its pid.
"""

from __future__ import annotations

import asyncio
import sys
from types import TracebackType
from typing import TypeVar

import msgspec

from isochrone.engines.inherited import inherited
from isochrone.node.work_worker import (
    FRAME_BYTES_MAX,
    LENGTH,
    Broken,
    Order,
    Reply,
    framed,
)
from isochrone.schema.digests import UNREADABLE
from isochrone.schema.errors import OurFault, Unavailable

LEAVE_S = 1.0
"""It ends within a millisecond of its input; a second is patience with a machine that swaps."""

_ENVIRONMENT = {"PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV", "LD_LIBRARY_PATH"}
_PREFIXES = ("LC_", "CUDA_", "NVIDIA_", "PYTHON", "OPENBLAS_CORETYPE")
_SINGLE = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
"""The worker shares blocks out to threads of its own."""

T = TypeVar("T", bound=msgspec.Struct)


class WorkProcess:
    """``async with WorkProcess() as process``: started inside, gone outside."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """Its process id; 0 when there is none."""
        return self._process.pid if self._process is not None else 0

    async def __aenter__(self) -> WorkProcess:
        """Raises Unavailable when the system refuses."""
        starting = asyncio.get_running_loop().create_task(self._start())
        try:
            await asyncio.shield(starting)
        except asyncio.CancelledError:
            await starting  # torn half-way it would leave a process that nobody knows
            await self._end()
            raise
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        ending = asyncio.get_running_loop().create_task(self._end())
        try:
            await asyncio.shield(ending)
        except asyncio.CancelledError:
            await ending
            raise

    async def ask(self, order: Order, reply: type[T]) -> T:
        """Send an order, wait for its reply.

        Raises Unavailable when the process is gone or broken, OurFault for another reply.
        """
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(framed(order))
            await process.stdin.drain()
            (length,) = LENGTH.unpack(await process.stdout.readexactly(LENGTH.size))
            packed = await process.stdout.readexactly(min(length, FRAME_BYTES_MAX))
            found = msgspec.msgpack.decode(packed, type=Reply)
        except (OSError, asyncio.IncompleteReadError) as error:
            raise Unavailable("The work's process is gone.", code="worker_lost") from error
        except UNREADABLE as error:
            raise OurFault(f"The work's process said something unreadable: {error}.") from error
        if isinstance(found, Broken):
            raise Unavailable(f"The work broke: {found.text}.", code="worker_lost")
        if not isinstance(found, reply):
            raise OurFault(f"The work's process answered with {type(found).__name__}.")
        return found

    async def _start(self) -> None:
        try:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",
                "-m",
                "isochrone.node.work_worker",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                start_new_session=True,
                env=inherited(_ENVIRONMENT, _PREFIXES, _SINGLE),
            )
        except OSError as error:
            raise Unavailable(
                f"Cannot start a work's process: {error.strerror}.",
                fix="Free memory or raise the limit of processes and open files.",
            ) from error

    async def _end(self) -> None:
        process = self._process
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        try:
            async with asyncio.timeout(LEAVE_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
