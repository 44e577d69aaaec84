"""The vault with settlement tokens that cheat: nothing is booked that did not arrive, nothing is
forgotten that did not leave, and a token that calls back finds the door locked.

The token is chosen once, at deployment, and an honest deployment takes an honest one; these tests
show that even then a cheating token finds no way to somebody else's books.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from tests.contracts.network import DEPOSIT_THAW_S, DOLLAR, boa, deploy, key, refused
from tests.contracts.till import PURPOSE, Till

from isochrone.schema import typed_data
from isochrone.schema.identity import compact

NOBODY = "0x" + "0" * 40
ANN = key("ann").address


@pytest.fixture
def hostile() -> Iterator[Till]:
    with boa.env.anchor():
        # titanoboa shows a contract's storage with a refusal, and mixes up what an earlier contract
        # at the same address had.
        boa.env.sstore_trace.clear()
        yield Till(deploy("tests/contracts/tokens/hostile.vy"))


@pytest.mark.parametrize(
    ("behaviour", "why"),
    [
        ((True, False, False, NOBODY), "vault: token kept a fee"),
        ((False, True, False, NOBODY), "vault: token refused"),
        ((False, False, True, NOBODY), "vault: token kept a fee"),
    ],
    ids=["keeps a fee", "answers false", "moves nothing"],
)
def test_what_does_not_arrive_whole_is_no_deposit(
    hostile: Till, behaviour: tuple[bool, bool, bool, str], why: str
) -> None:
    hostile.deposit(DOLLAR)
    hostile.network.token.behave(*behaviour)
    tenant = hostile.network.fund(hostile.tenant, DOLLAR)
    vault = hostile.network.vault
    refused(vault.deposit, tenant, PURPOSE, DOLLAR, sender=tenant, why=why)
    assert hostile.left() == DOLLAR


def test_a_withdrawal_that_is_refused_is_not_forgotten(hostile: Till) -> None:
    hostile.deposit(DOLLAR)
    vault, tenant = hostile.network.vault, hostile.tenant.address
    vault.thaw_deposit(PURPOSE, DOLLAR, sender=tenant)
    hostile.network.pass_time(DEPOSIT_THAW_S)
    hostile.network.token.behave(False, True, False, NOBODY)
    refused(vault.withdraw_deposit, PURPOSE, sender=tenant, why="vault: token refused")
    hostile.network.token.behave(False, False, False, NOBODY)
    assert vault.withdraw_deposit(PURPOSE, sender=tenant) == DOLLAR
    assert hostile.balance(tenant) == DOLLAR


def test_a_claim_that_is_refused_can_be_made_again_and_stops_nobody_else(hostile: Till) -> None:
    """A token that bars one account (as dollar tokens do) bars that account only."""
    hostile.fill_pot(2 * DOLLAR)
    hostile.validators = hostile.network.validators(100)
    bob = key("bob").address
    said = hostile.settle({ANN: DOLLAR, bob: DOLLAR})
    hostile.network.token.behave(False, False, False, ANN)
    refused(hostile.claim, said, ANN, why="hostile: refused")
    assert hostile.claim(said, bob) == DOLLAR
    hostile.network.token.behave(False, False, False, NOBODY)
    assert hostile.claim(said, ANN) == DOLLAR


def encoded(contract: object, name: str, *arguments: object) -> bytes:
    """Calldata of a contract's function."""
    return bytes(getattr(contract, name).prepare_calldata(*arguments))


def _redeem(till: Till) -> bytes:
    digest = typed_data.voucher(
        till.network.domain, till.network.token.address.lower(), PURPOSE, DOLLAR
    )
    signature = compact(till.spender.sign(digest))
    return encoded(
        till.network.vault, "redeem", till.network.token.address, PURPOSE, DOLLAR, signature
    )


def _deposit(till: Till) -> bytes:
    token = till.network.token.address
    return encoded(till.network.vault, "deposit", token, PURPOSE, DOLLAR)


ENTRANCES: dict[str, Callable[[Till], bytes]] = {
    "deposit": _deposit,
    "withdraw": lambda till: encoded(till.network.vault, "withdraw_deposit", PURPOSE),
    "thaw": lambda till: encoded(till.network.vault, "thaw_deposit", PURPOSE, 1),
    "redeem": _redeem,
    "deposit_of": lambda till: encoded(till.network.vault, "deposit_of", ANN, PURPOSE),
    "pot_paid": lambda till: encoded(till.network.vault, "pot_paid"),
}


@pytest.mark.parametrize("entrance", ENTRANCES)
def test_a_token_that_calls_back_finds_the_door_locked(hostile: Till, entrance: str) -> None:
    """The token itself is a tenant and comes back in the middle of its own withdrawal, deposit
    and claim."""
    token, vault = hostile.network.token, hostile.network.vault
    hostile.deposit(5 * DOLLAR)  # somebody else's money is there to be taken
    hostile.fill_pot(2 * DOLLAR)
    hostile.validators = hostile.network.validators(100)
    token.mint(token.address, 3 * DOLLAR)
    token.act(token.address, encoded(token, "approve", vault.address, 9 * DOLLAR))
    token.act(vault.address, _deposit(hostile))
    digest = typed_data.spending_consent(
        hostile.network.domain, token.address.lower(), PURPOSE, hostile.spender.address
    )
    consent = compact(hostile.spender.sign(digest))
    grant = encoded(vault, "allow", PURPOSE, hostile.spender.address, DOLLAR, consent)
    token.act(vault.address, grant)
    token.act(vault.address, encoded(vault, "thaw_deposit", PURPOSE, DOLLAR))
    said = hostile.settle({ANN: DOLLAR})
    hostile.network.pass_time(DEPOSIT_THAW_S)

    token.call_back_with(vault.address, ENTRANCES[entrance](hostile))
    token.act(vault.address, encoded(vault, "withdraw_deposit", PURPOSE))
    token.act(vault.address, _deposit(hostile))
    hostile.claim(said, ANN)
    assert token.called_back() == 3
    assert token.succeeded() == 0
    assert vault.deposit_of(token.address, PURPOSE) == DOLLAR
    assert hostile.left() == 5 * DOLLAR
    assert hostile.balance(vault.address) == (5 + 1 + 2 - 1) * DOLLAR


def test_a_token_that_returns_nothing_is_good_money() -> None:
    with boa.env.anchor():
        till = Till(deploy("tests/contracts/tokens/silent.vy"))
        till.deposit(3 * DOLLAR)
        till.redeem(DOLLAR)
        till.validators = till.network.validators(100)
        vault, tenant = till.network.vault, till.tenant.address
        assert till.claim(till.settle({ANN: DOLLAR}), ANN) == DOLLAR
        vault.thaw_deposit(PURPOSE, 2 * DOLLAR, sender=tenant)
        till.network.pass_time(DEPOSIT_THAW_S)
        vault.withdraw_deposit(PURPOSE, sender=tenant)
        assert till.balance(tenant) == 2 * DOLLAR
        assert till.balance(vault.address) == 0


def test_amounts_that_no_money_has_are_refused(hostile: Till) -> None:
    """A token that mints without end cannot push one packed field into the next."""
    hostile.deposit(2**96 - 1)
    tenant = hostile.network.fund(hostile.tenant, 1)
    why = "vault: amount out of range"
    refused(hostile.network.vault.deposit, tenant, PURPOSE, 1, sender=tenant, why=why)
    refused(hostile.redeem, 2**96 - 1, why="vault: pot is full")
