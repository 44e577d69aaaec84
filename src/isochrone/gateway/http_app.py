"""From a path to the API that handles it, and errors in that API's format."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

from isochrone.gateway.error_bodies import NotAllowed, error_answer
from isochrone.gateway.inference import refuse
from isochrone.gateway.metrics import Registry
from isochrone.gateway.traffic import Traffic
from isochrone.schema.admin import PREFIX
from isochrone.schema.errors import IsochroneError, NotFound, OurFault
from isochrone.wire.http_server import Exchange, Headers

log = logging.getLogger(__name__)

TEXT = ("content-type", "text/plain; charset=utf-8")
PROMETHEUS = ("content-type", "text/plain; version=0.0.4; charset=utf-8")


class Api(Protocol):
    """An API: handles exchanges of its paths; raises IsochroneError before it answers."""

    def handle(self, exchange: Exchange) -> None:
        """Answer now or later."""


class HttpApp:
    """The application of the HTTP server. ``ready()``: whether requests can be routed."""

    def __init__(
        self,
        *,
        openai: Api,
        oip: Api,
        admin: Api,
        traffic: Traffic,
        registry: Registry,
        ready: Callable[[], bool],
    ) -> None:
        self._openai = openai
        self._oip = oip
        self._admin = admin
        self._traffic = traffic
        self._registry = registry
        self._ready = ready

    def __call__(self, exchange: Exchange) -> None:
        """Handle one exchange; never raises."""
        try:
            self._route(exchange)
        except IsochroneError as error:
            self._answer(exchange, error)
        except Exception:
            log.exception("a request on %s failed", exchange.raw_path[:200])
            bug = OurFault("The gateway failed on this request.", fix="Tell its operator.")
            self._answer(exchange, bug)

    def on_bad_request(self, path: str, error: IsochroneError) -> tuple[int, Headers, bytes]:
        """What broke the protocol before it became an exchange."""
        self._traffic.refused(error.code)
        return error_answer(path, error)

    def _route(self, exchange: Exchange) -> None:
        path = exchange.path
        if path.startswith("/v1/"):
            self._openai.handle(exchange)
        elif path == "/v2" or path.startswith("/v2/"):
            self._oip.handle(exchange)
        elif path.startswith(PREFIX + "/"):
            self._admin.handle(exchange)
        elif path in ("/livez", "/readyz", "/metrics"):
            self._operations(exchange)
        else:
            raise NotFound(
                f"There is nothing at {path[:80]}.",
                fix="APIs: /v1 (OpenAI), /v2 (Open Inference Protocol), /isochrone/v1.",
            )

    def _operations(self, exchange: Exchange) -> None:
        if exchange.method not in ("GET", "HEAD"):
            raise NotAllowed(exchange.method, "GET")
        if exchange.path == "/livez":
            exchange.respond(200, [TEXT], b"alive\n")
        elif exchange.path == "/metrics":
            exchange.respond(200, [PROMETHEUS], self._registry.text())
        elif self._ready():
            exchange.respond(200, [TEXT], b"ready\n")
        else:
            exchange.respond(503, [TEXT, ("retry-after", "1")], b"no routing table yet\n")

    def _answer(self, exchange: Exchange, error: IsochroneError) -> None:
        if exchange.responding:
            exchange.abort()
        else:
            refuse(exchange, error, self._traffic)
