"""Deposits: in by anybody, out by a thawed withdrawal, and keys that may spend them."""

from __future__ import annotations

import pytest
from tests.contracts.court import Court
from tests.contracts.network import DEPOSIT_THAW_S, DOLLAR, EPOCH_S, Network, boa, key, refused
from tests.contracts.till import DAY_S, OTHER_PURPOSE, PURPOSE, Till

from isochrone.schema import typed_data
from isochrone.schema.identity import compact


@pytest.fixture
def till(network: Network) -> Till:
    return Till(network)


def test_anybody_deposits_for_a_tenant_and_purposes_are_apart(till: Till) -> None:
    network, friend = till.network, key("friend")
    network.fund(friend, 30 * DOLLAR)
    network.vault.deposit(till.tenant.address, PURPOSE, 10 * DOLLAR, sender=friend.address)
    network.vault.deposit(till.tenant.address, OTHER_PURPOSE, 20 * DOLLAR, sender=friend.address)
    assert till.left() == 10 * DOLLAR
    assert till.left(purpose=OTHER_PURPOSE) == 20 * DOLLAR
    assert till.left(tenant=friend) == 0
    assert till.balance(friend) == 0
    assert till.solvent()


def test_a_withdrawal_waits_for_the_thaw(till: Till) -> None:
    till.deposit(10 * DOLLAR)
    vault, tenant = till.network.vault, till.tenant.address
    refused(vault.withdraw_deposit, PURPOSE, sender=tenant, why="vault: nothing thaws")
    vault.thaw_deposit(PURPOSE, 4 * DOLLAR, sender=tenant)
    amount, until = vault.thawing_of(tenant, PURPOSE)
    assert (amount, until) == (4 * DOLLAR, boa.env.timestamp + DEPOSIT_THAW_S)
    till.network.pass_time(DEPOSIT_THAW_S - 1)
    refused(vault.withdraw_deposit, PURPOSE, sender=tenant, why="vault: still thawing")
    till.network.pass_time(1)
    assert vault.withdraw_deposit(PURPOSE, sender=tenant) == 4 * DOLLAR
    assert till.balance(till.tenant) == 4 * DOLLAR
    assert till.left() == 6 * DOLLAR
    refused(vault.withdraw_deposit, PURPOSE, sender=tenant, why="vault: nothing thaws")
    assert till.solvent()


def test_only_the_tenant_thaws_its_own_and_no_more_than_it_has(till: Till) -> None:
    till.deposit(DOLLAR)
    vault = till.network.vault
    thief = key("thief").address
    refused(vault.thaw_deposit, PURPOSE, 1, sender=thief, why="vault: deposit too small")
    refused(
        vault.thaw_deposit,
        PURPOSE,
        DOLLAR + 1,
        sender=till.tenant.address,
        why="vault: deposit too small",
    )


def test_a_new_announcement_replaces_the_old_and_its_time(till: Till) -> None:
    till.deposit(10 * DOLLAR)
    vault, tenant = till.network.vault, till.tenant.address
    vault.thaw_deposit(PURPOSE, DOLLAR, sender=tenant)
    till.network.pass_time(DEPOSIT_THAW_S)
    vault.thaw_deposit(PURPOSE, 10 * DOLLAR, sender=tenant)
    refused(vault.withdraw_deposit, PURPOSE, sender=tenant, why="vault: still thawing")
    vault.thaw_deposit(PURPOSE, 0, sender=tenant)
    assert tuple(vault.thawing_of(tenant, PURPOSE)) == (0, 0)
    till.network.pass_time(DEPOSIT_THAW_S)
    refused(vault.withdraw_deposit, PURPOSE, sender=tenant, why="vault: nothing thaws")


def test_use_before_the_withdrawal_is_paid_from_what_thaws(till: Till) -> None:
    """A tenant that empties its deposit pays first; it gets the rest, not what it announced."""
    till.deposit(10 * DOLLAR)
    vault, tenant = till.network.vault, till.tenant.address
    vault.thaw_deposit(PURPOSE, 10 * DOLLAR, sender=tenant)
    till.network.pass_time(DEPOSIT_THAW_S)
    assert till.redeem(7 * DOLLAR) == 7 * DOLLAR
    assert vault.withdraw_deposit(PURPOSE, sender=tenant) == 3 * DOLLAR
    assert till.balance(till.tenant) == 3 * DOLLAR
    assert till.solvent()


def test_a_pause_stops_deposits_and_nothing_else(till: Till) -> None:
    network, vault, tenant = till.network, till.network.vault, till.tenant.address
    till.validators = network.validators(100)
    till.deposit(10 * DOLLAR)
    till.allow(DOLLAR)
    vault.thaw_deposit(PURPOSE, DOLLAR, sender=tenant)
    network.pass_time(DEPOSIT_THAW_S)
    Court(network).pause(network.epoch, till.validators)
    network.fund(till.tenant, DOLLAR)
    refused(vault.deposit, tenant, PURPOSE, 1, sender=tenant, why="vault: paused")
    assert till.redeem(DOLLAR, signer=till.spender) == DOLLAR
    vault.withdraw_deposit(PURPOSE, sender=tenant)
    vault.thaw_deposit(PURPOSE, DOLLAR, sender=tenant)
    vault.revoke(PURPOSE, till.spender.address, sender=tenant)
    payee = key("payee").address
    said = till.settle({payee: DOLLAR})
    assert till.claim(said, payee) == DOLLAR


def test_nobody_has_no_deposit(till: Till) -> None:
    """Signatures that are none recover to the zero address in naive code."""
    tenant = till.network.fund(till.tenant)
    zero = "0x" + "0" * 40
    refused(
        till.network.vault.deposit, zero, PURPOSE, 1, sender=tenant, why="vault: nobody's deposit"
    )


