"""From an HTTP exchange to a request in flight, and back: shared by the inference APIs.

``Desk`` is what both APIs need of the gateway. ``HttpReply`` writes an answer (or an error in the
path's own format) to its exchange and ties the two lives together: a client that hangs up cancels
the flight; one that reads slowly holds the replica back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Final

from isochrone.gateway.bearer import Caller, KeyRing
from isochrone.gateway.bodies import ArrivingBody, BodyTaker, Budget, gunzip
from isochrone.gateway.config import GatewayLimits
from isochrone.gateway.dispatch import Dispatcher
from isochrone.gateway.error_bodies import error_answer
from isochrone.gateway.flight import Flight
from isochrone.gateway.lookup import Lookup
from isochrone.gateway.routes import RoutedService
from isochrone.gateway.traffic import Traffic
from isochrone.schema.errors import InvalidInput, IsochroneError
from isochrone.wire.http_server import Exchange

TIMEOUT_HEADER: Final = "isochrone-timeout-ms"
REQUEST_ID_HEADER: Final = "x-request-id"
REQUEST_ID_CHARS_MAX: Final = 128


PASSED_HEADERS: Final = ("content-type", "inference-header-content-length", "accept")
"""The request headers that an engine needs."""

_LATE_HEAD_S: Final = 0.002
"""``Exchange.started`` has the loop's resolution of a millisecond; only a head that came in pieces
makes it the better clock."""


def refuse(exchange: Exchange, error: IsochroneError, traffic: Traffic) -> None:
    """Answer an error that happened before there was a flight."""
    traffic.refused(error.code)
    status, headers, body = error_answer(exchange.path, error)
    given = exchange.headers.get(REQUEST_ID_HEADER, "")
    if _good_id(given):
        headers.append((REQUEST_ID_HEADER, given))
    exchange.respond(status, headers, body)


class HttpReply:
    """A flight's reply on an HTTP exchange."""

    __slots__ = ("_exchange", "_release")

    def __init__(self, exchange: Exchange, release: Callable[[], None]) -> None:
        self._exchange = exchange
        self._release = release

    def whole(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        """The complete answer."""
        self._release()
        self._exchange.respond(status, headers, body)

    def begin(self, status: int, headers: list[tuple[str, str]]) -> None:
        """A streamed answer begins; nothing will be sent again, so the body may go."""
        self._release()
        self._exchange.start(status, headers)

    def piece(self, data: bytes) -> bool:
        """A piece of it."""
        return self._exchange.write(data)

    def end(self) -> None:
        """It is complete."""
        self._exchange.finish()

    def fail(self, error: IsochroneError, headers: list[tuple[str, str]]) -> None:
        """No answer."""
        self._release()
        status, own, body = error_answer(self._exchange.path, error)
        self._exchange.respond(status, own + headers, body)

    def cut(self) -> None:
        """The connection says that the answer is incomplete."""
        self._exchange.abort()


class Desk:
    """Takes inference requests for the APIs."""

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        keys: KeyRing,
        lookup: Lookup,
        dispatcher: Dispatcher,
        limits: GatewayLimits,
        traffic: Traffic,
        boot: str,
    ) -> None:
        self.keys = keys
        self.lookup = lookup
        self.traffic = traffic
        self._loop = loop
        self._dispatcher = dispatcher
        self._limits = limits
        self._budget = Budget(limits.buffered_bytes_max)
        self._boot = boot
        self._number = 0

    @property
    def buffered_bytes(self) -> int:
        """Request bodies in memory."""
        return self._budget.used

    def caller(self, exchange: Exchange) -> Caller:
        """Who calls, if this gateway may serve them at all; before the body is read."""
        caller = self.keys.check(exchange.headers.get("authorization"))
        self.lookup.admit(caller)
        return caller

    def collect(
        self,
        exchange: Exchange,
        whole: Callable[[bytes, float, Callable[[], None]], None],
        large: Callable[[ArrivingBody], None] | None = None,
    ) -> None:
        """Take the body and call ``whole(body, waited_s, release)`` with it, unpacked.

        Errors, also those that ``whole`` or ``large`` raise, are answered.
        """
        coding = exchange.headers.get("content-encoding", "identity").strip().lower()
        if coding not in ("identity", "gzip", "deflate", ""):
            raise InvalidInput(
                f"The content encoding {coding[:40]!r} is not supported.",
                fix="Send the body plain, or as gzip or deflate.",
                code="unsupported_encoding",
                status=415,
            )
        packed = coding in ("gzip", "deflate")

        def fail(error: IsochroneError) -> None:
            refuse(exchange, error, self.traffic)

        def done(body: bytes, waited_s: float) -> None:
            if packed:
                self._unpack(body, lambda plain: finish(plain, waited_s), stop)
            else:
                finish(body, waited_s)

        def finish(body: bytes, waited_s: float) -> None:
            try:
                whole(body, waited_s, taker.release)
            except IsochroneError as error:
                stop(error)

        def stop(error: IsochroneError) -> None:
            taker.release()
            fail(error)

        def overflow(arriving: ArrivingBody) -> None:
            try:
                if large is not None:
                    large(arriving)
            except IsochroneError as error:
                fail(error)

        taker = BodyTaker(
            exchange,
            self._budget,
            self._limits.replay_bytes_max,
            done,
            fail,
            overflow if large is not None and not packed else None,
        )

    def submit(
        self,
        exchange: Exchange,
        caller: Caller,
        service: RoutedService,
        operation: str,
        body: bytes | None,
        *,
        waited_s: float,
        release: Callable[[], None],
        upload: ArrivingBody | None = None,
    ) -> None:
        """Send a request on its way; raises Overloaded when there are too many."""
        now_s = monotonic()
        started_s = now_s - waited_s
        if started_s - exchange.started > _LATE_HEAD_S:
            started_s = exchange.started
        reply = HttpReply(exchange, release)
        flight = Flight(
            number=self._number,
            request_id=self.request_id(exchange.headers),
            service=service,
            caller=caller,
            operation=operation,
            headers=_passed(exchange.headers),
            body=body,
            reply=reply,
            started_s=started_s,
            waited_s=waited_s,
            deadline_s=now_s + self._timeout_s(exchange.headers),
        )

        def hung_up() -> None:
            release()
            self._dispatcher.cancel(flight)

        exchange.on_abort = hung_up
        exchange.on_writable = lambda: self._dispatcher.paused(flight, on=False)
        self._dispatcher.submit(flight, upload)

    def ask(self, flight: Flight) -> None:
        """Send a request that the gateway itself makes (its reply is not an exchange)."""
        self._dispatcher.submit(flight)

    def request_id(self, headers: Mapping[str, str]) -> str:
        """The caller's request id if it is a decent one, else a new one."""
        self._number += 1
        given = headers.get(REQUEST_ID_HEADER, "")
        return given if _good_id(given) else f"{self._boot}-{self._number:x}"

    @property
    def number(self) -> int:
        """How many requests were numbered."""
        return self._number

    @property
    def deadline_s(self) -> float:
        """The longest time to a first byte."""
        return self._limits.deadline_ms / 1000

    def _timeout_s(self, headers: Mapping[str, str]) -> float:
        asked = headers.get(TIMEOUT_HEADER)
        if asked is None:
            return self._limits.deadline_ms / 1000
        if not (asked.isascii() and asked.isdigit() and 1 <= len(asked) <= 9 and int(asked)):
            raise InvalidInput(f"{TIMEOUT_HEADER} must be a whole number of milliseconds.")
        return min(int(asked), self._limits.deadline_ms) / 1000

    def _unpack(
        self,
        body: bytes,
        done: Callable[[bytes], None],
        fail: Callable[[IsochroneError], None],
    ) -> None:
        # In a thread always: a few KB may unpack to megabytes.
        future = self._loop.run_in_executor(None, gunzip, body, self._limits.replay_bytes_max)

        def unpacked(result: asyncio.Future[bytes]) -> None:
            error = result.exception()
            if isinstance(error, IsochroneError):
                fail(error)
            elif error is None:
                done(result.result())
            else:
                raise error

        future.add_done_callback(unpacked)


def _passed(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: headers[name] for name in PASSED_HEADERS if name in headers}


def _good_id(text: str) -> bool:
    return 0 < len(text) <= REQUEST_ID_CHARS_MAX and text.isascii() and text.isprintable()
