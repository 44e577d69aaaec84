"""The trials during traffic: a link slows down, a node dies, one freezes, a fabric is cut off."""

from __future__ import annotations

import asyncio
import time

import msgspec

from isochrone.lab.crowd import Crowd
from isochrone.lab.faults import Freeze, Kill, cut_fabric, freeze, kill, slow_link
from isochrone.lab.network import Network, NodeProcess
from isochrone.lab.records import Record, share_by_node
from isochrone.lab.script import (
    CUT_CELL,
    FABRIC_CUT_S,
    FAULT_RATES,
    FAULT_SLICE_S,
    FAULT_SLICES_MAX,
    FREEZE_S,
    HOME_CELL,
    RATES,
    SETTLE_S,
    SLOW_S,
    SLOWER_MS,
)
from isochrone.lab.tenant import Tenant
from isochrone.schema.errors import Unavailable


class Slowed(msgspec.Struct, frozen=True, kw_only=True):
    """A link that became longer: round trips, and the node's share of a service."""

    site: str
    service: str
    before_ms: float
    now_ms: float
    share_before: float
    share_after: float


class Cut(msgspec.Struct, frozen=True, kw_only=True):
    """A fabric that was cut off: when (this machine's clock), and what the cell's gateway said."""

    cell: str
    from_unix_s: float
    until_unix_s: float
    gateway_knew: bool


class Trials:
    """Runs the trials on a network while a crowd calls it."""

    def __init__(self, network: Network, crowd: Crowd, operator: Tenant) -> None:
        self._network = network
        self._crowd = crowd
        self._operator = operator

    async def slow(self) -> Slowed:
        """The link of the node that answers most speech slows down; traffic must leave it."""
        service = "speech-detection"
        calm = [r for r in self._answered("calm") if r.service == service]
        address, share = next(iter(share_by_node(calm).items()))
        node = self._network.node_by_address(address)
        before_ms, now_ms = slow_link(self._network, node, HOME_CELL, SLOWER_MS)
        started_s = time.time()
        await self._crowd.phase("isochrone", "slow", SLOW_S, RATES)
        late_s = started_s + SLOW_S / 2
        late = [
            r for r in self._answered("slow") if r.service == service and r.sent_unix_s > late_s
        ]
        slow_link(self._network, node, HOME_CELL, -SLOWER_MS)
        return Slowed(
            site=node.site.name,
            service=service,
            before_ms=before_ms,
            now_ms=now_ms,
            share_before=share,
            share_after=share_by_node(late).get(address, 0.0),
        )

    async def break_things(self) -> tuple[Kill, Freeze, Cut]:
        """Kill the node that serves most, freeze the next, cut a fabric off; traffic goes on until
        all of it is over."""
        faults = asyncio.create_task(self._faults())
        try:
            for _ in range(FAULT_SLICES_MAX):
                await self._crowd.phase("isochrone", "faults", FAULT_SLICE_S, FAULT_RATES)
                if faults.done():
                    break
            return await faults
        finally:
            faults.cancel()

    async def _faults(self) -> tuple[Kill, Freeze, Cut]:
        await asyncio.sleep(SETTLE_S)
        cut = asyncio.create_task(self._cut())
        try:
            victim, cell = self._busiest()
            with self._operator.admin("operator", self._network.gateway_url(cell)) as client:
                killed = await kill(client, victim)
            await asyncio.sleep(SETTLE_S)
            victim, cell = self._busiest()
            with self._operator.admin("operator", self._network.gateway_url(cell)) as client:
                frozen = await freeze(client, victim, FREEZE_S)
            return killed, frozen, await cut
        finally:
            cut.cancel()

    async def _cut(self) -> Cut:
        from_unix_s = time.time()
        cutting = asyncio.create_task(cut_fabric(self._network, CUT_CELL, FABRIC_CUT_S))
        try:
            await asyncio.sleep(FABRIC_CUT_S * 0.8)
            url = self._network.gateway_url(CUT_CELL)
            with self._operator.admin("operator", url) as client:
                status = await asyncio.to_thread(client.status)
        finally:
            await cutting
        return Cut(
            cell=CUT_CELL,
            from_unix_s=from_unix_s,
            until_unix_s=time.time(),
            gateway_knew=not status.fabric.connected,
        )

    def _busiest(self) -> tuple[NodeProcess, str]:
        """The node of the whole network that answered most in the last moments, and its cell.

        The cut cell is left out: replacing a node needs its fabric.
        """
        since_s = time.time() - SETTLE_S
        recent = [
            r
            for r in self._answered("faults")
            if r.sent_unix_s > since_s and r.cell not in ("", CUT_CELL)
        ]
        if not recent:
            raise Unavailable("Nothing was answered lately.", fix="Is the machine overloaded?")
        address = next(iter(share_by_node(recent)))
        cell = next(r.cell for r in recent if r.node == address)
        return self._network.node_by_address(address), cell

    def _answered(self, phase: str) -> list[Record]:
        return [r for r in self._crowd.records() if r.phase == phase and not r.failed]
