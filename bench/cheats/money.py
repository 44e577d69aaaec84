"""The cheats about money alone: trading with oneself, an operator's own nodes, two signatures.

The first two are played through ``rules.settlement.settle``, a week of epochs beside strangers who
trade honestly: once with a spare node standing by, once with it serving a service of one's own.
What counts is everything that the accounts of one owner may claim or have held, less what their
own deposits paid. The third is real keys and signatures before a validator's collection.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from isochrone.rules.settlement import settle
from isochrone.schema.chain_snapshot import Bonded, ChainSnapshot, Fund
from isochrone.schema.deployment import Terms
from isochrone.schema.identity import PrivateKey
from isochrone.schema.node import Resources
from isochrone.schema.record_batch import LeaseRecord, RecordBatch, SignedHead, StandbyRecord
from isochrone.schema.service import Objective
from isochrone.schema.settlement import Books, EpochInput, Usage
from isochrone.schema.tally import COUNTS, LeaseTerms, TallyChain
from isochrone.schema.typed_data import Domain, purpose_of, tally_head
from isochrone.validator.collecting import Collection

HOUR_MS = 3_600_000
BOND_USD = 100
"""The least bond (``contracts/bonds.vy``); a slash takes 99 % of it."""

AUDIENCE = {"frankfurt": 1}


def _account(number: int) -> str:
    return f"0x{number:040x}"


STRANGER, OPERATOR, VALIDATOR, TENANT, OWNER = (_account(n) for n in range(1, 6))
GATEWAY, OWN_GATEWAY = _account(21), _account(22)
NODES = {"far": _account(11), "first": _account(12), "spare": _account(13)}


class Trade:
    """One way to pay oneself. ``gateway``: whose counts it; ``is_operator``: the owner's."""

    name: ClassVar[str]
    intensities: ClassVar[tuple[float, ...]] = (0.5, 1.0, 4.0, 20.0)
    """The price of the trade, as a multiple of an honest lease's."""

    gateway: ClassVar[str] = GATEWAY
    is_operator: ClassVar[bool] = False

    def ratio(self, x: float, chance: np.random.Generator, epochs: int) -> float:
        """What the owner has at the end, over what it has without the trade."""
        price, requests = int(chance.integers(5_000, 60_000)), int(chance.integers(100, 50_000))
        apart = _week(self, 0, price, requests, epochs)
        return _week(self, max(1, int(price * x)), price, requests, epochs) / apart


class FarmsRewards(Trade):
    """Provider and tenant in one: its spare node serves its own service, by another's gateway."""

    name = "provider_and_tenant_farm_rewards"


class OwnNodes(Trade):
    """An operator with nodes and a service of its own: all three signatures are its own."""

    name = "operator_with_own_nodes"
    gateway = OWN_GATEWAY
    is_operator = True


def _week(trade: Trade, own_price: int, price: int, requests: int, epochs: int) -> int:
    """The owner's worth after so many epochs; ``own_price`` 0: it does not trade with itself."""
    books: Books | None = None
    leases = [("far", TENANT, STRANGER, price), ("first", TENANT, OWNER, price)]
    if own_price:
        leases.append(("spare", OWNER, OWNER, own_price))
    moved = {"far": 0, "first": 0, "spare": 0}
    for epoch in range(epochs):
        inputs = _inputs(trade, epoch, leases, requests, moved, books)
        bills = settle(inputs).bills
        for (name, *_), bill in zip(leases, _by_lease(bills, leases), strict=True):
            moved[name] = bill
        inputs = _inputs(trade, epoch, leases, requests, moved, books)
        books = settle(inputs).books
    assert books is not None
    held = sum(row.total_microusd for row in books.held if row.account == OWNER)
    return books.accounts.get(OWNER, 0) + held - moved["spare"]


def _service(name: str, tenant: str) -> str:
    return f"{tenant}.{name}"


def _by_lease(bills: Any, leases: Any) -> list[int]:
    due = {bill.service: bill.cumulative_microusd for bill in bills}
    return [due[_service(name, tenant)] for name, tenant, _, _ in leases]


