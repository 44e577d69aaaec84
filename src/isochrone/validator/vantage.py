"""The validator as a vantage: nodes keep channels to it, and it measures them, and its kind.

Rules: a validator without a place in its configuration is no vantage. It begins when the chain has
told which account it works for, since no word counts before. The news of others is believed if
their key stands on the chain in the role and for the account that they claim. What it finds is
published for everybody (``wire.probing_post``); what it *reports* about a watch is the watch's
business, which calls ``measure`` at moments of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from isochrone.fabric.connection import Fabric
from isochrone.fabric.server import GUEST
from isochrone.schema.errors import InvalidInput
from isochrone.schema.identity import PrivateKey
from isochrone.schema.place import Place
from isochrone.schema.probing import ProbeCommitted, ProbeSigned, VantageDoor, VantageNews
from isochrone.validator.config import ValidatorConfig
from isochrone.validator.door import WatchDoor
from isochrone.wire.certificate import make_certificate
from isochrone.wire.channel import Channel
from isochrone.wire.probing_door import ProbeDoor
from isochrone.wire.probing_known import is_known_place
from isochrone.wire.probing_post import VantagePost
from isochrone.wire.probing_prover import Prover, unix_ms_now
from isochrone.wire.probing_subjects import ChannelSubject
from isochrone.wire.probing_vantage import Standing, Vantage


class Posts(NamedTuple):
    """Ports as bound. ``fingerprint``: of the channel door's certificate."""

    channel_port: int
    probe_port: int
    fingerprint: str


class ValidatorVantage:
    """``open`` binds both ports, ``run`` measures, ``close`` ends. ``door.nodes``: who is here.

    ``unix_ms``: the clock of what it says. ``bonded`` tells it who works for whom by the newest
    look at the chain.
    """

    def __init__(
        self,
        config: ValidatorConfig,
        key: PrivateKey,
        fabric: Fabric,
        unix_ms: Callable[[], int] = unix_ms_now,
    ) -> None:
        self._unix_ms = unix_ms
        self._validators: Mapping[str, str] = {}
        self._operators: Mapping[str, str] = {}
        self._bonded = asyncio.Event()
        self.door = WatchDoor(key.address, config.cell, self._node_changed)
        self._config = config
        self._key = key
        self._probe_door = ProbeDoor()
        self._prover = Prover(key, config.dial_address)
        self._met: dict[str, tuple[Channel, ChannelSubject]] = {}
        self._watch_door: VantageDoor | None = None
        self._vantage: Vantage | None = None
        guest = any(urlsplit(url).username == GUEST for url in config.fabric_servers)
        self.post = VantagePost(key, fabric, self._prover, self._believes, self._news, guest=guest)
        self.door.on(ProbeCommitted, self._heard)
        self.door.on(ProbeSigned, self._heard)

    @property
    def vantage(self) -> Vantage:
        """Who measures; there from ``open`` on."""
        assert self._vantage is not None
        return self._vantage

    @property
    def account(self) -> str:
        """The account that this validator's key votes for; empty until the chain has told."""
        return self._validators.get(self._key.address, "")

    def bonded(self, validators: Mapping[str, str], operators: Mapping[str, str]) -> None:
        """The chain was read: keys → accounts, of validators and of bonded operators' machines."""
        self._validators, self._operators = validators, operators
        if self.account:
            self._bonded.set()

    async def open(self, place: Place) -> Posts:
        """Take channels, probed connections and the fabric's questions.

        Raises Unavailable when a port is taken, InvalidInput for a place that is not on Earth.
        """
        config = self._config
        if not is_known_place(place):
            raise InvalidInput(
                "The validator's place is not on Earth, or its country is none.",
                fix="Correct `place`: degrees north and east, and an ISO 3166 code.",
            )
        certificate = make_certificate(Path(config.state_dir) / "tls")
        probe_port = await self._probe_door.open(config.probe_host, config.probe_port)
        standing = Standing(
            place=place,
            probe_host=config.announce_host or config.probe_host,
            probe_port=config.announce_probe_port or probe_port,
            account=lambda: self.account,
        )
        self._vantage = Vantage(
            self._key,
            self._probe_door,
            standing,
            self.post.measured,
            remeasure_s=config.remeasure_s,
            unix_ms=self._unix_ms,
        )
        channel_port = await self.door.open(config.channel_host, config.channel_port, certificate)
        self._watch_door = VantageDoor(
            host=config.announce_host or config.channel_host,
            port=config.announce_channel_port or channel_port,
            fingerprint=certificate.fingerprint,
        )
        await self.post.open(self._vantage)
        return Posts(channel_port, probe_port, certificate.fingerprint)

    async def run(self) -> None:
        """For ever, from the moment on at which the chain knows this validator's bond."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.post.run())
            await self._bonded.wait()
            tasks.create_task(self.vantage.run())

    async def close(self) -> None:
        """Give up every burst and close every channel."""
        if self._vantage is not None:
            await self._vantage.close()
        await self._prover.close()
        await self._probe_door.close()
        await self.door.close()

    async def measure(self, subject: str) -> bytes | None:
        """One burst now: a packed ``place-attestation`` of that key, or None if there was none."""
        return await self.vantage.measure(subject)

    def _node_changed(self, address: str) -> None:
        node = self.door.nodes.get(address)
        met = self._met.get(address)
        if met is not None and node is not None and met[0] is node.channel:
            return
        if node is None:
            self._met.pop(address, None)
            self.vantage.part(address)
            return
        subject = ChannelSubject(address, node.channel.send_control)
        self._met[address] = node.channel, subject
        self.vantage.meet(subject)

    def _heard(self, address: str, message: ProbeCommitted | ProbeSigned) -> None:
        met = self._met.get(address)
        if met is not None:
            met[1].heard(message)

    def _believes(self, news: VantageNews) -> bool:
        keys = self._validators if news.role == "validator" else self._operators
        account = keys.get(news.vantage, "")
        return bool(account) and news.account in ("", account)

    def _news(self) -> VantageNews | None:
        standing = self.vantage.standing
        return VantageNews(
            vantage=self._key.address,
            account=standing.account(),
            role="validator",
            cell=self._config.cell,
            place=standing.place,
            probe_host=standing.probe_host,
            probe_port=standing.probe_port,
            door=self._watch_door,
            at_unix_ms=self._unix_ms(),
        )
