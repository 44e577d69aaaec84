"""What validators measured of nodes' hardware: the middle of what they say.

Each named validator's best right work of the last day counts, as idle moments are rare and a work
that ran beside leases shows less than there is. Of the validators' figures the lower median is
taken: more than half would have to lie upwards.

Rules of this file: pure; ``now_unix_ms`` is an argument; bounded. Cheapest lie caught: one
validator's own figure among three. Cheapest lie missed: the only validator's.
"""

from __future__ import annotations

from typing import Final

import msgspec

from isochrone.fabric.attested_bounds import AHEAD_MS
from isochrone.rules.hardware import kept_by_its_own_speed
from isochrone.schema.work import WorkAttestation

VALID_MS: Final = 24 * 3_600_000
"""Hardware changes rarely, and idle moments of a busy node may be a day apart."""

NODES_MAX: Final = 20_000
"""Of more, the one goes for which nothing better was shown for longest."""


class Proven(msgspec.Struct, frozen=True):
    """What was measured of a node; 0: nothing was."""

    memory_mib: int = 0
    mflops: int = 0


UNMEASURED: Final = Proven()


class Works:
    """The best work of every (node, validator)."""

    def __init__(self) -> None:
        self._best: dict[str, dict[str, WorkAttestation]] = {}

    def take(self, said: WorkAttestation, now_unix_ms: int) -> bool:
        """Take a checked attestation of a believed validator; whether it changed anything.

        A work whose rows were wrong, or not there any more when they were recalled, shows nothing.
        """
        if said.at_unix_ms > now_unix_ms + AHEAD_MS:  # or it would hold too long
            return False
        if not said.right or not kept_by_its_own_speed(said) or not _counts(said, now_unix_ms):
            return False
        held = self._best.get(said.node, {}).get(said.validator)
        if held is not None and _counts(held, now_unix_ms) and _rank(held) >= _rank(said):
            return False
        if said.node not in self._best and len(self._best) >= NODES_MAX:
            del self._best[next(iter(self._best))]
        self._best[said.node] = {**self._best.pop(said.node, {}), said.validator: said}
        return True

    def proven(self, node: str, now_unix_ms: int) -> Proven:
        """The lower median of what validators measured of a node lately."""
        best = self._best.get(node)
        if not best:
            return UNMEASURED
        rows = [said for said in best.values() if _counts(said, now_unix_ms)]
        if not rows:
            del self._best[node]
            return UNMEASURED
        middle = (len(rows) - 1) // 2
        memory = sorted(row.memory_mib for row in rows)[middle]
        return Proven(memory, sorted(row.mflops for row in rows)[middle])


def _counts(said: WorkAttestation, now_unix_ms: int) -> bool:
    return now_unix_ms - VALID_MS <= said.at_unix_ms


def _rank(said: WorkAttestation) -> tuple[int, int, int]:
    return said.memory_mib, said.mflops, said.at_unix_ms