def _inputs(
    trade: Trade, epoch: int, leases: Any, requests: int, moved: dict[str, int], books: Books | None
) -> EpochInput:
    funds = tuple(
        Fund(
            tenant=tenant,
            purpose=purpose_of(_service(name, tenant)).hex(),
            deposit_microusd=0,
            redeemed_microusd=moved[name],
        )
        for name, tenant, _, _ in leases
    )
    chain = ChainSnapshot(
        block=1,
        block_hash="",
        bonds=_bonds(trade),
        funds=funds,
        pot_received_microusd=sum(moved.values()),
        signers=(VALIDATOR,),
        last_epoch=-1,
        last_root="",
    )
    busy = {name for name, *_ in leases}
    return EpochInput(
        epoch=epoch,
        start_unix_ms=epoch * HOUR_MS,
        end_unix_ms=(epoch + 1) * HOUR_MS,
        terms=Terms(samples_min=10_000_000),
        chain=chain,
        usages=tuple(_usage(trade, epoch, name, tenant, requests) for name, tenant, _, _ in leases),
        leases=tuple(_lease(epoch, *lease) for lease in leases),
        standby=() if "spare" in busy else (_standby(epoch),),
        previous=books,
    )


def _bonds(trade: Trade) -> tuple[Bonded, ...]:
    own = (OWN_GATEWAY,) if trade.is_operator else ()
    return (
        Bonded(account=STRANGER, role="provider", stake_microusd=1, keys=(NODES["far"],)),
        Bonded(
            account=OWNER,
            role="provider",
            stake_microusd=1,
            keys=(NODES["first"], NODES["spare"]),
        ),
        Bonded(account=OPERATOR, role="operator", stake_microusd=1, keys=(GATEWAY,)),
        Bonded(account=OWNER, role="operator", stake_microusd=1, keys=own),
        Bonded(account=VALIDATOR, role="validator", stake_microusd=1),
    )


def _lease(epoch: int, name: str, tenant: str, provider: str, price: int) -> LeaseRecord:
    terms = LeaseTerms(
        lease=name,
        service=_service(name, tenant),
        tenant=tenant,
        cell="fra",
        node=NODES[name],
        provider=provider,
        resources=Resources(cpu_milli=1_000),
        objective=Objective(latency_ms=50.0),
        price_microusd_per_hour=price,
        decision="",
    )
    return LeaseRecord(
        epoch=epoch,
        terms=terms,
        served_from_unix_ms=1,
        released_unix_ms=0,
        audience=AUDIENCE,
        node_grant=b"",
        service_document=b"",
    )


def _usage(trade: Trade, epoch: int, name: str, tenant: str, requests: int) -> Usage:
    counts: dict[str, Any] = {**dict.fromkeys(COUNTS, 0), "requests": requests, "live_ms": HOUR_MS}
    return Usage(
        chain=f"{epoch}-{name}",
        lease=name,
        gateway=trade.gateway if name == "spare" else GATEWAY,
        audience="fra",
        session="s",
        position=1,
        head="",
        tenant_requests=requests,
        **counts,
    )


def _standby(epoch: int) -> StandbyRecord:
    return StandbyRecord(
        epoch=epoch,
        node=NODES["spare"],
        provider=OWNER,
        cell="fra",
        metro="frankfurt",
        gateway=GATEWAY,
        live_ms=HOUR_MS,
        free_cpu_milli=1_000,
    )


TRADES: tuple[Trade, ...] = (FarmsRewards(), OwnNodes())


class Equivocates:
    """Node and gateway sign two heads for one position: x epochs' pay, told twice."""

    name = "equivocates"
    intensities = (1.0, 8.0, 24.0)

    def ratio(self, x: float, is_caught: bool, epochs: int) -> float:
        """An honest epoch pays a dollar; who is caught loses a bond of each of the two sides."""
        return max(0.0, (x + 1 - (2 * 0.99 * BOND_USD if is_caught else 0)) / epochs)

    def is_caught(self, chance: np.random.Generator) -> bool:
        """Whether a validator that is shown both keeps the proof."""
        keys = [PrivateKey(chance.bytes(32)) for _ in range(2)]
        domain = Domain(chain_id=1, contract="0x" + "b" * 40)
        chain = TallyChain(
            epoch=7,
            lease="l",
            terms="",
            node=keys[1].address,
            gateway=keys[0].address,
            audience="fra",
            session=chance.bytes(16).hex(),
        )
        collection = Collection(domain)
        for _ in range(2):
            head = chance.bytes(32)
            digest = tally_head(domain, chain.id, 3, head)
            signed = SignedHead(
                chain=chain,
                position=3,
                head=head,
                gateway_signature=keys[0].sign(digest),
                node_signature=keys[1].sign(digest),
            )
            collection.add(RecordBatch(epoch=7, source="", heads=(signed,)))
        return len(collection.faults) == 1
