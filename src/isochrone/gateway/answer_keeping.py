"""Where the request path meets the checking of answers: digests after the answer has left.

Intuition: for a service whose tenant consents, an answer leaves its leaf here
(``rules.answer_tree``) and perhaps itself, as a sample. For all other services the request path
asks one question, whether there is consent, and does nothing.

Rules: called by the dispatcher only, for tries over a node's own channel (a relayed answer is the
relaying gateway's; nothing is kept of it). Digesting begins when the answer is with the caller.
Requests and answers beyond ``CHECKED_BYTES_MAX``, uploads and answers that are not 200 leave no
leaf. A request that was asked again leaves a leaf and no sample.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from isochrone.gateway.flight import Flight
from isochrone.gateway.samples import Room, Round, Sample
from isochrone.rules.answer_tree import CHECKED_BYTES_MAX, leaf, request_digest

if TYPE_CHECKING:
    from isochrone.gateway.options import Option
    from isochrone.schema.frames import AnswerHeader

ROUNDS_MAX: Final = 1024
"""Replicas with answers that wait for a root; those beyond are not checked."""


class Keeping:
    """One answer on its way to the caller; made by ``AnswerKeeper.begin``."""

    __slots__ = ("_flight", "_hash", "_headers", "_held", "_keeper", "_last", "_option", "_pieces",
                 "_size", "_status")  # fmt: skip

    def __init__(self, keeper: AnswerKeeper, flight: Flight, option: Option) -> None:
        self._keeper = keeper
        self._flight = flight
        self._option = option
        self._hash = hashlib.sha256()
        self._last = b""
        self._size = 0
        self._status = 0
        self._headers: tuple[tuple[str, str], ...] = ()
        self._pieces: list[bytes] | None = []
        self._held = 0

    def head(self, header: AnswerHeader) -> None:
        """The answer's head came."""
        self._status, self._headers = header.status, header.headers

    def add(self, data: bytes) -> None:
        """A piece was passed on to the caller."""
        self._size += len(data)
        if self._last:
            self._hash.update(self._last)
        self._last = data
        if self._pieces is None:
            return
        if self._size <= CHECKED_BYTES_MAX and self._keeper.room.take(len(data)):
            self._held += len(data)
            self._pieces.append(data)
        else:
            self.drop()

    def drop(self) -> None:
        """It cannot be a sample, or was not completed."""
        self._pieces = None
        self._keeper.room.give_back(self._held)
        self._held = 0

    def end(self) -> None:
        """The answer is with the caller, whole."""
        pieces = self._pieces
        self.drop()
        if self._status != 200 or self._size > CHECKED_BYTES_MAX:
            return
        self._hash.update(self._last)
        whole = None if pieces is None else b"".join(pieces)
        self._keeper.keep(self._flight, self._option, self._hash.digest(), self._headers, whole)


class AnswerKeeper:
    """What replicas answered since their last roots. ``rounds``: by lease.

    ``on_arrival(flight)``: told of each request of a consenting service that is about to be sent
    (not of those asked again).
    """

    def __init__(self, chances: random.Random) -> None:
        self.room = Room()
        self.rounds: dict[str, Round] = {}
        self.on_arrival: Callable[[Flight], None] = lambda flight: None
        self._chances = chances

    def begin(self, flight: Flight, option: Option) -> Keeping | None:
        """A request of a consenting service was sent to a replica; None: nothing is kept of it."""
        body = flight.body
        if option.relay or body is None or len(body) > CHECKED_BYTES_MAX:
            return None
        return Keeping(self, flight, option)

    def keep(
        self,
        flight: Flight,
        option: Option,
        answer: bytes,
        headers: tuple[tuple[str, str], ...],
        whole: bytes | None,
    ) -> None:
        """Keep a complete answer's leaf, and itself if chance wants it."""
        body, replica = flight.body, option.replica
        if body is None or not flight.service.route.answer_checks:
            return
        current = self.rounds.get(replica.lease)
        if current is None:
            if len(self.rounds) >= ROUNDS_MAX:
                return
            current = Round(replica.node, flight.service.id, self.room, self._chances)
            self.rounds[replica.lease] = current
        request = request_digest(flight.operation, flight.headers, body)
        sample = None
        if not flight.only and whole is not None and current.wants():
            sample = Sample(
                service=flight.service.id,
                lease=replica.lease,
                node=replica.node,
                provider=replica.provider,
                operation=flight.operation,
                headers=flight.headers,
                body=body,
                answer_headers={name.lower(): value for name, value in headers},
                answer=whole,
                request_digest=request,
                answer_digest=answer,
                caller=flight.caller,
                allowed_ms=flight.allowed_ms,
                seen=frozenset(flight.tried),
            )
        current.add(leaf(request, answer), sample)

    def take(self, lease: str) -> Round:
        """The round of a replica, which begins anew."""
        return self.rounds.pop(lease)

    def forget(self, node: str) -> None:
        """A node's channel is another one: what went over the old one is not asked for."""
        for lease in [lease for lease, held in self.rounds.items() if held.node == node]:
            self.rounds.pop(lease).clear()
