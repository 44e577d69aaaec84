"""Requests that another gateway sends for a node of ours: one hop, copied frame by frame.

A relaying gateway sees the data in the clear, so the mask covers it: the service must admit this
gateway, the asking one and the node, by *our* routing tables and what we know to be proven,
whatever the other side believed. What cannot be relayed is refused before the first byte with
``retry=elsewhere``; the asking gateway does the retrying.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from time import monotonic
from typing import Final

import msgspec

from isochrone.gateway.fleet import Fleet
from isochrone.gateway.gather import Gather
from isochrone.gateway.options import Option
from isochrone.gateway.routes import RouteBook
from isochrone.gateway.tallies import Tallies, Tally
from isochrone.rules.tallying import CUT, DECLINED, OK, REFUSED, REPLICA, outcome_of
from isochrone.schema.errors import Forbidden, IsochroneError, Overloaded, Stale
from isochrone.schema.frames import AnswerHeader, AnswerTrailer, Ask, pack
from isochrone.schema.place import Whereabouts
from isochrone.wire.channel import Stream, StreamSink

RELAYED_MAX: Final = 4096
"""Requests relayed at once: as many as one channel carries."""


_NO_TIMES: Final = AnswerTrailer()


class DeafSink:
    """The sink of a stream that was answered at once: what still comes is dropped."""

    def on_head(self, header: bytes) -> None:
        """Dropped."""

    def on_data(self, data: bytes) -> None:
        """Dropped."""

    def on_end(self, trailer: bytes) -> None:
        """Dropped."""

    def on_reset(self, code: str, message: str) -> None:
        """Dropped."""

    def on_writable(self) -> None:
        """Dropped."""


DEAF: Final = DeafSink()


def refuse_stream(stream: Stream, error: IsochroneError) -> StreamSink:
    """Answer a stream with a refusal."""
    header = AnswerHeader(
        status=error.status, code=error.code, message=error.sentence(), retry=error.retry
    )
    stream.answer(pack(header), end=True)
    return DEAF


class RelayDesk:
    """Takes relayed requests. ``counters``: ``relayed`` and refusals by code.

    ``may_serve(service)`` raises when the service may not be served now (its deposit is low).
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        cell: str,
        book: RouteBook,
        fleet: Fleet,
        tallies: Tallies,
        may_serve: Callable[[str], None],
    ) -> None:
        self.loop = loop
        self.fleet = fleet
        self.counters: Counter[str] = Counter()
        self.in_flight = 0
        self._cell = cell
        self._book = book
        self._tallies = tallies
        self._may_serve = may_serve

    def open(
        self, stream: Stream, ask: Ask, body: bytes, ended: bool, where: Whereabouts, cell: str
    ) -> StreamSink:
        """Handle a stream that a gateway of ``cell`` opened; never raises. ``where``: it is."""
        try:
            option = self._admit(ask, where)
            audience = "" if cell == self._cell else cell
            if audience:
                tally = self._tallies.relayed(ask.lease, audience)
            else:
                tally = self._tallies.of(ask.lease)
            relayed = Relayed(self, stream, option, tally)
            relayed.send(msgspec.structs.replace(ask, relay=False, audience=audience), body, ended)
        except IsochroneError as error:
            self.counters[error.code] += 1
            return refuse_stream(stream, error)
        self.counters["relayed"] += 1
        return DEAF if ended and relayed.over else relayed.incoming

    def _admit(self, ask: Ask, where: Whereabouts) -> Option:
        if not ask.relay:
            raise Forbidden("A gateway asks for relays only.")
        if self.in_flight >= RELAYED_MAX:
            raise Overloaded("This gateway relays too many requests.")
        service = self._book.services.get(ask.service)
        if service is None:
            raise Stale("This gateway does not know the service.", retry="elsewhere")
        if not (service.here_legal and service.admits(where)):
            raise Forbidden(
                "The service's residency does not admit this relay.",
                code="residency",
                retry="elsewhere",
            )
        self._may_serve(service.id)
        for replica in service.legal:
            if replica.lease == ask.lease and replica.node == ask.node:
                option = self.fleet.direct(replica, monotonic())
                if option is not None and option.load.barred:
                    raise Overloaded(
                        "What that replica did is not signed yet.", code=option.load.barred
                    )
                if option is not None:
                    return option
        raise Stale("This gateway has no channel to that replica.", retry="elsewhere")


