"""What a service's epoch costs its tenant, and who gets how much when the deposit falls short.

Intuition: a tenant's vouchers are the only money that its service's payees ever see. They share
what those vouchers moved, each in proportion to what it is owed, so one tenant's empty deposit is
nobody else's loss. A shortfall is not carried: whoever serves on credit does so for an epoch at
most, then gateways refuse the service's paid work. What vouchers moved beyond the charge stays
with the purpose and pays its next epochs first.

Rounding: use down for each lease (``metering``), relays down for each service and operator, the
fee up for each lease. Nothing is left over: a short payment is dealt out to the last unit.

Rules of this file: pure; payees are named ``use <lease>``, ``fee <lease>``, ``relay <operator>``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import msgspec

from isochrone.rules.efforts import Effort
from isochrone.rules.parties import tenant_of
from isochrone.rules.shares import apportion
from isochrone.schema.chain_snapshot import ChainSnapshot
from isochrone.schema.deployment import Terms
from isochrone.schema.settlement import Bill, PurposeBook
from isochrone.schema.typed_data import purpose_of

Purpose = tuple[str, str]
"""Tenant and purpose (hex)."""


class Paid(msgspec.Struct, frozen=True, kw_only=True):
    """A bill, what each payee was owed, and what it gets."""

    bill: Bill
    owed: dict[str, int]
    given: dict[str, int]


def fee_microusd(use_microusd: int, terms: Terms) -> int:
    """The protocol fee on a lease's use, rounded up.

    >>> fee_microusd(10_001, Terms(fee_bps=200))
    201
    """
    return -(-use_microusd * terms.fee_bps // 10_000)


def relay_microusd(answers: int, terms: Terms) -> int:
    """An operator's pay for a service's relayed answers, rounded down.

    >>> relay_microusd(12_345, Terms(relay_nanousd_per_request=200))
    2469
    """
    return answers * terms.relay_nanousd_per_request // 1000


def purposes_of(chain: ChainSnapshot, before: Sequence[PurposeBook]) -> dict[Purpose, PurposeBook]:
    """Every purpose with what its vouchers have moved by now.

    A chain that forgets a purpose (a fund without deposit may be left out) takes nothing back.
    """
    found = {(book.tenant, book.purpose): book for book in before}
    for fund in chain.funds:
        key = (fund.tenant, fund.purpose)
        allocated = found[key].allocated_microusd if key in found else 0
        found[key] = PurposeBook(
            tenant=fund.tenant,
            purpose=fund.purpose,
            redeemed_microusd=fund.redeemed_microusd,
            allocated_microusd=allocated,
        )
    return found


def bills(
    efforts: Sequence[Effort], purposes: Mapping[Purpose, PurposeBook], terms: Terms
) -> list[Paid]:
    """One bill for every service with a lease, in the order of service ids."""
    by_service: dict[str, list[Effort]] = defaultdict(list)
    for effort in efforts:
        by_service[effort.record.terms.service].append(effort)
    return [_bill(service, by_service[service], purposes, terms) for service in sorted(by_service)]


def _bill(
    service: str,
    efforts: Sequence[Effort],
    purposes: Mapping[Purpose, PurposeBook],
    terms: Terms,
) -> Paid:
    owed: dict[str, int] = {}
    answers: dict[str, int] = defaultdict(int)
    for effort in efforts:
        lease = effort.record.terms.lease
        owed[f"use {lease}"] = effort.due_microusd
        owed[f"fee {lease}"] = fee_microusd(effort.due_microusd, terms)
        for operator, count in effort.answered.items():
            answers[operator] += count
    for operator in sorted(answers):
        owed[f"relay {operator}"] = relay_microusd(answers[operator], terms)
    tenant, purpose = tenant_of(service), purpose_of(service).hex()
    book = purposes.get((tenant, purpose))
    allocated = book.allocated_microusd if book else 0
    charge = sum(owed.values())
    bill = Bill(
        service=service,
        tenant=tenant,
        purpose=purpose,
        use_microusd=sum(amount for name, amount in owed.items() if name.startswith("use ")),
        relay_microusd=sum(amount for name, amount in owed.items() if name.startswith("relay ")),
        fee_microusd=sum(amount for name, amount in owed.items() if name.startswith("fee ")),
        available_microusd=book.redeemed_microusd - allocated if book else 0,
        cumulative_microusd=allocated + charge,
    )
    return Paid(bill=bill, owed=owed, given=shared(owed, bill.available_microusd))


def shared(owed: Mapping[str, int], available_microusd: int) -> dict[str, int]:
    """What payees get: everything when there is enough, else pro rata to the last unit.

    >>> shared({"use a": 600, "use b": 300, "fee a": 18}, 459)
    {'use a': 300, 'use b': 150, 'fee a': 9}
    >>> shared({"use a": 600}, 10_000)
    {'use a': 600}
    """
    if available_microusd >= sum(owed.values()):
        return dict(owed)
    return apportion(available_microusd, owed)
