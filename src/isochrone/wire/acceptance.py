"""A gateway's door: takes sockets, lets in who proves a key that ``authorise`` knows.

A socket is counted from its first moment, before TLS: whoever knocks and says nothing is limited
in number (``greetings_max``) and in time (``greeting_timeout_s`` for TLS and greeting together).
Every outcome is counted by its code.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from collections import Counter
from collections.abc import Callable
from typing import Final, cast

from isochrone.schema.errors import IsochroneError, Overloaded, TheirFault, Unavailable
from isochrone.wire import frames
from isochrone.wire.certificate import Certificate
from isochrone.wire.channel import Channel, ChannelHandler, ChannelLimits, Peer
from isochrone.wire.frames import FrameReader
from isochrone.wire.handshake import NONCE_BYTES, Acceptor, Authorise, refusal
from isochrone.wire.listening import cannot_listen, stop_listening
from isochrone.wire.tls import GOODBYE_S, SecureLine

_BACKLOG: Final = 1024


class ChannelServer:
    """A listening door; made by ``listen``. ``counters``: greetings by outcome code.

    Codes of our own: ``welcome``, ``hung_up``, ``tls_failed``, ``greeting_timeout``,
    ``too_many_greetings``, ``too_many_channels``, ``bad_frame``, ``bad_proof``,
    ``unauthorized``, ``no_common_version``; and whatever ``authorise`` refuses with.
    """

    def __init__(
        self,
        certificate: Certificate,
        context: ssl.SSLContext,
        authorise: Authorise,
        on_channel: Callable[[Channel], ChannelHandler],
        limits: ChannelLimits,
        gateway: str,
        cell: str,
    ) -> None:
        self.certificate = certificate
        self.context = context
        self.authorise = authorise
        self.on_channel = on_channel
        self.limits = limits
        self.gateway = gateway
        self.cell = cell
        self.counters: Counter[str] = Counter()
        self.greeting: set[_Knock] = set()
        self.refused: set[_Knock] = set()  # until the refusal is read and the socket closed
        self.open: set[Channel] = set()
        self.port = 0
        self.server: asyncio.Server | None = None
        self._empty = asyncio.Event()

    @property
    def channels(self) -> int:
        """Channels open now."""
        return len(self.open)

    def knock(self) -> SecureLine:
        """A socket was accepted."""
        knock = _Knock(self)
        return SecureLine(self.context, knock, server_side=True, on_socket=knock.arrived)

    def left(self, channel: Channel) -> None:
        """A channel's socket is closed."""
        self.open.discard(channel)
        if not self.open:
            self._empty.set()

    async def close(self) -> None:
        """Stop listening, say goodbye on all channels, cut those that do not take it in time."""
        if self.server is None:
            return
        server, self.server = self.server, None
        await stop_listening(server)
        for knock in (*self.greeting, *self.refused):
            knock.abandon()
        self._empty.clear()
        for channel in tuple(self.open):
            channel.close("going_away", "The gateway is closing.")
        if self.open:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GOODBYE_S):
                    await self._empty.wait()
        for channel in tuple(self.open):
            channel.cut()
        await server.wait_closed()


