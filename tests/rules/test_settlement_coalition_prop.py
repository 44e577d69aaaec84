"""Whoever plays tenant, provider, operator and validator at once gains nothing by trading with
itself: at no time does it have more than without that trade, to the unit."""

import random
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.rules.money import (
    COUNTS,
    EPOCH_MS,
    GATEWAYS,
    PEOPLE,
    TIMES_MS,
    World,
    account,
    bond,
    fund,
    histogram,
    record,
    standby,
    usage,
)

from isochrone.rules.settlement import settle
from isochrone.schema.node import Resources
from isochrone.schema.settlement import Books, EpochInput
from isochrone.schema.typed_data import purpose_of

NODE, SPARE, GATEWAY = account(111), account(112), account(121)
QUIET_EPOCHS = 3
"""After the trade has ended, for what is held and what waits in pools to come out."""


class Coalition:
    """Some accounts of one owner, up to all four in one, and what they do in an epoch."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        names = [account(101 + chance.randrange(4)) for _ in range(4)]
        self.tenant, self.provider, self.operator, self.validator = names
        self.accounts = frozenset(names)
        self.service = f"{self.tenant}.mirror"
        self.moved = 0

    def joined(self, inputs: EpochInput) -> EpochInput:
        """The coalition is there (bonds, signatures, free capacity) but trades nothing."""
        mine = (
            bond(self.provider, "provider", NODE, SPARE),
            bond(self.operator, "operator", GATEWAY),
            bond(self.validator, "validator", stake=self.chance.choice((1, 10**6, 10**9))),
        )
        signers = (*inputs.chain.signers, *((self.validator,) * self.chance.randrange(2)))
        spare = standby(
            epoch=inputs.epoch,
            node=SPARE,
            provider=self.provider,
            metro=self.chance.choice(("frankfurt", "lyon")),
            gateway=self.chance.choice((GATEWAY, *GATEWAYS[:2])),
            free_cpu_milli=self.chance.choice((10, 1_000, 9_000)),
        )
        chain = msgspec.structs.replace(
            inputs.chain, bonds=(*inputs.chain.bonds, *mine), signers=signers
        )
        return msgspec.structs.replace(inputs, chain=chain, standby=(*inputs.standby, spare))

    def trading(self, inputs: EpochInput) -> EpochInput:
        """The same epoch with leases of its own on its own node."""
        some = self.chance.choice
        leases, usages = [], []
        for number in range(self.chance.randint(1, 3)):
            lease = f"mirror-{number}"
            leases.append(
                record(
                    inputs.epoch,
                    lease,
                    service=self.service,
                    node=NODE,
                    provider=self.provider,
                    resources=Resources(cpu_milli=some((1, 500, 640_000))),
                    price_microusd_per_hour=some((1, 977, 20_000, 3_000_000)),
                    audience=some(({"frankfurt": 1}, {"frankfurt": 2, "lyon": 3})),
                )
            )
            answered = some(COUNTS)
            usages.append(
                usage(
                    f"{inputs.epoch}-{lease}",
                    lease,
                    gateway=some((GATEWAY, GATEWAY, GATEWAYS[0])),
                    requests=answered,
                    live_ms=some(TIMES_MS),
                    latency=histogram(b3=answered),
                    tenant_requests=some((0, answered)),
                )
            )
        self.moved += some((0, 313, 20_000, 9_000_000))
        return msgspec.structs.replace(
            inputs,
            leases=(*inputs.leases, *leases),
            usages=(*inputs.usages, *usages),
            chain=self._paying(inputs),
        )

    def resting(self, inputs: EpochInput) -> EpochInput:
        """An epoch after the trade; its vouchers stay redeemed."""
        return msgspec.structs.replace(inputs, chain=self._paying(inputs))

    def _paying(self, inputs: EpochInput) -> Any:
        return msgspec.structs.replace(
            inputs.chain,
            funds=(*inputs.chain.funds, fund(self.service, self.moved)),
            pot_received_microusd=inputs.chain.pot_received_microusd + self.moved,
        )

    def wealth(self, books: Books) -> int:
        """What it may claim, what is held for it, and what its vouchers have not spent, less what
        they moved."""
        purpose = purpose_of(self.service).hex()
        claimable = sum(books.accounts.get(name, 0) for name in self.accounts)
        held = sum(row.total_microusd for row in books.held if row.account in self.accounts)
        spent = sum(p.allocated_microusd for p in books.purposes if p.purpose == purpose)
        return claimable + held - spent


def calm(inputs: EpochInput, number: int) -> EpochInput:
    """A later epoch of the same world in which nobody uses anything."""
    return msgspec.structs.replace(
        inputs,
        epoch=inputs.epoch + number,
        start_unix_ms=inputs.start_unix_ms + number * EPOCH_MS,
        end_unix_ms=inputs.end_unix_ms + number * EPOCH_MS,
        usages=(),
        leases=(),
        standby=tuple(
            msgspec.structs.replace(s, epoch=inputs.epoch + number) for s in inputs.standby
        ),
    )


@settings(max_examples=300)
@given(st.integers(0, 2**48))
def test_trading_with_oneself_never_pays(seed: int) -> None:
    coalition = Coalition(random.Random(seed))
    honest = trading = None
    world = World(seed).history()
    for inputs in world:
        joined = coalition.joined(inputs)
        honest = settle(msgspec.structs.replace(joined, previous=honest)).books
        other = coalition.trading(joined)
        trading = settle(msgspec.structs.replace(other, previous=trading)).books
        assert coalition.wealth(trading) <= coalition.wealth(honest)
    for number in range(1, QUIET_EPOCHS + 1):
        joined = coalition.joined(calm(world[-1], number))
        honest = settle(msgspec.structs.replace(joined, previous=honest)).books
        other = coalition.resting(joined)
        trading = settle(msgspec.structs.replace(other, previous=trading)).books
        assert coalition.wealth(trading) <= coalition.wealth(honest)


@given(st.integers(0, 2**48))
def test_the_trade_of_a_coalition_takes_nothing_from_anybody(seed: int) -> None:
    """Everybody else has at least what they had without it."""
    coalition = Coalition(random.Random(seed))
    honest = trading = None
    for inputs in World(seed).history():
        joined = coalition.joined(inputs)
        honest = settle(msgspec.structs.replace(joined, previous=honest)).books
        other = coalition.trading(joined)
        trading = settle(msgspec.structs.replace(other, previous=trading)).books
        for person in PEOPLE:
            assert trading.accounts.get(person, 0) >= honest.accounts.get(person, 0)
