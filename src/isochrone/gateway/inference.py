"""What the inference APIs need of the gateway: who calls, and the way to a replica."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Final

from isochrone.gateway.bearer import Caller, KeyRing
from isochrone.gateway.bodies import Budget, gunzip
from isochrone.gateway.config import GatewayLimits
from isochrone.gateway.dispatch import Dispatcher
from isochrone.gateway.error_bodies import error_answer
from isochrone.gateway.flight import Flight, Reply
from isochrone.gateway.lookup import Lookup
from isochrone.gateway.numbers import Numbers
from isochrone.gateway.routes import RoutedService
from isochrone.gateway.traffic import Traffic
from isochrone.gateway.tries import Upload
from isochrone.schema.errors import InvalidInput, IsochroneError
from isochrone.wire.http_server import Exchange

TIMEOUT_HEADER: Final = "isochrone-timeout-ms"
REQUEST_ID_HEADER: Final = "x-request-id"
REQUEST_ID_CHARS_MAX: Final = 128

PASSED_HEADERS: Final = ("content-type", "inference-header-content-length", "accept")
"""The request headers that an engine needs."""


def refuse(exchange: Exchange, error: IsochroneError, traffic: Traffic) -> None:
    """Answer an error that happened before there was a flight."""
    traffic.refused(error.code)
    status, headers, body = error_answer(exchange.path, error)
    given = exchange.headers.get(REQUEST_ID_HEADER, "")
    if _good_id(given):
        headers.append((REQUEST_ID_HEADER, given))
    exchange.respond(status, headers, body)


class Desk:
    """Takes inference requests for the APIs. ``kept_max``: bytes of a body that is kept.

    ``may_serve(service)`` raises when the service may not be served now (its deposit is low).
    """

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        keys: KeyRing,
        lookup: Lookup,
        dispatcher: Dispatcher,
        limits: GatewayLimits,
        traffic: Traffic,
        numbers: Numbers,
        may_serve: Callable[[str], None],
    ) -> None:
        self.keys = keys
        self.lookup = lookup
        self.budget = Budget(limits.buffered_bytes_max)
        self.kept_max = limits.replay_bytes_max
        self.send: Callable[[Flight, Upload | None], None] = dispatcher.submit
        self.cancel: Callable[[Flight], None] = dispatcher.cancel
        self.go_on: Callable[[Flight], None] = dispatcher.go_on
        self._loop = loop
        self._traffic = traffic
        self._deadline_ms = limits.deadline_ms
        self._numbers = numbers
        self._may_serve = may_serve

    def caller(self, exchange: Exchange) -> Caller:
        """Who calls, if this gateway may serve them at all; before the body is read."""
        caller = self.keys.check(exchange.headers.get("authorization"))
        self.lookup.admit(caller)
        return caller

    def flight(
        self,
        exchange: Exchange,
        caller: Caller,
        service: RoutedService,
        operation: str,
        body: bytes | None,
        reply: Reply,
    ) -> Flight:
        """A request that begins now; raises InvalidInput for a wrong timeout header, and
        ``deposit_low`` (402) for a service that is not paid for."""
        self._may_serve(service.id)
        headers = exchange.headers
        now_s = monotonic()
        number = self._numbers.take()
        given = headers.get(REQUEST_ID_HEADER)
        if given is None or not _good_id(given):
            given = f"{self._numbers.boot}-{number:x}"
        allowed_ms = self._timeout_ms(headers)
        flight = Flight(
            number=number,
            request_id=given,
            service=service,
            caller=caller,
            operation=operation,
            headers={name: headers[name] for name in PASSED_HEADERS if name in headers},
            body=body,
            reply=reply,
            started_s=now_s,
            deadline_s=now_s + allowed_ms / 1000,
        )
        flight.allowed_ms = allowed_ms
        return flight

    def refuse(self, exchange: Exchange, error: IsochroneError) -> None:
        """Answer an error that happened before there was a flight."""
        refuse(exchange, error, self._traffic)

    def unpack(
        self,
        body: bytes,
        done: Callable[[bytes], None],
        fail: Callable[[IsochroneError], None],
    ) -> None:
        """Decompress a body in a thread (a few KB may become megabytes)."""
        future = self._loop.run_in_executor(None, gunzip, body, self.kept_max)

        def unpacked(result: asyncio.Future[bytes]) -> None:
            error = result.exception()
            if isinstance(error, IsochroneError):
                fail(error)
            elif error is None:
                done(result.result())
            else:
                raise error

        future.add_done_callback(unpacked)

    def _timeout_ms(self, headers: Mapping[str, str]) -> int:
        asked = headers.get(TIMEOUT_HEADER)
        if asked is None:
            return self._deadline_ms
        if not (asked.isascii() and asked.isdigit() and 1 <= len(asked) <= 9 and int(asked)):
            raise InvalidInput(f"{TIMEOUT_HEADER} must be a whole number of milliseconds.")
        return min(int(asked), self._deadline_ms)


def _good_id(text: str) -> bool:
    return 0 < len(text) <= REQUEST_ID_CHARS_MAX and text.isascii() and text.isprintable()
