"""One burst from the vantage's side: a thread, a blocking socket, and two clocks that disagree.

Intuition: every microsecond that this process itself adds makes the subject look 150 m farther, so
nothing of the event loop may stand between sending and arrival. A thread writes a nonce and waits
in ``recvmsg``; where the kernel stamps arrivals (Linux: SO_TIMESTAMPNS, which TCP knows too), its
stamp counts, else the moment at which the thread runs again.

Rules: **a round trip is never under-estimated.** Longer is farther, and farther is safe.

- A nonce is drawn just before it is sent, and only when nothing waits to be read: an answer that
  came early, or more than was asked for, voids the burst.
- One nonce is under way at a time, and the arrival of its *last* byte counts, so nothing can be
  gained by sending the first bytes before they are known.
- The kernel's stamp is wall clock, and wall clocks step. It counts only if it lies before the
  monotonic figure, at most ``STAMP_LAG_MAX_NS`` before it, and if both clocks ran alike meanwhile;
  what they differed by is added. Otherwise the clock that saw more time is believed (the monotonic
  one stands still while a machine sleeps, the wall clock may be set back).
- Whether an answer is right is known only when the secret is opened (``probing.check_transcript``).

What it misses: a hypervisor that stops *all* clocks of the vantage's machine while an answer is on
its way (a live migration, a snapshot). Nobody outside can cause one; a vantage that migrates must
not attest meanwhile. A clock that runs fast or slow by 500 ppm, the most that time daemons slew,
errs by half a metre in a kilometre.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
import time
from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec

from isochrone.schema.errors import IsochroneError, TheirFault, Timeout
from isochrone.wire.probing import ANSWER_BYTES, NONCE_BYTES, Sample

STAMP_LAG_MAX_NS: Final = 5_000_000
"""The thread runs this much after the arrival at most (an interpreter's switch interval): a stamp
that is older than that is doubted."""

CLOCKS_APART_MAX_NS: Final = 50_000
"""Wall and monotonic clock may drift by so much within a probe: 7.5 km of it, and it is added."""

_SO_TIMESTAMPNS: Final = 35
"""Linux' number on every architecture that runs this (Python has no name for it)."""

_TIMESPEC: Final = struct.Struct("@ll")


class Clocks(msgspec.Struct, frozen=True):
    """Nanoseconds by the wall clock, which stamps are of, and by the monotonic one."""

    wall_ns: Callable[[], int] = time.time_ns
    monotonic_ns: Callable[[], int] = time.monotonic_ns


SYSTEM: Final = Clocks()


class Instant(NamedTuple):
    """One moment by both clocks."""

    wall_ns: int
    monotonic_ns: int


def round_trip_ns(sent: Instant, got: Instant, stamp_ns: int) -> tuple[int, bool]:
    """How long it took, and whether the kernel's stamp (wall clock, 0: none) was believed.

    >>> round_trip_ns(Instant(1_000, 0), Instant(901_000, 900_000), 401_000)
    (400000, True)

    Nothing is believed of a clock that was set back by a second meanwhile:

    >>> round_trip_ns(Instant(2_000_000_000, 0), Instant(1_000_900_000, 900_000), 1_000_400_000)
    (900000, False)
    """
    wall_ns = got.wall_ns - sent.wall_ns
    monotonic_ns = got.monotonic_ns - sent.monotonic_ns
    apart_ns = abs(wall_ns - monotonic_ns)
    if stamp_ns and apart_ns <= CLOCKS_APART_MAX_NS:
        stamped_ns = stamp_ns - sent.wall_ns + apart_ns
        if 0 < stamped_ns <= monotonic_ns <= stamped_ns + STAMP_LAG_MAX_NS:
            return stamped_ns, True
    return max(wall_ns, monotonic_ns), False


def stamp_arrivals(line: socket.socket) -> bool:
    """Ask the kernel to stamp what arrives; whether it will."""
    if sys.platform != "linux":
        return False
    try:
        line.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    except OSError:
        return False
    return True


def make_blocking(line: socket.socket, timeout_s: float) -> None:
    """Plain blocking calls that give up after ``timeout_s``: no poll before each of them."""
    line.setblocking(True)
    limit = _TIMESPEC.pack(int(timeout_s), int(timeout_s % 1 * 1e6))
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
    line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def probe_all(
    line: socket.socket, probes: int, budget_s: float, clocks: Clocks = SYSTEM
) -> tuple[Sample, ...]:
    """Send nonce after nonce on a connection that has greeted; blocks ``2 * budget_s`` at most.

    One sample at least, ``probes`` at most: fewer when the budget is spent. The caller closes the
    line. Raises TheirFault (``early_answer``, ``burst_broken``) or Timeout; then nothing counts.
    """
    stamped = stamp_arrivals(line)
    make_blocking(line, budget_s)
    until_ns = time.monotonic_ns() + int(budget_s * 1e9)
    samples: list[Sample] = []
    try:
        while len(samples) < probes and (not samples or time.monotonic_ns() < until_ns):
            samples.append(_probe(line, clocks, stamped, until_ns))
    except BlockingIOError:
        raise Timeout("A probe was not answered in time.", code="probe_timeout") from None
    except OSError as error:
        raise _broken(str(error)) from None
    return tuple(samples)


def _probe(line: socket.socket, clocks: Clocks, stamped: bool, until_ns: int) -> Sample:
    _nothing_waits(line)
    nonce = os.urandom(NONCE_BYTES)
    sent = Instant(clocks.wall_ns(), clocks.monotonic_ns())
    if line.send(nonce) != NONCE_BYTES:
        raise _broken("a nonce did not leave whole")
    answered, stamp_ns = _receive(line, until_ns)
    monotonic_ns = clocks.monotonic_ns()
    got = Instant(clocks.wall_ns(), monotonic_ns)
    rtt_ns, kernel = round_trip_ns(sent, got, stamp_ns if stamped else 0)
    return Sample(nonce, answered, rtt_ns, kernel)


def _nothing_waits(line: socket.socket) -> None:
    try:
        early = line.recv(1, socket.MSG_DONTWAIT)
    except BlockingIOError:
        return
    if not early:
        raise _broken("the subject hung up")
    raise TheirFault("Bytes came before they were asked for.", code="early_answer")


def _receive(line: socket.socket, until_ns: int) -> tuple[bytes, int]:
    """An answer whole, and the kernel's stamp of its last piece (0: none)."""
    answered, stamp_ns = b"", 0
    while len(answered) < ANSWER_BYTES:
        if answered and time.monotonic_ns() > until_ns:
            raise Timeout("An answer came in drops.", code="probe_timeout")
        piece, notes, _, _ = line.recvmsg(ANSWER_BYTES - len(answered), 64)
        if not piece:
            raise _broken("the subject hung up")
        answered += piece
        stamp_ns = _stamp(notes)
    return answered, stamp_ns


def _stamp(notes: list[tuple[int, int, bytes]]) -> int:
    for level, kind, data in notes:
        if (level, kind, len(data)) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS, _TIMESPEC.size):
            seconds, nanoseconds = _TIMESPEC.unpack(data)
            return int(seconds) * 1_000_000_000 + int(nanoseconds)
    return 0


def _broken(why: str) -> IsochroneError:
    return TheirFault(f"The burst's connection broke: {why}.", code="burst_broken")
