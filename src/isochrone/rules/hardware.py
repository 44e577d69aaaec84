"""What a node's hardware is, by the works that it did: a class and its spread, not a yes.

Intuition: a machine is as fast as it shows, by wall clock, under whatever its neighbours do. Each
work gives a speed, whether the rows were still there when asked again, and whether the opened ones
were right. Noise only ever makes a machine slower, so against a node the *best* of several works
counts: three works, all below the claimed class, are no bad luck. Rows are different: a right row
cannot become wrong by noise, so one wrong row is enough, and it can be shown to anybody.

*Lending.* Every validator takes the same moments from the public seed of a watch, and at a moment
every node of the zone is asked at once, whichever class it claims and whoever owns it. A card that
stands behind k nodes then has k works to do in one deadline, is k times as slow, and at k = 2
already two classes weaker than one. The zone is the world by default: a card cannot be lent from
metro to metro either. What lending costs then is a device of the class for each node at each
moment, for instance rented for the moment alone. Against that a validator also measures at moments
of its own secret (``rules.watching``): who has the device for a share q of the time passes one
such work with chance q, ten with q^10. (A machine that really runs many nodes, as a laboratory
does, is one device sold many times: its nodes must claim a share each, or nothing.)

Cheapest lies caught: a class above one's own; one card behind two nodes; rows left out (64 are
opened: a twentieth left out is found with 96 % a work, a tenth with 99.9 %); twice the memory.
Cheapest missed: a card in another building that answers through the node's key, at the price of a
round trip: that *this very card* did it cannot be proven from outside. A node that declines or
falls silent when a work would go wrong is ``unknown``, not failed; it stays unmeasured.

Rules of this file: pure; the attestations' signatures have been checked by whoever passes them in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec

from isochrone.rules.seeded_work import SEED_BYTES
from isochrone.rules.work_sizes import (
    WorkSize,
    class_of,
    recall_deadline_us,
)
from isochrone.schema.proof import Finding
from isochrone.schema.work import WorkAttestation, WorkClaim

ROWS_OPENED = 64
"""At least twenty; see the module's text for what these find."""

WORKS_TO_FAIL = 3
"""So many works must all fall short before speed or memory count against a node."""

WORLD = "world"
"""The zone of moments: every node there is."""


class VerifiedClass(msgspec.Struct, frozen=True, kw_only=True):
    """What works have shown: the class of the median, and how it varies.

    ``mflops_p10``, ``_p50``, ``_p90``: over the works; p10 far below p90 shows a noisy neighbour.
    ``memory_mib``: the most that was kept and recalled in time. ``works``: how many count.
    """

    device_class: int
    mflops_p10: int
    mflops_p50: int
    mflops_p90: int
    memory_mib: int
    works: int


# --- chances -------------------------------------------------------------------------------------


def work_seed(chance: bytes) -> bytes:
    """The seed of a work from the validator's 32 bytes of chance for it."""
    return _derived("seed", chance)


def recall_nonce(chance: bytes) -> bytes:
    """The nonce of its recall."""
    return _derived("nonce", chance)


def _derived(purpose: str, chance: bytes) -> bytes:
    return hashlib.sha256(f"isochrone work {purpose}\n".encode() + chance).digest()[:SEED_BYTES]


def drawn_rows(chance: bytes, rows: int, number: int = ROWS_OPENED) -> tuple[int, ...]:
    """The rows to open, without repetition, sorted: known to nobody before ``chance`` is told.

    >>> drawn_rows(b"chance", 8, 4)
    (0, 3, 5, 6)
    """
    found: set[int] = set()
    draw = 0
    while len(found) < min(number, rows):
        told = hashlib.sha256(b"isochrone work rows\n" + chance + draw.to_bytes(8, "big")).digest()
        found.add(int.from_bytes(told[:16], "big") % rows)
        draw += 1
    return tuple(sorted(found))


