"""What a caller saw of one request, and what a person reads of many: pure summaries.

Nothing here measures: callers (``lab.callers``) write records, the demo summarises them. A
request fails when it raised, answered wrongly or took longer than ``FAILED_AFTER_MS``.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence

import msgspec

from isochrone.schema.service import Objective

FAILED_AFTER_MS = 2500.0
"""Slower than this counts as failed: no person or program waits longer for a small answer."""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One request as its caller saw it. Times in ms; ``sent_unix_s`` is this machine's clock.

    ``target`` names the network that was called (``isochrone`` or ``central``). The fields from
    ``node`` on are the answer's headers; empty or 0 when there was no answer. ``reroute_ms``: from
    the request's first error to its next try; negative when it had none.
    """

    target: str
    phase: str
    city: str
    service: str
    request_id: str
    sent_unix_s: float
    latency_ms: float
    error: str = ""
    correct: bool = False
    node: str = ""
    place: str = ""
    jurisdiction: str = ""
    cell: str = ""
    attempts: int = 0
    overhead_ms: float = 0.0
    network_ms: float = 0.0
    engine_ms: float = 0.0
    queue_ms: float = 0.0
    reroute_ms: float = -1.0

    @property
    def failed(self) -> bool:
        """No answer, a wrong answer, or one after ``FAILED_AFTER_MS``."""
        return bool(self.error) or not self.correct or self.latency_ms > FAILED_AFTER_MS


def percentile(values: Iterable[float], percent: float) -> float:
    """The nearest-rank percentile (0-100) of some values; NaN when there are none."""
    ordered = sorted(values)
    if not ordered:
        return math.nan
    rank = max(1, math.ceil(percent / 100.0 * len(ordered)))
    return ordered[rank - 1]


class CityRow(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the table of cities."""

    city: str
    service: str
    requests: int
    failed: int
    replicas: tuple[tuple[str, int], ...]
    p50_ms: float
    p95_ms: float
    overhead_p50_ms: float
    central_p50_ms: float
    central_p95_ms: float
    objective_ms: float
    met_share: float
    met: bool


def group(
    records: Iterable[Record], key: Callable[[Record], tuple[str, str]]
) -> dict[tuple[str, str], list[Record]]:
    """Records by key, keys sorted."""
    groups: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in records:
        groups[key(record)].append(record)
    return dict(sorted(groups.items()))


def city_rows(
    records: Sequence[Record],
    phases: frozenset[str],
    objectives: dict[str, Objective],
) -> list[CityRow]:
    """The table of cities and services over the given phases, beside the centralised region.

    ``met_share``: answered requests inside the service's objective; ``met``: at least its
    percentile of them.
    """
    ours = [r for r in records if r.target == "isochrone" and r.phase in phases]
    central = group(
        (r for r in records if r.phase == "central" and not r.failed),
        lambda r: (r.city, r.service),
    )
    rows = []
    for (city, service), some in group(ours, lambda r: (r.city, r.service)).items():
        answered = [r for r in some if not r.failed]
        objective = objectives[service]
        inside = sum(r.latency_ms <= objective.latency_ms for r in answered)
        share = inside / max(1, len(answered))
        beside = [r.latency_ms for r in central.get((city, service), [])]
        rows.append(
            CityRow(
                city=city,
                service=service,
                requests=len(some),
                failed=len(some) - len(answered),
                replicas=tuple(Counter(r.place for r in answered).most_common()),
                p50_ms=percentile((r.latency_ms for r in answered), 50),
                p95_ms=percentile((r.latency_ms for r in answered), 95),
                overhead_p50_ms=percentile((r.overhead_ms for r in answered), 50),
                central_p50_ms=percentile(beside, 50),
                central_p95_ms=percentile(beside, 95),
                objective_ms=objective.latency_ms,
                met_share=share,
                met=share * 100 >= objective.percentile,
            )
        )
    return rows


def share_by_node(records: Iterable[Record]) -> dict[str, float]:
    """Each node's share (0-1) of the answered requests."""
    counts = Counter(r.node for r in records if r.node)
    total = sum(counts.values())
    return {node: count / total for node, count in counts.most_common()} if total else {}
