"""The channel door: nodes and gateways come in, say who they are, and speak.

A thin shell around ``wire.greeting``: ``credentials`` decides who may enter; what they say goes to
the fleet (beats), the registrar (introductions), the log book, the relay desk and the fetch desk.
A node may fetch and speak; only a gateway may ask for a relay.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from time import monotonic
from typing import Final, Protocol

import msgspec

from isochrone.gateway.config import GatewayConfig
from isochrone.gateway.credentials import check_gateway
from isochrone.gateway.fetches import FetchDesk
from isochrone.gateway.fleet import Fleet
from isochrone.gateway.known import KnownPeer
from isochrone.gateway.lines import Line
from isochrone.gateway.logs import TEXT_CHARS_MAX, LogBook
from isochrone.gateway.relay import RelayDesk, refuse_stream
from isochrone.schema.digests import UNREADABLE
from isochrone.schema.errors import Forbidden, InvalidInput, IsochroneError
from isochrone.schema.frames import (
    AnswerRootSigned,
    Ask,
    Beat,
    Control,
    Counted,
    Doors,
    GatewayDoor,
    Hello,
    Introduce,
    LogLine,
    Records,
    Welcome,
    unpack_open,
)
from isochrone.schema.operator import OperatorGrant
from isochrone.schema.place import Place
from isochrone.schema.probing import ProbeCommitted, ProbeSigned
from isochrone.schema.tally import TallyAccepted, TallyRefused
from isochrone.wire.certificate import Certificate
from isochrone.wire.channel import Channel, ChannelHandler, ChannelLimits, Stream, StreamSink
from isochrone.wire.greeting import ChannelServer, listen
from isochrone.wire.node_papers import NodePapers, check_node

LINES_PER_S: Final = 200.0
"""Log lines taken from one node a second, with bursts of as many; more are counted and dropped."""


class Hooks(msgspec.Struct, frozen=True):
    """Who is told: ``node_changed`` (came, went, introduced itself, changed a lease's state)
    and ``lease_of(node, lease)`` → the service of a lease that the node holds, or "".
    ``probed(node, message)``: a node's words on a burst."""

    node_changed: Callable[[str], None]
    lease_of: Callable[[str, str], str]
    newest_grant: Callable[[str], int]
    ledger: Ledger
    answers: Answers
    probed: Callable[[str, ProbeCommitted | ProbeSigned], None]


class Answers(Protocol):
    """Who has answers signed and checked."""

    def signed(self, node: str, message: AnswerRootSigned) -> None:
        """A node signed a root over its answers, or would not."""

    def forget(self, node: str) -> None:
        """A node opened a channel: nothing that went over an older one will be signed."""


class Ledger(Protocol):
    """Who takes what nodes and gateways say about tallies."""

    def node_joined(self, channel: Channel) -> None:
        """A node opened a channel."""

    def accepted(self, node: str, message: TallyAccepted) -> None:
        """A node signed a link."""

    def refused(self, node: str, message: TallyRefused) -> None:
        """A node did not."""

    def copies(self, node: str, message: Records) -> None:
        """A node brought its copies."""

    def counted(self, message: Counted) -> None:
        """A gateway passed a tenant's count on."""


class DoorKeeper:
    """Owns the listening door and all channels that came through it.

    ``papers``: this gateway's own, for the welcome; set before the door is opened.
    """

    def __init__(
        self,
        config: GatewayConfig,
        gateway: str,
        fleet: Fleet,
        relays: RelayDesk,
        fetches: FetchDesk,
        logs: LogBook,
        hooks: Hooks,
        operators: Collection[str],
    ) -> None:
        self.counters: Counter[str] = Counter()
        self.papers = b""
        self._config = config
        self._gateway = gateway
        self._fleet = fleet
        self._relays = relays
        self._fetches = fetches
        self._logs = logs
        self._hooks = hooks
        self._operators = operators
        self._server: ChannelServer | None = None
        self._doors: tuple[GatewayDoor, ...] = ()

    async def open(self, certificate: Certificate) -> int:
        """Listen; the port. Raises Unavailable when it cannot."""
        config = self._config
        limits = ChannelLimits(channels_max=config.limits.channels_max)
        self._server = await listen(
            config.channel_host,
            config.channel_port,
            certificate,
            self._authorise,
            self.admit,
            limits,
            gateway=self._gateway,
            cell=config.cell,
        )
        return self._server.port

    async def close(self) -> None:
        """Close the door and every channel."""
        if self._server is not None:
            await self._server.close()

    @property
    def answers(self) -> Answers:
        """Who is told about answers."""
        return self._hooks.answers

    @property
    def ledger(self) -> Ledger:
        """Who is told about tallies."""
        return self._hooks.ledger

    @property
    def greetings(self) -> Counter[str]:
        """Greetings by outcome."""
        return self._server.counters if self._server is not None else Counter()

    @property
    def doors(self) -> tuple[GatewayDoor, ...]:
        """The doors that nodes are told."""
        return self._doors

    def set_doors(self, doors: tuple[GatewayDoor, ...]) -> None:
        """The cell's gateway processes changed: tell every node of this gateway."""
        if doors == self._doors:
            return
        self._doors = doors
        for known in self._fleet.nodes.values():
            if known.line is not None:
                known.line.channel.send_control(Doors(doors=doors))

    def admit(self, channel: Channel) -> ChannelHandler:
        """The handler of a channel that came in or that we dialled."""
        info = channel.peer.info
        now_s = monotonic()
        if isinstance(info, NodePapers):
            return self._admit_node(channel, info, now_s)
        if isinstance(info, OperatorGrant):
            return self.admit_gateway(channel, info.cell, info.place, info.http_url)
        raise Forbidden("This channel has no papers.")

    def admit_gateway(
        self, channel: Channel, cell: str, place: Place, http_url: str
    ) -> ChannelHandler:
        """The handler of a channel to another gateway."""
        now_s = monotonic()
        line = Line(channel, now_s)
        peer = KnownPeer(channel.peer.address, cell, place, line, http_url)
        old = self._fleet.peers.get(peer.address)
        self._fleet.peer_joined(peer)
        if old is not None:
            old.line.channel.close("replaced", "A newer channel took its place.")
        return GatewayHandler(self._fleet, self._relays, self._fetches, peer, self._hooks.ledger)

    def _admit_node(self, channel: Channel, papers: NodePapers, now_s: float) -> ChannelHandler:
        address = channel.peer.address
        self._fleet.node_joined(
            address, papers.provider, papers.grant, papers.packed, channel, now_s
        )
        handler = NodeHandler(self, channel, address)
        self._hooks.node_changed(address)
        self._hooks.ledger.node_joined(channel)
        self._hooks.answers.forget(address)
        return handler

    def _authorise(self, hello: Hello) -> tuple[object, Welcome]:
        welcome = Welcome(
            version=hello.version,
            gateway=self._gateway,
            cell=self._config.cell,
            doors=self._doors,
            papers=self.papers,
        )
        if hello.role == "node":
            return check_node(hello, self._hooks.newest_grant), welcome
        return check_gateway(hello, self._operators), welcome

    # -- what nodes say ------------------------------------------------------------------------

    def introduced(self, address: str, message: Introduce) -> None:
        """A node told what it has."""
        known = self._fleet.nodes.get(address)
        if known is not None:
            known.introduced = message
            self._hooks.node_changed(address)

    def beat(self, address: str, message: Beat) -> None:
        """A node beats."""
        known = self._fleet.nodes.get(address)
        before = known.beat if known is not None else None
        self._fleet.beat(address, message, monotonic())
        if before is None or _states(before) != _states(message):
            self._hooks.node_changed(address)

    def line(self, address: str, line: LogLine) -> None:
        """A node's log line about one of its leases."""
        service = self._hooks.lease_of(address, line.lease)
        if not service or service != line.service:
            self.counters["foreign_log_line"] += 1
            return
        if len(line.text) > TEXT_CHARS_MAX:
            line = msgspec.structs.replace(line, text=line.text[:TEXT_CHARS_MAX] + "…")
        self._logs.take(line)

    def fetch(self, stream: Stream, address: str, header: bytes) -> StreamSink:
        """A node opened a stream: it may fetch, nothing else."""
        try:
            opened = unpack_open(header)
            if isinstance(opened, Ask):
                raise Forbidden("A node may not send requests.")
        except (IsochroneError, *UNREADABLE) as error:
            return refuse_stream(stream, _as_ours(error))
        return self._fetches.serve_node(stream, opened, address)

    def probed(self, address: str, message: ProbeCommitted | ProbeSigned) -> None:
        """A node's words on a burst."""
        self._hooks.probed(address, message)

    def node_lost(self, address: str, channel: Channel) -> None:
        """A node's channel is gone."""
        self._fleet.node_left(address, channel, monotonic())
        self._hooks.node_changed(address)


class NodeHandler:
    """One node's channel."""

    __slots__ = ("_address", "_channel", "_keeper", "_lines_left", "_lines_s")

    def __init__(self, keeper: DoorKeeper, channel: Channel, address: str) -> None:
        self._keeper = keeper
        self._channel = channel
        self._address = address
        self._lines_left = LINES_PER_S
        self._lines_s = monotonic()

    def on_open(self, stream: Stream, header: bytes, body: bytes, ended: bool) -> StreamSink:
        """A node opened a stream."""
        return self._keeper.fetch(stream, self._address, header)

    def on_control(self, message: Control) -> None:
        """A node spoke."""
        if isinstance(message, Beat):
            self._keeper.beat(self._address, message)
        elif isinstance(message, Introduce):
            self._keeper.introduced(self._address, message)
        elif isinstance(message, LogLine):
            if self._may_log():
                self._keeper.line(self._address, message)
        elif isinstance(message, TallyAccepted):
            self._keeper.ledger.accepted(self._address, message)
        elif isinstance(message, TallyRefused):
            self._keeper.ledger.refused(self._address, message)
        elif isinstance(message, Records):
            self._keeper.ledger.copies(self._address, message)
        elif isinstance(message, AnswerRootSigned):
            self._keeper.answers.signed(self._address, message)
        elif isinstance(message, ProbeCommitted | ProbeSigned):
            self._keeper.probed(self._address, message)
        else:
            self._keeper.counters["unexpected_control"] += 1

    def on_lost(self, error: IsochroneError) -> None:
        """The channel is gone."""
        self._keeper.node_lost(self._address, self._channel)

    def _may_log(self) -> bool:
        now_s = monotonic()
        earned = (now_s - self._lines_s) * LINES_PER_S
        self._lines_left = min(LINES_PER_S, self._lines_left + earned)
        self._lines_s = now_s
        if self._lines_left < 1:
            self._keeper.counters["log_flood"] += 1
            return False
        self._lines_left -= 1
        return True


class GatewayHandler:
    """A channel to another gateway, whichever side dialled."""

    __slots__ = ("_fetches", "_fleet", "_ledger", "_peer", "_relays")

    def __init__(
        self,
        fleet: Fleet,
        relays: RelayDesk,
        fetches: FetchDesk,
        peer: KnownPeer,
        ledger: Ledger,
    ) -> None:
        self._ledger = ledger
        self._fleet = fleet
        self._relays = relays
        self._fetches = fetches
        self._peer = peer

    def on_open(self, stream: Stream, header: bytes, body: bytes, ended: bool) -> StreamSink:
        """The gateway wants a relay or a file."""
        try:
            opened = unpack_open(header)
        except UNREADABLE as error:
            return refuse_stream(stream, _as_ours(error))
        if isinstance(opened, Ask):
            peer = self._peer
            where = self._fleet.where(peer)
            return self._relays.open(stream, opened, body, ended, where, peer.cell)
        return self._fetches.serve_gateway(stream, opened, self._fleet.where(self._peer))

    def on_control(self, message: Control) -> None:
        """Gateways speak by presence; only tenants' counts come this way."""
        if isinstance(message, Counted):
            self._ledger.counted(message)

    def on_lost(self, error: IsochroneError) -> None:
        """The channel is gone."""
        self._fleet.peer_left(self._peer.address, self._peer.line.channel)


def _as_ours(error: Exception) -> IsochroneError:
    if isinstance(error, IsochroneError):
        return error
    return InvalidInput("The stream's header cannot be read.")


def _states(beat: Beat) -> list[tuple[str, int, str]]:
    return [(status.lease, status.revision, status.state) for status in beat.leases]
