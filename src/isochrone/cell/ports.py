"""Ports that nobody was told to use: chosen by the system once, kept for the cell's life on disk.

A part that restarts must be found where it was. ``ports.json`` in the data directory remembers
every chosen port; at the next start one that somebody else has taken meanwhile is chosen anew.
A port that a person configured is never replaced: if it is taken, that is an error to tell.
"""

from __future__ import annotations

import socket
from pathlib import Path

import msgspec

from isochrone.schema.errors import Unavailable

FILE = "ports.json"


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
            port = _any_free(host)
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


def _any_free(host: str) -> int:
    listener = _bind(host, 0)
    try:
        return int(listener.getsockname()[1])
    finally:
        listener.close()


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