class _Knock(asyncio.Protocol):
    """One dialler, from its socket to its channel."""

    def __init__(self, door: ChannelServer) -> None:
        self._door = door
        self._reader = FrameReader()
        self._over = False
        self._acceptor: Acceptor | None = None
        self._line: SecureLine | None = None
        self._timer: asyncio.TimerHandle | None = None

    def arrived(self, line: SecureLine) -> None:
        """The socket stands; TLS is to come."""
        door = self._door
        self._line = line
        if len(door.greeting) >= door.limits.greetings_max:
            door.counters["too_many_greetings"] += 1
            self._over = True
            line.abort()
            return
        door.greeting.add(self)
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(door.limits.greeting_timeout_s, self._too_slow)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """TLS stands."""
        if not self._over:
            self._greet(cast(SecureLine, transport))

    def _greet(self, line: SecureLine) -> None:
        door = self._door
        if len(door.open) >= door.limits.channels_max:
            self._refuse(
                Overloaded("This gateway has too many channels.", code="too_many_channels")
            )
            return
        self._acceptor = Acceptor(
            os.urandom(NONCE_BYTES),
            door.certificate.fingerprint,
            door.gateway,
            door.cell,
            door.authorise,
        )
        line.write(self._acceptor.challenge())

    def data_received(self, data: bytes) -> None:
        """Bytes of the Hello."""
        line, acceptor = self._line, self._acceptor
        if self._over or line is None or acceptor is None:
            return
        found: list[frames.Frame] = []
        try:
            self._reader.feed(data, found)
            if not found:
                return
            hello, info, welcome = acceptor.receive(found)
        except IsochroneError as error:
            self._refuse(error)
            return
        self._leave()
        door = self._door
        door.counters["welcome"] += 1
        name = line.get_extra_info("peername")
        host = str(name[0]) if isinstance(name, tuple) else ""
        peer = Peer(role=hello.role, address=hello.address, info=info, host=host)
        channel = Channel(line, self._reader, peer, door.limits, dialled=False)
        channel.on_closed = door.left
        door.open.add(channel)
        line.set_protocol(channel)
        line.write(welcome)
        try:
            channel.begin(door.on_channel(channel), [])
        except Exception as error:
            channel.handler_failed(error)
            channel.close("internal", "The gateway failed on this channel.")

    def connection_lost(self, _error: Exception | None) -> None:
        """The dialler hung up, or we did."""
        self._door.refused.discard(self)
        if not self._over:
            greeted = self._acceptor is not None
            self._door.counters["hung_up" if greeted else "tls_failed"] += 1
            self._leave()

    def _leave(self) -> None:
        self._over = True
        self._door.greeting.discard(self)
        if self._timer is not None:
            self._timer.cancel()

    def _refuse(self, error: IsochroneError) -> None:
        self._door.counters[error.code] += 1
        self._leave()
        if self._line is not None:
            self._door.refused.add(self)
            self._line.write(refusal(error))
            self._line.close()

    def _too_slow(self) -> None:
        fault = TheirFault("The hello did not come in time.", code="greeting_timeout")
        if self._acceptor is not None:
            self._refuse(fault)
            return
        self._door.counters[fault.code] += 1
        self.abandon()

    def abandon(self) -> None:
        """Cut it, whatever its state."""
        self._leave()
        if self._line is not None:
            self._line.abort()


async def listen(
    host: str,
    port: int,
    certificate: Certificate,
    authorise: Authorise,
    on_channel: Callable[[Channel], ChannelHandler],
    limits: ChannelLimits,
    *,
    gateway: str,
    cell: str,
) -> ChannelServer:
    """Take channels on ``host:port`` (0 = any free port).

    ``gateway``, ``cell``: what the Challenge says of us. ``authorise`` runs on the loop: a look-up.
    Raises Unavailable (``port_in_use``, ``cannot_listen``, ``no_certificate``) with a fix.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0  # a channel is never resumed; two tickets a greeting for nothing
    try:
        context.load_cert_chain(certificate.cert_path, certificate.key_path)
    except OSError as error:
        raise Unavailable(
            f"The certificate {certificate.cert_path} cannot be used: {error}.",
            fix="Move it and its key away; a new pair is made at the next start.",
            code="no_certificate",
        ) from None
    loop = asyncio.get_running_loop()
    door = ChannelServer(certificate, context, authorise, on_channel, limits, gateway, cell)
    try:
        door.server = await loop.create_server(door.knock, host, port, backlog=_BACKLOG)
    except OSError as error:
        raise cannot_listen(host, port, error) from None
    door.port = door.server.sockets[0].getsockname()[1]
    return door
