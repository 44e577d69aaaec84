"""One request of the HTTP client: what the caller holds, and what its sink is told.

It ends exactly once: ``on_end``, ``on_error``, or ``cancel`` (after which nothing comes).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, Protocol

from isochrone.schema.errors import InvalidInput, IsochroneError, Overloaded, Timeout
from isochrone.wire.http_client_connection import ClientConnection

if TYPE_CHECKING:
    from isochrone.wire.http_client import HttpPool

# A streamed body that waits for its connection; beyond it ``write`` has long said False.
_EARLY_BYTES_MAX: Final = 1024 * 1024


class ResponseSink(Protocol):
    """Receives one answer. Exactly one of ``on_end`` and ``on_error`` comes, last.

    A sink that streams its request's body may also have ``on_writable()``.
    """

    def on_head(self, status: int, headers: Mapping[str, str]) -> None:
        """Status and headers (names in lower case; do not change the mapping)."""

    def on_data(self, data: bytes) -> None:
        """A piece of the body, chunk framing removed, never empty."""

    def on_end(self) -> None:
        """The body is complete."""

    def on_error(self, error: IsochroneError) -> None:
        """Unavailable (cannot connect, cut off), Timeout, Overloaded, InvalidInput (not HTTP)."""


class Request:
    """One request in flight; made by ``HttpPool.request``."""

    __slots__ = (
        "_connection",
        "_early",
        "_early_bytes",
        "_finished",
        "_over",
        "_paused",
        "_pool",
        "_timeout_s",
        "body",
        "head",
        "method",
        "retried",
        "sink",
    )

    def __init__(
        self, pool: HttpPool, method: str, head: bytes, body: bytes | None, sink: ResponseSink
    ) -> None:
        self.method = method
        self.head = head
        self.body = body
        self.sink = sink
        self.retried = False
        self._pool = pool
        self._connection: ClientConnection | None = None
        self._early: list[bytes] = []
        self._early_bytes = 0
        self._finished = body is not None
        self._over = False
        self._paused = False
        self._timeout_s = 0.0

    def write(self, data: bytes) -> bool:
        """Send a piece of a streamed body; False: wait for ``sink.on_writable``.

        Before the connection stands up to 1 MiB is kept; beyond it the request fails with
        Overloaded. Raises InvalidInput after ``finish`` or when the body was given whole.
        """
        if self._finished:
            raise InvalidInput("The body of this request is complete.")
        if self._over or not data:
            return True
        piece = b"%x\r\n%b\r\n" % (len(data), data)
        if self._connection is not None:
            return self._connection.send(piece)
        self._early.append(piece)
        self._early_bytes += len(piece)
        if self._early_bytes > _EARLY_BYTES_MAX:
            self.fail_soon(Overloaded("Too much was written before the server was reached."))
        return False

    def finish(self) -> None:
        """End a streamed body."""
        if self._finished:
            return
        self._finished = True
        if self._connection is not None:
            self._connection.send(b"0\r\n\r\n")
        else:
            self._early.append(b"0\r\n\r\n")

    def cancel(self) -> None:
        """Drop it: the connection is closed, no callback comes any more."""
        connection, self._connection = self._connection, None
        self._close()
        if connection is not None:
            connection.drop()

    def pause(self) -> None:
        """Stop reading the answer (backpressure)."""
        self._paused = True
        if self._connection is not None:
            self._connection.hold(True)

    def resume(self) -> None:
        """Read the answer again."""
        self._paused = False
        if self._connection is not None:
            self._connection.hold(False)

    @property
    def over(self) -> bool:
        """Whether its last callback has come (or it was cancelled)."""
        return self._over

    # -- for the pool and the connection -------------------------------------------------------

    def send_on(self, connection: ClientConnection) -> None:
        """A connection is free for this request."""
        self._connection = connection
        if self.body is not None:
            connection.begin(self, self.head + self.body if self.body else self.head)
        else:
            connection.begin(self, self.head + b"".join(self._early))
            self._early.clear()
        if self._paused:
            connection.hold(True)
        if not self._finished:
            self.tell_writable()

    @property
    def repeatable(self) -> bool:
        """Whether it may go again on a fresh connection."""
        return self.body is not None and not self.retried

    @property
    def sent_whole(self) -> bool:
        """Whether its body was complete (otherwise the connection cannot be used again)."""
        return self._finished

    def expect_within(self, timeout_s: float) -> None:
        """Start the clock until the answer's head."""
        self._timeout_s = timeout_s
        self._pool.watch(self, time.monotonic() + timeout_s)

    def too_slow(self) -> None:
        """The head did not come in time."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.drop()
        self.fail(
            Timeout(
                f"{self._pool.name} did not answer within {self._timeout_s:g} s.",
                fix="Check the load of that server.",
            )
        )

    def answered(self, status: int, headers: Mapping[str, str]) -> None:
        """The head came."""
        if self._timeout_s:
            self._pool.unwatch(self)
        self.guard(self.sink.on_head, status, headers)

    def end(self) -> None:
        """The answer is complete."""
        if not self._over:
            self._close()
            self.guard(self.sink.on_end)

    def fail(self, error: IsochroneError) -> None:
        """It failed."""
        if not self._over:
            self._close()
            self.guard(self.sink.on_error, error)

    def fail_soon(self, error: IsochroneError) -> None:
        """It failed; told in the next loop iteration."""
        asyncio.get_running_loop().call_soon(self.fail, error)

    def tell_writable(self) -> None:
        """A streamed body may go on."""
        on_writable: Callable[[], None] | None = getattr(self.sink, "on_writable", None)
        if on_writable is not None and not self._over and not self._finished:
            self.guard(on_writable)

    def guard(self, call: Callable[..., None], *arguments: object) -> None:
        """Call the sink; what it raises ends this request only."""
        try:
            call(*arguments)
        except Exception as error:
            self.sink_failed(error)

    def sink_failed(self, error: Exception) -> None:
        """A bug of the sink: reported, and the request is dropped."""
        context = {"message": "A sink of the HTTP client failed.", "exception": error}
        asyncio.get_running_loop().call_exception_handler(context)
        self.cancel()

    def _close(self) -> None:
        self._over = True
        self._connection = None
        self._early.clear()
        if self._timeout_s:
            self._pool.unwatch(self)