def moments(
    seed: str, start_unix_ms: int, end_unix_ms: int, number: int = 1, zone: str = WORLD
) -> tuple[int, ...]:
    """The common moments of a watch: one in each of ``number`` equal parts of the given time.

    ``seed``: of the watch, public once it begins. Every validator comes to the same milliseconds.
    """
    told = hashlib.sha256(f"isochrone work moments\n{seed}\n{zone}".encode()).digest()
    part_ms = max(1, (end_unix_ms - start_unix_ms) // number)
    offset_ms = int.from_bytes(told[:16], "big") % part_ms
    return tuple(start_unix_ms + index * part_ms + offset_ms for index in range(number))


# --- judging -------------------------------------------------------------------------------------


def recalled_in_time(work: WorkAttestation, claim: WorkClaim) -> bool:
    """Whether the rows were there when they were asked for again."""
    size = WorkSize(work.rows, work.width)
    return work.recalled_us <= recall_deadline_us(size, claim.mflops)


def kept_by_its_own_speed(work: WorkAttestation) -> bool:
    """The same for who knows no claim: in time for a device as fast as the work showed."""
    return recalled_in_time(work, WorkClaim(memory_mib=0, mflops=work.mflops))


def reaches(work: WorkAttestation, claim: WorkClaim) -> bool:
    """Whether it was done within the deadline of the class claimed."""
    return class_of(work.mflops) >= class_of(claim.mflops)


def again(works: Sequence[WorkAttestation], claim: WorkClaim) -> bool:
    """Whether another work would tell more: nothing is known yet, or it may have been bad luck."""
    if any(not work.right for work in works):
        return False
    return finding(works, claim).verdict == "unknown" and len(works) < WORKS_TO_FAIL


def finding(works: Sequence[WorkAttestation], claim: WorkClaim | None) -> Finding:
    """One validator's verdict by its own works of a watch. ``claim``: as the node signed it.

    ``failed``: an opened row was wrong, or in at least ``WORKS_TO_FAIL`` works not one reached the
    claimed class, or not one was recalled in time. ``unknown``: no work or no claim, or too few
    works that fall short.
    """
    if claim is None or claim.mflops < 1 or not works:
        return _found("unknown", "no work" if claim else "no claim")
    wrong = sum(not work.right for work in works)
    if wrong:
        return _found("failed", f"rows were wrong in {wrong} of {len(works)} works")
    best = max(work.mflops for work in works)
    if not any(reaches(work, claim) for work in works):
        return _short(len(works), f"{best} MFLOP/s at best, {claim.mflops} claimed")
    if not any(recalled_in_time(work, claim) for work in works):
        fastest_us = min(work.recalled_us for work in works)
        return _short(len(works), f"rows came again after {fastest_us} us at best")
    shown = verified_class(works, claim)
    assert shown is not None
    spread = f"{shown.mflops_p10}/{shown.mflops_p50}/{shown.mflops_p90} MFLOP/s (p10/p50/p90)"
    return _found("ok", f"class {shown.device_class}, {spread}, {shown.memory_mib} MiB")


def _short(works: int, note: str) -> Finding:
    return _found("failed" if works >= WORKS_TO_FAIL else "unknown", f"{note}, {works} works")


def _found(verdict: str, note: str) -> Finding:
    return msgspec.convert({"kind": "hardware", "verdict": verdict, "note": note}, Finding)


def verified_class(
    works: Sequence[WorkAttestation], claim: WorkClaim | None = None
) -> VerifiedClass | None:
    """What works of any validators show together; None when none was right.

    ``claim`` tells which recalls were in time; without one each work's own speed does.
    """
    right = [work for work in works if work.right]
    if not right:
        return None
    speeds = sorted(work.mflops for work in right)
    kept = [
        work.memory_mib
        for work in right
        if (recalled_in_time(work, claim) if claim else kept_by_its_own_speed(work))
    ]
    low, middle, high = (_quantile(speeds, percent) for percent in (10, 50, 90))
    return VerifiedClass(
        device_class=class_of(middle),
        mflops_p10=low,
        mflops_p50=middle,
        mflops_p90=high,
        memory_mib=max(kept, default=0),
        works=len(right),
    )


def _quantile(ordered: Sequence[int], percent: int) -> int:
    """The nearest rank, so that it is a speed that was really shown."""
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]
