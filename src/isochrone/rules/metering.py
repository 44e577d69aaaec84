"""From counted chains to what a lease did in an epoch: live time, answers, samples.

Intuition: a lease is paid for the time in which it was there, and every gateway of its cell saw
that for itself. One gateway's view is the sum over its processes (``session``: they follow one
another) of the longest of that process's chains (its audiences run side by side). The gateway that
saw most is right: the others may have been down. Nothing outside the epoch, or outside what the
controller promised, is paid.

Where one account stands on both sides, its own word is worth nothing. Then an answer that the
tenant countersigned proves that the replica was live in the ``PROOF_MS`` around it, no more.

Rules of this file: pure, integers, milliseconds. What it does not do: put chains together
(``efforts``) or check signatures (``validator.checking`` did).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

import msgspec

from isochrone.rules.parties import Parties, sides, tenant_of
from isochrone.schema.record_batch import LeaseRecord
from isochrone.schema.settlement import Usage
from isochrone.schema.tally import BUCKETS, UNMATCHED_S_MAX

HOUR_MS = 3_600_000

PROOF_MS = round(UNMATCHED_S_MAX * 1000)
"""Live time that one countersigned answer proves: as long as a pair may work unsigned."""


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """What the objectives judge. ``requests`` were answered, or ``faults``: failed by the replica.

    Refusals are in neither: they cost no work, go elsewhere at once, and a tenant could provoke
    them. ``latency``: a histogram over ``LATENCY_BOUNDS_MS``.
    """

    requests: int = 0
    faults: int = 0
    latency: tuple[int, ...] = (0,) * BUCKETS

    def plus(self, other: Sample) -> Sample:
        """Both together."""
        return Sample(
            requests=self.requests + other.requests,
            faults=self.faults + other.faults,
            latency=tuple(a + b for a, b in zip(self.latency, other.latency, strict=True)),
        )


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """What one lease did. ``live_ms`` is paid; ``seen_ms`` is what anybody saw, for its promise.

    ``own``: one account on both sides. ``answered``: relayed answers by operator's account.
    """

    live_ms: int = 0
    seen_ms: int = 0
    own: bool = False
    answered: dict[str, int] = {}


def use_microusd(price_microusd_per_hour: int, live_ms: int) -> int:
    """Earned by live time, rounded down.

    >>> use_microusd(20_000, 1_800_000)  # half an hour at two cents an hour
    10000
    >>> use_microusd(20_000, 179)
    0
    """
    return price_microusd_per_hour * live_ms // HOUR_MS


def promised_ms(record: LeaseRecord, start_unix_ms: int, end_unix_ms: int) -> int:
    """Live time that a controller's record promises within an epoch; 0 if it never served.

    >>> from isochrone.schema.node import Resources
    >>> from isochrone.schema.service import Objective
    >>> from isochrone.schema.tally import LeaseTerms
    >>> terms = LeaseTerms(
    ...     lease="l", service="0xt.s", tenant="0xt", cell="fra", node="0xn", provider="0xp",
    ...     resources=Resources(), objective=Objective(latency_ms=50.0),
    ...     price_microusd_per_hour=1, decision="")
    >>> record = LeaseRecord(
    ...     epoch=1, terms=terms, served_from_unix_ms=4_000, released_unix_ms=0, audience={},
    ...     node_grant=b"", service_document=b"")
    >>> promised_ms(record, 3_600, 7_200)  # from its first service to the epoch's end
    3200
    """
    if record.served_from_unix_ms <= 0:
        return 0
    until = min(end_unix_ms, record.released_unix_ms or end_unix_ms)
    return max(0, until - max(start_unix_ms, record.served_from_unix_ms))


def measured(
    record: LeaseRecord, usages: Iterable[Usage], parties: Parties, window_ms: int
) -> Work:
    """The work of one lease in one epoch, from whole chains; never more than ``window_ms``."""
    paid: dict[str, dict[str, _Session]] = defaultdict(lambda: defaultdict(_Session))
    seen: dict[str, dict[str, _Session]] = defaultdict(lambda: defaultdict(_Session))
    answered: dict[str, int] = defaultdict(int)
    own = False
    for usage in usages:
        seen[usage.gateway][usage.session].add(usage.live_ms, usage.live_ms)
        standing = sides(parties, record.terms, usage.gateway)
        if standing == "unbonded":
            continue
        count, proven_ms = answers(usage), usage.live_ms
        if standing == "one":
            own = True
            count = min(count, usage.tenant_requests)
            proven_ms = count * PROOF_MS
        paid[usage.gateway][usage.session].add(usage.live_ms, proven_ms)
        answered[parties.operator_of(usage.gateway)] += count
    return Work(
        live_ms=min(window_ms, _most(paid)),
        seen_ms=min(window_ms, _most(seen)),
        own=own,
        answered=dict(answered),
    )


class _Session:
    """One gateway process: the longest of its chains, and what all of them prove."""

    __slots__ = ("live_ms", "proven_ms")

    def __init__(self) -> None:
        self.live_ms = 0
        self.proven_ms = 0

    def add(self, live_ms: int, proven_ms: int) -> None:
        self.live_ms = max(self.live_ms, live_ms)
        self.proven_ms += proven_ms


def _most(gateways: Mapping[str, Mapping[str, _Session]]) -> int:
    return max(
        (sum(min(s.live_ms, s.proven_ms) for s in rows.values()) for rows in gateways.values()),
        default=0,
    )


def answers(usage: Usage) -> int:
    """Answers that reached their callers whole, also those that blamed the caller (4xx)."""
    return max(0, usage.requests - usage.refused - usage.errors_replica - usage.errors_cut)


def samples(
    record: LeaseRecord, usages: Iterable[Usage], counted: Iterable[Usage], parties: Parties
) -> dict[str, Sample]:
    """By audience (sorted), without what was ``counted`` of these chains before.

    A gateway of the tenant itself may not judge what pays the tenant: it is left out.
    """
    found: dict[str, Sample] = {}
    before = {usage.chain: usage for usage in counted}
    tenant = tenant_of(record.terms.service)
    for usage in usages:
        if sides(parties, record.terms, usage.gateway) == "unbonded":
            continue
        if parties.operator_of(usage.gateway) == tenant:
            continue
        sample = _sample(usage, before.get(usage.chain))
        if usage.audience in found:
            sample = found[usage.audience].plus(sample)
        found[usage.audience] = sample
    return {audience: found[audience] for audience in sorted(found) if found[audience].requests}


def _sample(usage: Usage, before: Usage | None) -> Sample:
    requests, faults, latency = _judged(usage)
    if before is not None:
        earlier, earlier_faults, earlier_latency = _judged(before)
        requests, faults = requests - earlier, faults - earlier_faults
        latency = tuple(a - b for a, b in zip(latency, earlier_latency, strict=True))
    return Sample(requests=requests, faults=faults, latency=latency)


def _judged(usage: Usage) -> tuple[int, int, tuple[int, ...]]:
    faults = usage.errors_replica + usage.errors_cut
    return max(faults, usage.requests - usage.refused), faults, usage.latency
