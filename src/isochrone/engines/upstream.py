"""Any OpenAI or OIP endpoint that the provider already runs, as an engine (vLLM, Triton, Ollama).

This room must not import the wire room, so the HTTP pool is passed in: ``PoolFactory`` and
``HttpPoolLike`` say what is needed; ``isochrone.wire.http_client.HttpPool`` has this shape.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from typing import Protocol

from isochrone.schema.errors import IsochroneError


class ResponseSink(Protocol):
    """Receives one HTTP response."""

    def on_head(self, status: int, headers: Sequence[tuple[str, str]]) -> None:
        """Status and headers."""

    def on_data(self, data: bytes) -> None:
        """The next piece of the body, de-chunked."""

    def on_end(self) -> None:
        """The response is complete."""

    def on_error(self, error: IsochroneError) -> None:
        """The exchange failed; nothing more will come."""


class HttpCall(Protocol):
    """One request on its way through a pool."""

    def cancel(self) -> None:
        """Close the connection (or drop the waiting request); the sink is not called again."""

    def pause(self) -> None:
        """Stop reading the response."""

    def resume(self) -> None:
        """Read on."""


class HttpPoolLike(Protocol):
    """What an engine needs of an HTTP client: a pool of connections to one host."""

    def request(
        self,
        method: str,
        path: str,
        headers: Sequence[tuple[str, str]],
        body: bytes,
        sink: ResponseSink,
    ) -> HttpCall:
        """Send one request; the response comes on ``sink``."""

    async def close(self) -> None:
        """Close every connection."""


#: ``pool_factory(host, port, tls)``: ``tls`` is a client context, or None for plain HTTP.
PoolFactory = Callable[[str, int, ssl.SSLContext | None], HttpPoolLike]
