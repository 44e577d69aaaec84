"""From counted chains to what a lease did in an epoch: live time, answers, samples.

Intuition: a lease is paid for the time in which it was there, and every gateway of its cell saw
that for itself. One gateway's view is the sum over its processes (``session``: they follow one
another) of the longest of that process's chains (its audiences run side by side). The gateway that
saw most is right: the others may have been down. Nothing outside the epoch, or outside what the
controller promised, is paid.

Where one account stands on both sides, its own word is worth nothing. Then an answer that the
tenant countersigned proves that the replica was live in the ``PROOF_MS`` around it, no more.

What comes late belongs to the epoch before: that epoch's chains are put together again, and what
is more than was counted then is paid now. It is judged together with the present samples.

Rules of this file: pure, integers, milliseconds. A chain that comes twice counts once, as far as
its newest head. What it does not do: check signatures (``validator.checking`` did).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

import msgspec

from isochrone.rules.parties import Parties, sides, tenant_of
from isochrone.schema.digests import canonical
from isochrone.schema.settlement import EpochInput, LeaseRecord, Usage
from isochrone.schema.tally import BUCKETS, UNMATCHED_S_MAX

HOUR_MS = 3_600_000

PROOF_MS = round(UNMATCHED_S_MAX * 1000)
"""Live time that one countersigned answer proves: as long as a pair may work unsigned."""

SUMMED = (
    "requests",
    "errors_caller",
    "errors_replica",
    "errors_cut",
    "refused",
    "tokens_in",
    "tokens_out",
    "bytes_in",
    "bytes_out",
    "live_ms",
)


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


class Effort(msgspec.Struct, frozen=True, kw_only=True):
    """One lease in one settlement, with what came late of the epoch before.

    ``due_microusd``: earned at its price. ``promised_ms``: 0 when it has no record of this epoch.
    ``samples``: by audience, from gateways that are not the tenant's own.
    """

    record: LeaseRecord
    promised_ms: int
    work: Work
    late_ms: int
    due_microusd: int
    answered: dict[str, int]
    samples: dict[str, Sample]

    @property
    def paid_ms(self) -> int:
        """Live milliseconds that are paid in this settlement."""
        return self.work.live_ms + self.late_ms


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


def merged(before: Usage | None, usage: Usage) -> Usage:
    """A chain as it was counted, with what came late; late numbers are differences."""
    if before is None:
        return msgspec.structs.replace(usage, late=False)
    sums = {name: getattr(before, name) + getattr(usage, name) for name in SUMMED}
    latency = tuple(a + b for a, b in zip(before.latency, usage.latency, strict=True))
    return msgspec.structs.replace(
        usage,
        **sums,
        latency=latency,
        tenant_requests=max(before.tenant_requests, usage.tenant_requests),
        late=False,
    )


class _Chains(msgspec.Struct, frozen=True):
    """One lease's chains: this epoch's; the epoch before's as counted then; and with the late."""

    present: tuple[Usage, ...] = ()
    counted: tuple[Usage, ...] = ()
    whole: tuple[Usage, ...] = ()


def efforts(inputs: EpochInput, parties: Parties) -> list[Effort]:
    """Every lease with a record, in the order of lease ids."""
    present, late = _by_lease(inputs, late=False), _late(inputs)
    now, before = _records(inputs, inputs.epoch), _records(inputs, inputs.epoch - 1)
    found = []
    for lease in sorted(now.keys() | (late.keys() & before.keys())):
        counted, whole = late.get(lease, ((), ()))
        chains = _Chains(present.get(lease, ()) if lease in now else (), counted, whole)
        record = now.get(lease) or before[lease]
        found.append(_effort(inputs, parties, record, before.get(lease, record), chains))
    return found


