"""The channels a node keeps: to every gateway process of its home cell, and to nobody else.

Intuition: the node is told some doors and dials out. First it surveys: a short visit to each door
tells which cell stands behind it and how far it is. ``home`` judges; then one keeper per door of
the home cell dials, waits until the channel is lost, and dials again after a jittered pause, for
ever. Gateways tell of new doors in their welcome and in Doors frames. While no gateway of home
answers the survey is repeated, so that a node whose cell is gone finds another; while all is well,
now and then, and only if no lease is held (a visit would be of no use).

Rules: never two channels to one gateway. Announced addresses go through the resolve map.
"""

from __future__ import annotations

import asyncio
import functools
import random
import time
from typing import Protocol

from isochrone.node.config import DoorAddress, NodeConfig, Papers
from isochrone.node.home import Home, View, judge
from isochrone.node.journal import Journal
from isochrone.node.mask import NOWHERE, admits, country_of
from isochrone.node.survey import OnOpen, Surveyor, Visit, as_gateway_door
from isochrone.schema.errors import IsochroneError
from isochrone.schema.frames import Control, Doors, GatewayDoor, Welcome
from isochrone.schema.identity import PrivateKey
from isochrone.schema.lease import Lease
from isochrone.wire.channel import Channel, ChannelLimits, Stream, StreamSink
from isochrone.wire.greeting import dial

LOOK_S = 0.5
"""How often the home is judged."""

SURVEY_GONE_S = 3.0
SURVEY_CALM_S = 300.0
"""Pause between surveys while home does not answer, and while it does."""

SILENT_S = 3.0
"""A gateway that has sent nothing for this long (it pings four times a second) does not count as
connected when the home is judged."""

RETRY_FIRST_S = 0.1
RETRY_MOST_S = 5.0
"""Pauses between dials double from the first to the most, each × 0.5–1.5: a gateway that restarts
is dialled by 2,000 nodes within about 10 s instead of at once."""

KEPT_LIMITS = ChannelLimits()


def retry_pause_s(tries: int, chance: float) -> float:
    """The pause before dial ``tries`` (1 = the first retry); ``chance`` in 0..1 is the jitter."""
    grown_s: float = RETRY_FIRST_S * 2.0 ** (min(tries, 16) - 1)
    return min(RETRY_MOST_S, grown_s) * (0.5 + chance)


class Household(Protocol):
    """Whoever lives behind the doors: the node."""

    def on_home(self, cell: str) -> None:
        """The home is chosen, or another."""

    def on_connected(self, channel: Channel) -> None:
        """A channel to a gateway of the home cell is open."""

    def on_lost(self, gateway: str) -> None:
        """It is gone."""

    def on_control(self, gateway: str, message: Control) -> None:
        """A gateway of the home cell said something (not Doors)."""

    def on_open(
        self, stream: Stream, header: bytes, body: bytes, ended: bool, gateway: str, country: str
    ) -> StreamSink:
        """A gateway that stands in ``country`` (empty: unknown) opened a stream."""

    def idle(self) -> bool:
        """Whether no lease is held (then a nearer home may be chosen)."""


