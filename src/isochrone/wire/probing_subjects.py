"""Whom a vantage asks for bursts, and the way its questions take: a channel or the fabric.

A node is asked over the channel that it keeps, a gateway or another validator by a request on the
fabric. The answer to a channel's message comes when it comes: ``heard`` hands it to who waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import msgspec

from isochrone.schema.digests import UNREADABLE
from isochrone.schema.documents import pack as pack_document
from isochrone.schema.documents import seal
from isochrone.schema.errors import Overloaded, TheirFault, Timeout
from isochrone.schema.frames import Control, pack
from isochrone.schema.identity import PrivateKey
from isochrone.schema.probing import (
    PROBE_ASKED,
    ProbeAsked,
    ProbeCommitted,
    ProbeEnd,
    ProbeOrder,
    ProbeSigned,
    probe_subject,
)

Said = ProbeCommitted | ProbeSigned

ASK_S: Final = 5.0
"""For one answer: a round trip, and an event loop that may be busy."""

QUESTIONS_MAX: Final = 8
"""Waiting at one subject."""

_read_said: Callable[[bytes], Said] = msgspec.msgpack.Decoder(ProbeCommitted | ProbeSigned).decode
read_asked = msgspec.msgpack.Decoder(ProbeOrder | ProbeEnd).decode
"""What a subject is asked over its channel; raises ``UNREADABLE``."""


class Subject(Protocol):
    """Somebody who can be asked for a burst. ``address``: of the key that must answer."""

    address: str

    async def ask(self, message: ProbeOrder | ProbeEnd) -> Said:
        """Raises an IsochroneError when no answer comes, or one that cannot be read."""


class ChannelSubject:
    """A node at the other end of a channel; ``send`` is its ``send_control``."""

    def __init__(self, address: str, send: Callable[[Control], object]) -> None:
        self.address = address
        self._send = send
        self._waiting: dict[tuple[type[Said], bytes], asyncio.Future[Said]] = {}

    async def ask(self, message: ProbeOrder | ProbeEnd) -> Said:
        """See ``Subject``."""
        kind = ProbeCommitted if isinstance(message, ProbeOrder) else ProbeSigned
        question = kind, message.burst
        if len(self._waiting) >= QUESTIONS_MAX or question in self._waiting:
            raise Overloaded("The node has many questions to answer.", code="too_many_bursts")
        future: asyncio.Future[Said] = asyncio.get_running_loop().create_future()
        self._waiting[question] = future
        try:
            self._send(message)
            async with asyncio.timeout(ASK_S):
                return await future
        except TimeoutError:
            raise Timeout("The subject said nothing.", code="not_answered") from None
        finally:
            del self._waiting[question]

    def heard(self, message: Said) -> None:
        """It said something; what nobody waits for is dropped."""
        future = self._waiting.get((type(message), message.burst))
        if future is not None and not future.done():
            future.set_result(message)


Request = Callable[[str, bytes, float], Awaitable[bytes]]
"""``Fabric.request``: subject, data, seconds."""


class FabricSubject:
    """A gateway or validator, reached by requests. ``key``: the vantage's, which seals orders."""

    def __init__(
        self, address: str, request: Request, key: PrivateKey, unix_ms: Callable[[], int]
    ) -> None:
        self.address = address
        self._request = request
        self._key = key
        self._unix_ms = unix_ms

    async def ask(self, message: ProbeOrder | ProbeEnd) -> Said:
        """See ``Subject``."""
        asked = pack(message) if isinstance(message, ProbeEnd) else self._sealed(message)
        data = await self._request(probe_subject(self.address), asked, ASK_S)
        try:
            return _read_said(data)
        except UNREADABLE:
            raise TheirFault("The subject's answer cannot be read.", code="bad_answer") from None

    def _sealed(self, order: ProbeOrder) -> bytes:
        asked = ProbeAsked(
            subject=self.address,
            burst=order.burst.hex(),
            host=order.host,
            port=order.port,
            probes=order.probes,
            at_unix_ms=self._unix_ms(),
        )
        return pack_document(seal(PROBE_ASKED, asked, self._key))
