"""The channels a node keeps to validators, so that they can measure it.

Gateways of the home cell tell which validators there are (``Watchers``, repeated). For each, up to
``WATCHERS_MAX``, a keeper dials the door it announced, checks the pinned certificate, introduces
the node, waits until the channel is lost, and dials again after a jittered pause.

Rules: a watcher asks (``questions``), it never orders: leases and tallies are the gateways'. It may
open no stream. Watchers that no gateway has named for ``FORGET_S`` are left, not before: one
gateway's short list must not blind the others. A wrong door harms nobody: whoever stands there can
ask for probes and work. A gateway of the home cell that names ``WATCHERS_MAX`` inventions first
keeps the true validators out, and so keeps its own cell's node from being proven.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterable
from typing import Final

from isochrone.node.config import NodeConfig, Papers
from isochrone.node.doors import retry_pause_s
from isochrone.node.journal import Journal
from isochrone.node.questions import Questions, Say
from isochrone.schema.errors import Forbidden, IsochroneError
from isochrone.schema.frames import Control, Introduce, Watchers
from isochrone.schema.identity import PrivateKey
from isochrone.schema.node import Capacity
from isochrone.schema.probing import VantageDoor, VantageNews
from isochrone.wire.channel import Channel, ChannelLimits, Stream, StreamSink
from isochrone.wire.greeting import dial

WATCHERS_MAX: Final = 16
"""Channels to validators; of more, those are kept that were named first."""

FORGET_S: Final = 120.0
"""Gateways repeat their watchers every half minute."""

LIMITS: Final = ChannelLimits(ping_interval_s=2.0, streams_max=1)
"""Nobody waits for a watcher's silence: pings only keep the way open (NAT)."""


class Watching:
    """Keeps the channels. ``channels``: open ones, by validator.

    ``on_opened(validator, say)``, ``on_lost(validator)``: who wants to know.
    """

    def __init__(
        self,
        config: NodeConfig,
        key: PrivateKey,
        papers: Papers,
        capacity: Capacity,
        questions: Questions,
        journal: Journal,
    ) -> None:
        self.channels: dict[str, Channel] = {}
        self.on_opened: list[Callable[[str, Say], None]] = []
        self.on_lost: list[Callable[[str], None]] = []
        self._config = config
        self._key = key
        self._papers = papers
        self._capacity = capacity
        self._questions = questions
        self._journal = journal
        self._chances = random.Random(config.seed)
        self._named_s: dict[str, float] = {}
        self._doors: dict[str, VantageDoor] = {}
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self._trouble: dict[str, str] = {}

    def named(self, watchers: Watchers) -> None:
        """A gateway told of validators."""
        now_s = time.monotonic()
        self._forget(now_s)
        for news in watchers.vantages[: 4 * WATCHERS_MAX]:
            self._learn(news, now_s)

    async def close(self) -> None:
        """Say goodbye and stop dialling."""
        keepers = list(self._keepers.values())
        for task in keepers:
            task.cancel()
        await asyncio.gather(*keepers, return_exceptions=True)
        for channel in list(self.channels.values()):
            channel.close("going_away", "The node is ending.")

    def _learn(self, news: VantageNews, now_s: float) -> None:
        validator, door = news.vantage, news.door
        if door is None or news.role != "validator":
            return
        if validator not in self._doors and len(self._doors) >= WATCHERS_MAX:
            return
        self._named_s[validator] = now_s
        if self._doors.get(validator) == door:
            return
        if validator in self.channels:  # it may be told of two ways; the one that stands counts
            return
        self._leave((validator,))
        self._doors[validator] = door
        self._keepers[validator] = asyncio.get_running_loop().create_task(
            self._keep(validator, door)
        )

    def _forget(self, now_s: float) -> None:
        self._leave([name for name, at_s in self._named_s.items() if now_s - at_s > FORGET_S])
        self._named_s = {name: at for name, at in self._named_s.items() if now_s - at <= FORGET_S}

    def _leave(self, validators: Iterable[str]) -> None:
        for validator in validators:
            self._doors.pop(validator, None)
            self._trouble.pop(validator, None)
            keeper = self._keepers.pop(validator, None)
            if keeper is not None:
                keeper.cancel()
            channel = self.channels.get(validator)
            if channel is not None:
                channel.close("not_needed", "No gateway names this validator any more.")

    async def _keep(self, validator: str, door: VantageDoor) -> None:
        tries = 0
        while True:
            lost = asyncio.Event()
            if await self._dial(validator, door, lost):
                tries = 0
                await lost.wait()
            tries += 1
            await asyncio.sleep(retry_pause_s(tries, self._chances.random()))

    async def _dial(self, validator: str, door: VantageDoor, lost: asyncio.Event) -> bool:
        try:
            host, port = self._config.dial_address(door.host, door.port)
            channel = await dial(
                host, port, door.fingerprint, self._key, "node", self._papers.packed,
                lambda opened: _Watcher(self, validator, opened, lost), LIMITS,
            )  # fmt: skip
        except IsochroneError as error:
            if self._trouble.get(validator) != error.message:
                self._trouble[validator] = error.message
                self._journal.tell(
                    "warning", "no way to a watcher", watcher=validator, reason=error.sentence()
                )
            return False
        if channel.peer.address != validator:
            channel.close("not_needed", "Another validator was expected here.")
            return False
        self._trouble.pop(validator, None)
        self._journal.tell("info", "watcher connected", watcher=validator)
        return True

    def opened(self, validator: str, channel: Channel) -> None:
        """A channel stands; questions may follow its welcome at once."""
        if channel.peer.address == validator:
            self.channels[validator] = channel
            channel.send_control(Introduce(capacity=self._capacity, home=False))
            for tell in self.on_opened:
                tell(validator, channel.send_control)

    def heard(self, validator: str, channel: Channel, message: Control) -> None:
        """A validator asks something; it has no other rights."""
        if self.channels.get(validator) is channel:
            self._questions.put("watcher", validator, message, channel.send_control)

    def lost(self, validator: str, channel: Channel) -> None:
        """A watcher's channel is gone."""
        if self.channels.get(validator) is channel:
            del self.channels[validator]
            self._journal.tell("info", "watcher lost", watcher=validator)
            for tell in self.on_lost:
                tell(validator)


class _Watcher:
    """The handler of a channel to a validator."""

    def __init__(
        self, watching: Watching, validator: str, channel: Channel, lost: asyncio.Event
    ) -> None:
        self._watching = watching
        self._validator = validator
        self._channel = channel
        self._lost = lost
        watching.opened(validator, channel)

    def on_open(self, stream: Stream, header: bytes, body: bytes, ended: bool) -> StreamSink:
        raise Forbidden("A validator sends no requests.")

    def on_control(self, message: Control) -> None:
        self._watching.heard(self._validator, self._channel, message)

    def on_lost(self, error: IsochroneError) -> None:
        self._lost.set()
        self._watching.lost(self._validator, self._channel)
