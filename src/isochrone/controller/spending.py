"""How much of a tenant's deposit may be spent: the controller's own bound, before it signs.

Intuition: the spending key signs for tenants who do not watch, so it must not sign whatever a
validator asks. The controller knows which replicas of a service it ordered, at which price, and
for how long it saw them serve: more than that, with the fee at its legal maximum and the relays'
pay at a stated rate, was not used. Vouchers are cumulative, so the bound is cumulative as well.

What was spent before this controller began to count (a home that moved, a journal that is lost) it
can only be told. It believes the first request about that, up to what the replicas it has seen side
by side could have used in a year (``plausible_microusd``): a lie has an end, and costs the tenant
nothing but money that waits in the pot for its own later use.

Rules of this file: pure, integers. Time comes in as elapsed milliseconds. A bound may be a little
too high (replicas that are draining, a restart's gap counted with what ran), never too low by
more than a restart of all controllers together; whatever is signed too high stays in the
settlement pot for this purpose's own later use.

What it does not do: know requests (relays are bounded by a rate), or the chain.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from isochrone.rules.metering import HOUR_MS
from isochrone.schema.deployment import Terms
from isochrone.schema.settling import VoucherRequest

FEE_BPS_MAX = 200
"""The council cannot set the protocol fee higher (contracts/council.vy)."""

RELAY_REQUESTS_PER_S_MAX = 1_000
"""Of one replica, over its life: above what one engine process answers for long. A loose bound on
the small part of a bill; the vault's bound per day and key stands behind it."""

SLACK_MS = 10_000
"""Replicas serve a moment before a controller sees it, and clocks differ: so much of the present
replicas' time is granted on top."""

ROUNDING_MICROUSD = 100
"""Settlement rounds up once a lease, gateway and epoch; on top."""

GAP_MS_MAX = 3_600_000
"""What ran before and after a pause of the controllers ran during it, up to an hour."""


HISTORY_MS = 365 * 24 * HOUR_MS
"""The longest life before the first request that is believed: a year of the most there was."""


class Spending(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one service's spending since the first voucher.

    ``base_microusd``: cumulative amount before this controller began to count. ``price_ms``: sum of
    price (micro-USD per hour) × milliseconds. ``replica_ms``: milliseconds of all replicas.
    ``prices``: those of the replicas that serve now. ``signed_microusd``: the highest voucher.
    ``peak_price``, ``peak_replicas``: the highest sum of prices and the most replicas at one look.
    ``begun``: whether the base is settled.
    """

    base_microusd: int = 0
    price_ms: int = 0
    replica_ms: int = 0
    prices: tuple[int, ...] = ()
    peak_price: int = 0
    peak_replicas: int = 0
    signed_microusd: int = 0
    begun: bool = False


def accrued(spending: Spending, prices: Iterable[int], elapsed_ms: int) -> Spending:
    """After ``elapsed_ms`` in which the replicas at ``prices`` (micro-USD per hour) served.

    >>> half = accrued(Spending(), (20_000, 30_000), 1_800_000)
    >>> half.price_ms // HOUR_MS  # micro-USD for half an hour of both
    25000
    """
    now = tuple(sorted(prices))
    elapsed = max(0, min(elapsed_ms, GAP_MS_MAX))
    return msgspec.structs.replace(
        spending,
        price_ms=spending.price_ms + sum(now) * elapsed,
        replica_ms=spending.replica_ms + len(now) * elapsed,
        prices=now,
        peak_price=max(spending.peak_price, sum(now)),
        peak_replicas=max(spending.peak_replicas, len(now)),
    )


def bound_microusd(spending: Spending, terms: Terms) -> int:
    """The cumulative amount that may have been spent by now, micro-USD, rounded up.

    >>> hour = accrued(Spending(), (20_000,), HOUR_MS)
    >>> free = Terms(relay_nanousd_per_request=0)
    >>> bound_microusd(hour, free) - ROUNDING_MICROUSD  # an hour and ten seconds, and 2 %
    20458
    """
    price_ms = spending.price_ms + sum(spending.prices) * SLACK_MS
    replica_ms = spending.replica_ms + len(spending.prices) * SLACK_MS
    return spending.base_microusd + _charge_microusd(price_ms, replica_ms, terms)


def plausible_microusd(spending: Spending, terms: Terms) -> int:
    """The most that may have been spent before this controller began to count, micro-USD.

    >>> seen = accrued(Spending(), (20_000,), 1_000)
    >>> plausible_microusd(seen, Terms(relay_nanousd_per_request=0)) // 1_000_000  # dollars a year
    178
    """
    price_ms, replica_ms = spending.peak_price * HISTORY_MS, spending.peak_replicas * HISTORY_MS
    return _charge_microusd(price_ms, replica_ms, terms)


def _charge_microusd(price_ms: int, replica_ms: int, terms: Terms) -> int:
    """Use, with the highest fee and the most relays, rounded up."""
    use = -(-price_ms // HOUR_MS)
    fee = -(-use * FEE_BPS_MAX // 10_000)
    requests = replica_ms * RELAY_REQUESTS_PER_S_MAX // 1000
    relay = -(-requests * terms.relay_nanousd_per_request // 1000)
    return use + fee + relay + ROUNDING_MICROUSD


def granted(spending: Spending, request: VoucherRequest, terms: Terms) -> Spending:
    """The spending after a request was answered; ``signed_microusd`` is what to sign.

    Never less than what was signed before, never more than the bound. The first request of a
    purpose tells where the chain's count stands. Told more than is plausible, the base is what is
    plausible, and a later request may lift it when more has been seen. A lie moves at most the
    key's daily bound into the pot, and only this purpose's own use is ever paid from there.
    """
    if not spending.begun:
        told, most = max(0, request.redeemed_microusd), plausible_microusd(spending, terms)
        spending = msgspec.structs.replace(
            spending, base_microusd=min(told, most), begun=told <= most
        )
    allowed = min(request.cumulative_microusd, bound_microusd(spending, terms))
    signed = max(spending.signed_microusd, allowed)
    return msgspec.structs.replace(spending, signed_microusd=signed)
