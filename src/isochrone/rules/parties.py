"""Who stands behind a key, and whether two sides of a count are really two.

Intuition: a count is worth money because two parties with opposite interests signed it. Where one
account stands on both sides (the operator's own node, the provider's own service) that is one
signature twice, and only what the tenant itself countersigned counts. Keys that no bonded account
answers for could be made by the thousand, so they count for nothing.

Rules of this file: accounts and keys are addresses in lower-case hex, as the chain's snapshot
gives them; an account is bonded in a role while its stake there is above zero. What it cannot see:
two accounts of one owner. The rules make that worthless instead (see ``rewards``).
"""

from __future__ import annotations

from typing import Literal

import msgspec

from isochrone.schema.chain_snapshot import ChainSnapshot
from isochrone.schema.tally import LeaseTerms

Sides = Literal["two", "one", "unbonded"]


class Parties(msgspec.Struct, frozen=True, kw_only=True):
    """Accounts of the snapshot. ``of_key``: key → account; the others: account → stake."""

    of_key: dict[str, str]
    providers: dict[str, int]
    operators: dict[str, int]
    validators: dict[str, int]

    def provider_of(self, node: str, provider: str) -> bool:
        """Whether ``provider`` is bonded and the node's key is its own."""
        return self.of_key.get(node) == provider and provider in self.providers

    def operator_of(self, gateway: str) -> str:
        """The bonded operator whose key a gateway has; empty when there is none."""
        account = self.of_key.get(gateway, "")
        return account if account in self.operators else ""


def parties_of(chain: ChainSnapshot) -> Parties:
    """The parties of a snapshot."""
    stakes: dict[str, dict[str, int]] = {"provider": {}, "operator": {}, "validator": {}}
    of_key: dict[str, str] = {}
    for bond in sorted(chain.bonds, key=lambda bond: (bond.account, bond.role)):
        of_key.update(dict.fromkeys(bond.keys, bond.account))
        if bond.stake_microusd > 0:
            stakes[bond.role][bond.account] = bond.stake_microusd
    return Parties(
        of_key=of_key,
        providers=stakes["provider"],
        operators=stakes["operator"],
        validators=stakes["validator"],
    )


def tenant_of(service: str) -> str:
    """The account that declared a service: the first part of its id.

    >>> tenant_of("0x7777777777777777777777777777777777777777.mail-search")
    '0x7777777777777777777777777777777777777777'
    """
    return service.split(".", 1)[0]


def sides(parties: Parties, terms: LeaseTerms, gateway: str) -> Sides:
    """Whether gateway and node of a count are bonded, and two parties or one.

    >>> from isochrone.schema.node import Resources
    >>> from isochrone.schema.service import Objective
    >>> terms = LeaseTerms(
    ...     lease="l", service="0xt.s", tenant="0xt", cell="fra", node="0xn", provider="0xp",
    ...     resources=Resources(), objective=Objective(latency_ms=50.0),
    ...     price_microusd_per_hour=1, decision="")
    >>> keys = {"0xn": "0xp", "0xg": "0xo", "0xh": "0xp"}
    >>> bonded = Parties(of_key=keys, providers={"0xp": 5}, operators={"0xo": 5, "0xp": 5},
    ...     validators={})
    >>> [sides(bonded, terms, gateway) for gateway in ("0xg", "0xh", "0xunknown")]
    ['two', 'one', 'unbonded']
    """
    operator = parties.operator_of(gateway)
    if not operator or not parties.provider_of(terms.node, terms.provider):
        return "unbonded"
    return "one" if terms.provider in (operator, tenant_of(terms.service)) else "two"
