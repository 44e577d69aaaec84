"""The subject's side of bursts: commits, dials, answers nonces in a thread, signs what it saw.

Intuition: what this code adds to a round trip counts as distance, 150 m a microsecond. So a burst
has a thread of its own that does nothing but receive, digest and send, outside the event loop; all
else (commitment, transcript) comes before and after.

Rules: pure but for the dialled connection, the system's randomness and ``unix_ms``. Whoever calls
has made sure that the vantage may order a burst of us. ``BURSTS_MAX`` at once; beyond
that an order is declined (an empty commitment). Of one vantage the newest
``BURSTS_PER_VANTAGE_MAX`` count: it may have given up an older one without a word.
Where a burst dials is the vantage's word: nothing is sent there but digests (``probing.greeting``).
Looking a name up cannot be given up, so a vantage holds one thread by that at most.
A secret keys one burst and is gone after it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import socket
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final

from isochrone.schema.documents import pack, seal
from isochrone.schema.identity import PrivateKey
from isochrone.schema.probing import (
    PROBE_TRANSCRIPT,
    ProbeCommitted,
    ProbeEnd,
    ProbeOrder,
    ProbeSigned,
    Transcript,
)
from isochrone.wire.probing import (
    ANSWER_BYTES,
    BURST_BYTES,
    BURST_S,
    DIAL_S,
    NONCE_BYTES,
    PROBES_MAX,
    SECRET_BYTES,
    commitment_of,
    greeting,
)
from isochrone.wire.probing_burst import make_blocking

BURSTS_MAX: Final = 16
"""Under way: a node has so many watchers at most, and some gateways."""

BURSTS_PER_VANTAGE_MAX: Final = 2

BURST_LIFE_S: Final = 3 * (DIAL_S + BURST_S)
"""A burst that nobody ended is forgotten after this."""

ENDING_S: Final = 2.0
"""From the vantage's last word to the end of the plain connection, which it closed before."""

DialAddress = Callable[[str, int], tuple[str, int]]
"""Announced host and port → where they are dialled from here (the resolve map)."""


def unix_ms_now() -> int:
    """The clock of transcripts."""
    return time.time_ns() // 1_000_000


class Seen:
    """What a thread has answered so far: how many probes, and SHA-256 over all of it."""

    __slots__ = ("digest", "probes")

    def __init__(self) -> None:
        self.probes = 0
        self.digest = hashlib.sha256()


class _Burst:
    """One burst: its secret, and what was seen of it."""

    def __init__(self, vantage: str, order: ProbeOrder, now_s: float) -> None:
        self.vantage = vantage
        self.order = order
        self.until_s = now_s + BURST_LIFE_S
        self.secret = os.urandom(SECRET_BYTES)
        self.seen = Seen()
        self.line: socket.socket | None = None
        self.over: Future[None] | None = None
        self.given_up = False


