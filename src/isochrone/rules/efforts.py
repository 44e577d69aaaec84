"""What every lease did in an epoch, and what of the epoch before came late.

Intuition: a chain whose records were not there at the cut-off is not lost: it belongs to the epoch
before. So that epoch's chains, remembered in the books, are put together again with what came
late; what that makes more than was counted then is paid now, once. It is judged together with the
present samples.

Rules of this file: pure. A chain that comes twice counts once, as far as its newest head; of
several records of one lease and epoch the widest promise counts; everything is sorted, so that the
order of records changes nothing.
"""

from __future__ import annotations

from collections import defaultdict

import msgspec

from isochrone.rules.metering import Sample, Work, measured, promised_ms, samples, use_microusd
from isochrone.rules.parties import Parties
from isochrone.schema.digests import canonical
from isochrone.schema.record_batch import LeaseRecord
from isochrone.schema.settlement import EpochInput, Usage
from isochrone.schema.tally import COUNTS


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
        samples=samples(record, (*chains.present, *chains.whole), chains.counted, parties),
    )


def merged(before: Usage | None, usage: Usage) -> Usage:
    """A chain as it was counted, with what came late; late numbers are differences."""
    if before is None:
        return msgspec.structs.replace(usage, late=False)
    sums = {name: getattr(before, name) + getattr(usage, name) for name in COUNTS}
    latency = tuple(a + b for a, b in zip(before.latency, usage.latency, strict=True))
    return msgspec.structs.replace(
        usage,
        **sums,
        latency=latency,
        tenant_requests=max(before.tenant_requests, usage.tenant_requests),
        late=False,
    )


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
        if usage.late == late and (other is None or _reach(usage) > _reach(other)):
            chains[usage.chain] = usage
    found: dict[str, list[Usage]] = defaultdict(list)
    for chain in sorted(chains):
        found[chains[chain].lease].append(chains[chain])
    return {lease: tuple(usages) for lease, usages in found.items()}


def _reach(usage: Usage) -> tuple[int, int]:
    return usage.position, usage.tenant_requests


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
