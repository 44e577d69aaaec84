"""The node's end of a worker process: started, spoken to, outlived.

Intuition: a worker is a child in a session of its own with one end of a socket pair. This module
starts it, cuts its frames out of the stream without collecting bodies (an answer of megabytes
passes through piece by piece), and knows when it is gone.

Rules: a lost pipe is a lost worker; it is killed by its pid and waited for, so that no process
stays behind. A worker sees of the node's environment only what ``_ENVIRONMENT`` names, so no key
or token reaches code that runs a tenant's model. Its standard error goes to an unnamed file whose
end explains a crash.

It does not restart anything: that is the engine's.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Sequence
from typing import IO, Protocol, cast

import psutil

from isochrone.engines.inherited import inherited
from isochrone.engines.worker_frames import (
    DOCUMENT_LENGTH,
    HEAD,
    Answer,
    Failed,
    Kind,
    Ready,
    decode,
    encode,
    read_head,
)
from isochrone.schema.errors import OurFault, Unavailable

#: How long a worker may take to leave after its pipe was closed, seconds, before it is killed.
LEAVE_S = 2.0

#: Environment variables that a worker inherits (plus those beginning with ``_PREFIXES``).
_ENVIRONMENT = {"PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "SYSTEMROOT"}
_PREFIXES = ("LC_", "DYLD_", "CUDA_", "NVIDIA_", "PYTHON", "OPENBLAS_")

#: Set for every worker: numpy and the tokenizer start no thread pools of their own.
_SINGLE = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}

#: Last bytes of standard error that a reason quotes.
_REASON_BYTES = 400


class WorkerHandler(Protocol):
    """What happens to a worker, told on the loop's thread."""

    def on_ready(self, ready: Ready) -> None:
        """Loaded and warm."""

    def on_failed(self, failed: Failed) -> None:
        """Cannot load; it ends by itself."""

    def on_answer(self, number: int, answer: Answer, body_length: int) -> None:
        """The head of an answer; ``body_length`` bytes follow as ``on_answer_data``."""

    def on_answer_data(self, data: bytes) -> None:
        """A piece of the body of the latest answer."""

    def on_answer_end(self) -> None:
        """The latest answer is complete."""

    def on_lost(self) -> None:
        """The pipe is gone, and with it the worker. Not called after ``stop``."""


class _Pipe(asyncio.Protocol):
    """Cuts the worker's stream into calls on a handler."""

    def __init__(self) -> None:
        self.handler: WorkerHandler | None = None
        self.awake = False
        self.lost = False
        self._kept = b""
        self._body_left = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._kept:
            data, self._kept = self._kept + data, b""
        try:
            used = self._cut(data)
        except OurFault:
            self._transport.abort()
            return
        self._kept = data[used:]

    def connection_lost(self, _: Exception | None) -> None:
        handler, self.handler, self.lost = self.handler, None, True
        if handler is not None:
            handler.on_lost()

    def _cut(self, data: bytes) -> int:
        """Handle what is complete; bytes used."""
        offset, size = 0, len(data)
        while True:
            if self._body_left:
                piece = data[offset : offset + self._body_left]
                if not piece:
                    break
                offset += len(piece)
                self._pass_on(piece)
                continue
            if size - offset < HEAD.size:
                break
            length, kind, number = read_head(data, offset)
            start = offset + HEAD.size
            if kind is Kind.ANSWER:
                if size - start < DOCUMENT_LENGTH.size:
                    break
                (document,) = DOCUMENT_LENGTH.unpack_from(data, start)
                start += DOCUMENT_LENGTH.size
                if size - start < document:
                    break
                offset = start + document
                body = length - DOCUMENT_LENGTH.size - document
                self._begin(number, data[start:offset], body)
            else:
                if size - start < length:
                    break
                offset = start + length
                self._tell(kind, data[start:offset])
        return offset

    def _begin(self, number: int, document: bytes, body: int) -> None:
        self._body_left = body
        if self.handler is not None:
            self.handler.on_answer(number, decode(document, Answer), body)
        if not body and self.handler is not None:
            self.handler.on_answer_end()

    def _pass_on(self, piece: bytes) -> None:
        self._body_left -= len(piece)
        if self.handler is not None:
            self.handler.on_answer_data(piece)
        if not self._body_left and self.handler is not None:
            self.handler.on_answer_end()

    def _tell(self, kind: Kind, document: bytes) -> None:
        if kind is Kind.AWAKE:
            self.awake = True
        if self.handler is None:
            return
        if kind is Kind.READY:
            self.handler.on_ready(decode(document, Ready))
        elif kind is Kind.FAILED:
            self.handler.on_failed(decode(document, Failed))
        elif kind is not Kind.AWAKE:
            raise OurFault(f"A worker sent a {kind.name} frame.")