class Relayed(Gather):
    """One relayed request: the sink of the node's stream, and (``incoming``) of the asker's."""

    __slots__ = (
        "_asked_s",
        "_began_s",
        "_bytes_in",
        "_bytes_out",
        "_desk",
        "_down",
        "_latency_ms",
        "_option",
        "_outcome",
        "_passed_s",
        "_tally",
        "_times",
        "_up",
        "incoming",
        "over",
    )

    def __init__(self, desk: RelayDesk, up: Stream, option: Option, tally: Tally) -> None:
        super().__init__(desk.loop)
        self._tally = tally
        self._outcome = OK
        self._latency_ms = -1.0
        self._bytes_in = self._bytes_out = 0
        self._times = _NO_TIMES
        self._desk = desk
        self._up = up
        self._option = option
        self._down: Stream | None = None
        self._began_s = self._asked_s = monotonic()
        self._passed_s = 0.0
        self.over = False
        self.incoming = _Incoming(self)

    def send(self, ask: Ask, body: bytes, ended: bool) -> None:
        """Ask the node; raises Unavailable or Overloaded when its channel takes no stream."""
        option = self._option
        self._bytes_in = len(body)
        self._down = option.channel.open(
            pack(ask),
            body,
            end=ended,
            sink=self,
            window=option.via.window_bytes,
        )
        self._passed_s = monotonic() - self._began_s
        self._desk.in_flight += 1
        self._desk.fleet.asked(option, self, self._began_s)

    # -- from the asking gateway -------------------------------------------------------------

    def body(self, data: bytes) -> None:
        """A piece of the request; the asker waits when the node does not take it."""
        self._bytes_in += len(data)
        if self._down is not None and not self._down.write(data):
            self._up.pause()

    def body_ended(self) -> None:
        """The request is whole."""
        self._asked_s = monotonic()
        if self._down is not None:
            self._down.finish()

    def called_off(self, code: str, message: str) -> None:
        """The asking gateway wants it no more, or is gone."""
        if code in ("timeout", "silent"):
            self._outcome = CUT if self._latency_ms >= 0 else REPLICA
        self.close()
        if self._down is not None:
            self._down.reset(code, message)
        self._leave()

    def asker_writable(self) -> None:
        """The asking gateway takes more of the answer."""
        if self._down is not None:
            self._down.resume()

    # -- from the node -----------------------------------------------------------------------

    def whole(self, header: AnswerHeader, body: bytes, trailer: AnswerTrailer) -> None:
        """The complete answer, in one piece."""
        now_s = monotonic()
        self._judge(header, trailer, now_s)
        header = self._answered(header, now_s)
        self._bytes_out = len(body)
        self._times = trailer
        self._up.answer(pack(header), body, end=True, trailer=self._trailer(trailer))
        self._leave()

    def begin(self, header: AnswerHeader) -> None:
        """A streamed answer begins."""
        self._up.answer(pack(self._answered(header, monotonic())))

    def piece(self, data: bytes) -> None:
        """A piece of it."""
        self._bytes_out += len(data)
        if not self._up.write(data) and self._down is not None:
            self._down.pause()

    def end(self, trailer: AnswerTrailer) -> None:
        """It is complete."""
        self._times = trailer
        self._up.finish(self._trailer(trailer))
        self._leave()

    def reset(self, code: str, message: str) -> None:
        """The node's stream died."""
        began = self._latency_ms >= 0
        self._outcome = REFUSED if code in DECLINED else CUT if began else REPLICA
        self._desk.fleet.failed(self._option, code, monotonic())
        self._up.reset(code, message)
        self._leave()

    def spoilt(self, message: str) -> None:
        """The node broke the protocol."""
        if self._down is not None:
            self._down.reset("bad_answer", message)
        self.reset("bad_answer", message)

    def fell_silent(self) -> None:
        """The node fell silent: the asker goes elsewhere if it still can."""
        if self.streaming:
            return
        self._outcome = REPLICA
        self.close()
        if self._down is not None:
            self._down.reset("silent")
        self._up.reset("silent", "The replica's node fell silent.")
        self._leave()

    def on_writable(self) -> None:
        """The node takes more of the request."""
        self._up.resume()

    def _answered(self, header: AnswerHeader, now_s: float) -> AnswerHeader:
        """Note how it was answered; the head with the count that its caller is told."""
        self._outcome = outcome_of(header.status, header.code)
        if header.code:
            return header
        self._latency_ms = (now_s - self._asked_s) * 1000
        return msgspec.structs.replace(header, count=self._tally.told())

    def _judge(self, header: AnswerHeader, trailer: AnswerTrailer, now_s: float) -> None:
        if header.code:
            self._desk.fleet.refused(self._option, header.code, now_s)
        else:
            latency_ms = (now_s - self._began_s) * 1000
            self._desk.fleet.answered(self._option, latency_ms, trailer, now_s)

    def _trailer(self, trailer: AnswerTrailer) -> bytes:
        return pack(
            msgspec.structs.replace(
                trailer,
                relay_us=int(self._passed_s * 1e6),
                relay_rtt_us=int(self._option.floor_ms * 1000),
            )
        )

    def _leave(self) -> None:
        if not self.over:
            self.over = True
            self._desk.in_flight -= 1
            self._desk.fleet.done(self._option, self)
            self._tally.counter.over(
                self._outcome,
                self._latency_ms,
                self._times.tokens_in,
                self._times.tokens_out,
                self._bytes_in,
                self._bytes_out,
            )


class _Incoming:
    """The request's side: a StreamSink for the asking gateway's stream."""

    __slots__ = ("_relayed",)

    def __init__(self, relayed: Relayed) -> None:
        self._relayed = relayed

    def on_head(self, header: bytes) -> None:
        """A request has none."""

    def on_data(self, data: bytes) -> None:
        """A piece of the request."""
        self._relayed.body(data)

    def on_end(self, trailer: bytes) -> None:
        """The request is whole."""
        self._relayed.body_ended()

    def on_reset(self, code: str, message: str) -> None:
        """The asker is gone."""
        self._relayed.called_off(code, message)

    def on_writable(self) -> None:
        """The asker takes more."""
        self._relayed.asker_writable()
