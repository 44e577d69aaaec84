"""Meeting over TLS 1.3: certificate pinned by fingerprint, the dialler proves its key once.

The side that was dialled speaks first: Challenge{versions, nonce, …}. The dialler checks the
pinned fingerprint before it sends anything, answers Hello with a signature over
``sha256("isochrone channel v1" | nonce | server certificate fingerprint | role | version)``, and
gets Welcome or Refused. What is said is decided by the pure machines of ``handshake``; here are
the sockets, the timeout (one for TLS and greeting together) and the counters.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import hmac
import os
import ssl
from collections import Counter
from collections.abc import Callable
from typing import Final, cast

from isochrone.schema.errors import (
    IsochroneError,
    Overloaded,
    TheirFault,
    Timeout,
    Unauthorized,
    Unavailable,
)
from isochrone.schema.frames import Welcome
from isochrone.schema.identity import PrivateKey
from isochrone.wire import frames
from isochrone.wire.certificate import Certificate
from isochrone.wire.channel import Channel, ChannelHandler, ChannelLimits, Peer
from isochrone.wire.frames import FrameReader
from isochrone.wire.handshake import NONCE_BYTES, Acceptor, Authorise, Dialler, Role, refusal
from isochrone.wire.listening import cannot_listen

__all__ = ["Authorise", "ChannelServer", "HandlerFactory", "dial", "listen"]

HandlerFactory = Callable[[Channel], ChannelHandler]

_BACKLOG: Final = 1024
# How long a closing side waits for the other's TLS goodbye before it just closes.
_TLS_GOODBYE_S: Final = 2.0


class ChannelServer:
    """A listening door; made by ``listen``. ``counters``: greetings by outcome code."""

    def __init__(
        self,
        certificate: Certificate,
        authorise: Authorise,
        on_channel: HandlerFactory,
        limits: ChannelLimits,
        gateway: str,
        cell: str,
    ) -> None:
        self.certificate = certificate
        self.authorise = authorise
        self.on_channel = on_channel
        self.limits = limits
        self.gateway = gateway
        self.cell = cell
        self.counters: Counter[str] = Counter()
        self.greeting: set[asyncio.Transport] = set()
        self.open: set[Channel] = set()
        self.port = 0
        self.server: asyncio.Server | None = None

    @property
    def channels(self) -> int:
        """Channels open now."""
        return len(self.open)

    async def close(self) -> None:
        """Stop listening and close all channels."""
        if self.server is None:
            return
        self.server.close()
        for transport in tuple(self.greeting):
            transport.abort()
        for channel in tuple(self.open):
            channel.close("going_away", "The gateway is closing.")
        await self.server.wait_closed()


class _Acceptance(asyncio.Protocol):
    """One dialler, from its socket to its channel."""

    def __init__(self, door: ChannelServer) -> None:
        self._door = door
        self._reader = FrameReader()
        self._over = False
        self._acceptor = Acceptor(
            os.urandom(NONCE_BYTES),
            door.certificate.fingerprint,
            door.gateway,
            door.cell,
            door.authorise,
        )
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        door = self._door
        self._transport = cast(asyncio.Transport, transport)
        door.greeting.add(self._transport)
        if len(door.greeting) + len(door.open) > door.limits.channels_max:
            self._refuse(
                Overloaded("This gateway has too many channels.", code="too_many_channels")
            )
            return
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(door.limits.greeting_timeout_s, self._too_slow)
        self._transport.write(self._acceptor.challenge())

    def data_received(self, data: bytes) -> None:
        if self._over:
            return
        found: list[frames.Frame] = []
        try:
            self._reader.feed(data, found)
            if not found:
                return
            hello, info, welcome = self._acceptor.receive(found)
        except IsochroneError as error:
            self._refuse(error)
            return
        self._leave()
        door = self._door
        door.counters["welcome"] += 1
        name = self._transport.get_extra_info("peername")
        host = str(name[0]) if isinstance(name, tuple) else ""
        peer = Peer(role=hello.role, address=hello.address, info=info, host=host)
        channel = Channel(self._transport, self._reader, peer, door.limits, dialled=False)
        channel.on_closed = door.open.discard
        door.open.add(channel)
        self._transport.set_protocol(channel)
        self._transport.write(welcome)
        try:
            channel.begin(door.on_channel(channel), [])
        except Exception as error:
            channel.handler_failed(error)
            channel.close("internal", "The gateway failed on this channel.")

    def connection_lost(self, _error: Exception | None) -> None:
        if not self._over:
            self._door.counters["hung_up"] += 1
        self._leave()

    def _leave(self) -> None:
        self._over = True
        self._door.greeting.discard(self._transport)
        if self._timer is not None:
            self._timer.cancel()

    def _refuse(self, error: IsochroneError) -> None:
        self._door.counters[error.code] += 1
        self._leave()
        self._transport.write(refusal(error))
        self._transport.close()

    def _too_slow(self) -> None:
        self._refuse(TheirFault("The hello did not come in time.", code="greeting_timeout"))


async def listen(
    host: str,
    port: int,
    certificate: Certificate,
    authorise: Authorise,
    on_channel: HandlerFactory,
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
    door = ChannelServer(certificate, authorise, on_channel, limits, gateway, cell)
    loop = asyncio.get_running_loop()
    try:
        door.server = await loop.create_server(
            lambda: _Acceptance(door),
            host,
            port,
            ssl=context,
            backlog=_BACKLOG,
            ssl_handshake_timeout=limits.greeting_timeout_s,
            ssl_shutdown_timeout=_TLS_GOODBYE_S,
        )
    except OSError as error:
        raise cannot_listen(host, port, error) from None
    door.port = door.server.sockets[0].getsockname()[1]
    return door


class _Dialling(asyncio.Protocol):
    """Our side of one greeting; ends in a channel or an exception of ``channel``."""

    def __init__(
        self, machine: Dialler, pin: str, factory: HandlerFactory, limits: ChannelLimits
    ) -> None:
        self._pin = pin
        self._machine = machine
        self._factory = factory
        self._limits = limits
        self._transport: asyncio.Transport | None = None
        self._reader = FrameReader()
        loop = asyncio.get_running_loop()
        self.channel: asyncio.Future[Channel] = loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        certificate = transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
        shown = hashlib.sha256(certificate or b"").hexdigest()
        if not hmac.compare_digest(shown, self._pin):
            self.fail(
                Unauthorized(
                    f"The gateway shows certificate {shown[:16]}…, pinned is {self._pin[:16]}….",
                    fix="Somebody may be in between; a gateway that was set up anew has a new pin.",
                    code="wrong_fingerprint",
                    retry="elsewhere",
                )
            )

    def data_received(self, data: bytes) -> None:
        if self.channel.done() or self._transport is None:
            return
        found: list[frames.Frame] = []
        try:
            self._reader.feed(data, found)
            while found:
                answer = self._machine.receive(found.pop(0))
                if isinstance(answer, Welcome):
                    self._welcomed(self._transport, answer, found)
                    return
                self._transport.write(answer)
        except Exception as error:
            self.fail(error)

    def _welcomed(
        self, transport: asyncio.Transport, welcome: Welcome, early: list[frames.Frame]
    ) -> None:
        """The channel takes over here and now, with what came behind the Welcome."""
        name = transport.get_extra_info("peername")
        host = str(name[0]) if isinstance(name, tuple) else ""
        peer = Peer(role="gateway", address=welcome.gateway, info=welcome, host=host)
        channel = Channel(transport, self._reader, peer, self._limits, dialled=True)
        transport.set_protocol(channel)
        channel.begin(self._factory(channel), early)
        self.channel.set_result(channel)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.channel.done():
            why = f": {error}" if error else ""
            self.fail(Unavailable(f"The gateway hung up during the greeting{why}.", fix=_LOOK))

    def fail(self, error: Exception) -> None:
        """End the greeting; also when nobody waits for its result any more."""
        if not self.channel.done():
            self.channel.set_exception(error)
            self.channel.exception()  # marked as seen: the dialling coroutine may have left
        if self._transport is not None:
            self._transport.abort()


_LOOK: Final = "Look at the gateway's log and counters."


@functools.cache
def _dialling_context() -> ssl.SSLContext:
    """One for all dials of the process: each holds 14 KiB that connections can share."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # no authority: the pinned fingerprint is the check
    return context


