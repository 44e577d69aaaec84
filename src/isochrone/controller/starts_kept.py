"""Measured starts in the cell's bucket: whoever leads next plans and promises from them.

Intuition: what nodes took to start is the cell's experience and not one process's. The leader
writes its memory as one value, seldom; it reads what another leader wrote whenever that is new to
it, so a takeover begins where the former leader was, at most ``WRITE_S`` behind.

Rules: read before written, and written against the revision that was read; a conflict is another
leader's word, read next time. Losing it all costs promises that are too long, nothing else.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

from isochrone.controller.coldstarts import ColdStarts, Memory
from isochrone.fabric.table import Table
from isochrone.schema.errors import Conflict

KEY = "all"

WRITE_S = 10.0
"""Between two writes: a start takes seconds to minutes, and its figures are of use for days."""


class StartsKept:
    """Keeps ``starts`` in ``table``; ``work`` is called while this process leads."""

    def __init__(
        self,
        starts: ColdStarts,
        table: Table[Memory],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._starts = starts
        self._table = table
        self._clock = clock
        self._revision = 0
        self._wrote_s = float("-inf")

    async def work(self) -> None:
        """Read what is new, write what changed; raises Unavailable while the fabric is away."""
        if not self._table.seen.is_set():
            return
        entry = self._table.entries.get(KEY)
        if entry is not None and entry.revision != self._revision:
            self._revision = entry.revision
            self._starts.recall(entry.value)
        if self._clock() - self._wrote_s < WRITE_S:
            return
        memory = self._starts.memory()
        if memory == (entry.value if entry is not None else Memory()):
            return
        self._wrote_s = self._clock()
        revision = entry.revision if entry is not None else None
        with contextlib.suppress(Conflict):
            self._revision = await self._table.put(KEY, memory, revision=revision)
