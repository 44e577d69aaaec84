"""One inference call over HTTP: takes the body in, becomes a flight, writes the answer out.

One object per request, since this is the fast path: it is what the exchange calls with body bytes
and with the client's going away, and what the dispatcher calls as the flight's ``Reply``. A client
that hangs up cancels the flight; one that reads slowly holds the replica back.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Final

from isochrone.gateway.bearer import Caller
from isochrone.gateway.bodies import ArrivingBody
from isochrone.gateway.error_bodies import error_answer
from isochrone.gateway.flight import Flight
from isochrone.gateway.routes import RoutedService
from isochrone.schema.errors import InvalidInput, IsochroneError, TooLarge
from isochrone.wire.http_server import Exchange

if TYPE_CHECKING:
    from isochrone.gateway.inference import Desk

Choose = Callable[[bytes], RoutedService]
"""The service that a body asks for; raises IsochroneError."""

PACKED: Final = frozenset({"gzip", "deflate"})


class Call:
    """A call. ``choose`` looks into the whole body for the service (None: ``service`` is known,
    and a body too large to keep may stream).

    Errors are answered in the path's own format; nothing raises into the exchange.
    """

    __slots__ = (
        "_caller",
        "_choose",
        "_desk",
        "_exchange",
        "_flight",
        "_head_s",
        "_kept",
        "_operation",
        "_packed",
        "_pieces",
        "_service",
    )

    def __init__(
        self,
        desk: Desk,
        exchange: Exchange,
        caller: Caller,
        operation: str,
        service: RoutedService | None,
        choose: Choose | None = None,
    ) -> None:
        self._desk = desk
        self._exchange = exchange
        self._caller = caller
        self._operation = operation
        self._service = service
        self._choose = choose
        self._flight: Flight | None = None
        self._pieces: list[bytes] = []
        self._kept = 0
        self._packed = False
        self._head_s = monotonic()

    def take_body(self) -> None:
        """Begin to take the body; raises InvalidInput (415) for an unknown content encoding."""
        exchange = self._exchange
        coding = exchange.headers.get("content-encoding")
        if coding is not None:
            coding = coding.strip().lower()
            self._packed = coding in PACKED
            if not self._packed and coding not in ("", "identity"):
                raise InvalidInput(
                    f"The content encoding {coding[:40]!r} is not supported.",
                    fix="Send the body plain, or as gzip or deflate.",
                    code="unsupported_encoding",
                    status=415,
                )
        exchange.on_data = self._data
        exchange.on_end = self._body_ended
        exchange.on_abort = self._hung_up

    # -- the request's side ------------------------------------------------------------------

    def _data(self, data: bytes) -> None:
        kept = self._kept + len(data)
        desk = self._desk
        try:
            if kept > desk.kept_max:
                self._too_much(data)
                return
            desk.budget.take(len(data))
        except IsochroneError as error:
            self._refuse(error)
            return
        self._kept = kept
        self._pieces.append(data)

    def _too_much(self, data: bytes) -> None:
        """The body cannot be kept: it streams, or it is refused."""
        pieces = [*self._pieces, data]
        self._release()
        if self._choose is not None or self._packed:
            raise TooLarge(
                f"The body is larger than {self._desk.kept_max} bytes.",
                fix="Send less in one request.",
            )
        self._launch(None, 0.0, ArrivingBody(self._exchange, pieces))

    def _body_ended(self) -> None:
        pieces = self._pieces
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self._pieces = []
        if self._packed:
            self._desk.unpack(body, self._whole_body, self._refuse)
        else:
            self._whole_body(body)

    def _whole_body(self, body: bytes) -> None:
        if self._exchange.finished:
            return  # the client went away while it was unpacked
        try:
            self._launch(body, monotonic() - self._head_s)
        except IsochroneError as error:
            self._refuse(error)

    def _launch(
        self, body: bytes | None, waited_s: float, upload: ArrivingBody | None = None
    ) -> None:
        """The request is known: send it on its way. Raises IsochroneError."""
        service = self._service
        if self._choose is not None and body is not None:
            service = self._choose(body)
        if service is None or body == b"":
            raise InvalidInput("The body is empty.", fix="Send an inference request.")
        exchange, desk = self._exchange, self._desk
        flight = desk.flight(exchange, self._caller, service, self._operation, body, self)
        flight.started_s = exchange.started
        flight.waited_s = waited_s
        if upload is not None:
            flight.head_bytes = upload.waiting_bytes
        self._flight = flight
        exchange.on_writable = self._writable
        desk.send(flight, upload)

    def _hung_up(self) -> None:
        if self._flight is not None:
            self._desk.cancel(self._flight)
        self._part()

    def _writable(self) -> None:
        if self._flight is not None:
            self._desk.go_on(self._flight)

    def _refuse(self, error: IsochroneError) -> None:
        self._desk.refuse(self._exchange, error)
        self._part()

    def _release(self) -> None:
        """The kept body is no longer needed."""
        if self._kept:
            self._desk.budget.give_back(self._kept)
            self._kept = 0
            self._pieces = []

    # -- the answer's side (Reply) -----------------------------------------------------------

    def whole(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        """The complete answer."""
        self._exchange.respond(status, headers, body)
        self._part()

    def begin(self, status: int, headers: list[tuple[str, str]]) -> None:
        """A streamed answer begins; nothing will be sent again, so the body may go."""
        self._release()
        if self._flight is not None and self._flight.body is not None:
            self._flight.body = b""
        self._exchange.start(status, headers)

    def piece(self, data: bytes) -> bool:
        """A piece of it."""
        return self._exchange.write(data)

    def end(self) -> None:
        """It is complete."""
        self._exchange.finish()
        self._part()

    def fail(self, error: IsochroneError, headers: list[tuple[str, str]]) -> None:
        """No answer."""
        status, own, body = error_answer(self._exchange.path, error)
        self._exchange.respond(status, own + headers, body)
        self._part()

    def cut(self) -> None:
        """The connection says that the answer is incomplete."""
        self._exchange.abort()
        self._part()

    def _part(self) -> None:
        """The call is over: exchange, call and flight let go of each other.

        Cycles would be left to the collector, which costs a fifth of a request's time.
        """
        self._release()
        self._flight = None
        exchange = self._exchange
        exchange.on_data = _drop
        exchange.on_end = exchange.on_abort = exchange.on_writable = _nothing


def _drop(_data: bytes) -> None:
    """Body bytes that nobody wants any more."""


def _nothing() -> None:
    """What still happens to an exchange that is over."""
