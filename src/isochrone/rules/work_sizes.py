"""How big a seeded work is, how fast it must be done, and what classes of speed there are.

Intuition: memory claimed fixes how many entries the product has, speed claimed fixes the deadline.
Classes are half octaves: class c begins at 2^(c/2) MFLOP/s, so neighbours lie a factor of √2 apart.
A work's deadline for a class is the time that the slowest member needs; every member of the next
weaker class is slower than that by definition, so it misses. A node claims a class or more below
what it measured of itself (``claimed_mflops``), so an honest one has at least a factor of √2 to
spare.

*Recall.* Showing the rows again is reading memory; making the missing half again is half of the
arithmetic. The recall's deadline is a fifth of the work's. What an honest node needs for it is one
core's 0.45 ns an entry, against 5.9 ns that a class of 70 GFLOP/s at width 1024 is given: thirteen
times as long. In other words the least bandwidth is 5 × claimed MFLOP/s ÷ width MB/s, 342 MB/s
there. Half of the product cannot be made again in that time by a device less than 2.5 times as fast
as its claim (``HIDEABLE``).

Cheapest lie caught: twice the memory on a device of the class that it claims. Cheapest missed: a
device at least 2.5 times as fast as its claim that makes half of the rows anew (it forgoes three
classes of pay), and memory that is really a disk read faster than the least bandwidth. What the
rows filled is all that is ever proven, however much is claimed beyond.

Rules of this file: whole numbers; MFLOP/s are multiply-adds × 2 a microsecond of the whole work
(making the matrices, multiplying, digesting); microseconds; MiB.
"""

from __future__ import annotations

from math import isqrt

import msgspec

from isochrone.rules.seeded_work import ENTRY_BYTES, GROUP, SEED_BYTES, WIDTHS

ROWS_MIN = 32_768
"""Fewer, and checking costs more than a hundredth of doing: O(width²) against rows times that."""

ROWS_MAX = 1 << 25
"""256 GiB at the widest: no device of today has more, and a tree over it still takes seconds."""

MEMORY_MIB_MIN = ROWS_MIN * WIDTHS[0] * ENTRY_BYTES >> 20
"""The smallest work there is."""

WORK_US_MAX = 8_000_000
"""At the class claimed. Three works an hour are 0.7 % of a node's time."""

CLASS_MAX = 64
"""2^32 MFLOP/s; beyond any device."""

CLAIM_STEPS = 1
"""Classes that an honest node claims below what it measured: a factor of √2 to 2 for neighbours and
clocks, and repetition (the best of several counts) for what passes."""

RECALL_SHARE = 5
"""The recall's deadline is one part in so many of the work's."""

HIDEABLE = RECALL_SHARE / 2
"""A device so many times as fast as its claim makes half of the rows anew within the recall."""

ROUND_TRIP_US_MAX = 300_000
"""More of a round trip is not allowed for: a node that delays its pings gains at most so much."""


class WorkSize(msgspec.Struct, frozen=True):
    """A product of ``rows`` × ``width`` entries."""

    rows: int
    width: int

    @property
    def flops(self) -> int:
        """Multiplications and additions."""
        return 2 * self.rows * self.width * self.width

    @property
    def memory_mib(self) -> int:
        """What the kept rows fill, rounded down."""
        return self.rows * self.width * ENTRY_BYTES >> 20


def class_of(mflops: int) -> int:
    """The class that a speed lies in; 0 for less than 1 MFLOP/s too.

    >>> [class_of(mflops) for mflops in (0, 1, 2, 3, 4, 100_000)]
    [0, 0, 2, 3, 4, 33]
    """
    return min(CLASS_MAX, max(0, (mflops * mflops).bit_length() - 1))


def floor_mflops(device_class: int) -> int:
    """The slowest whole MFLOP/s of a class.

    >>> [floor_mflops(c) for c in (0, 2, 3, 33)]
    [1, 2, 3, 92682]
    """
    return isqrt((1 << max(0, min(CLASS_MAX, device_class))) - 1) + 1


def claimed_mflops(measured_mflops: int) -> int:
    """What an honest node claims after measuring itself: the floor of a class below its own."""
    if measured_mflops < 1:
        return 0
    return floor_mflops(class_of(measured_mflops) - CLAIM_STEPS)


def work_for(memory_mib: int, mflops: int) -> WorkSize | None:
    """The work for a claimed memory and class; None where either claims too little to be shown.

    The widest product whose rows fill the memory within ``WORK_US_MAX`` at ``mflops``; where the
    memory is too big for that, as many of the narrowest rows as the time allows (what they fill is
    what is proven).

    >>> for memory_mib in (64, 512, 1 << 14):
    ...     print(work_for(memory_mib, 70_000))
    WorkSize(rows=32768, width=1024)
    WorkSize(rows=262144, width=1024)
    WorkSize(rows=1068096, width=512)
    >>> work_for(16, 70_000) is None
    True
    """
    if memory_mib < MEMORY_MIB_MIN or mflops < 1:
        return None
    for width in reversed(WIDTHS):
        size = WorkSize(_rows(memory_mib, width), width)
        if size.rows >= ROWS_MIN and size.flops <= mflops * WORK_US_MAX:
            return size
    width = WIDTHS[0]
    rows = mflops * WORK_US_MAX // (2 * width * width)
    return WorkSize(min(_rows(memory_mib, width), max(ROWS_MIN, rows // GROUP * GROUP)), width)


def _rows(memory_mib: int, width: int) -> int:
    rows = (memory_mib << 20) // (ENTRY_BYTES * width) // GROUP * GROUP
    return min(rows, ROWS_MAX)


def deadline_us(size: WorkSize, mflops: int) -> int:
    """From order to commitment for a claimed speed, without the round trip."""
    return -(-size.flops // max(1, mflops))


def recall_deadline_us(size: WorkSize, mflops: int) -> int:
    """From the nonce to the second root, without the round trip."""
    return deadline_us(size, mflops) // RECALL_SHARE


def net_us(gross_us: int, rtt_us: int) -> int:
    """A measured time less one round trip, of which at most ``ROUND_TRIP_US_MAX`` counts."""
    return max(1, gross_us - max(0, min(rtt_us, ROUND_TRIP_US_MAX)))


def mflops_of(size: WorkSize, elapsed_us: int) -> int:
    """The speed that a work showed."""
    return size.flops // max(1, elapsed_us)


def absurdity(work: bytes, size: WorkSize, memory_mib_max: int) -> str:
    """Why a node refuses an order, in a word; empty: it makes sense and fits.

    ``absurd``: no validator that follows these rules asks for it. ``too_large``: more than the
    node lets works fill.
    """
    shaped = size.width in WIDTHS and ROWS_MIN <= size.rows <= ROWS_MAX and size.rows % GROUP == 0
    if not shaped or len(work) != SEED_BYTES:
        return "absurd"
    return "too_large" if size.rows * size.width * ENTRY_BYTES > memory_mib_max << 20 else ""
