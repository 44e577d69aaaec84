"""One replica asked for one request: what its stream says, told to the dispatcher in its terms."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Final, Protocol

from isochrone.gateway.answer_keeping import Keeping
from isochrone.gateway.flight import Flight
from isochrone.gateway.gather import Gather
from isochrone.gateway.options import Option
from isochrone.gateway.tallies import Tally
from isochrone.rules.tallying import CUT, OK, REPLICA
from isochrone.schema.errors import IsochroneError, OurFault, TheirFault, Unavailable
from isochrone.schema.frames import AnswerHeader, AnswerTrailer
from isochrone.wire.channel import Stream

_BLAMED: Final = ("timeout", "silent")
"""Ends that the gateway decided because of the replica: they count as its errors."""


class Upload(Protocol):
    """A body that is too large to keep: goes to one replica while it arrives.

    ``sent_bytes`` of it so far; ``ended_s``: when the last byte went (0.0: not yet).
    """

    sent_bytes: int
    ended_s: float

    def attach(self, stream: Stream) -> None:
        """Send what has come and what comes to ``stream``."""

    def writable(self) -> None:
        """The stream takes more."""


class Owner(Protocol):
    """The dispatcher, as its tries see it."""

    loop: asyncio.AbstractEventLoop
    uploads: dict[Flight, Upload]

    def whole(
        self, attempt: Try, header: AnswerHeader, body: bytes, trailer: AnswerTrailer
    ) -> None:
        """A complete answer came."""

    def begin(self, attempt: Try, header: AnswerHeader) -> None:
        """A streamed answer began."""

    def ended(self, attempt: Try, trailer: AnswerTrailer) -> None:
        """A streamed answer is complete."""

    def failed(self, attempt: Try, error: IsochroneError) -> None:
        """It died by its replica's fault."""

    def abandoned(self, attempt: Try, error: IsochroneError) -> None:
        """It is given up because of its node."""


class Try(Gather):
    """One replica asked for one request: the sink of its stream.

    What the tally will count when it is over: ``outcome`` (-1: not judged, it was called off),
    ``latency_ms`` to the first byte (-1: none came), sizes, and the trailer's tokens. ``tally``
    None: another gateway counts it. ``keeping``: what will be known of its answer (None: nothing,
    as without consent).
    """

    __slots__ = (
        "asked_s",
        "bytes_in",
        "bytes_out",
        "flight",
        "hedge",
        "keeping",
        "latency_ms",
        "option",
        "outcome",
        "owner",
        "stream",
        "tally",
        "tokens_in",
        "tokens_out",
    )

    def __init__(
        self, owner: Owner, flight: Flight, option: Option, now_s: float, *, hedge: bool
    ) -> None:
        super().__init__(owner.loop)
        self.owner = owner
        self.flight = flight
        self.option = option
        self.asked_s = now_s
        self.hedge = hedge
        self.stream: Stream | None = None
        self.tally: Tally | None = None
        self.keeping: Keeping | None = None
        self.outcome = -1
        self.latency_ms = -1.0
        self.bytes_in = self.bytes_out = 0
        self.tokens_in = self.tokens_out = 0

    def whole(self, header: AnswerHeader, body: bytes, trailer: AnswerTrailer) -> None:
        """The complete answer, in one piece."""
        self.owner.whole(self, header, body, trailer)

    def begin(self, header: AnswerHeader) -> None:
        """A streamed answer begins."""
        self.owner.begin(self, header)

    def count(self, code: str) -> None:
        """Tell the tally how it ended, once, when it is over. ``code``: why."""
        if self.tally is None:
            return
        outcome = self.outcome
        if code in _BLAMED:
            outcome = CUT if self.flight.committed else REPLICA
        elif outcome < 0:
            outcome = OK  # overtaken, or given up by its caller: work without error
        uploads = self.owner.uploads
        upload = uploads.get(self.flight) if uploads else None
        self.tally.counter.over(
            outcome,
            self.latency_ms,
            self.tokens_in,
            self.tokens_out,
            self.bytes_in if upload is None else upload.sent_bytes,
            self.bytes_out,
        )

    def piece(self, data: bytes) -> None:
        """A piece of a streamed answer."""
        self.flight.last_data_s = monotonic()
        self.bytes_out += len(data)
        if not self.flight.reply.piece(data) and self.stream is not None:
            self.stream.pause()
        if self.keeping is not None:
            self.keeping.add(data)

    def end(self, trailer: AnswerTrailer) -> None:
        """A streamed answer is complete."""
        self.owner.ended(self, trailer)

    def reset(self, code: str, message: str) -> None:
        """The stream died, before or after ``begin``."""
        error = Unavailable(message or f"The replica's stream broke ({code}).", code=code)
        self.owner.failed(self, error)

    def spoilt(self, message: str) -> None:
        """The node broke the protocol."""
        self.owner.failed(self, Unavailable(message, code="bad_answer"))

    def fell_silent(self) -> None:
        """Its node fell silent: what waits for its first byte goes elsewhere, now."""
        if not self.flight.committed:
            error = Unavailable("The replica's node fell silent.", code="silent")
            self.owner.abandoned(self, error)

    def on_writable(self) -> None:
        """The stream takes more of an uploaded body."""
        upload = self.owner.uploads.get(self.flight)
        if upload is not None:
            upload.writable()


def refusal(header: AnswerHeader) -> IsochroneError:
    """The error that a refusing answer tells."""
    kind = OurFault if header.status >= 500 else TheirFault
    return kind(
        header.message or f"The replica refused ({header.code}).",
        code=header.code,
        status=header.status,
        retry=header.retry or "never",
    )