def _effort(
    inputs: EpochInput, parties: Parties, record: LeaseRecord, then: LeaseRecord, chains: _Chains
) -> Effort:
    """``then``: the record of the epoch before, to which the late chains are clipped."""
    length_ms = inputs.end_unix_ms - inputs.start_unix_ms
    promised = 0
    if record.epoch == inputs.epoch:
        promised = promised_ms(record, inputs.start_unix_ms, inputs.end_unix_ms)
    window_ms = promised_ms(then, inputs.start_unix_ms - length_ms, inputs.start_unix_ms)
    work = measured(record, chains.present, parties, promised)
    counted = measured(then, chains.counted, parties, window_ms)
    whole = measured(then, chains.whole, parties, window_ms)
    price = record.terms.price_microusd_per_hour
    late_ms = max(0, whole.live_ms - counted.live_ms)
    late_due = use_microusd(price, counted.live_ms + late_ms) - use_microusd(price, counted.live_ms)
    answered = dict(work.answered)
    for operator, count in whole.answered.items():
        more = max(0, count - counted.answered.get(operator, 0))
        answered[operator] = answered.get(operator, 0) + more
    return Effort(
        record=record,
        promised_ms=promised,
        work=msgspec.structs.replace(work, own=work.own or whole.own),
        late_ms=late_ms,
        due_microusd=use_microusd(price, work.live_ms) + late_due,
        answered=answered,
        samples=_samples(record, parties, chains),
    )


def _samples(record: LeaseRecord, parties: Parties, chains: _Chains) -> dict[str, Sample]:
    """By audience. A gateway of the tenant itself may not judge what pays the tenant."""
    found: dict[str, Sample] = {}
    counted = {usage.chain: usage for usage in chains.counted}
    tenant = tenant_of(record.terms.service)
    for usage in (*chains.present, *chains.whole):
        if sides(parties, record.terms, usage.gateway) == "unbonded":
            continue
        if parties.operator_of(usage.gateway) == tenant:
            continue
        sample = _sample(usage, counted.get(usage.chain))
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


def _records(inputs: EpochInput, epoch: int) -> dict[str, LeaseRecord]:
    """One record a lease: of several, the widest promise, then the greatest bytes."""
    found: dict[str, LeaseRecord] = {}
    for record in inputs.leases:
        if record.epoch != epoch:
            continue
        other = found.get(record.terms.lease)
        if other is None or _breadth(record) > _breadth(other):
            found[record.terms.lease] = record
    return found


def _breadth(record: LeaseRecord) -> tuple[bool, bool, int, int, bytes]:
    served, released = record.served_from_unix_ms, record.released_unix_ms
    return served > 0, released <= 0, released, -served, canonical(record)


def _by_lease(inputs: EpochInput, *, late: bool) -> dict[str, tuple[Usage, ...]]:
    """Usages by lease, each chain once, by chain id."""
    chains: dict[str, Usage] = {}
    for usage in inputs.usages:
        other = chains.get(usage.chain)
        if usage.late == late and (other is None or usage.position > other.position):
            chains[usage.chain] = usage
    found: dict[str, list[Usage]] = defaultdict(list)
    for chain in sorted(chains):
        found[chains[chain].lease].append(chains[chain])
    return {lease: tuple(usages) for lease, usages in found.items()}


def _late(inputs: EpochInput) -> dict[str, tuple[tuple[Usage, ...], tuple[Usage, ...]]]:
    """Leases with late chains: all their chains as counted then, and with what came late."""
    books = inputs.previous
    remembered = books.counted if books is not None and books.epoch == inputs.epoch - 1 else ()
    fresh = _by_lease(inputs, late=True)
    counted: dict[str, dict[str, Usage]] = {lease: {} for lease in fresh}
    for usage in remembered:
        if usage.lease in counted:
            counted[usage.lease][usage.chain] = usage
    found = {}
    for lease, usages in fresh.items():
        whole = dict(counted[lease])
        for usage in usages:
            before = whole.get(usage.chain)
            if before is None or usage.position > before.position:
                whole[usage.chain] = merged(before, usage)
        found[lease] = (tuple(counted[lease].values()), tuple(whole.values()))
    return found


def counted_chains(inputs: EpochInput) -> tuple[Usage, ...]:
    """This epoch's chains, to be remembered until the next."""
    chains = [usage for rows in _by_lease(inputs, late=False).values() for usage in rows]
    return tuple(sorted(chains, key=lambda usage: usage.chain))
