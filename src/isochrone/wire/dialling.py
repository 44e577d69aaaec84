"""Dialling a gateway: connect, check the pinned certificate, prove the key, get a channel."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import hmac
import ssl
from collections.abc import Callable
from typing import Final

from isochrone.schema.errors import IsochroneError, Timeout, Unauthorized, Unavailable
from isochrone.schema.frames import Welcome
from isochrone.schema.identity import PrivateKey
from isochrone.wire import frames
from isochrone.wire.channel import Channel, ChannelHandler, ChannelLimits, Peer
from isochrone.wire.frames import FrameReader
from isochrone.wire.handshake import Dialler, Role
from isochrone.wire.tls import SecureLine

HandlerFactory = Callable[[Channel], ChannelHandler]


class _Dialling(asyncio.Protocol):
    """Our side of one greeting; ends in a channel or an exception of ``channel``."""

    def __init__(
        self, machine: Dialler, pin: str, factory: HandlerFactory, limits: ChannelLimits
    ) -> None:
        self._pin = pin
        self._machine = machine
        self._factory = factory
        self._limits = limits
        self.line = SecureLine(_dialling_context(), self, server_side=False)
        self._reader = FrameReader()
        loop = asyncio.get_running_loop()
        self.channel: asyncio.Future[Channel] = loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
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
        if self.channel.done():
            return
        found: list[frames.Frame] = []
        try:
            self._reader.feed(data, found)
            while found:
                answer = self._machine.receive(found.pop(0))
                if isinstance(answer, Welcome):
                    self._welcomed(answer, found)
                    return
                self.line.write(answer)
        except Exception as error:
            self.fail(error)

    def _welcomed(self, welcome: Welcome, early: list[frames.Frame]) -> None:
        """The channel takes over here and now, with what came behind the Welcome."""
        name = self.line.get_extra_info("peername")
        host = str(name[0]) if isinstance(name, tuple) else ""
        peer = Peer(role="gateway", address=welcome.gateway, info=welcome, host=host)
        channel = Channel(self.line, self._reader, peer, self._limits, dialled=True)
        self.line.set_protocol(channel)
        channel.begin(self._factory(channel), early)
        self.channel.set_result(channel)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.channel.done():
            if isinstance(error, OSError):  # of TLS or the network: the dialling coroutine words it
                self.fail(error)
            else:
                self.fail(Unavailable("The gateway hung up during the greeting.", fix=_LOOK))

    def fail(self, error: Exception) -> None:
        """End the greeting; also when nobody waits for its result any more."""
        if not self.channel.done():
            self.channel.set_exception(error)
            self.channel.exception()  # marked as seen: the dialling coroutine may have left
        self.line.abort()


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
            await loop.create_connection(lambda: dialling.line, host, port)
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
