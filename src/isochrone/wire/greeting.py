"""Meeting over TLS 1.3: certificate pinned by fingerprint, the dialler proves its key once.

The side that was dialled speaks first: Challenge{versions, nonce, …}. The dialler checks the
pinned fingerprint before it sends anything, answers Hello with a signature over
``sha256("isochrone channel v1" | nonce | server certificate fingerprint | role | version)``, and
gets Welcome or Refused. The pure machine is ``handshake``; certificates are in ``certificate``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from isochrone.schema.frames import Hello, Welcome
from isochrone.schema.identity import PrivateKey
from isochrone.wire.certificate import Certificate
from isochrone.wire.channel import Channel, ChannelHandler, ChannelLimits

__all__ = ["ChannelServer", "dial", "listen"]

Authorise = Callable[[Hello], tuple[object, Welcome]]
"""Pure look-up: who may come in. Returns (info for ``Channel.peer.info``, the Welcome to send, its
``version`` is filled in); raises TheirFault to refuse. The proof has been checked before."""

HandlerFactory = Callable[[Channel], ChannelHandler]


class ChannelServer:
    """A listening door. ``counters``: greetings by outcome code (``welcome``, …)."""

    port: int
    counters: Counter[str]

    @property
    def channels(self) -> int:
        """Channels open now."""
        raise NotImplementedError

    async def close(self) -> None:
        """Stop listening and close all channels."""
        raise NotImplementedError


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
    """Take channels on ``host:port`` (0 = any free port); raises Unavailable with a fix."""
    raise NotImplementedError


async def dial(
    host: str,
    port: int,
    fingerprint: str,
    key: PrivateKey,
    role: str,
    grant: bytes,
    handler_factory: HandlerFactory,
    limits: ChannelLimits,
    *,
    timeout_s: float = 5.0,
) -> Channel:
    """Connect, check the pin, prove the key.

    ``fingerprint``: lower-case hex SHA-256 of the server certificate's DER bytes.
    ``Channel.peer.info`` is the Welcome. Raises Unauthorized (wrong pin, refused), Unavailable
    (cannot connect, no common version) or Timeout, each with a fix.
    """
    raise NotImplementedError
