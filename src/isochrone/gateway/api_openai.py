"""The OpenAI API under ``/v1``: models, chat completions, completions, embeddings.

``model`` is a service's name within the key's tenant. A body is checked to be a JSON object with
it, and goes on as it came: what else it says is between the client and the engine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from isochrone.gateway.bearer import Caller
from isochrone.gateway.call import Call
from isochrone.gateway.error_bodies import JSON, NotAllowed
from isochrone.gateway.inference import Desk
from isochrone.gateway.routes import RoutedService
from isochrone.schema.errors import InvalidInput, NotFound
from isochrone.wire.http_server import Exchange

OPERATIONS: Final = {
    "/v1/chat/completions": "chat.completions",
    "/v1/completions": "completions",
    "/v1/embeddings": "embeddings",
}
MODELS: Final = "/v1/models"

_TASKS: Final = {
    "chat.completions": ("chat",),
    "completions": ("completions", "chat"),
    "embeddings": ("embeddings",),
}
_PATHS: Final = {
    "tensor": "/v2/models/{name}/infer",
    "embeddings": "/v1/embeddings",
    "completions": "/v1/completions",
    "chat": "/v1/chat/completions",
}


class _Body(msgspec.Struct):
    """What the gateway reads of a body."""

    model: str
    stream: bool | None = None


_decode = msgspec.json.Decoder(_Body).decode


class OpenAiApi:
    """Handles exchanges whose path begins with ``/v1``."""

    def __init__(self, desk: Desk, services: Callable[[Caller], list[str]]) -> None:
        self._desk = desk
        self._services = services

    def handle(self, exchange: Exchange) -> None:
        """Answer, or send on its way; raises IsochroneError."""
        operation = OPERATIONS.get(exchange.path)
        if operation is not None:
            if exchange.method != "POST":
                raise NotAllowed(exchange.method, "POST")
            self._infer(exchange, operation)
        elif exchange.path == MODELS or exchange.path.startswith(MODELS + "/"):
            if exchange.method not in ("GET", "HEAD"):
                raise NotAllowed(exchange.method, "GET")
            self._models(exchange)
        else:
            raise NotFound(
                f"There is nothing at {exchange.path[:80]}.",
                fix=f"Use {', '.join((MODELS, *OPERATIONS))}.",
            )

    def _infer(self, exchange: Exchange, operation: str) -> None:
        caller = self._desk.caller(exchange)

        def choose(body: bytes) -> RoutedService:
            service = self._desk.lookup.find_serving(caller, _model(body))
            _check_task(service, operation)
            return service

        Call(self._desk, exchange, caller, operation, None, choose).take_body()

    def _models(self, exchange: Exchange) -> None:
        caller = self._desk.caller(exchange)
        names = self._services(caller)
        name = exchange.path[len(MODELS) + 1 :]
        if name:
            self._desk.lookup.find(caller, name)
            answer: object = _card(caller, name)
        else:
            answer = {"object": "list", "data": [_card(caller, name) for name in names]}
        exchange.respond(200, [JSON], msgspec.json.encode(answer))


def _check_task(service: RoutedService, operation: str) -> None:
    task, name = service.route.task, service.route.name
    if task not in _TASKS[operation]:
        raise InvalidInput(
            f"{name} is a model for {task}, not for {operation}.",
            fix=f"Send it to {_PATHS[task].format(name=name)}.",
            code="wrong_task",
        )


def _card(caller: Caller, name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": caller.tenant}


def _model(body: bytes) -> str:
    try:
        return _decode(body).model
    except msgspec.ValidationError as error:
        raise InvalidInput(
            f"The body is not a request: {error}.", fix="Send a JSON object with `model`."
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput(
            f"The body is not JSON: {error}.", fix="Send a JSON object.", code="invalid_json"
        ) from error