async def dial(
    host: str,
    port: int,
    fingerprint: str,
    key: PrivateKey,
    role: Role,
    grant: bytes,
    handler_factory: HandlerFactory,
    limits: ChannelLimits,
    *,
    timeout_s: float = 5.0,
) -> Channel:
    """Connect, check the pin, prove the key.

    ``fingerprint``: lower-case hex SHA-256 of the server certificate's DER bytes.
    ``Channel.peer.info`` is the Welcome, ``peer.address`` the gateway's name from it. Raises
    Unauthorized (``wrong_fingerprint``, or refused with the acceptor's code), Unavailable (cannot
    connect, no common version), InvalidInput (not a gateway) or Timeout, each with a fix.
    """
    loop = asyncio.get_running_loop()
    machine = Dialler(key, role, grant, fingerprint)
    dialling = _Dialling(machine, fingerprint, handler_factory, limits)
    try:
        async with asyncio.timeout(timeout_s):
            await loop.create_connection(
                lambda: dialling,
                host,
                port,
                ssl=_dialling_context(),
                server_hostname="isochrone",
                ssl_shutdown_timeout=_TLS_GOODBYE_S,
            )
            return await dialling.channel
    except TimeoutError:
        failure: IsochroneError = Timeout(
            f"{host}:{port} did not finish the greeting within {timeout_s:g} s.",
            fix="Check that it is a gateway's channel port and can be reached.",
        )
    except OSError as error:  # ssl.SSLError is one
        failure = Unavailable(
            f"Cannot connect to the gateway at {host}:{port}: {error}.",
            fix="Check the address, and that the gateway runs.",
            code="cannot_connect",
        )
    except asyncio.CancelledError:
        _give_up(dialling)
        raise
    dialling.fail(failure)
    raise failure


def _give_up(dialling: _Dialling) -> None:
    """The caller does not want the channel any more, whether it exists already or not."""
    if dialling.channel.done() and not dialling.channel.cancelled():
        if dialling.channel.exception() is None:
            dialling.channel.result().close("going_away", "The dialler gave up.")
    else:
        dialling.fail(Unavailable("The dialler gave up."))
