"""Starts the links process and talks to it: the lab's handle on distances.

Blocking calls that take about a millisecond each; from a coroutine, call them directly or through
``asyncio.to_thread``. One ``LinkControl`` belongs to one thread.
"""

from __future__ import annotations

import contextlib
import math
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import msgspec

from isochrone.lab.link_messages import (
    Add,
    Cut,
    LinkReport,
    LinksConfig,
    LinkSpec,
    List,
    Ready,
    Remove,
    Reply,
    Request,
    Restore,
    Set,
    Way,
)
from isochrone.schema.digests import decode
from isochrone.schema.errors import InvalidInput, Timeout, Unavailable

START_TIMEOUT_S = 30.0
"""Patience for the process to listen: 0.3 s when idle, much more on a machine at its limit."""

REPLY_TIMEOUT_S = 10.0
"""Patience for one control reply."""

STOP_TIMEOUT_S = 5.0
"""Patience between SIGTERM and SIGKILL."""


class LinkControl:
    """A control connection to a links process. Every method raises Unavailable if it is gone,
    and InvalidInput with its sentence if it refuses.
    """

    def __init__(self, ready: Ready) -> None:
        try:
            address = (ready.control_host, ready.control_port)
            self._socket = socket.create_connection(address, timeout=REPLY_TIMEOUT_S)
        except OSError as error:
            raise Unavailable(f"The links process does not answer: {error}.") from error
        self._file = self._socket.makefile("rb")
        self._socket.sendall(ready.token.encode() + b"\n")

    def list(self) -> tuple[LinkReport, ...]:
        """What every link is and did so far."""
        return self._ask(List()).links

    def add(self, link: LinkSpec) -> int:
        """Start a link; returns its port."""
        return self._ask(Add(link)).port

    def set(self, name: str, rtt_ms: float | None = None, target_port: int | None = None) -> None:
        """Change a link's round trip from now on, or the target of new connections."""
        if rtt_ms is not None and not math.isfinite(rtt_ms):  # JSON would make it "no change"
            raise InvalidInput(f"A round trip of {rtt_ms} ms is no number.")
        self._ask(Set(name, rtt_ms, target_port))

    def cut(
        self, names: Iterable[str], how: Literal["hold", "reset"] = "hold", way: Way = "both"
    ) -> None:
        """Partition links: ``hold`` what they carry until restored, or ``reset`` connections."""
        self._ask(Cut(tuple(names), how, way))

    def restore(self, names: Iterable[str]) -> None:
        """End the partition of links."""
        self._ask(Restore(tuple(names)))

    def remove(self, name: str) -> None:
        """Stop a link and reset its connections."""
        self._ask(Remove(name))

    def close(self) -> None:
        """Close the control connection; the links go on."""
        self._file.close()
        self._socket.close()

    def _ask(self, request: Request) -> Reply:
        try:
            self._socket.sendall(msgspec.json.encode(request) + b"\n")
            line = self._file.readline()
        except OSError as error:
            raise Unavailable(f"The links process does not answer: {error}.") from error
        if not line:
            raise Unavailable("The links process hung up.", fix="Is it still running?")
        reply = decode(line, Reply, "reply")
        if reply.error:
            raise InvalidInput(reply.error)
        return reply


class LinksProcess:
    """A links process of ours: started by ``start_links``, ended by ``stop``."""

    def __init__(self, process: subprocess.Popen[bytes], ready: Ready) -> None:
        self.process = process
        self.ready = ready
        self.control = LinkControl(ready)

    @property
    def ports(self) -> dict[str, int]:
        """Link name -> listening port, of the links in the configuration."""
        return self.ready.ports

    def stop(self) -> int:
        """End the process and wait for it; returns its exit status. May be called again."""
        self.control.close()
        return _end(self.process)

    def __enter__(self) -> LinksProcess:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()


def start_links(links: Iterable[LinkSpec], folder: Path) -> LinksProcess:
    """Start a links process with its files in ``folder``; it dies with this process.

    Raises Unavailable with what it said if it does not come up.
    """
    ready_path = folder / "links.ready.json"
    ready_path.unlink(missing_ok=True)
    config = LinksConfig(ready_path=str(ready_path), links=tuple(links), exit_with_stdin=True)
    config_path, log_path = folder / "links.json", folder / "links.log"
    config_path.write_bytes(msgspec.json.encode(config))
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "isochrone.lab.links", str(config_path)],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        return LinksProcess(process, _await_ready(process, ready_path, log_path))
    except BaseException:
        _end(process)
        raise


def _await_ready(process: subprocess.Popen[bytes], path: Path, log_path: Path) -> Ready:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not path.exists():
        if process.poll() is not None:
            said = log_path.read_text(errors="replace").strip()[-500:]
            raise Unavailable(f"The links process ended with {process.returncode}: {said}")
        if time.monotonic() > deadline:
            raise Timeout(f"The links process was not ready after {START_TIMEOUT_S:.0f} s.")
        time.sleep(0.01)
    return decode(path.read_bytes(), Ready, "ready file")


def _end(process: subprocess.Popen[bytes]) -> int:
    process.terminate()
    try:
        return process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()
    finally:
        # Only now: two reasons to end at once would race, and a late SIGTERM kill the exit.
        if process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()
