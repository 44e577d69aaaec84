"""Bonds over tokens that cheat: what does not arrive whole is no stake, no call comes back in."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from tests.contracts.network import (
    DEAD,
    THAW_S,
    VALIDATOR,
    Network,
    boa,
    deploy,
    key,
    refused,
)

from isochrone.schema import typed_data
from isochrone.schema.identity import compact

ALICE = key("alice")
STAKE = 10**9
NOBODY = "0x" + "0" * 40


@pytest.fixture
def hostile() -> Iterator[Network]:
    with boa.env.anchor():
        yield deploy("tests/contracts/tokens/hostile.vy")


@pytest.mark.parametrize(
    ("behaviour", "why"),
    [
        ((True, False, False, NOBODY), "bonds: not paid whole"),
        ((False, True, False, NOBODY), "bonds: not paid"),
        ((False, False, True, NOBODY), "bonds: not paid whole"),
    ],
    ids=["keeps a fee", "answers false", "moves nothing"],
)
def test_what_does_not_arrive_whole_is_no_stake(
    hostile: Network, behaviour: tuple[bool, bool, bool, str], why: str
) -> None:
    hostile.bond(ALICE, VALIDATOR, STAKE)
    hostile.token.behave(*behaviour)
    hostile.fund(ALICE, STAKE)
    refused(hostile.bonds.top_up, VALIDATOR, STAKE, sender=ALICE.address, why=why)
    consent = hostile.consent(ALICE.address, ALICE)
    refused(
        hostile.bonds.register, VALIDATOR, ALICE.address, consent, STAKE,
        sender=ALICE.address, why=why,
    )  # fmt: skip
    assert hostile.bonds.stake_of(ALICE.address, VALIDATOR) == STAKE
    assert hostile.bonds.total_voting(VALIDATOR, 2) == STAKE


def test_a_payment_that_is_refused_is_not_forgotten(hostile: Network) -> None:
    hostile.bond(ALICE, VALIDATOR, STAKE)
    hostile.bonds.thaw(VALIDATOR, STAKE, sender=ALICE.address)
    hostile.pass_time(THAW_S)
    hostile.token.behave(False, True, False, NOBODY)
    refused(hostile.bonds.withdraw, VALIDATOR, sender=ALICE.address, why="bonds: not paid")
    hostile.token.behave(False, False, False, NOBODY)
    hostile.bonds.withdraw(VALIDATOR, sender=ALICE.address)
    assert hostile.token.balanceOf(ALICE.address) == STAKE


def test_a_token_that_refuses_the_grave_saves_no_liar(hostile: Network) -> None:
    hostile.bond(ALICE, VALIDATOR, STAKE)
    hostile.token.behave(False, False, False, DEAD)
    bodies = [(bytes([i]) * 32, 0, bytes(32), bytes(32)) for i in (1, 2)]
    signed = [compact(ALICE.sign(typed_data.root(hostile.domain, 1, 0, *one))) for one in bodies]
    hostile.bonds.slash_root(
        1, 0, bodies[0], signed[0], bodies[1], signed[1], sender=key("b").address
    )
    assert hostile.bonds.stake_of(ALICE.address, VALIDATOR) == 0
    assert hostile.token.balanceOf(key("b").address) == STAKE // 100
    refused(hostile.bonds.burn, VALIDATOR, why="hostile: refused")
    assert hostile.bonds.to_burn(VALIDATOR) == STAKE - STAKE // 100


def test_the_largest_bonds_burn_one_after_the_other(hostile: Network) -> None:
    """A role's forfeit stake has one slot's room: the largest bond there can be."""
    largest = 2**52 - 1
    finder = key("finder").address
    for liar in (ALICE, key("bob")):
        hostile.bond(liar, VALIDATOR, largest)
    proofs = []
    for liar in (ALICE, key("bob")):
        bodies = [(bytes([i]) * 32, 0, bytes(32), bytes(32)) for i in (1, 2)]
        signed = [compact(liar.sign(typed_data.root(hostile.domain, 1, 0, *one))) for one in bodies]
        proofs.append((1, 0, bodies[0], signed[0], bodies[1], signed[1]))
    hostile.bonds.slash_root(*proofs[0], sender=finder)
    refused(hostile.bonds.slash_root, *proofs[1], sender=finder, why="bonds: burn first")
    hostile.bonds.burn(VALIDATOR, sender=finder)
    hostile.bonds.slash_root(*proofs[1], sender=finder)
    assert hostile.bonds.stake_of(key("bob").address, VALIDATOR) == 0


def encoded(contract: object, name: str, *arguments: object) -> bytes:
    """Calldata of a contract's function."""
    return bytes(getattr(contract, name).prepare_calldata(*arguments))


ENTRANCES: dict[str, Callable[[Network], bytes]] = {
    "withdraw": lambda it: encoded(it.bonds, "withdraw", VALIDATOR),
    "thaw": lambda it: encoded(it.bonds, "thaw", VALIDATOR, 1),
    "top_up": lambda it: encoded(it.bonds, "top_up", VALIDATOR, 1),
    "burn": lambda it: encoded(it.bonds, "burn", VALIDATOR),
    "weigh": lambda it: encoded(it.bonds, "weigh", VALIDATOR, 0, []),
    "stake_of": lambda it: encoded(it.bonds, "stake_of", it.token.address, VALIDATOR),
}


@pytest.mark.parametrize("entrance", ENTRANCES)
def test_a_token_that_calls_back_finds_the_door_locked(hostile: Network, entrance: str) -> None:
    """The token itself is a bonded account and comes back in the middle of its own withdrawal."""
    token, bonds = hostile.token, hostile.bonds
    voter = key("the token's voter")
    token.mint(token.address, 3 * STAKE)
    token.act(token.address, encoded(token, "approve", bonds.address, 3 * STAKE))
    consent = hostile.consent(token.address, voter)
    token.act(bonds.address, encoded(bonds, "register", VALIDATOR, voter.address, consent, STAKE))
    hostile.bond(ALICE, VALIDATOR, STAKE)  # somebody else's money is there to be taken
    token.act(bonds.address, encoded(bonds, "thaw", VALIDATOR, STAKE))
    hostile.pass_time(THAW_S)

    token.call_back_with(bonds.address, ENTRANCES[entrance](hostile))
    token.act(bonds.address, encoded(bonds, "withdraw", VALIDATOR))
    token.act(bonds.address, encoded(bonds, "register", VALIDATOR, voter.address, consent, STAKE))
    assert token.called_back() == 2
    assert token.succeeded() == 0
    assert token.balanceOf(bonds.address) == 2 * STAKE
    assert bonds.stake_of(token.address, VALIDATOR) == bonds.stake_of(ALICE.address, VALIDATOR)


def test_a_token_that_returns_nothing_is_good_money() -> None:
    with boa.env.anchor():
        network = deploy("tests/contracts/tokens/silent.vy")
        network.bond(ALICE, VALIDATOR, STAKE)
        network.bonds.thaw(VALIDATOR, STAKE, sender=ALICE.address)
        network.pass_time(THAW_S)
        network.bonds.withdraw(VALIDATOR, sender=ALICE.address)
        assert network.token.balanceOf(ALICE.address) == STAKE
