"""What the protocol fee pays for: free capacity where the audience is, and validators.

Intuition: a spare machine earns nothing until another one dies, so nobody keeps one where it is
needed. The fee of the tenants whose audience lies in a place pays for standby capacity in that
place. Each lease contributes at most what as much standby as it used itself would cost (planned
need); what is more goes back to the tenant. A place's pool pays out in proportion to its *marginal
coverage* (``rules.coverage_gain``, the number that planners show): the first cores that stand by
cover most, and beyond ``STANDBY_FULL_CPU_MILLI`` another one adds nothing. What is not paid waits,
so a place that nobody covers offers more every epoch.

Why trading with oneself never pays: a contribution is part of the own fee; coverage depends on
standby alone, never on what was traded; and a pool's payout grows by at most a unit for a unit
more in it, dealt to exactly one party (``shares``). So whoever plays tenant, provider, operator and
validator at once gets back at most the fee it paid, to the unit.

Proof of standby is, for now, the word of a gateway whose operator does not own the node: beats,
and the capacity that no lease held. Coverage is by the metro that the node declares.

The cheapest lie it misses: an operator and a provider of two names who report standby that is not
there. It costs them a bond each, and takes at most what the place's pool offers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

import msgspec

from isochrone.rules import coverage_gain
from isochrone.rules.metering import HOUR_MS
from isochrone.rules.parties import Parties
from isochrone.rules.shares import apportion
from isochrone.schema.deployment import Terms
from isochrone.schema.record_batch import StandbyRecord

STANDBY_FULL_CPU_MILLI = 4_000
"""Four free cores cover a metro whole: one ordinary machine that takes over what another ran."""

Audience = tuple[tuple[str, int], ...]
"""Metros and their weights, sorted; only those above zero."""


class Fee(msgspec.Struct, frozen=True, kw_only=True):
    """Where one lease's fee goes; the three sum to it."""

    validation_microusd: int
    pool_microusd: int
    rebate_microusd: int


def need_microusd(cpu_milli: int, live_ms: int, terms: Terms) -> int:
    """The most that standby for what a lease used may cost, rounded down.

    >>> need_microusd(500, 3_600_000, Terms(standby_microusd_per_core_hour=2_000))
    1000
    """
    return cpu_milli * live_ms * terms.standby_microusd_per_core_hour // (1000 * HOUR_MS)


def fee_parts(fee_microusd: int, need_microusd: int, terms: Terms) -> Fee:
    """The validators' share rounded down; of the rest, the pool takes what is needed.

    >>> fee_parts(201, 100, Terms(validator_share_bps=4_000))
    Fee(validation_microusd=80, pool_microusd=100, rebate_microusd=21)
    """
    validation = fee_microusd * terms.validator_share_bps // 10_000
    pool = min(fee_microusd - validation, max(0, need_microusd))
    return Fee(
        validation_microusd=validation,
        pool_microusd=pool,
        rebate_microusd=fee_microusd - validation - pool,
    )


class Standby(msgspec.Struct, frozen=True, kw_only=True):
    """Proven standby of one place: thousandths of a core × milliseconds, by provider."""

    metro: str
    by_provider: dict[str, int]

    @property
    def cpu_milli_ms(self) -> int:
        """All of it."""
        return sum(self.by_provider.values())


def proven_standby(
    records: Iterable[StandbyRecord], parties: Parties, epoch: int, epoch_ms: int
) -> list[Standby]:
    """Standby by metro (sorted), from records of bonded providers by gateways of somebody else.

    A node counts once: the gateway that saw most of it is right.
    """
    best: dict[str, tuple[int, str, str]] = {}
    for record in records:
        operator = parties.operator_of(record.gateway)
        if record.epoch != epoch or not operator or operator == record.provider:
            continue
        if not parties.provider_of(record.node, record.provider):
            continue
        seen = max(0, record.free_cpu_milli) * min(epoch_ms, max(0, record.live_ms))
        row = (seen, record.metro, record.provider)
        best[record.node] = max(row, best.get(record.node, row))
    places: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for seen, metro, provider in best.values():
        if seen:
            places[metro][provider] += seen
    return [
        Standby(
            metro=metro,
            by_provider={name: places[metro][name] for name in sorted(places[metro])},
        )
        for metro in sorted(places)
    ]


def coverage_bps(cpu_milli_ms: int, epoch_ms: int) -> int:
    """How much of a place its standby covers, 0-10,000, rounded down.

    >>> coverage_bps(1_000 * 3_600_000, 3_600_000)  # one free core all the epoch
    2500
    >>> coverage_bps(64_000 * 3_600_000, 3_600_000)
    10000
    """
    return coverage_gain.coverage_bps(cpu_milli_ms, STANDBY_FULL_CPU_MILLI * epoch_ms)


def payout_microusd(pool_microusd: int, cpu_milli_ms: int, epoch_ms: int, terms: Terms) -> int:
    """What a place's pool pays in an epoch: its covered part, at most the top price of standby.

    >>> core_hour = 1_000 * 3_600_000
    >>> payout_microusd(3_000, core_hour, 3_600_000, Terms(standby_microusd_per_core_hour=2_000))
    750
    >>> payout_microusd(90_000, core_hour, 3_600_000, Terms(standby_microusd_per_core_hour=2_000))
    2000
    """
    covered = pool_microusd * coverage_bps(cpu_milli_ms, epoch_ms) // 10_000
    top = cpu_milli_ms * terms.standby_microusd_per_core_hour // (1000 * HOUR_MS)
    return min(covered, top)


def standby_shares(payout_microusd: int, place: Standby) -> dict[str, int]:
    """A payout shared by proven standby, to the last unit.

    >>> standby_shares(750, Standby(metro="paris", by_provider={"0xa": 2, "0xb": 1}))
    {'0xa': 500, '0xb': 250}
    """
    return apportion(payout_microusd, place.by_provider)


def spread(contributions: Mapping[Audience, int], pools: Mapping[str, int]) -> dict[str, int]:
    """The pools with contributions spread over their audiences (metro, weight).

    >>> spread({(("lyon", 1), ("paris", 3)): 100}, {"lyon": 5})
    {'lyon': 30, 'paris': 75}
    """
    filled: dict[str, int] = defaultdict(int, pools)
    for audience in sorted(contributions):
        for metro, amount in apportion(contributions[audience], dict(audience)).items():
            filled[metro] += amount
    return {metro: filled[metro] for metro in sorted(filled) if filled[metro]}


def validation_shares(
    pot_microusd: int, signers: Iterable[str], parties: Parties
) -> dict[str, int]:
    """The validators' pot shared by bond among those who signed the last root, to the last unit.

    Nobody gets anything, and the pot waits, when none of them is bonded.

    >>> parties = Parties(of_key={}, providers={}, operators={}, validators={"0xa": 30, "0xb": 10})
    >>> validation_shares(80, ["0xa", "0xb", "0xstranger"], parties)
    {'0xa': 60, '0xb': 20}
    """
    bonds = {name: parties.validators[name] for name in set(signers) & parties.validators.keys()}
    return apportion(pot_microusd, {name: bonds[name] for name in sorted(bonds)})
