"""Ports that nobody was told to use: drawn once, kept for the cell's life on disk.

A part that restarts must be found where it was. ``ports.json`` in the data directory remembers
every chosen port; at the next start one that somebody else has taken meanwhile is chosen anew.
A port that a person configured is never replaced: if it is taken, that is an error to tell.

They are drawn at random below those that systems give to outgoing connections (32768 up on Linux,
49152 up on macOS): between our look and the part's start no such connection takes one, and two
cells that start at once rarely draw the same. ``ISOCHRONE_PORTS=FIRST-LAST`` names another range,
for machines on which only some are open, or where many cells start at once.
"""

from __future__ import annotations

import os
import random
import socket
from collections import deque
from collections.abc import Container
from pathlib import Path

import msgspec

from isochrone.schema.errors import InvalidInput, Unavailable

FILE = "ports.json"

DRAWN_FROM = range(20_000, 32_000)
TRIES = 4_000
"""Ports that are looked at before giving up."""

_given: deque[int] = deque(maxlen=300)
"""What this process gave lately: cells that start side by side in it may not be listening yet."""


class Ports:
    """The ports of one cell, by the name of what listens there."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        try:
            self._kept = msgspec.json.decode(self._path.read_bytes(), type=dict[str, int])
        except (OSError, msgspec.DecodeError):
            self._kept = {}

    def take(self, name: str, host: str, configured: int = 0) -> int:
        """The port for ``name``; raises Unavailable when the configured one is in use."""
        if configured:
            if not is_free(host, configured):
                raise Unavailable(
                    f"Port {configured} on {host} is in use ({name}).",
                    fix="End what uses it, or choose another port.",
                )
            return configured
        port = self._kept.get(name, 0)
        if not port or not is_free(host, port):
            (port,) = free_ports(1, host, but=set(self._kept.values()))
        self._kept[name] = port
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_bytes(msgspec.json.encode(self._kept))
        return port


def is_free(host: str, port: int) -> bool:
    """Whether a listener could be opened there now."""
    try:
        _bind(host, port).close()
    except OSError:
        return False
    return True


def free_ports(count: int, host: str = "127.0.0.1", *, but: Container[int] = ()) -> list[int]:
    """So many different ports that nobody listens on now; raises Unavailable."""
    found: list[int] = []
    for port in _drawn():
        if len(found) == count:
            _given.extend(found)
            return found
        if port not in but and port not in _given and is_free(host, port):
            found.append(port)
    raise Unavailable(f"There are no {count} free ports on {host}.", fix="End what uses them.")


def _drawn() -> list[int]:
    """Ports in random order; raises InvalidInput for a range that is none."""
    told = os.environ.get("ISOCHRONE_PORTS", "")
    first, _, last = told.partition("-")
    try:
        drawn_from = range(int(first), int(last) + 1) if told else DRAWN_FROM
    except ValueError:
        drawn_from = range(0)
    if not drawn_from or drawn_from[0] < 1 or drawn_from[-1] > 65_535:
        raise InvalidInput(
            f"ISOCHRONE_PORTS is {told[:40]!r}, which is no range of ports.",
            fix="Write it as 20000-29999.",
        )
    return random.SystemRandom().sample(drawn_from, min(TRIES, len(drawn_from)))


def free_run(count: int, host: str = "127.0.0.1", *, but: Container[int] = ()) -> list[int]:
    """So many free ports in a row; raises Unavailable."""
    for first in _drawn():
        run = range(first, first + count)
        if all(port not in but and port not in _given and is_free(host, port) for port in run):
            _given.extend(run)
            return list(run)
    raise Unavailable(f"There are no {count} free ports in a row on {host}.")


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        # As servers do: a connection of an earlier listener in TIME_WAIT is no obstacle.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    return listener