class DoorKeeping:
    """Surveys, chooses the home, keeps channels. ``channels``: open ones, by gateway address."""

    def __init__(
        self,
        config: NodeConfig,
        key: PrivateKey,
        papers: Papers,
        household: Household,
        journal: Journal,
    ) -> None:
        self.home = Home()
        self.channels: dict[str, Channel] = {}
        self._countries: dict[str, str] = {}  # where their gateways stand
        self._config = config
        self._key = key
        self._papers = papers
        self._household = household
        self._journal = journal
        self._chances = random.Random(config.seed)
        self._surveyor = Surveyor(config, key, papers, self.opened)
        self._doors: dict[str, GatewayDoor] = {}  # of the home cell, by host:port
        self._announced: tuple[GatewayDoor, ...] = ()  # by a gateway of it, last
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self._rtts_ms: dict[str, float] = {}
        self._visits: dict[str, list[Visit]] = {}
        self._survey_at_s = 0.0
        self._silenced: dict[str, str] = {}
        self._looker: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; returns at once."""
        self._looker = asyncio.get_running_loop().create_task(self._look_again_and_again())

    async def close(self, code: str, message: str) -> None:
        """Say goodbye on every channel and stop dialling."""
        tasks = [*self._keepers.values()]
        if self._looker is not None:
            tasks.append(self._looker)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for channel in list(self.channels.values()):
            channel.close(code, message)

    def admitted(self, lease: Lease) -> list[Channel]:
        """Open channels to gateways of the lease's cell that stand inside its residency."""
        return [
            channel
            for gateway, channel in self.channels.items()
            if not channel.closed
            and self.home.cell == lease.cell
            and admits(lease, self._countries.get(gateway, NOWHERE))
        ]

    def sources(self, lease: Lease) -> list[Channel]:
        """Those, nearest first: where the lease's model files are fetched."""
        return sorted(self.admitted(lease), key=lambda channel: channel.rtt_ms_ewma)

    # -- choosing the home -------------------------------------------------------------------

    async def _look_again_and_again(self) -> None:
        while True:
            now_s = time.monotonic()
            if now_s >= self._survey_at_s and (self._household.idle() or not self._connected()):
                await self._survey()
                self._learn_visited()
                calm = self._connected() or (self.home.cell is None and self._visits)
                pause_s = SURVEY_CALM_S if calm else SURVEY_GONE_S
                self._survey_at_s = time.monotonic() + pause_s * (0.5 + self._chances.random())
            self._judge(time.monotonic())
            await asyncio.sleep(LOOK_S)

    def _judge(self, now_s: float) -> None:
        connected = self._connected()
        gone_since_s = self.home.gone_since_s
        if gone_since_s is not None and now_s - gone_since_s > SURVEY_GONE_S:
            self._survey_at_s = min(self._survey_at_s, now_s + SURVEY_GONE_S)
        view = View(rtts_ms=self._rtts(), connected=connected, idle=self._household.idle())
        former, self.home = self.home, judge(self.home, view, now_s)
        if self.home.cell is not None and self.home.cell != former.cell:
            self._move(former.cell, self.home.cell)

    def _connected(self) -> bool:
        now_s = time.monotonic()
        return any(
            not channel.closed and now_s - channel.last_heard < SILENT_S
            for channel in self.channels.values()
        )

    def _rtts(self) -> dict[str, float]:
        """The surveyed round trips; home's by its open channels only: keepers dial it."""
        rtts_ms = {cell: ms for cell, ms in self._rtts_ms.items() if cell != self.home.cell}
        measured = [c.rtt_ms_ewma for c in self.channels.values() if c.rtt_ms_ewma > 0]
        if self.home.cell is not None and measured:
            rtts_ms[self.home.cell] = min(measured)
        return rtts_ms

    def _move(self, former: str | None, cell: str) -> None:
        rtt_ms = self._rtts_ms.get(cell, 0.0)
        self._journal.tell("info", "home chosen", cell=cell, former=former, rtt_ms=rtt_ms)
        for task in self._keepers.values():
            task.cancel()
        self._keepers.clear()
        self._doors.clear()
        self._announced = ()
        for channel in list(self.channels.values()):
            channel.close("moved", f"The node's home is now {cell}.")
        self._household.on_home(cell)
        self._learn_visited()

    def _learn_visited(self) -> None:
        """Doors of the home cell as the survey found them; those just visited surely open."""
        for visit in self._visits.get(self.home.cell or "", []):
            self._learn(visit.welcome.doors)
            self._learn((as_gateway_door(visit),))

    async def _survey(self) -> None:
        """Visit every configured door that is not dialled anyway; remember what was found."""
        doors = [door for door in self._config.doors if not self._is_known(door)]
        found, troubles = await self._surveyor.visit_all(doors)
        for address, error in troubles.items():
            self._tell_once(address, error)
        self._visits = {}
        for visit in found:
            self._silenced.pop(visit.door.address, None)
            cell = visit.welcome.cell
            if not self._config.cells or cell in self._config.cells:
                self._visits.setdefault(cell, []).append(visit)
        self._rtts_ms = {
            cell: min(visit.rtt_ms for visit in visits) for cell, visits in self._visits.items()
        }

    def _is_known(self, door: DoorAddress) -> bool:
        """Whether a keeper dials that gateway already, perhaps under another address: two
        channels of one node would supersede each other."""
        return any(known.fingerprint == door.fingerprint for known in self._doors.values())

    def _tell_once(self, address: str, error: IsochroneError) -> None:
        """Log a door's trouble when it changes, not at every try."""
        if self._silenced.get(address) != error.message:
            self._silenced[address] = error.message
            self._journal.tell("warning", "door closed", door=address, reason=error.sentence())

    # -- keeping channels --------------------------------------------------------------------

    def _learn(self, doors: tuple[GatewayDoor, ...]) -> None:
        """Doors of the home cell: one keeper for each gateway, at the address told last."""
        for door in doors:
            address = f"{door.host}:{door.port}"
            if door.gateway in self.channels or self._doors.get(address) == door:
                continue
            for other, known in list(self._doors.items()):
                if other == address or known.gateway == door.gateway:
                    self._forget(other)
            self._doors[address] = door
            self._keepers[address] = asyncio.get_running_loop().create_task(self._keep(door))

    def _forget(self, address: str) -> None:
        del self._doors[address]
        self._keepers.pop(address).cancel()

    def replace_doors(self, doors: tuple[GatewayDoor, ...]) -> None:
        """The cell's doors changed: keep the new ones, stop dialling those that are gone."""
        self._announced = doors
        listed = {f"{door.host}:{door.port}" for door in doors}
        for address, door in list(self._doors.items()):
            if doors and address not in listed and door.gateway not in self.channels:
                self._forget(address)
        self._learn(doors)

    async def _keep(self, door: GatewayDoor) -> None:
        """Dial, wait until it is lost, pause; for ever."""
        tries = 0
        while True:
            lost = asyncio.Event()
            if await self._dial(door, lost):
                tries = 0
                await lost.wait()
            tries += 1
            await asyncio.sleep(retry_pause_s(tries, self._chances.random()))

    async def _dial(self, door: GatewayDoor, lost: asyncio.Event) -> bool:
        host, port = self._config.dial_address(door.host, door.port)
        address = f"{door.host}:{door.port}"
        try:
            channel = await dial(
                host, port, door.fingerprint, self._key, "node", self._papers.packed,
                lambda opened: _Kept(self, opened, lost), KEPT_LIMITS,
            )  # fmt: skip
        except IsochroneError as error:
            self._tell_once(address, error)
            return False
        self._silenced.pop(address, None)
        welcome = channel.peer.info
        assert isinstance(welcome, Welcome)
        if welcome.cell != self.home.cell or channel.peer.address in self.channels:
            channel.close("not_needed", "Another door leads there, or it is another cell.")
            return False
        self.channels[channel.peer.address] = channel
        self._countries[channel.peer.address] = country_of(welcome, channel.peer.address)
        self._journal.tell(
            "info", "connected", gateway=channel.peer.address, door=address, cell=welcome.cell
        )
        self._household.on_connected(channel)
        self._learn(welcome.doors)
        return True

    def heard(self, channel: Channel, message: Control) -> None:
        """A control message on a kept channel."""
        if isinstance(message, Doors):
            self.replace_doors(message.doors)
        else:
            self._household.on_control(channel.peer.address, message)

    def opened(
        self, stream: Stream, header: bytes, body: bytes, ended: bool, gateway: str, country: str
    ) -> StreamSink:
        """A stream on a kept channel, or from a door that is visited."""
        return self._household.on_open(stream, header, body, ended, gateway, country)

    def lost(self, channel: Channel, error: IsochroneError) -> None:
        """A kept channel is gone."""
        gateway = channel.peer.address
        if self.channels.get(gateway) is channel:
            del self.channels[gateway]
            self._countries.pop(gateway, None)
            self._journal.tell("warning", "channel lost", gateway=gateway, reason=error.message)
            self._household.on_lost(gateway)
            self._learn(self._announced)  # it may have moved to another door meanwhile


class _Kept:
    """The handler of a kept channel."""

    def __init__(self, keeping: DoorKeeping, channel: Channel, lost: asyncio.Event) -> None:
        self._keeping = keeping
        self._channel = channel
        self._lost = lost
        gateway = channel.peer.address
        country = country_of(channel.peer.info, gateway)
        self.on_open: OnOpen = functools.partial(keeping.opened, gateway=gateway, country=country)

    def on_control(self, message: Control) -> None:
        self._keeping.heard(self._channel, message)

    def on_lost(self, error: IsochroneError) -> None:
        self._lost.set()
        self._keeping.lost(self._channel, error)
