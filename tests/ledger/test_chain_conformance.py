"""One suite for the chain over JSON-RPC and its twin in memory, and for their contracts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.ledger.worlds import DOLLAR, EPOCH_S, MIN_BOND, AnvilWorld, TwinWorld, World, key

from isochrone.ledger.anvil import Anvil, AnvilSpec
from isochrone.ledger.chain import Contract
from isochrone.ledger.errors import ChainRewound, Reverted
from isochrone.rules import merkle
from isochrone.schema import typed_data
from isochrone.schema.deployment import Terms
from isochrone.schema.errors import Conflict, NotFound
from isochrone.schema.identity import PrivateKey
from isochrone.schema.settlement import RootStatement

PURPOSE = typed_data.purpose_of("0xtenant.service")
SPENDER = key("controller")


@pytest.fixture(params=["real", "twin"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    if request.param == "twin":
        yield TwinWorld()
        return
    anvil = Anvil.start(AnvilSpec(state=tmp_path / "state.json", block_s=0))
    yield AnvilWorld(anvil.url)
    anvil.stop()


def refused(reason: str, call: Callable[..., Any], *args: Any, **options: Any) -> None:
    with pytest.raises(Reverted) as refusal:
        call(*args, **options)
    assert refusal.value.reason == reason


# --- the chain itself --------------------------------------------------------------------------


def test_blocks_are_linked_and_the_final_one_lies_below_the_head(world: World) -> None:
    world.mine(4)
    head = world.chain.head()
    for number in range(1, head.number + 1):
        assert world.chain.block(number).parent == world.chain.block(number - 1).hash
    assert world.chain.final() == world.chain.block(head.number - 2)
    with pytest.raises(ChainRewound):
        world.chain.block(head.number + 1)


def test_time_passes_in_blocks(world: World) -> None:
    before = world.chain.head()
    world.pass_time(1000, blocks=2)
    after = world.chain.head()
    assert after.number == before.number + 2
    assert 1000 <= after.timestamp_s - before.timestamp_s <= 1010


def test_views_are_of_the_block_that_is_named(world: World) -> None:
    world.fund(key("a"), 5)
    then = world.chain.head()
    world.fund(key("a"), 6)
    token = world.contracts.token
    assert token.balance_of(key("a").address) == 11 * DOLLAR
    assert token.balance_of(key("a").address, at=then) == 5 * DOLLAR


def test_events_are_told_in_order_with_their_blocks(world: World) -> None:
    token = world.contracts.token.contract
    first = world.chain.head().number + 1
    receipts = [
        world.chain.act(key("deployer"), token, "mint", key("a").address, i) for i in (1, 2)
    ]
    last = world.chain.head()
    events = world.chain.events([token], first, last)
    assert [event.args["value"] for event in events] == [1, 2]
    assert [event.block for event in events] == [receipt.block for receipt in receipts]
    assert [event.block_hash for event in events] == [receipt.block_hash for receipt in receipts]
    assert events[0] == receipts[0].events[0]
    assert events[0].args["receiver"] == key("a").address


def test_a_block_that_was_replaced_is_told(world: World) -> None:
    world.fund(key("a"), 5)
    old = world.chain.head()
    world.reorganise(1)
    assert world.contracts.token.balance_of(key("a").address) == 0
    with pytest.raises(ChainRewound):
        world.chain.events([world.contracts.token.contract], 0, old)


def test_final_waits(world: World) -> None:
    token = world.contracts.token.contract
    stop = threading.Event()

    def mine() -> None:
        while isinstance(world, AnvilWorld) and not stop.wait(0.02):
            world.mine(1)

    miner = threading.Thread(target=mine)
    miner.start()
    receipt = world.chain.act(key("deployer"), token, "mint", key("a").address, 1, final=True)
    stop.set()
    miner.join()
    assert world.chain.final().number >= receipt.block


def test_a_contract_lands_where_it_was_said_or_is_refused(world: World) -> None:
    with pytest.raises(Conflict):
        world.chain.create(key("deployer"), Contract("test_dollar", "0x" + "11" * 20))


# --- bonds -------------------------------------------------------------------------------------


def test_a_bond_from_posting_to_withdrawal(world: World) -> None:
    bonds, account = world.contracts.bonds, key("provider")
    world.pass_epochs(1)
    world.bond(account, "provider", 5)
    epoch = world.epoch()
    assert bonds.stake_of(account.address, "provider") == 5 * DOLLAR
    assert bonds.voting_bond(account.address, "provider", epoch + 1) == 0
    assert bonds.total_voting("provider", epoch + 2) == 5 * DOLLAR
    assert bonds.voting_key(account.address, "provider") == account.address
    refused("bonds: nothing", bonds.top_up, account, "provider", 0)
    world.pass_epochs(2)
    world.fund(account, 3)
    bonds.top_up(account, "provider", 3 * DOLLAR)
    refused("bonds: too much", bonds.thaw, account, "provider", 9 * DOLLAR)
    bonds.thaw(account, "provider", 4 * DOLLAR)
    refused("bonds: already thawing", bonds.thaw, account, "provider", 1)
    parts = bonds.bond_of(account.address, "provider")
    assert (parts.settled, parts.fresh, parts.thawing) == (4 * DOLLAR, 0, 4 * DOLLAR)
    refused("bonds: still thawing", bonds.withdraw, account, "provider")
    world.pass_time(bonds.thaw_s())
    bonds.withdraw(account, "provider")
    assert world.contracts.token.balance_of(account.address) == 4 * DOLLAR
    refused("bonds: nothing thawing", bonds.withdraw, account, "provider")
    refused("bonds: not registered", bonds.thaw, key("stranger"), "provider", 1)


def test_a_bond_is_at_least_the_minimum(world: World) -> None:
    bonds, account = world.contracts.bonds, key("provider")
    assert bonds.min_bond() == MIN_BOND
    world.fund(account, 100)
    refused("bonds: too little", bonds.register, account, "provider", MIN_BOND - 1)
    bonds.register(account, "provider", MIN_BOND)
    bonds.top_up(account, "provider", 2)
    refused("bonds: too little left", bonds.thaw, account, "provider", 3)
    bonds.thaw(account, "provider", MIN_BOND + 2)
    refused("bonds: too little", bonds.top_up, account, "provider", MIN_BOND - 1)
    bonds.top_up(account, "provider", MIN_BOND)


def test_machines_keys_belong_to_their_account_for_ever(world: World) -> None:
    bonds, account, machine = world.contracts.bonds, key("provider"), key("machine")
    consent = (machine.address, bonds.consent(account.address, machine))
    world.ether(account)
    refused("bonds: not registered", bonds.add_keys, account, "provider", [consent])
    world.bond(account, "provider", 5)
    bonds.add_keys(account, "provider", [consent])
    bonds.add_keys(account, "provider", [consent])
    assert bonds.account_of("provider", machine.address) == account.address
    assert bonds.account_of("operator", machine.address) == ""
    world.bond(key("thief"), "provider", 5)
    stolen = (machine.address, bonds.consent(key("thief").address, machine))
    refused("bonds: key taken", bonds.add_keys, key("thief"), "provider", [stolen])
    forged = (key("other").address, consent[1])
    refused("bonds: no consent", bonds.add_keys, account, "provider", [forged])


def test_two_roots_of_one_validator_cost_its_bond(world: World) -> None:
    bonds, liar, finder = world.contracts.bonds, key("liar"), key("finder")
    voter = key("liar's voter")
    world.bond(liar, "validator", 100, voting_key=voter)
    world.ether(finder)
    a, (signature_a,) = world.signed_root(0, 5, voter, salt="a")
    b, (signature_b,) = world.signed_root(0, 5, voter, salt="b")
    refused("bonds: the same twice", bonds.slash_root, finder, a, signature_a, a, signature_a)
    bonds.thaw(liar, "validator", 60 * DOLLAR)
    bonds.slash_root(finder, a, signature_a, b, signature_b)
    assert bonds.stake_of(liar.address, "validator") == 0
    assert world.contracts.token.balance_of(finder.address) == DOLLAR
    assert bonds.total_voting("validator", world.epoch()) == 0
    refused("bonds: nothing to slash", bonds.slash_root, finder, a, signature_a, b, signature_b)
    bonds.burn(finder, "validator")
    assert world.contracts.token.balance_of(bonds.contract.address) == 0
    refused("bonds: nothing to burn", bonds.burn, finder, "validator")


def test_two_heads_of_one_machine_cost_its_accounts_bond(world: World) -> None:
    bonds, account, machine = world.contracts.bonds, key("provider"), key("machine")
    world.bond(account, "provider", 100)
    consent = (machine.address, bonds.consent(account.address, machine))
    bonds.add_keys(account, "provider", [consent])
    domain, tally = world.deployment.domain, b"t" * 32
    a, b = (
        (head, machine.sign(typed_data.tally_head(domain, tally, 3, head)))
        for head in (b"a" * 32, b"b" * 32)
    )
    bonds.slash_tally(account, "provider", tally, 3, a, b)
    assert bonds.stake_of(account.address, "provider") == 0
    assert world.contracts.token.balance_of(account.address) == DOLLAR


# --- vault -------------------------------------------------------------------------------------


def test_a_deposit_is_spent_by_vouchers_or_withdrawn(world: World) -> None:
    vault, tenant = world.contracts.vault, key("tenant")
    world.deposit(tenant, PURPOSE, 10)
    vault.redeem(tenant, world.voucher(tenant, PURPOSE, 4 * DOLLAR))
    refused(
        "vault: voucher is spent", vault.redeem, tenant, world.voucher(tenant, PURPOSE, 4 * DOLLAR)
    )
    assert vault.pot_received() == vault.redeemed_of(tenant.address, PURPOSE) == 4 * DOLLAR
    vault.thaw_deposit(tenant, PURPOSE, 5 * DOLLAR)
    assert vault.thawing_of(tenant.address, PURPOSE)[0] == 5 * DOLLAR
    refused("vault: still thawing", vault.withdraw_deposit, tenant, PURPOSE)
    vault.redeem(tenant, world.voucher(tenant, PURPOSE, 9 * DOLLAR))
    world.pass_time(vault.deposit_thaw_s())
    vault.withdraw_deposit(tenant, PURPOSE)
    assert world.contracts.token.balance_of(tenant.address) == 1 * DOLLAR
    assert vault.deposit_of(tenant.address, PURPOSE) == 0
    refused(
        "vault: nothing to move", vault.redeem, tenant, world.voucher(tenant, PURPOSE, 99 * DOLLAR)
    )


def test_a_spending_key_is_bounded_and_revocable(world: World) -> None:
    vault, tenant = world.contracts.vault, key("tenant")
    world.deposit(tenant, PURPOSE, 10)
    digest = typed_data.spending_consent(
        world.deployment.domain, tenant.address, PURPOSE, SPENDER.address
    )

    def spent(units: int) -> Any:
        from isochrone.ledger.vouchers import sign_voucher

        domain = world.deployment.domain
        return sign_voucher(domain, SPENDER, tenant.address, PURPOSE.hex(), units)

    refused("vault: signer may not spend", vault.redeem, tenant, spent(DOLLAR))
    vault.allow(tenant, PURPOSE, SPENDER.address, 2 * DOLLAR, SPENDER.sign(digest))
    vault.redeem(tenant, spent(3 * DOLLAR))
    assert vault.redeemed_of(tenant.address, PURPOSE) == 2 * DOLLAR
    assert vault.grant_of(tenant.address, PURPOSE, SPENDER.address).spent == 2 * DOLLAR
    refused("vault: nothing to move", vault.redeem, tenant, spent(3 * DOLLAR))
    vault.revoke(tenant, PURPOSE, SPENDER.address)
    refused("vault: no such key", vault.revoke, tenant, PURPOSE, SPENDER.address)
    world.pass_time(vault.deposit_thaw_s())
    refused("vault: signer may not spend", vault.redeem, tenant, spent(3 * DOLLAR))


def books(world: World, epoch: int, accounts: dict[str, int], *signers: PrivateKey) -> Any:
    """A root over real leaves: statement and signatures."""
    root = merkle.root(merkle.leaves_of(accounts))
    statement = RootStatement(
        epoch=epoch,
        round=world.contracts.vault.min_round(epoch),
        root=root.hex(),
        total_microusd=sum(accounts.values()),
        manifest="22" * 32,
        rules="33" * 32,
    )
    digest = typed_data.root(
        world.deployment.domain,
        epoch,
        statement.round,
        root,
        statement.total_microusd,
        bytes.fromhex(statement.manifest),
        bytes.fromhex(statement.rules),
    )
    return statement, [signer.sign(digest) for signer in signers]


def test_a_root_is_posted_challenged_and_claimed(world: World) -> None:
    vault, tenant, provider = world.contracts.vault, key("tenant"), key("provider")
    validators = [key(f"validator {i}") for i in range(3)]
    for validator in validators:
        world.bond(validator, "validator", 10)
    world.bond(provider, "provider", 10)
    world.deposit(tenant, PURPOSE, 10)
    vault.redeem(tenant, world.voucher(tenant, PURPOSE, 4 * DOLLAR))
    world.pass_epochs(3)
    epoch = world.epoch()
    accounts = {provider.address: 3 * DOLLAR, tenant.address: 1}
    ask = (vault.post_root, tenant)
    refused("vault: epoch has not ended", *ask, *books(world, epoch, accounts, *validators))
    refused("vault: no quorum", *ask, *books(world, epoch - 1, accounts, validators[0]))
    too_much = {provider.address: 5 * DOLLAR}
    refused("vault: total is above the pot", *ask, *books(world, epoch - 1, too_much, *validators))
    vault.post_root(tenant, *books(world, epoch - 1, accounts, *validators[:2]))
    refused("vault: epoch is settled", *ask, *books(world, epoch - 1, accounts, *validators))
    standing = vault.root_of(epoch - 1)
    assert standing is not None
    assert not standing.final
    leaves = merkle.leaves_of(accounts)
    place = sorted(accounts).index(provider.address)
    proof = merkle.proof(merkle.levels(leaves), place)
    claim = (vault.claim, tenant, provider.address, 3 * DOLLAR, proof)
    refused("vault: no root is final", *claim)

    veto = typed_data.veto(world.deployment.domain, epoch - 1, 0, bytes.fromhex(standing.root))
    vault.veto(tenant, epoch - 1, 0, standing.root, [provider.sign(veto)])
    assert vault.root_of(epoch - 1) is None
    assert vault.min_round(epoch - 1) == 1
    vault.post_root(tenant, *books(world, epoch - 1, accounts, *validators))
    world.pass_epochs(vault.challenge_epochs() + 1)
    assert vault.final_epoch() == epoch - 1
    refused("vault: no pending root", vault.veto, tenant, epoch - 1, 1, standing.root, [])
    vault.claim(*claim[1:])
    assert world.contracts.token.balance_of(provider.address) == 3 * DOLLAR
    assert vault.claimed_of(provider.address) == vault.pot_paid() == 3 * DOLLAR
    refused("vault: nothing to claim", *claim)
    refused("vault: not under the newest final root", vault.claim, tenant, tenant.address, 2, proof)


# --- council -----------------------------------------------------------------------------------


def test_a_parameter_changes_for_later_epochs_only(world: World) -> None:
    council, voter = world.contracts.council, key("voter")
    world.bond(voter, "provider", 10)
    world.pass_epochs(2)
    assert council.terms(0) == Terms()
    refused("council: out of bounds", council.propose, voter, "fee_bps", 201)
    refused("council: no such parameter", council.propose, voter, "moon", 1)
    proposal = council.propose(voter, "fee_bps", 100)
    refused("council: not passed", council.execute, voter, proposal)
    digest = typed_data.resolution(world.deployment.domain, proposal, True)
    council.support(voter, proposal, [voter.sign(digest)])
    assert council.proposal(proposal).support == 10 * DOLLAR
    refused("council: timelocked", council.execute, voter, proposal)
    world.pass_time(council.timelock_s())
    council.execute(voter, proposal)
    epoch = world.epoch()
    assert council.parameter("fee_bps") == council.parameter_at("fee_bps", epoch + 1) == 200
    assert council.terms(epoch + 2).fee_bps == 100
    with pytest.raises(NotFound):
        council.proposal(1)


def test_a_pause_stops_deposits_and_bonds_only(world: World) -> None:
    council, vault, validator = world.contracts.council, world.contracts.vault, key("validator 0")
    world.bond(validator, "validator", 10)
    world.deposit(validator, PURPOSE, 2)
    world.pass_epochs(2)
    digest = typed_data.pause(world.deployment.domain, world.epoch())
    council.pause(validator, world.epoch(), [validator.sign(digest)])
    assert council.paused()
    world.fund(validator, 1)
    refused("vault: paused", vault.deposit, validator, validator.address, PURPOSE, DOLLAR)
    refused("bonds: paused", world.contracts.bonds.register, validator, "provider", DOLLAR)
    vault.thaw_deposit(validator, PURPOSE, DOLLAR)
    world.pass_time(vault.deposit_thaw_s())
    vault.withdraw_deposit(validator, PURPOSE)
    world.pass_time(80 * EPOCH_S)
    assert not council.paused()
