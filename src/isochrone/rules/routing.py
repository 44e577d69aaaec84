"""Routing: in which order a gateway tries the replicas of one request.

Intuition: expected time = round trip + waiting behind what is already there + service. Among
replicas that are about equally good a random choice of two, the less loaded first, avoids herding
(power of two choices, Mitzenmacher 2001; hot and cold as in Prequal, NSDI'24). The second try, a
retry or a hedge, goes to another node, and to another provider where that is not much farther.
Replicas that are suspect come last, illegal ones never.

Rules of this file: the residency mask has been applied before (``legal``) and is applied again
here; the order is a function of its arguments only (the seed makes the chance). What it does not
do: decide who is alive (``rules.health``), send, or wait.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

SHORTLIST_RATIO = 1.2
"""Replicas within 20 % of the best score count as equal: less than the day's noise of a path.
Smaller herds onto one replica; larger sends people farther than needed."""

SHORTLIST_MS = 1.0
"""And within 1 ms: below that, distance is not felt."""

STRANGER_RATIO = 1.5
STRANGER_MS = 20.0
"""Another provider's replica is worth that much more time than the next best one as second try:
providers fail whole, but a second try over an ocean is slower than most failures."""

HEDGE_MIN_MS = 50.0
"""A second copy never earlier: a shorter wait doubles the load whenever the machine hiccups."""

HEDGE_MAX_MS = 800.0
"""Nor later than this: with 2.5 s to answer, two more tries must still fit."""

HEDGE_DEVIATIONS = 4.0
"""Mean + 4 mean deviations lies above p95 for the long-tailed times that servers show."""

HEDGE_SLACK = 1.5
"""Round trips and queues are estimates: half as much again is still no sign of trouble."""


class RouteCandidate(msgspec.Struct, frozen=True, kw_only=True):
    """A replica as the gateway sees it at this moment.

    ``rtt_ms``: round trip to it (through a relay: both hops). ``service_ms``: smoothed time at the
    node without waiting; ``deviation_ms``: mean deviation of its answers. ``suspect``: silent or
    ejected, to be used only when nothing else is left.
    """

    lease: str
    node: str
    provider: str
    legal: bool
    rtt_ms: float
    in_flight: int
    concurrency: int
    service_ms: float
    deviation_ms: float = 0.0
    suspect: bool = False


def queue_ms(candidate: RouteCandidate) -> float:
    """Expected wait behind the requests that are there, milliseconds."""
    return candidate.in_flight / max(1, candidate.concurrency) * candidate.service_ms


def score_ms(candidate: RouteCandidate) -> float:
    """Expected time to the answer: round trip + queue + service, milliseconds."""
    return candidate.rtt_ms + queue_ms(candidate) + candidate.service_ms


def rank(candidates: Sequence[RouteCandidate], seed: int) -> list[int]:
    """Indices of the legal candidates in the order in which to try them.

    ``seed``: any integer that differs from request to request. First comes the less loaded of two
    picked from the shortlist, second another node (see ``STRANGER_RATIO``), then the rest by
    score, last the suspects by score.
    """
    usable: list[tuple[float, int]] = []
    suspects: list[tuple[float, int]] = []
    for index, candidate in enumerate(candidates):
        if candidate.legal:
            (suspects if candidate.suspect else usable).append((score_ms(candidate), index))
    usable.sort()
    suspects.sort()
    if len(usable) > 1:
        _choose_first(usable, candidates, seed)
        _spread_second(usable, candidates)
    return [index for _, index in (*usable, *suspects)]


def _choose_first(
    usable: list[tuple[float, int]], candidates: Sequence[RouteCandidate], seed: int
) -> None:
    limit_ms = usable[0][0] * SHORTLIST_RATIO + SHORTLIST_MS
    short = 1
    while short < len(usable) and usable[short][0] <= limit_ms:
        short += 1
    if short < 2:
        return
    mixed = _mix(seed)
    chosen = (mixed & 0xFFFFFFFF) % short
    other = (chosen + 1 + (mixed >> 32) % (short - 1)) % short
    if queue_ms(candidates[usable[other][1]]) < queue_ms(candidates[usable[chosen][1]]):
        chosen = other
    usable.insert(0, usable.pop(chosen))


def _mix(seed: int) -> int:
    """64 bits in which every bit of the seed counts (the finaliser of SplitMix64)."""
    mixed = (seed + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return mixed ^ (mixed >> 31)


def _spread_second(usable: list[tuple[float, int]], candidates: Sequence[RouteCandidate]) -> None:
    """Put the best replica on another node second; prefer one of another provider."""
    first = candidates[usable[0][1]]
    best: int | None = None
    for position in range(1, len(usable)):
        candidate = candidates[usable[position][1]]
        if candidate.node == first.node:
            continue
        if best is None:
            best = position
        if usable[position][0] > usable[best][0] * STRANGER_RATIO + STRANGER_MS:
            break
        if candidate.provider != first.provider:
            best = position
            break
    if best is not None:
        usable.insert(1, usable.pop(best))


def hedge_after_ms(candidate: RouteCandidate) -> float:
    """How long to wait for the first byte before a second copy goes elsewhere.

    From the replica's own times (The Tail at Scale, CACM 2013: hedge after the expected high
    percentile), held between ``HEDGE_MIN_MS`` and ``HEDGE_MAX_MS``.
    """
    expected_ms = score_ms(candidate) + HEDGE_DEVIATIONS * candidate.deviation_ms
    return min(HEDGE_MAX_MS, max(HEDGE_MIN_MS, HEDGE_SLACK * expected_ms))
