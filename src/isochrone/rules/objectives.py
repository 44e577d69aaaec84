"""What was promised and what was kept: availability, latency, consistency, live time.

Intuition: a tenant must not have to ask for its credit. Both sides counted how every request ended
and, in a histogram, how long it took; from that the shortfall follows, and from the published
schedule (``Terms``) what it costs the provider. Only what the counts *prove* is held against a
provider: a percentile inside the bucket of the limit is met, a ratio is taken at its least.

- **Availability**: of the requests that were not refused, those without a fault of the replica.
- **Latency**: of the answers in an audience, those within the objective, as a share of the promised
  percentile. It is measured at the gateway, so it is a lower bound of what users saw.
- **Consistency**: p99 over p50; a service that is fast on average and erratic is hard to build on.
- **Live time**: seen live, of what the controller's record promised. Silence is downtime. The
  clocks and news of two machines differ by ``LIVE_GRACE_MS``, which counts as kept.

Windows: availability, latency and consistency are judged for each lease and audience as soon as
``Terms.samples_min`` requests have come together; a window that has not got them within
``WINDOW_EPOCHS`` proves nothing and is forgotten. Live time is judged every epoch. One window's
misses are credited once, the largest: they have one cause more often than three.

Rules of this file: pure; shares in 1/10,000, rounded down (to the provider's disadvantage by less
than that). What it does not do: move money (``settlement``), or trust a tenant's own gateway
(``metering`` leaves its samples out). The cheapest lie it misses: a provider that refuses requests
it could serve; routing and its next lease answer that.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from isochrone.rules.metering import Sample
from isochrone.schema.deployment import CreditStep, Terms
from isochrone.schema.service import Objective
from isochrone.schema.settlement import Window
from isochrone.schema.tally import BUCKETS, LATENCY_BOUNDS_MS

WHOLE_BPS = 10_000

LIVE_GRACE_MS = 2_000
"""A lost channel is noticed within 1.5 s and told within 0.25 s (``rules.health``)."""

WINDOW_EPOCHS = 24
"""A day at the default epoch: older samples say little about today's replica."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One promise missed: ``credit_microusd`` of ``base_microusd`` goes to the tenant, and why."""

    base_microusd: int
    credit_microusd: int
    note: str


def credit_bps(attained_bps: int, schedule: Sequence[CreditStep]) -> int:
    """The credit for what was attained: the last step at or above it counts.

    >>> [credit_bps(attained, Terms().availability) for attained in (10_000, 9_990, 9_950, 9_500)]
    [0, 1000, 1000, 10000]
    """
    applied = 0
    for step in schedule:
        if attained_bps <= step.attained_bps:
            applied = step.credit_bps
    return applied


def availability_bps(sample: Sample) -> int:
    """Requests without a fault of the replica, of all that were not refused.

    >>> availability_bps(Sample(requests=1_000, faults=3))
    9970
    """
    if sample.requests <= 0:
        return WHOLE_BPS
    return max(0, sample.requests - sample.faults) * WHOLE_BPS // sample.requests


def bucket_of(latency_ms: float) -> int:
    """The bucket that a limit lies in; everything up to that bucket's bound keeps the limit.

    >>> LATENCY_BOUNDS_MS[bucket_of(60.0)]
    75
    """
    for bucket, bound in enumerate(LATENCY_BOUNDS_MS):
        if latency_ms <= bound:
            return bucket
    return BUCKETS - 1