def test_a_key_spends_at_most_its_bound_a_day(till: Till) -> None:
    till.deposit(100 * DOLLAR)
    till.allow(3 * DOLLAR)
    assert till.redeem(2 * DOLLAR, signer=till.spender) == 2 * DOLLAR
    assert till.redeem(9 * DOLLAR, signer=till.spender) == DOLLAR
    refused(till.redeem, 9 * DOLLAR, signer=till.spender, why="vault: nothing to move")
    till.network.pass_time(DAY_S)
    assert till.redeem(9 * DOLLAR, signer=till.spender) == 3 * DOLLAR
    till.network.pass_time(DAY_S)
    assert till.redeem(9 * DOLLAR, signer=till.spender) == 3 * DOLLAR
    refused(till.redeem, 9 * DOLLAR, signer=till.spender, why="vault: voucher is spent")
    grant = till.network.vault.grant_of(till.tenant.address, PURPOSE, till.spender.address)
    assert (grant.per_day, grant.spent, grant.until) == (3 * DOLLAR, 3 * DOLLAR, 0)


def test_the_tenant_itself_has_no_bound(till: Till) -> None:
    till.deposit(100 * DOLLAR)
    assert till.redeem(100 * DOLLAR) == 100 * DOLLAR


def test_a_key_must_have_agreed_to_this_tenant_and_purpose(till: Till) -> None:
    vault, tenant, spender = till.network.vault, till.tenant.address, till.spender
    why = "vault: key does not consent"
    for consent in (
        till.consent(key("another")),
        till.consent(spender, purpose=OTHER_PURPOSE),
        compact(
            spender.sign(
                typed_data.spending_consent(
                    typed_data.Domain(chain_id=10, contract=till.network.domain.contract),
                    tenant,
                    PURPOSE,
                    spender.address,
                )
            )
        ),
    ):
        refused(vault.allow, PURPOSE, spender.address, 1, consent, sender=tenant, why=why)
    good = till.consent(spender)
    refused(vault.allow, PURPOSE, spender.address, 1, good, sender=key("thief").address, why=why)
    vault.allow(PURPOSE, spender.address, 1, good, sender=tenant)


@pytest.mark.parametrize("per_day", [0, 2**96, 2**256 - 1])
def test_a_bound_is_a_positive_amount(till: Till, per_day: int) -> None:
    refused(till.allow, per_day, why="vault: bound out of range")


def test_a_bound_rises_at_once_and_never_falls_in_force(till: Till) -> None:
    till.deposit(100 * DOLLAR)
    till.allow(2 * DOLLAR)
    till.redeem(2 * DOLLAR, signer=till.spender)
    till.allow(5 * DOLLAR)
    assert till.redeem(9 * DOLLAR, signer=till.spender) == 3 * DOLLAR
    refused(till.allow, DOLLAR, why="vault: revoke to lower the bound")


def test_a_revoked_key_counts_until_use_before_is_paid(till: Till) -> None:
    till.deposit(100 * DOLLAR)
    till.allow(2 * DOLLAR)
    vault, tenant, spender = till.network.vault, till.tenant.address, till.spender.address
    vault.revoke(PURPOSE, spender, sender=tenant)
    refused(vault.revoke, PURPOSE, spender, sender=tenant, why="vault: no such key")
    refused(till.allow, DOLLAR, why="vault: revoke to lower the bound")
    till.network.pass_time(DEPOSIT_THAW_S - 1)
    assert till.redeem(DOLLAR, signer=till.spender) == DOLLAR
    till.network.pass_time(1)
    refused(till.redeem, 2 * DOLLAR, signer=till.spender, why="vault: signer may not spend")
    till.network.pass_time(DAY_S)
    till.allow(DOLLAR)
    assert till.redeem(2 * DOLLAR, signer=till.spender) == DOLLAR


def test_lowering_after_the_bound_was_spent_leaves_nothing_for_that_day(till: Till) -> None:
    till.deposit(100 * DOLLAR)
    till.network.pass_time(DAY_S - boa.env.timestamp % DAY_S + 3600)  # one in the night
    till.allow(5 * DOLLAR)
    till.network.vault.revoke(PURPOSE, till.spender.address, sender=till.tenant.address)
    till.network.pass_time(DEPOSIT_THAW_S - 1)
    assert till.redeem(5 * DOLLAR, signer=till.spender) == 5 * DOLLAR
    till.network.pass_time(1)
    till.allow(2 * DOLLAR)
    refused(till.redeem, 9 * DOLLAR, signer=till.spender, why="vault: nothing to move")
    till.network.pass_time(DAY_S)
    assert till.redeem(9 * DOLLAR, signer=till.spender) == 2 * DOLLAR


def test_a_revocation_can_be_taken_back(till: Till) -> None:
    till.deposit(100 * DOLLAR)
    till.allow(2 * DOLLAR)
    till.network.vault.revoke(PURPOSE, till.spender.address, sender=till.tenant.address)
    till.allow(2 * DOLLAR)
    till.network.pass_time(2 * DEPOSIT_THAW_S)
    assert till.redeem(2 * DOLLAR, signer=till.spender) == 2 * DOLLAR


def test_nobody_revokes_what_is_not_theirs(till: Till) -> None:
    till.allow(DOLLAR)
    spender, thief = till.spender.address, key("thief").address
    refused(till.network.vault.revoke, PURPOSE, spender, sender=thief, why="vault: no such key")


def test_the_thaw_covers_the_settlement_of_earlier_use(till: Till) -> None:
    assert till.network.vault.deposit_thaw_s() >= 2 * EPOCH_S
