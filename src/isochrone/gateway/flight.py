"""One request on its way: what it is, and which move comes next (pure).

Intuition: a request may be tried on several replicas, one after another when one fails, or two at
once when the first is slow (a hedge). Until the first byte of an answer has gone to the client
nothing has happened as far as the client can tell, so all of it can be done again. The first byte
commits: from then on the answer comes from that replica or is cut.

Rules: time is an argument (monotonic seconds). A body that was not kept can be sent once. A node is
tried once; only when no other is left, and a little after it failed, again. Every end has a
reason: the last error, or the deadline.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, Protocol

from isochrone.gateway.bearer import Caller
from isochrone.gateway.routes import RoutedService
from isochrone.schema.errors import IsochroneError, Overloaded, Timeout

if TYPE_CHECKING:
    from isochrone.gateway.tries import Try

AGAIN_S: Final = 0.05
AGAIN_MOST_S: Final = 0.4
"""Before a node that failed is asked again, when there is no other: time for a queue to drain or an
engine to restart, short against the 2.5 s after which people give up. Doubles with every try."""

REFUSALS_MAX: Final = 16
"""Refusals cost a node nothing, so they do not count as attempts; but they end, too."""

Move = Literal["send", "wait", "hold", "fail"]


class Reply(Protocol):
    """Where the answer goes: an HTTP exchange, or a part of the gateway that asked."""

    def whole(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        """The complete answer."""

    def begin(self, status: int, headers: list[tuple[str, str]]) -> None:
        """A streamed answer begins."""

    def piece(self, data: bytes) -> bool:
        """A piece of it; False: pause until ``writable``."""

    def end(self) -> None:
        """It is complete."""

    def fail(self, error: IsochroneError, headers: list[tuple[str, str]]) -> None:
        """No answer; nothing was begun."""

    def cut(self) -> None:
        """A begun answer cannot be completed."""


class Flight:
    """A request, its caller and its course. No behaviour beyond ``next_move``.

    Times are monotonic seconds. ``body`` None: it is being uploaded and can be sent once;
    ``head_bytes`` of it had come when the request began.
    ``refusals``: tries that a node declined at once. ``waited_s``: spent waiting for the client's
    body (not the platform's time). ``tried``: node address → when it failed (or was asked).
    ``live``: tries under way, at most two. ``only``: the one node that may be asked ("": any): the
    request is asked again to check an answer (``gateway.replays``). ``allowed_ms``: from its
    beginning to its deadline. ``began_s``: when it was first sent to a replica (0.0: not yet), and
    ``counted``: as an arrival (both are the demand's). What most requests never need has its
    default in the class.
    """

    attempts = 0
    refusals = 0
    committed = False
    over = False
    hedged = False
    hedge_at_s = 0.0
    held_from_s = 0.0
    error: IsochroneError | None = None
    error_s = 0.0
    reroute_s = -1.0
    last_data_s = 0.0
    only = ""
    allowed_ms = 0
    began_s = 0.0
    counted = False
    head_bytes = 0

    def __init__(
        self,
        *,
        number: int,
        request_id: str,
        service: RoutedService,
        caller: Caller,
        operation: str,
        headers: dict[str, str],
        body: bytes | None,
        reply: Reply,
        started_s: float,
        deadline_s: float,
        waited_s: float = 0.0,
    ) -> None:
        self.number = number
        self.request_id = request_id
        self.service = service
        self.caller = caller
        self.operation = operation
        self.headers = headers
        self.body = body
        self.reply = reply
        self.started_s = started_s
        self.deadline_s = deadline_s
        self.waited_s = waited_s
        self.live: list[Try] = []
        self.tried: dict[str, float] = {}

    def __repr__(self) -> str:
        state = "over" if self.over else "committed" if self.committed else "open"
        return f"<Flight {self.request_id} {state} attempts={self.attempts} live={len(self.live)}>"


def next_move(flight: Flight, now_s: float, attempts_max: int) -> Move:
    """What an uncommitted request does when a try has ended, or none has begun.

    ``wait``: another try is still under way. ``hold`` is for the caller to choose when ``send``
    finds no replica.
    """
    if flight.over or flight.committed or flight.live:
        return "wait"
    if now_s >= flight.deadline_s:
        return "fail"
    if flight.attempts == 0:
        return "send"
    if flight.body is None or not may_spend(flight, attempts_max):
        return "fail"
    if flight.error is not None and flight.error.retry == "never":
        return "fail"
    return "send"


def may_try(flight: Flight, node: str, now_s: float, *, others: bool) -> bool:
    """Whether a node may be tried. ``others``: nodes that were not tried yet are available."""
    failed_s = flight.tried.get(node)
    if failed_s is None:
        return True
    pause_s = min(AGAIN_MOST_S, AGAIN_S * 2.0 ** (flight.attempts - 1))
    return not others and now_s - failed_s >= pause_s


def may_spend(flight: Flight, attempts_max: int) -> bool:
    """Whether another try is allowed; those that were refused at once are free, up to a point."""
    spent = flight.attempts - flight.refusals
    return spent < attempts_max and flight.refusals < REFUSALS_MAX


def may_hedge(flight: Flight, now_s: float, attempts_max: int) -> bool:
    """Whether a second copy is due: one slow try, none before it, body kept, attempts left."""
    return (
        0.0 < flight.hedge_at_s <= now_s
        and not flight.hedged
        and not flight.committed
        and not flight.over
        and len(flight.live) == 1
        and flight.body is not None
        and may_spend(flight, attempts_max)
        and now_s < flight.deadline_s
    )


def why_failed(flight: Flight, now_s: float) -> IsochroneError:
    """The error to answer: the deadline, or the last failure, or that there is no replica."""
    if now_s >= flight.deadline_s:
        waited_ms = round((flight.deadline_s - flight.started_s) * 1000)
        last = f" The last try: {flight.error.message}" if flight.error else ""
        return Timeout(
            f"No replica answered within {waited_ms} ms.{last}",
            fix="Try again, or allow more time with the header isochrone-timeout-ms.",
        )
    error = flight.error
    if error is None:
        return no_replica(flight.service)
    if error.retry == "elsewhere" and error.status < 500:
        # A replica's "not here": the caller did nothing wrong, so it is not told a 4xx.
        fix = "Try again in a moment; `isochrone status` shows its replicas."
        return Overloaded(f"No replica took the request. {error.message}", fix=fix, code=error.code)
    return error


def no_replica(service: RoutedService) -> IsochroneError:
    """No replica can be asked now."""
    name = service.route.name
    if service.replicas and not service.legal:
        return Overloaded(
            f"No replica of {name} lies where its residency allows.",
            fix="See `isochrone explain` for why none was placed there.",
            code="no_legal_replica",
        )
    return Overloaded(
        f"No replica of {name} can be reached now.",
        fix="Try again in a moment; `isochrone status` shows its replicas.",
        code="no_replica",
    )