class Prover:
    """Answers bursts for ``key``. ``counters``: orders by outcome."""

    def __init__(
        self,
        key: PrivateKey,
        dial_address: DialAddress,
        unix_ms: Callable[[], int] = unix_ms_now,
    ) -> None:
        self.counters: Counter[str] = Counter()
        self._key = key
        self._dial_address = dial_address
        self._unix_ms = unix_ms
        self._bursts: dict[tuple[str, bytes], _Burst] = {}
        self._threads = ThreadPoolExecutor(BURSTS_MAX, "answers")
        self._looking_up: dict[str, _Burst] = {}
        self._closed = False

    async def answer(
        self, vantage: str, message: ProbeOrder | ProbeEnd
    ) -> ProbeCommitted | ProbeSigned:
        """What to say to a vantage that may ask; never raises for anything it said."""
        if isinstance(message, ProbeOrder):
            return self.ordered(vantage, message)
        return await self.ended(vantage, message)

    def ordered(self, vantage: str, order: ProbeOrder) -> ProbeCommitted:
        """Commit to a secret and begin to dial; an empty commitment declines."""
        self._forget_old(vantage, time.monotonic())
        if not self._may_begin(vantage, order):
            self.counters["declined"] += 1
            return ProbeCommitted(burst=order.burst[:BURST_BYTES], commitment=b"")
        burst = _Burst(vantage, order, time.monotonic())
        self._bursts[vantage, order.burst] = burst
        burst.over = self._threads.submit(self._dial_and_answer, burst)
        self.counters["begun"] += 1
        return ProbeCommitted(burst=order.burst, commitment=commitment_of(burst.secret))

    async def ended(self, vantage: str, end: ProbeEnd) -> ProbeSigned:
        """Sign what was seen of a burst; an empty transcript when nothing was."""
        burst = self._bursts.pop((vantage, end.burst), None)
        if burst is None or burst.over is None:
            return ProbeSigned(burst=end.burst[:BURST_BYTES], transcript=b"")
        over = asyncio.wrap_future(burst.over)
        over.add_done_callback(_ignore)  # a broken line is no reason not to sign what was
        await asyncio.wait([over], timeout=ENDING_S)
        if not burst.over.done() or not burst.seen.probes:
            _give_up(burst)
            self.counters["unseen"] += 1
            return ProbeSigned(burst=end.burst, transcript=b"")
        self.counters["signed"] += 1
        return ProbeSigned(burst=end.burst, transcript=self._transcript(burst))

    async def close(self) -> None:
        """Hang up everywhere and wait for the threads."""
        self._closed = True
        for burst in self._bursts.values():
            _give_up(burst)
        self._bursts.clear()
        await asyncio.to_thread(self._threads.shutdown)

    def _may_begin(self, vantage: str, order: ProbeOrder) -> bool:
        return (
            not self._closed
            and len(order.burst) == BURST_BYTES
            and 0 < order.probes <= PROBES_MAX
            and 0 < order.port < 65536
            and 0 < len(order.host) <= 253
            and (vantage, order.burst) not in self._bursts
            and len(self._bursts) < BURSTS_MAX
        )

    def _forget_old(self, vantage: str, now_s: float) -> None:
        """Room for an order of ``vantage``: what is too old goes, and what it has too many of."""
        own = [name for name in self._bursts if name[0] == vantage]
        surplus = own[: max(0, len(own) + 1 - BURSTS_PER_VANTAGE_MAX)]
        for name, burst in list(self._bursts.items()):
            if burst.until_s < now_s or name in surplus:
                _give_up(self._bursts.pop(name))

    def _transcript(self, burst: _Burst) -> bytes:
        said = Transcript(
            vantage=burst.vantage,
            burst=burst.order.burst.hex(),
            commitment=commitment_of(burst.secret).hex(),
            secret=burst.secret.hex(),
            probes=burst.seen.probes,
            digest=burst.seen.digest.hexdigest(),
            at_unix_ms=self._unix_ms(),
        )
        return pack(seal(PROBE_TRANSCRIPT, said, self._key))

    def _dial_and_answer(self, burst: _Burst) -> None:
        """In a thread: the whole plain connection."""
        family, target = self._look_up(burst)
        with socket.socket(family, socket.SOCK_STREAM) as line:
            burst.line = line  # before it is connected: giving up must not wait for a connect
            line.settimeout(DIAL_S)
            if burst.given_up:
                return
            line.connect(target)
            make_blocking(line, BURST_S)
            line.sendall(greeting(burst.order.burst))
            answer_all(line, burst.secret, burst.order.probes, burst.seen)

    def _look_up(self, burst: _Burst) -> tuple[int, tuple[Any, ...]]:
        """Family and address of where a burst is dialled; blocking. Raises OSError."""
        host, port = self._dial_address(burst.order.host, burst.order.port)
        with contextlib.suppress(socket.gaierror):  # no number
            return _first(host, port, socket.AI_NUMERICHOST)
        if self._looking_up.setdefault(burst.vantage, burst) is not burst:
            raise OSError("Another name of this vantage is being looked up.")
        try:
            return _first(host, port, 0)
        finally:
            del self._looking_up[burst.vantage]


def _first(host: str, port: int, flags: int) -> tuple[int, tuple[Any, ...]]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)[0]
    return found[0], found[4]


def answer_all(line: socket.socket, secret: bytes, probes: int, seen: Seen) -> None:
    """Answer up to ``probes`` nonces, until the vantage closes or falls silent; blocking.

    Nothing stands between receiving and sending but one digest, whose key is set up before.
    """
    keyed = hashlib.blake2b(digest_size=ANSWER_BYTES, key=secret)
    until_s = time.monotonic() + 2 * BURST_S
    while seen.probes < probes and time.monotonic() < until_s:
        nonce = line.recv(NONCE_BYTES, socket.MSG_WAITALL)
        if len(nonce) < NONCE_BYTES:
            return
        digest = keyed.copy()
        digest.update(nonce)
        answered = digest.digest()
        line.send(answered)
        seen.digest.update(nonce + answered)
        seen.probes += 1


def _ignore(over: asyncio.Future[None]) -> None:
    """Its error is known by what was answered."""
    if not over.cancelled():
        over.exception()


def _give_up(burst: _Burst) -> None:
    burst.given_up = True
    if burst.over is not None:
        burst.over.cancel()
    if burst.line is not None:
        with contextlib.suppress(OSError):
            burst.line.shutdown(socket.SHUT_RDWR)
