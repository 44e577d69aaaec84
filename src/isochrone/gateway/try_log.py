"""Tries that did not answer, one JSON line each: which request, which node, why, when it was sent.

For engineers and for trials ("when was the last request sent to the frozen node?"). Bounded: at
``FILE_BYTES_MAX`` the file is put aside once. A disk that fails costs the log, nothing else.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path

import msgspec

FILE_BYTES_MAX = 8 * 1024 * 1024
log = logging.getLogger(__name__)


class LostTry(msgspec.Struct, frozen=True, kw_only=True):
    """A request's copy that was sent to a node and did not become its answer.

    ``reason``: the error's code, or ``lost_race`` when another copy was faster.
    """

    request: str
    node: str
    reason: str
    sent_unix_ms: float


class TryLog:
    """Appends lost tries to a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._broken = False

    def add(self, request: str, node: str, reason: str, age_s: float) -> None:
        """Record one; ``age_s``: seconds since it was sent."""
        sent_unix_ms = round((time.time() - age_s) * 1e3, 3)
        line = LostTry(request=request, node=node, reason=reason, sent_unix_ms=sent_unix_ms)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab") as file:
                file.write(msgspec.json.encode(line) + b"\n")
                size = file.tell()
            if size > FILE_BYTES_MAX:
                self._path.replace(self._path.with_suffix(".old.jsonl"))
            self._broken = False
        except OSError as error:
            if not self._broken:
                log.error("lost tries are not recorded: %s", error.strerror)
            self._broken = True
