from __future__ import annotations

import pytest
from tests.contracts.court import Court
from tests.contracts.network import DOLLAR, PROVIDER, VALIDATOR, Network, key, refused, signatures

from isochrone.schema import typed_data
from isochrone.schema.identity import PrivateKey

PURPOSE = typed_data.purpose_of("0xtenant.chat")


@pytest.fixture
def court(network: Network) -> Court:
    return Court(network)


def test_two_thirds_of_the_validators_pause_and_it_ends_by_itself(court: Court) -> None:
    network, council = court.network, court.network.council
    validators = network.validators(100, 100, 100)
    epoch = network.epoch
    assert not council.paused()
    digest = typed_data.pause(network.domain, epoch)
    refused(council.pause, epoch, signatures(validators[:1], digest), why="council: no quorum")
    court.pause(epoch, validators[:2])
    assert council.paused()
    network.pass_epochs(council.PAUSE_EPOCHS() - 1)
    assert council.paused()
    network.pass_epochs(1)
    assert not council.paused()


def test_a_pause_needs_fresh_signatures_and_rests_as_long_as_it_lasted(court: Court) -> None:
    network, council = court.network, court.network.council
    validators = network.validators(100)
    epoch, lasts = network.epoch, council.PAUSE_EPOCHS()
    signed = signatures(validators, typed_data.pause(network.domain, epoch))
    refused(council.pause, epoch + 1, signed, why="council: not this epoch")
    council.pause(epoch, signed)
    network.pass_epochs(1)
    refused(council.pause, epoch, signed, why="council: not this epoch")
    network.pass_epochs(2 * lasts - 2)
    digest = typed_data.pause(network.domain, network.epoch)
    refused(council.pause, network.epoch, signatures(validators, digest), why="paused too recently")
    network.pass_epochs(1)
    court.pause(network.epoch, validators)
    assert council.paused()


def test_providers_and_strangers_cannot_pause(court: Court) -> None:
    network = court.network
    network.validators(1)
    rich = court.providers(1_000_000)
    digest = typed_data.pause(network.domain, network.epoch)
    signed = signatures([*rich, key("nobody")], digest)
    refused(network.council.pause, network.epoch, signed, why="council: no quorum")


def test_without_validators_nobody_pauses(court: Court) -> None:
    refused(court.network.council.pause, court.network.epoch, [], why="council: no quorum")


def test_a_pause_stops_new_bonds_and_deposits_and_nothing_that_leaves(court: Court) -> None:
    network, tenant, provider = court.network, key("tenant"), key("provider")
    validators = network.validators(100, 100)
    network.fund(tenant, 100 * DOLLAR)
    network.vault.deposit(tenant.address, PURPOSE, 60 * DOLLAR, sender=tenant.address)
    network.vault.thaw_deposit(PURPOSE, 20 * DOLLAR, sender=tenant.address)
    network.bond(provider, PROVIDER, 100 * DOLLAR)
    network.bonds.thaw(PROVIDER, 40 * DOLLAR, sender=provider.address)
    network.pass_time(network.bonds.thaw_s())
    court.pause(network.epoch, validators)

    _nothing_enters(network, tenant)

    network.bonds.withdraw(PROVIDER, sender=provider.address)
    network.bonds.thaw(PROVIDER, 60 * DOLLAR, sender=provider.address)
    network.vault.withdraw_deposit(PURPOSE, sender=tenant.address)
    assert court.balance(provider) == 40 * DOLLAR
    assert court.balance(tenant) == 60 * DOLLAR
    spent = typed_data.voucher(network.domain, tenant.address, PURPOSE, 5 * DOLLAR)
    (signature,) = signatures([tenant], spent)
    network.vault.redeem(tenant.address, PURPOSE, 5 * DOLLAR, signature)
    assert network.vault.pot_received() == 5 * DOLLAR


def _nothing_enters(network: Network, tenant: PrivateKey) -> None:
    refused(
        network.vault.deposit,
        tenant.address,
        PURPOSE,
        DOLLAR,
        why="paused",
        sender=tenant.address,
    )
    late = key("late")
    network.fund(late, DOLLAR)
    refused(
        network.bonds.register,
        VALIDATOR,
        late.address,
        network.consent(late.address, late),
        DOLLAR,
        why="paused",
        sender=late.address,
    )