def latency_bps(latency: Sequence[int], objective: Objective) -> int:
    """Answers within the objective as a share of what its percentile promised, at most all.

    >>> slow = [0] * BUCKETS
    >>> slow[bucket_of(40)], slow[bucket_of(300)] = 90, 10
    >>> latency_bps(slow, Objective(latency_ms=50.0, percentile=95.0))  # 90 % of 95 %
    9473
    >>> latency_bps(slow, Objective(latency_ms=50.0, percentile=90.0))
    10000
    """
    total = sum(latency)
    promised_per_mille = min(1000, max(1, round(objective.percentile * 10)))
    if total <= 0:
        return WHOLE_BPS
    within = sum(latency[: bucket_of(objective.latency_ms) + 1])
    return min(WHOLE_BPS, within * WHOLE_BPS * 1000 // (total * promised_per_mille))


def percentile_bucket(latency: Sequence[int], per_mille: int) -> int:
    """The bucket in which a percentile (in thousandths) lies; the last for an empty histogram."""
    total, reached = sum(latency), 0
    for bucket, count in enumerate(latency):
        reached += count
        if total and reached * 1000 >= per_mille * total:
            return bucket
    return BUCKETS - 1


def consistency_x100(latency: Sequence[int]) -> int:
    """The least that p99 over p50 can be, in hundredths: p99's lower bound over p50's upper.

    >>> erratic = [0] * BUCKETS
    >>> erratic[bucket_of(10)], erratic[bucket_of(1000)] = 95, 5
    >>> consistency_x100(erratic)  # over 750 ms against at most 10 ms
    7500
    """
    low, high = percentile_bucket(latency, 500), percentile_bucket(latency, 990)
    if low >= len(LATENCY_BOUNDS_MS) or high == 0:
        return 0
    return LATENCY_BOUNDS_MS[high - 1] * 100 // LATENCY_BOUNDS_MS[low]


def live_bps(seen_ms: int, promised_ms: int) -> int:
    """Live time seen, of what was promised; a promise shorter than the grace is kept.

    >>> live_bps(1_798_000, 3_600_000)
    5000
    >>> live_bps(0, 1_500)
    10000
    """
    if promised_ms <= 0:
        return WHOLE_BPS
    return min(WHOLE_BPS, (seen_ms + LIVE_GRACE_MS) * WHOLE_BPS // promised_ms)


def opened(lease: str, audience: str, epoch: int) -> Window:
    """An empty window."""
    return Window(
        lease=lease,
        audience=audience,
        since_epoch=epoch,
        requests=0,
        faults=0,
        latency=(0,) * BUCKETS,
        use_microusd=0,
    )


def grown(window: Window, sample: Sample, use_microusd: int) -> Window:
    """A window with one more epoch's samples and what was paid for them."""
    return msgspec.structs.replace(
        window,
        requests=window.requests + sample.requests,
        faults=window.faults + sample.faults,
        latency=tuple(a + b for a, b in zip(window.latency, sample.latency, strict=True)),
        use_microusd=window.use_microusd + use_microusd,
    )


def is_due(window: Window, terms: Terms) -> bool:
    """Whether a window has enough requests to be judged."""
    return window.requests >= terms.samples_min


def waits(window: Window, epoch: int, terms: Terms) -> bool:
    """Whether a window is kept for more samples after that epoch."""
    return not is_due(window, terms) and epoch - window.since_epoch + 1 < WINDOW_EPOCHS


def judged(window: Window, objective: Objective, terms: Terms) -> Finding | None:
    """The largest credit that a due window proves; None when every promise was kept.

    >>> latency = [0] * BUCKETS
    >>> latency[bucket_of(40)] = 97
    >>> window = Window(lease="l", audience="fra", since_epoch=7, requests=100, faults=3,
    ...     latency=tuple(latency), use_microusd=20_000)
    >>> found = judged(window, Objective(latency_ms=50.0), Terms())
    >>> found.credit_microusd, found.note
    (5000, 'fra: 97 of 100 requests without a fault')
    """
    if not is_due(window, terms):
        return None
    found = [_availability(window, terms)]
    if sum(window.latency) >= terms.samples_min:
        found += [_latency(window, objective, terms), _consistency(window, terms)]
    bps, note = max(found, key=lambda item: item[0])
    credit = window.use_microusd * bps // WHOLE_BPS
    if credit <= 0:
        return None
    return Finding(
        base_microusd=window.use_microusd,
        credit_microusd=credit,
        note=f"{window.audience}: {note}",
    )


def _availability(window: Window, terms: Terms) -> tuple[int, str]:
    sample = Sample(requests=window.requests, faults=window.faults, latency=window.latency)
    kept = window.requests - window.faults
    note = f"{kept:,} of {window.requests:,} requests without a fault"
    return credit_bps(availability_bps(sample), terms.availability), note


def _latency(window: Window, objective: Objective, terms: Terms) -> tuple[int, str]:
    bucket = bucket_of(objective.latency_ms)
    within, total = sum(window.latency[: bucket + 1]), sum(window.latency)
    note = (
        f"{within:,} of {total:,} answers within {objective.latency_ms:g} ms,"
        f" {objective.percentile:g} % promised"
    )
    return credit_bps(latency_bps(window.latency, objective), terms.latency), note


def _consistency(window: Window, terms: Terms) -> tuple[int, str]:
    ratio_x100 = consistency_x100(window.latency)
    bps = terms.consistency_credit_bps if ratio_x100 > terms.consistency_max_x100 else 0
    return bps, f"p99 at least {ratio_x100 // 100} times p50"


def live(
    promised_ms: int, seen_ms: int, promised_use_microusd: int, terms: Terms
) -> Finding | None:
    """The credit for promised live time that nobody saw; None when the promise was kept.

    The base is what the promised time would have cost, so that silence is no cheaper than failing.

    >>> live(3_600_000, 1_800_000, 20_000, Terms())
    Finding(base_microusd=20000, credit_microusd=20000, note='1,800 of 3,600 promised seconds')
    >>> live(3_600_000, 3_599_000, 20_000, Terms()) is None
    True
    """
    bps = credit_bps(live_bps(seen_ms, promised_ms), terms.live) if promised_ms > 0 else 0
    credit = promised_use_microusd * bps // WHOLE_BPS
    if credit <= 0:
        return None
    return Finding(
        base_microusd=promised_use_microusd,
        credit_microusd=credit,
        note=f"{seen_ms // 1000:,} of {promised_ms // 1000:,} promised seconds",
    )