class Worker:
    """A started worker process. Build it with ``start_worker``."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        transport: asyncio.Transport,
        pipe: _Pipe,
        errors: IO[bytes],
    ) -> None:
        self._process = process
        self._transport = transport
        self._pipe = pipe
        self._errors = errors

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Its pipe stands."""
        return not self._pipe.lost

    @property
    def awake(self) -> bool:
        """Its imports are done."""
        return self._pipe.awake

    def attach(self, handler: WorkerHandler | None) -> None:
        """Who is told from now on; None: nobody, answers are dropped."""
        self._pipe.handler = handler

    def send(self, kind: Kind, number: int, document: object, body: bytes = b"") -> None:
        """Write one frame; never blocks. A lost worker swallows it (``on_lost`` comes)."""
        head = encode(kind, number, document, len(body))
        if len(body) < 64 * 1024:
            self._transport.write(head + body)
        else:
            self._transport.writelines([head, body])

    def rss_mb(self) -> float:
        """Resident memory, MiB; 0 when it is gone."""
        try:
            return float(psutil.Process(self.pid).memory_info().rss) / 2**20
        except psutil.Error:
            return 0.0

    async def stop(self) -> None:
        """Close the pipe, give it ``LEAVE_S`` to leave, else kill it; wait for it. Idempotent."""
        self.attach(None)
        self._transport.close()
        try:
            async with asyncio.timeout(LEAVE_S):
                await self._process.wait()
        except TimeoutError:
            self.kill()
            await self._process.wait()
        self._errors.close()

    def kill(self) -> None:
        """End it now (SIGKILL to its pid, if it has not been waited for)."""
        if self._process.returncode is None:
            self._process.kill()

    async def reason(self) -> str:
        """Why a lost worker went: wait for it (kill it if it lingers), read its last words."""
        try:
            async with asyncio.timeout(LEAVE_S):
                code = await self._process.wait()
        except TimeoutError:
            self.kill()
            code = await self._process.wait()
        words = self._last_words()
        self._errors.close()
        return f"{_ending(code)}{words}"

    def _last_words(self) -> str:
        if self._errors.closed:
            return ""
        self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, self._errors.tell() - _REASON_BYTES))
        words = self._errors.read().decode(errors="replace").strip()
        return f": {' '.join(words.split())}" if words else ""


async def start_worker(module: str, gpus: Sequence[int] = ()) -> Worker:
    """Start ``python -m module FD`` and return as soon as it exists (not awake yet).

    ``gpus``: the machine's GPUs that it sees, by number; none: it sees no GPU at all.
    Raises ``Unavailable`` when the system refuses (no memory, too many processes or files).
    """
    starting = asyncio.get_running_loop().create_task(_start(module, gpus))
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        # A start that is torn half-way leaves a process that nobody knows: it takes a few
        # milliseconds, so it is let through and undone.
        worker = await starting
        await worker.stop()
        raise


def visible_gpus(gpus: Sequence[int], offered: str | None = None) -> dict[str, str]:
    """What makes CUDA show a process these GPUs and no other, numbered as the node's survey does.

    CUDA itself counts the fastest first; the survey counts by bus. ``offered``: the node's own
    ``CUDA_VISIBLE_DEVICES``, when its provider offers some of the machine's GPUs only: numbers then
    count in that list, and one beyond it is shown to nobody.
    """
    if offered is None:
        shown = [str(gpu) for gpu in gpus]
    else:
        names = [name.strip() for name in offered.split(",")]
        shown = [names[gpu] for gpu in gpus if gpu < len(names)]
    return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": ",".join(shown)}


async def _start(module: str, gpus: Sequence[int]) -> Worker:
    shown = visible_gpus(gpus, os.environ.get("CUDA_VISIBLE_DEVICES"))
    errors = cast("IO[bytes]", tempfile.TemporaryFile())  # noqa: SIM115  (the worker's, closed by it)
    ours, theirs = socket.socketpair()
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            module,
            str(theirs.fileno()),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=errors,
            pass_fds=(theirs.fileno(),),
            start_new_session=True,
            env=inherited(_ENVIRONMENT, _PREFIXES, _SINGLE | shown),
        )
    except OSError as error:
        ours.close()
        errors.close()
        raise Unavailable(
            f"Cannot start a worker process: {error.strerror}.",
            fix="Free memory or raise the limit of processes and open files.",
        ) from error
    finally:
        theirs.close()
    ours.setblocking(False)
    loop = asyncio.get_running_loop()
    transport, pipe = await loop.create_unix_connection(_Pipe, sock=ours)
    return Worker(process, transport, pipe, errors)


def _ending(code: int) -> str:
    if code >= 0:
        return f"the worker ended with status {code}"
    try:
        return f"the worker was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"the worker was ended by signal {-code}"
