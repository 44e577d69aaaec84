"""The Open Inference Protocol v2 (KServe, Triton) under ``/v2``, JSON and binary tensors.

The path names the model, so a body goes on unread: small ones are kept for a retry, large ones
stream. Metadata is asked of a replica once per revision of a service and then remembered.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache
from typing import Final
from urllib.parse import unquote

import msgspec

from isochrone.gateway.bearer import Caller
from isochrone.gateway.call import Call
from isochrone.gateway.error_bodies import JSON, NotAllowed, error_answer
from isochrone.gateway.inference import Desk
from isochrone.gateway.routes import RoutedService
from isochrone.schema.errors import InvalidInput, IsochroneError, NotFound, Unavailable
from isochrone.wire.http_server import Exchange

ROOT: Final = "/v2"
MODELS: Final = "/v2/models/"
METADATA_MAX: Final = 1024
"""Remembered metadata documents: a few KB each."""
METADATA_BYTES_MAX: Final = 256 * 1024

_SERVER: Final = {"name": "isochrone", "extensions": ["binary_tensor_data"]}


class OipApi:
    """Handles exchanges whose path begins with ``/v2``. ``ready()``: whether we have routes."""

    def __init__(self, desk: Desk, version: str, ready: Callable[[], bool]) -> None:
        self._desk = desk
        self._ready = ready
        self._about = msgspec.json.encode({**_SERVER, "version": version})
        self._metadata: OrderedDict[tuple[str, int], bytes] = OrderedDict()

    def handle(self, exchange: Exchange) -> None:
        """Answer, or send on its way; raises IsochroneError."""
        path = exchange.path
        if path.startswith(MODELS):
            self._model(exchange)
            return
        if exchange.method not in ("GET", "HEAD"):
            raise NotAllowed(exchange.method, "GET") if _known(path) else _nothing(path)
        if path in (ROOT, ROOT + "/"):
            exchange.respond(200, [JSON], self._about)
        elif path == "/v2/health/live":
            exchange.respond(200, [], b"")
        elif path == "/v2/health/ready":
            exchange.respond(200 if self._ready() else 503, [], b"")
        else:
            raise _nothing(path)

    def _model(self, exchange: Exchange) -> None:
        name, version, action = _read_path(exchange.raw_path)
        if action == "infer":
            if exchange.method != "POST":
                raise NotAllowed(exchange.method, "POST")
            self._infer(exchange, name, version)
        elif action in ("", "ready"):
            if exchange.method not in ("GET", "HEAD"):
                raise NotAllowed(exchange.method, "GET")
            self._about_model(exchange, name, version, ready=bool(action))
        else:
            raise _nothing(exchange.path)

    def _infer(self, exchange: Exchange, name: str, version: str) -> None:
        desk = self._desk
        caller = desk.caller(exchange)
        service = desk.lookup.find_serving(caller, name)
        if version:
            _check_version(service, version)
        if "inference-header-content-length" in exchange.headers:
            _check_length_header(exchange)
        Call(desk, exchange, caller, "infer", service).take_body()

    def _about_model(self, exchange: Exchange, name: str, version: str, *, ready: bool) -> None:
        caller = self._desk.caller(exchange)
        service = self._desk.lookup.find(caller, name)
        _check_version(service, version)
        if ready:
            exchange.respond(200 if service.legal else 503, [], b"")
            return
        known = self._metadata.get((service.id, service.route.revision))
        if known is not None:
            exchange.respond(200, [JSON], known)
            return
        service = self._desk.lookup.find_serving(caller, name)
        self._ask_metadata(exchange, caller, service)

    def _ask_metadata(self, exchange: Exchange, caller: Caller, service: RoutedService) -> None:
        def told(body: bytes) -> None:
            self._metadata[(service.id, service.route.revision)] = body
            if len(self._metadata) > METADATA_MAX:
                self._metadata.popitem(last=False)

        reply = _MetadataReply(exchange, told)
        flight = self._desk.flight(exchange, caller, service, "metadata", b"", reply)
        flight.headers = {}
        exchange.on_abort = lambda: self._desk.cancel(flight)
        self._desk.send(flight, None)


class _MetadataReply:
    """Collects a replica's metadata, remembers it, and answers the client that asked first."""

    __slots__ = ("_body", "_exchange", "_status", "_told")

    def __init__(self, exchange: Exchange, told: Callable[[bytes], None]) -> None:
        self._exchange = exchange
        self._told = told
        self._status = 0
        self._body = b""

    def whole(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        """The complete answer."""
        if status == 200:
            self._told(body)
        self._exchange.respond(status, headers, body)

    def begin(self, status: int, headers: list[tuple[str, str]]) -> None:
        """A large one comes in pieces."""
        self._status = status

    def piece(self, data: bytes) -> bool:
        """A piece of it."""
        if len(self._body) < METADATA_BYTES_MAX:
            self._body += data
        return True

    def end(self) -> None:
        """It is complete."""
        if len(self._body) >= METADATA_BYTES_MAX:
            self.fail(Unavailable("The replica's metadata is too long.", code="bad_answer"), [])
        else:
            self.whole(self._status, [JSON], self._body)

    def fail(self, error: IsochroneError, headers: list[tuple[str, str]]) -> None:
        """No answer."""
        status, own, body = error_answer(self._exchange.path, error)
        self._exchange.respond(status, own + headers, body)

    def cut(self) -> None:
        """It broke off; nothing was written yet."""
        self.fail(Unavailable("The replica broke off.", code="channel_lost"), [])


@lru_cache(maxsize=4096)
def _read_path(raw_path: str) -> tuple[str, str, str]:
    """(name, version, action) of a path below ``/v2/models/``; an unknown action is ``"?"``.

    Split as sent: a name may hold a percent-encoded slash, which is no separator.
    """
    parts = [unquote(part) for part in raw_path[len(MODELS) :].split("/")]
    name, version, action = parts[0], "", parts[1:]
    if len(action) >= 2 and action[0] == "versions":
        version, action = action[1], action[2:]
    if len(action) > 1 or (action and action[0] not in ("infer", "ready")):
        return name, version, "?"
    return name, version, action[0] if action else ""


def _check_version(service: RoutedService, version: str) -> None:
    if version not in ("", "1", str(service.route.revision)):
        raise NotFound(
            f"{service.route.name} has no version {version[:20]!r}.",
            fix=f"Leave the version out, or use {service.route.revision}.",
            code="version_not_found",
        )


def _check_length_header(exchange: Exchange) -> None:
    """The JSON prefix of a binary request lies inside its body, as far as lengths are told."""
    stated = exchange.headers["inference-header-content-length"]
    if not (stated.isascii() and stated.isdigit() and len(stated) <= 19):
        raise InvalidInput("Inference-Header-Content-Length is not a number.")
    length = exchange.headers.get("content-length", "")
    plain = "content-encoding" not in exchange.headers
    if plain and length.isdigit() and int(stated) > int(length):
        raise InvalidInput(
            f"Inference-Header-Content-Length says {stated} bytes, the body has {length}."
        )


def _known(path: str) -> bool:
    return path in (ROOT, ROOT + "/", "/v2/health/live", "/v2/health/ready")


def _nothing(path: str) -> IsochroneError:
    return NotFound(
        f"There is nothing at {path[:80]}.",
        fix="Use /v2/models/NAME, /v2/models/NAME/ready or /v2/models/NAME/infer.",
    )
