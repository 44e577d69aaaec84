"""The gateway as a vantage: it measures its nodes and its kind, and tells nodes who else watches.

A gateway is close to its nodes and talks with them all the time, so it is the vantage that proves
most about them. What it finds goes to everybody (``wire.probing_post``); what *it* believes about
places comes from vantages that its configuration names, itself among them, and is not decided here.

Rules: nodes whose home is this cell are measured, over their channels; gateways in
``allow_operators`` and validators in ``validators``, over the fabric, if their news is heard. Nodes
learn those validators' doors in ``Watchers``: when they come, when the set changes, and every
``REPEAT_S``. Nobody named: nobody believed, nobody told.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Collection, Iterable
from typing import Final

from isochrone.fabric.connection import Fabric
from isochrone.gateway.config import GatewayConfig
from isochrone.gateway.fleet import Fleet
from isochrone.gateway.known import KnownNode
from isochrone.schema.frames import Watchers
from isochrone.schema.identity import PrivateKey
from isochrone.schema.probing import ProbeCommitted, ProbeSigned, VantageNews
from isochrone.wire.channel import Channel
from isochrone.wire.probing_door import ProbeDoor
from isochrone.wire.probing_post import VantagePost
from isochrone.wire.probing_prover import Prover, unix_ms_now
from isochrone.wire.probing_subjects import ChannelSubject
from isochrone.wire.probing_vantage import Standing, Vantage
from isochrone.wire.resolving import resolved

REPEAT_S: Final = 30.0
"""Nodes forget a watcher that no gateway names for two minutes."""

WATCHERS_MAX: Final = 16
"""Told to one node: as many channels as it keeps."""


class GatewayVantage:
    """``open`` binds the probe port, ``run`` measures and tells, ``close`` ends both."""

    def __init__(
        self,
        config: GatewayConfig,
        key: PrivateKey,
        fabric: Fabric,
        fleet: Fleet,
        operators: Collection[str],
    ) -> None:
        self._config = config
        self._key = key
        self._fleet = fleet
        self._operators = operators
        self._validators = frozenset(config.validators)
        self._door = ProbeDoor()
        self._vantage: Vantage | None = None
        self._nodes: dict[str, tuple[Channel, ChannelSubject]] = {}
        self._prover = Prover(key, lambda host, port: resolved(config.resolve, host, port))
        self.post = VantagePost(
            key, fabric, self._prover, self._believes, self._news, self._tell_all
        )

    @property
    def vantage(self) -> Vantage:
        """Who measures; there from ``open`` on."""
        assert self._vantage is not None
        return self._vantage

    async def open(self) -> int:
        """Take probed connections and the fabric's questions; the port.

        Raises Unavailable when the port is taken.
        """
        config = self._config
        port = await self._door.open(config.probe_host, config.probe_port)
        standing = Standing(
            place=config.place,
            probe_host=config.announce_host or config.probe_host,
            probe_port=config.announce_probe_port or port,
            account=lambda: config.account,
        )
        self._vantage = Vantage(
            self._key,
            self._door,
            standing,
            self.post.measured,
            remeasure_s=config.remeasure_s,
        )
        await self.post.open(self._vantage)
        return port

    async def run(self) -> None:
        """For ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.vantage.run())
            tasks.create_task(self.post.run())
            tasks.create_task(self._repeat())

    async def close(self) -> None:
        """Give up every burst, on both sides."""
        if self._vantage is not None:
            await self._vantage.close()
        await self._prover.close()
        await self._door.close()

    def node_changed(self, address: str) -> None:
        """A node came, went, introduced itself or changed: it is measured while it is at home."""
        known = self._fleet.nodes.get(address)
        channel = _home_channel(known)
        met = self._nodes.get(address)
        if met is not None and met[0] is channel:
            return
        if channel is None:
            if self._nodes.pop(address, None) is not None and self._vantage is not None:
                self._vantage.part(address)
            return
        subject = ChannelSubject(address, channel.send_control)
        self._nodes[address] = channel, subject
        self.vantage.meet(subject)
        self._tell(address, channel)

    def heard(self, address: str, message: ProbeCommitted | ProbeSigned) -> None:
        """A node's words on a burst."""
        met = self._nodes.get(address)
        if met is not None:
            met[1].heard(message)

    async def _repeat(self) -> None:
        while True:
            await asyncio.sleep(REPEAT_S)
            self._tell_all()

    def _tell_all(self) -> None:
        for address, (channel, _) in self._nodes.items():
            self._tell(address, channel)

    def _tell(self, address: str, channel: Channel) -> None:
        watchers = watchers_of(address, self.post.known.all)
        if watchers:
            channel.send_control(Watchers(vantages=watchers))

    def _believes(self, news: VantageNews) -> bool:
        named = self._validators if news.role == "validator" else self._operators
        return news.vantage in named

    def _news(self) -> VantageNews | None:
        standing = self.vantage.standing
        return VantageNews(
            vantage=self._key.address,
            account=standing.account(),
            role="gateway",
            cell=self._config.cell,
            place=standing.place,
            probe_host=standing.probe_host,
            probe_port=standing.probe_port,
            at_unix_ms=unix_ms_now(),
        )


def watchers_of(node: str, news: Iterable[VantageNews]) -> tuple[VantageNews, ...]:
    """The validators that a node is told of: all with a door, of too many a choice of its own.

    By a digest of node and validator: each validator gets its share of nodes, and all gateways
    that know the same validators choose alike.
    """
    doors = [one for one in news if one.role == "validator" and one.door is not None]
    doors.sort(key=lambda one: hashlib.sha256(f"{node}{one.vantage}".encode()).digest())
    return tuple(doors[:WATCHERS_MAX])


def _home_channel(known: KnownNode | None) -> Channel | None:
    """The channel of a node that is at home here."""
    if known is None or known.line is None or known.introduced is None:
        return None
    return known.line.channel if known.introduced.home else None
