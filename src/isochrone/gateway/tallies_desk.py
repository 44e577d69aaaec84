"""The ledger's side of this gateway, held together: who is told what, and when it runs.

``doors`` brings what nodes and gateways say, the fabric what validators say; the signer signs, the
book of standby counts beats, the hand hands over. Nothing of it is on a request's path.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from isochrone.fabric.connection import Fabric
from isochrone.gateway.fleet import Fleet
from isochrone.gateway.ledger_news import LedgerNews
from isochrone.gateway.tallies_handing import RecordHand
from isochrone.gateway.tallies_kept import KeptTallies
from isochrone.gateway.tallies_signing import TallySigner
from isochrone.gateway.tallies_tenants import TenantDesk
from isochrone.schema.errors import IsochroneError
from isochrone.schema.frames import Counted, EpochFinal, Records
from isochrone.schema.settling import S_FINAL, S_FUNDS, S_WANTED
from isochrone.schema.tally import TallyAccepted, TallyRefused
from isochrone.wire.channel import Channel

log = logging.getLogger(__name__)

COUNTS_AT_ONCE_MAX = 256
"""Tenants' counts from other gateways being checked; more are dropped, clients post again."""


class TallyDesk:
    """A ``doors.Ledger``."""

    def __init__(
        self,
        fleet: Fleet,
        kept: KeptTallies,
        signer: TallySigner,
        hand: RecordHand,
        tenants: TenantDesk,
        news: LedgerNews,
    ) -> None:
        self._fleet = fleet
        self._kept = kept
        self._signer = signer
        self._hand = hand
        self._tenants = tenants
        self._news = news
        self._tasks: set[asyncio.Task[None]] = set()

    async def follow(self, fabric: Fabric) -> None:
        """Hear what validators say."""
        self._news.on_final.append(self._final)
        await fabric.subscribe(S_FUNDS, self._news.funds)
        await fabric.subscribe(S_FINAL, self._news.final)
        await fabric.subscribe(S_WANTED, self._hand.wanted)

    async def close(self) -> None:
        """Stop what is under way."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # -- what nodes and gateways say -----------------------------------------------------------

    def node_joined(self, channel: Channel) -> None:
        """See ``doors.Ledger``; told when the channel's handler is in place."""
        asyncio.get_running_loop().call_soon(self._welcome, channel)

    def accepted(self, node: str, message: TallyAccepted) -> None:
        """See ``doors.Ledger``."""
        self._signer.accepted(node, message)

    def refused(self, node: str, message: TallyRefused) -> None:
        """See ``doors.Ledger``."""
        self._signer.refused(node, message)

    def copies(self, node: str, message: Records) -> None:
        """See ``doors.Ledger``."""
        self._hand.copies(node, message)

    def counted(self, message: Counted) -> None:
        """See ``doors.Ledger``."""
        if len(self._tasks) < COUNTS_AT_ONCE_MAX:
            self._spawn(self._keep(message))

    # -- effects ---------------------------------------------------------------------------------

    def _welcome(self, channel: Channel) -> None:
        if self._news.final_epoch >= 0:
            channel.send_control(EpochFinal(epoch=self._news.final_epoch))
        self._signer.node_joined(channel.peer.address)

    def _final(self, epoch: int) -> None:
        self._kept.final(epoch)
        for known in self._fleet.nodes.values():
            if known.line is not None:
                known.line.channel.send_control(EpochFinal(epoch=epoch))

    async def _keep(self, message: Counted) -> None:
        try:
            await self._tenants.keep(message)
        except IsochroneError as error:
            log.debug("a tenant's count is not kept: %s", error.sentence())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
