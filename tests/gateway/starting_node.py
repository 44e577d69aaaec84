"""A node that obeys orders, and whose starts take a known time."""

from __future__ import annotations

import asyncio

from isochrone.schema.frames import Control, Orders
from isochrone.schema.lease import Lease, LeaseStatus
from isochrone.schema.place import Place

from .acting_node import ActingNode, Script, echo


class StartingNode(ActingNode):
    """``start_s``: from an order to an answering replica."""

    def __init__(self, place: Place, start_s: float, script: Script = echo) -> None:
        super().__init__(place, script)
        self.start_s = start_s
        self.starts = 0
        self.heard = self._obey

    def _obey(self, _gateway: str, message: Control) -> None:
        if not isinstance(message, Orders) or not message.complete:
            return
        ordered = {lease.id: lease for lease in message.leases}
        for gone in self.statuses.keys() - ordered.keys():
            del self.statuses[gone]
        for lease in ordered.values():
            self._do(lease)
        self.beat()

    def _do(self, lease: Lease) -> None:
        if lease.desired != "serving":
            self.statuses[lease.id] = LeaseStatus(
                lease=lease.id, revision=lease.revision, state="ended"
            )
            return
        known = self.statuses.get(lease.id)
        if known is None:
            self.starts += 1
            asyncio.get_running_loop().call_later(self.start_s, self._ready, lease)
            self.statuses[lease.id] = LeaseStatus(
                lease=lease.id, revision=lease.revision, state="warming"
            )

    def _ready(self, lease: Lease) -> None:
        if lease.id in self.statuses and self.statuses[lease.id].state == "warming":
            self.statuses[lease.id] = LeaseStatus(
                lease=lease.id,
                revision=lease.revision,
                state="serving",
                load_ms=self.start_s * 900,
                first_answer_ms=self.start_s * 100,
            )
            self.beat()
