"""Routing: in which order a gateway tries the replicas of one request.

Intuition: expected time = round trip + waiting behind what is already there + service. Among
replicas that are about equally good a random choice of two, the less loaded first, avoids herding
(power of two choices, Mitzenmacher 2001; hot and cold as in Prequal, NSDI'24). Replicas that are
suspect come last, illegal ones never.

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

HEDGE_MIN_MS = 50.0
"""A second copy never earlier: a shorter wait doubles the load whenever the machine hiccups."""

HEDGE_MAX_MS = 800.0
"""Nor later than this: with 2.5 s to answer, two more tries must still fit."""

HEDGE_DEVIATIONS = 4.0
"""Mean + 4 mean deviations lies above p95 for the long-tailed times that servers show."""


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


def score_ms(candidate: RouteCandidate) -> float:
    """Expected time to the answer: round trip + queue + service, milliseconds."""
    queue = candidate.in_flight / max(1, candidate.concurrency) * candidate.service_ms
    return candidate.rtt_ms + queue + candidate.service_ms


def rank(candidates: Sequence[RouteCandidate], seed: int) -> list[int]:
    """Indices of the legal candidates in the order in which to try them.

    ``seed``: any integer that differs from request to request. First comes the better of two
    picked from the shortlist, then the rest by score with other nodes and other providers first,
    last the suspects.
    """
    usable: list[tuple[float, int]] = []
    suspects: list[tuple[float, int]] = []
    for index, candidate in enumerate(candidates):
        if candidate.legal:
            (suspects if candidate.suspect else usable).append((score_ms(candidate), index))
    usable.sort()
    suspects.sort()
    order = [index for _, index in usable]
    if len(order) > 1:
        _choose_first(order, usable, seed)
        _spread_second(order, candidates)
    order.extend(index for _, index in suspects)
    return order


def _choose_first(order: list[int], usable: list[tuple[float, int]], seed: int) -> None:
    limit = usable[0][0] * SHORTLIST_RATIO + SHORTLIST_MS
    short = sum(score <= limit for score, _ in usable)
    if short < 2:
        return
    mixed = (seed * 0x9E3779B97F4A7C15 + 0x7F4A7C15) & 0xFFFFFFFFFFFFFFFF
    first = (mixed >> 33) % short
    second = (mixed >> 12) % (short - 1)
    second += second >= first
    chosen = min(first, second)  # usable is sorted: the smaller position has the better score
    order.insert(0, order.pop(chosen))


def _spread_second(order: list[int], candidates: Sequence[RouteCandidate]) -> None:
    """The second try goes to another provider when there is one, at least to another node."""
    first = candidates[order[0]]
    others = [p for p in range(1, len(order)) if candidates[order[p]].node != first.node]
    strangers = [p for p in others if candidates[order[p]].provider != first.provider]
    for position in (strangers or others)[:1]:
        order.insert(1, order.pop(position))


def hedge_after_ms(candidate: RouteCandidate) -> float:
    """How long to wait for the first byte before a second copy goes elsewhere.

    From the replica's own times (The Tail at Scale, CACM 2013: hedge after the expected high
    percentile), held between ``HEDGE_MIN_MS`` and ``HEDGE_MAX_MS``.
    """
    expected = score_ms(candidate) + HEDGE_DEVIATIONS * candidate.deviation_ms
    return min(HEDGE_MAX_MS, max(HEDGE_MIN_MS, 1.5 * expected))
