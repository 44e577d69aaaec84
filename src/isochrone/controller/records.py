"""Decision records, kept twice: on disk at once, in the fabric as soon as it takes them.

A decision without its inputs cannot be replayed, so the inputs are written first. The latest
``KEPT`` decisions of a service and kind stay; inputs that none of them names are dropped with the
last decision that did. A decision on all services together (``schema.where``) lies beside the
inputs, under its own digest, as long as any service's decision names it.
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
from isochrone.schema.where import WhereDecision, WhereInputs

KEPT = 20
"""Decisions kept of each service and kind."""

KEPT_BYTES = 600_000
"""... and together no more than fits into one value of the fabric."""

INPUTS = "inputs/"
"""Where inputs and joint decisions lie on the shelf, by digest."""

WAITING_MAX = 512
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
        self._waiting: deque[Decision | bytes] = deque(maxlen=WAITING_MAX)

    async def keep(self, decision: Decision, inputs: PlacementInputs) -> str:
        """Keep a decision and what it looked at; returns the decision's digest.

        A disk that does not take it is said and not fatal: the fabric gets the record, too, and a
        full disk must not keep a dead replica from being replaced.
        """
        content = canonical(inputs)
        self._waiting += (content, decision)
        try:
            await asyncio.to_thread(self._to_disk, decision, content)
        except IsochroneError as error:
            log.error("%s", error.sentence())
        return digest(decision)

    async def keep_joint(self, decision: WhereDecision, inputs: WhereInputs) -> None:
        """Keep a decision on all services together, before the first that names it."""
        for content in (canonical(inputs), canonical(decision)):
            name = f"{INPUTS}{sha256_hex(content)}"
            if content not in self._waiting:
                self._waiting.append(content)
            try:
                await asyncio.to_thread(self._shelf.keep, name, content)
            except IsochroneError as error:
                log.error("%s", error.sentence())

    async def hand_over(self) -> None:
        """Write what waits to the fabric; leaves the rest for later when that is away."""
        while self._waiting:
            record = self._waiting[0]
            try:
                if isinstance(record, bytes):
                    await self._content_to_fabric(record)
                else:
                    await self._to_fabric(record)
            except IsochroneError as error:
                log.debug("a record waits for the fabric: %s", error.sentence())
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
        self._shelf.keep(f"{INPUTS}{decision.inputs}", content)
        before: list[Decision] = []
        stored = self._shelf.read(key)
        if stored is not None:
            with contextlib.suppress(InvalidInput):
                before = decode(stored, list[Decision], "decisions")
        after = _newest([*before, decision])
        self._shelf.keep(key, canonical(after))
        for gone in _only_in(before, after):
            self._shelf.drop(f"{INPUTS}{gone}")
        joints = _joints(before) - _joints(after)
        for name in joints - self._joints_on_disk() if joints else ():
            self._drop_joint(name)

    def _joints_on_disk(self) -> set[str]:
        found: set[str] = set()
        keys = self._shelf.keys()
        for key in keys:
            stored = None if key.startswith(INPUTS) else self._shelf.read(key)
            with contextlib.suppress(InvalidInput):
                found |= _joints(decode(stored or b"[]", list[Decision], "decisions"))
        return found

    def _drop_joint(self, name: str) -> None:
        record = self._shelf.read(f"{INPUTS}{name}")
        self._shelf.drop(f"{INPUTS}{name}")
        if record is not None:
            with contextlib.suppress(InvalidInput):
                inputs = decode(record, WhereDecision, "joint decision").inputs
                self._shelf.drop(f"{INPUTS}{inputs}")

    async def _content_to_fabric(self, content: bytes) -> None:
        name = sha256_hex(content)
        if name not in self._inputs.entries:
            with contextlib.suppress(Conflict):  # content-addressed: who was first wrote the same
                await self._inputs.put(name, content, revision=None)

    async def _to_fabric(self, decision: Decision) -> None:
        key = f"{decision.service}.{decision.kind}"
        before: list[Decision] = []

        def add(old: list[Decision] | None) -> list[Decision]:
            before[:] = old or []
            return _newest([*before, decision])

        entry = await self._decisions.update(key, add)
        after = entry.value if entry else []
        for gone in _only_in(before, after):
            await self._forget(gone)
        named = {name for e in self._decisions.entries.values() for name in _joints(e.value)}
        for gone in sorted(_joints(before) - _joints(after) - named):
            record = self._inputs.entries.get(gone)
            await self._forget(gone)
            if record is not None:
                with contextlib.suppress(InvalidInput):
                    await self._forget(decode(record.value, WhereDecision, "record").inputs)

    async def _forget(self, name: str) -> None:
        held = self._inputs.entries.get(name)
        if held is not None:
            with contextlib.suppress(Conflict):
                await self._inputs.delete(name, revision=held.revision)


def _newest(decisions: list[Decision]) -> list[Decision]:
    """The last ones, as many as are kept."""
    kept = decisions[-KEPT:]
    while len(kept) > 1 and len(canonical(kept)) > KEPT_BYTES:
        kept = kept[1:]
    return kept


def _joints(decisions: list[Decision]) -> set[str]:
    """The decisions on all services together that these follow."""
    return {decision.joint for decision in decisions if decision.joint}


def _only_in(before: list[Decision], after: list[Decision]) -> list[str]:
    """Inputs that were named before and are not any more."""
    still = {decision.inputs for decision in after}
    return sorted({decision.inputs for decision in before} - still)
