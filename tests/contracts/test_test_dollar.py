"""The test network's token does what a token does, and mints for anybody within a bound."""

from __future__ import annotations

from tests.contracts.network import MANY, Network, key, refused

ALICE, BOB = key("alice").address, key("bob").address
NOBODY = "0x" + "0" * 40


def test_anybody_mints_up_to_a_million_dollars_a_call(network: Network) -> None:
    token = network.token
    most = token.MINT_MAX()
    assert (most, token.decimals()) == (10**12, 6)
    token.mint(ALICE, most, sender=BOB)
    assert token.balanceOf(ALICE) == token.totalSupply() == most
    refused(token.mint, ALICE, most + 1, why="dollar: too much at once")
    refused(token.mint, NOBODY, 1, why="dollar: zero address")


def test_tokens_move_by_their_owner_or_within_what_the_owner_allows(network: Network) -> None:
    token = network.token
    token.mint(ALICE, 100)
    token.transfer(BOB, 10, sender=ALICE)
    refused(token.transfer, BOB, 91, sender=ALICE, why="dollar: balance too small")
    refused(token.transfer, NOBODY, 1, sender=ALICE, why="dollar: zero address")
    refused(token.transferFrom, ALICE, BOB, 1, sender=BOB, why="dollar: not allowed")
    token.approve(BOB, 30, sender=ALICE)
    token.transferFrom(ALICE, BOB, 20, sender=BOB)
    assert token.allowance(ALICE, BOB) == 10
    refused(token.transferFrom, ALICE, BOB, 11, sender=BOB, why="dollar: not allowed")
    token.approve(BOB, MANY, sender=ALICE)
    token.transferFrom(ALICE, BOB, 20, sender=BOB)
    assert token.allowance(ALICE, BOB) == MANY
    assert (token.balanceOf(ALICE), token.balanceOf(BOB)) == (50, 50)
