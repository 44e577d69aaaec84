"""Decision records, kept twice: on disk at once, in the fabric as soon as it takes them.

A decision without its inputs cannot be replayed, so the inputs are written first. The latest
``KEPT`` decisions of a service and kind stay; inputs that none of them names are dropped with the
last decision that did.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque

from isochrone.controller.shelf import Shelf
from isochrone.fabric.table import Table
from isochrone.schema.decision import Decision, PlacementInputs
from isochrone.schema.digests import canonical, decode, digest, sha256_hex
from isochrone.schema.errors import Conflict, InvalidInput, IsochroneError

KEPT = 20
"""Decisions kept of each service and kind."""

KEPT_BYTES = 600_000
"""... and together no more than fits into one value of the fabric."""

WAITING_MAX = 256
"""Records that wait for the fabric; older ones are on disk anyway."""

log = logging.getLogger(__name__)


class Records:
    """The decisions of this cell's controllers."""

    def __init__(
        self, decisions: Table[list[Decision]], inputs: Table[bytes], shelf: Shelf
    ) -> None:
        self._decisions = decisions
        self._inputs = inputs
        self._shelf = shelf
        self._waiting: deque[tuple[Decision, bytes]] = deque(maxlen=WAITING_MAX)

    async def keep(self, decision: Decision, inputs: PlacementInputs) -> str:
        """Keep a decision and what it looked at; returns the decision's digest.

        A disk that does not take it is said and not fatal: the fabric gets the record, too, and a
        full disk must not keep a dead replica from being replaced.
        """
        content = canonical(inputs)
        self._waiting.append((decision, content))
        try:
            await asyncio.to_thread(self._to_disk, decision, content)
        except IsochroneError as error:
            log.error("%s", error.sentence())
        return digest(decision)

    async def hand_over(self) -> None:
        """Write what waits to the fabric; leaves the rest for later when that is away."""
        while self._waiting:
            decision, content = self._waiting[0]
            try:
                await self._to_fabric(decision, content)
            except IsochroneError as error:
                log.debug("decision of %s waits: %s", decision.service, error.sentence())
                return
            self._waiting.popleft()

    def latest(self, service: str, kind: str) -> Decision | None:
        """The newest decision known of a service, from the fabric or from disk."""
        key = f"{service}.{kind}"
        entry = self._decisions.entries.get(key)
        known = [entry.value[-1]] if entry and entry.value else []
        stored = self._shelf.read(key)
        if stored is not None:
            with contextlib.suppress(InvalidInput):
                known += decode(stored, list[Decision], "decisions")[-1:]
        return max(known, key=lambda d: (d.epoch, d.at_unix_ms), default=None)

    def _to_disk(self, decision: Decision, content: bytes) -> None:
        key = f"{decision.service}.{decision.kind}"
        self._shelf.keep(f"inputs/{decision.inputs}", content)
        before: list[Decision] = []
        stored = self._shelf.read(key)
        if stored is not None:
            with contextlib.suppress(InvalidInput):
                before = decode(stored, list[Decision], "decisions")
        after = _newest([*before, decision])
        self._shelf.keep(key, canonical(after))
        for gone in _only_in(before, after):
            self._shelf.drop(f"inputs/{gone}")

    async def _to_fabric(self, decision: Decision, content: bytes) -> None:
        if decision.inputs not in self._inputs.entries:
            with contextlib.suppress(Conflict):  # content-addressed: who was first wrote the same
                await self._inputs.put(sha256_hex(content), content, revision=None)
        key = f"{decision.service}.{decision.kind}"
        before: list[Decision] = []

        def add(old: list[Decision] | None) -> list[Decision]:
            before[:] = old or []
            return _newest([*before, decision])

        entry = await self._decisions.update(key, add)
        for gone in _only_in(before, entry.value if entry else []):
            held = self._inputs.entries.get(gone)
            if held is not None:
                with contextlib.suppress(Conflict):
                    await self._inputs.delete(gone, revision=held.revision)


def _newest(decisions: list[Decision]) -> list[Decision]:
    """The last ones, as many as are kept."""
    kept = decisions[-KEPT:]
    while len(kept) > 1 and len(canonical(kept)) > KEPT_BYTES:
        kept = kept[1:]
    return kept


def _only_in(before: list[Decision], after: list[Decision]) -> list[str]:
    """Inputs that were named before and are not any more."""
    still = {decision.inputs for decision in after}
    return sorted({decision.inputs for decision in before} - still)
