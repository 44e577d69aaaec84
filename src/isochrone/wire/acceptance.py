"""A gateway's door: takes sockets, lets in who proves a key that ``authorise`` knows.

A socket is counted from its first moment, before TLS: whoever knocks and says nothing is limited
in number (``greetings_max``) and in time (``greeting_timeout_s`` for TLS and greeting together).
Every outcome is counted by its code.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections import Counter
from collections.abc import Callable
from typing import Final, cast

from isochrone.schema.errors import IsochroneError, Overloaded, TheirFault, Unavailable
from isochrone.wire import frames
from isochrone.wire.certificate import Certificate
from isochrone.wire.channel import Channel, ChannelHandler, ChannelLimits, Peer
from isochrone.wire.dialling import TLS_GOODBYE_S
from isochrone.wire.frames import FrameReader
from isochrone.wire.handshake import NONCE_BYTES, Acceptor, Authorise, refusal
from isochrone.wire.listening import cannot_listen

_BACKLOG: Final = 1024
# More would keep the loop from its other work; the kernel holds the rest.
_ACCEPTS_AT_ONCE: Final = 64
# How long we do not accept after the process ran out of files (asyncio rests 1 s as well).
_REST_S: Final = 1.0


class ChannelServer:
    """A listening door; made by ``listen``. ``counters``: greetings by outcome code.

    Codes of our own: ``welcome``, ``hung_up``, ``tls_failed``, ``greeting_timeout``,
    ``too_many_greetings``, ``too_many_channels``, ``cannot_accept``, ``bad_frame``, ``bad_proof``,
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
        self.open: set[Channel] = set()
        self.port = 0
        self.listener: _Listener | None = None
        self._empty = asyncio.Event()

    @property
    def channels(self) -> int:
        """Channels open now."""
        return len(self.open)

    def left(self, channel: Channel) -> None:
        """A channel's socket is closed."""
        self.open.discard(channel)
        if not self.open:
            self._empty.set()

    async def close(self) -> None:
        """Stop listening, say goodbye on all channels, cut those that do not take it in time."""
        if self.listener is None:
            return
        self.listener.close()
        self.listener = None
        for knock in tuple(self.greeting):
            knock.abandon()
        self._empty.clear()
        for channel in tuple(self.open):
            channel.close("going_away", "The gateway is closing.")
        if self.open:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TLS_GOODBYE_S):
                    await self._empty.wait()
        for channel in tuple(self.open):
            channel.cut()


class _Knock(asyncio.Protocol):
    """One dialler, from its accepted socket to its channel."""

    def __init__(self, door: ChannelServer, peer_socket: socket.socket) -> None:
        self._door = door
        self._socket = peer_socket
        self._reader = FrameReader()
        self._over = False
        self._handed_over = False
        self._acceptor: Acceptor | None = None
        self._transport: asyncio.Transport | None = None
        loop = asyncio.get_running_loop()
        door.greeting.add(self)
        self._timer = loop.call_later(door.limits.greeting_timeout_s, self._too_slow)
        self._tls = loop.create_task(self._start_tls(loop))

    async def _start_tls(self, loop: asyncio.AbstractEventLoop) -> None:
        door = self._door
        self._handed_over = True
        try:
            await loop.connect_accepted_socket(
                lambda: self,
                self._socket,
                ssl=door.context,
                ssl_handshake_timeout=door.limits.greeting_timeout_s,
                ssl_shutdown_timeout=TLS_GOODBYE_S,
            )
        except OSError:  # ssl.SSLError is one
            if not self._over:
                door.counters["tls_failed"] += 1
                self._leave()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """TLS stands."""
        self._transport = cast(asyncio.Transport, transport)
        if self._over:
            self._transport.abort()
        else:
            self._greet(self._transport)

    def _greet(self, transport: asyncio.Transport) -> None:
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
        transport.write(self._acceptor.challenge())

    def data_received(self, data: bytes) -> None:
        """Bytes of the Hello."""
        transport, acceptor = self._transport, self._acceptor
        if self._over or transport is None or acceptor is None:
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
        name = transport.get_extra_info("peername")
        host = str(name[0]) if isinstance(name, tuple) else ""
        peer = Peer(role=hello.role, address=hello.address, info=info, host=host)
        channel = Channel(transport, self._reader, peer, door.limits, dialled=False)
        channel.on_closed = door.left
        door.open.add(channel)
        transport.set_protocol(channel)
        transport.write(welcome)
        try:
            channel.begin(door.on_channel(channel), [])
        except Exception as error:
            channel.handler_failed(error)
            channel.close("internal", "The gateway failed on this channel.")

    def connection_lost(self, _error: Exception | None) -> None:
        """The dialler hung up, or we did."""
        if not self._over:
            self._door.counters["hung_up"] += 1
            self._leave()

    def _leave(self) -> None:
        self._over = True
        self._door.greeting.discard(self)
        self._timer.cancel()

    def _refuse(self, error: IsochroneError) -> None:
        self._door.counters[error.code] += 1
        self._leave()
        if self._transport is not None:
            self._transport.write(refusal(error))
            self._transport.close()

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
        self._tls.cancel()
        if not self._handed_over:
            self._socket.close()
        if self._transport is not None:
            self._transport.abort()


class _Listener:
    """A listening socket of our own, so that a dialler counts before its first TLS byte."""

    def __init__(self, door: ChannelServer, listening: socket.socket) -> None:
        self._door = door
        self._socket = listening
        self._loop = asyncio.get_running_loop()
        self._resting: asyncio.TimerHandle | None = None
        self._start()

    def _start(self) -> None:
        self._resting = None
        self._loop.add_reader(self._socket.fileno(), self._accept)

    def _accept(self) -> None:
        for _ in range(_ACCEPTS_AT_ONCE):
            try:
                accepted, _ = self._socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:  # no files or memory left: rest, or this would spin
                self._door.counters["cannot_accept"] += 1
                self._loop.remove_reader(self._socket.fileno())
                self._resting = self._loop.call_later(_REST_S, self._start)
                return
            self._take(accepted)

    def _take(self, accepted: socket.socket) -> None:
        accepted.setblocking(False)
        if len(self._door.greeting) >= self._door.limits.greetings_max:
            self._door.counters["too_many_greetings"] += 1
            accepted.close()
            return
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _Knock(self._door, accepted)

    def close(self) -> None:
        """Accept no more."""
        if self._resting is not None:
            self._resting.cancel()
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()


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
        infos = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = infos[0]
        listening = socket.create_server(address[:2], family=family, backlog=_BACKLOG)
    except OSError as error:
        raise cannot_listen(host, port, error) from None
    listening.setblocking(False)
    door.port = listening.getsockname()[1]
    door.listener = _Listener(door, listening)
    return door
