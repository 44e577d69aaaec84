"""This gateway's word on how long each node stood ready in an epoch, and with how much free.

Live time runs from beat to beat, like that of replicas; free is what no lease holds, averaged over
it. At an epoch's end each node's record is sealed and kept with the tallies. A process that began
in the middle of an epoch tells of its part only.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

import msgspec

from isochrone.gateway.fleet import Fleet
from isochrone.gateway.known import KnownNode
from isochrone.gateway.tallies_kept import KeptTallies
from isochrone.gateway.tallies_signing import TICK_S, Leases
from isochrone.rules.tallying import GAP_S_MAX
from isochrone.schema.documents import STANDBY_RECORD, pack, seal
from isochrone.schema.errors import IsochroneError
from isochrone.schema.frames import Records
from isochrone.schema.identity import PrivateKey
from isochrone.schema.lease import Lease
from isochrone.schema.record_batch import RecordBatch, StandbyRecord

log = logging.getLogger(__name__)


class _Standing:
    """One node in the epoch that runs."""

    __slots__ = ("free_milli_ms", "heard_s", "live_ms", "metro", "provider")

    def __init__(self) -> None:
        self.live_ms = 0.0
        self.free_milli_ms = 0.0
        self.heard_s = 0.0
        self.provider = self.metro = ""


class StandbyBook:
    """The nodes of one epoch after another. ``epoch_ms``: no more live time is told than that: the
    beat that spans a boundary counts in the later epoch."""

    def __init__(self, key: PrivateKey, cell: str, epoch_ms: int) -> None:
        self._key = key
        self._epoch_ms = epoch_ms
        self._cell = cell
        self._epoch = -1
        self._standings: dict[str, _Standing] = {}

    async def run(
        self,
        kept: KeptTallies,
        epoch_now: Callable[[], int],
        fleet: Fleet,
        leases: Callable[[], Leases],
    ) -> None:
        """Count on a timer and keep what ended, until cancelled."""
        while True:
            epoch, documents = self.look(epoch_now(), fleet, leases())
            if documents:
                batch = RecordBatch(
                    epoch=epoch, source=self._key.address, documents=tuple(documents)
                )
                try:
                    await kept.keep(
                        epoch, [Records(batch=msgspec.msgpack.encode(batch))], tell=True
                    )
                except IsochroneError as error:
                    log.error("standby records are lost: %s", error.sentence())
            await asyncio.sleep(TICK_S)

    def look(
        self, epoch: int, fleet: Fleet, leases: Mapping[str, Mapping[str, Lease]]
    ) -> tuple[int, list[bytes]]:
        """Count what the beats say; an epoch that ended by now and its packed documents."""
        ended, documents = self._epoch, []
        if epoch > self._epoch:
            documents = [self._document(node) for node in sorted(self._standings)]
            self._standings = {
                node: self._carried(standing) for node, standing in self._standings.items()
            }
            self._epoch = epoch
        for node, known in fleet.nodes.items():
            if known.line is not None and known.introduced is not None and known.introduced.home:
                self._count(node, known, leases.get(node, {}))
            elif node in self._standings:
                self._standings[node].heard_s = 0.0
        return ended, documents if ended >= 0 else []

    def _count(self, node: str, known: KnownNode, leases: Mapping[str, Lease]) -> None:
        assert known.introduced is not None
        standing = self._standings.get(node)
        if standing is None:
            standing = self._standings[node] = _Standing()
        standing.provider = known.provider
        standing.metro = known.place.metro if known.place is not None else ""
        gap_s = known.health.heard_s - standing.heard_s if standing.heard_s else 0.0
        standing.heard_s = known.health.heard_s
        if 0 < gap_s <= GAP_S_MAX:
            held = sum(lease.resources.cpu_milli for lease in leases.values())
            free_milli = max(0, known.introduced.capacity.cpu_milli - held)
            standing.live_ms += gap_s * 1000
            standing.free_milli_ms += free_milli * gap_s * 1000

    @staticmethod
    def _carried(standing: _Standing) -> _Standing:
        fresh = _Standing()
        fresh.heard_s = standing.heard_s
        return fresh

    def _document(self, node: str) -> bytes:
        standing = self._standings[node]
        live_ms = int(standing.live_ms)
        record = StandbyRecord(
            epoch=self._epoch,
            node=node,
            provider=standing.provider,
            cell=self._cell,
            metro=standing.metro,
            gateway=self._key.address,
            live_ms=min(live_ms, self._epoch_ms),
            free_cpu_milli=int(standing.free_milli_ms / standing.live_ms) if live_ms else 0,
        )
        return pack(seal(STANDBY_RECORD, record, self._key))
