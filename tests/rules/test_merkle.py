"""Merkle trees: their shapes by hand, and that only true lines have proofs."""

import doctest

import pytest

from isochrone.rules import merkle
from isochrone.schema.digests import keccak256
from isochrone.schema.errors import InvalidInput, NotFound

A, B, C = (bytes([n]) * 32 for n in (1, 2, 3))


def account(number: int) -> str:
    return f"0x{number:040x}"


def test_the_worked_examples_are_true() -> None:
    result = doctest.testmod(merkle)
    assert result.attempted >= 4
    assert result.failed == 0


def test_a_leaf_is_two_abi_words_hashed_twice() -> None:
    words = bytes(12) + bytes.fromhex("22" * 20) + (1_000_000).to_bytes(32, "big")
    assert merkle.leaf("0x" + "22" * 20, 1_000_000) == keccak256(keccak256(words))


def test_an_inner_node_cannot_pass_for_a_leaf() -> None:
    """Sixty-four bytes of two hashes under one hash are a node; a leaf has another hash around."""
    tree = merkle.levels([A, B])
    assert tree[-1][0] == keccak256(A + B)
    assert merkle.leaf(account(int.from_bytes(A[12:], "big")), 5) != keccak256(A + B)


def test_a_node_without_a_partner_moves_up() -> None:
    assert merkle.root([A, B, C]) == merkle.pair(merkle.pair(A, B), C)
    assert merkle.proof(merkle.levels([A, B, C]), 2) == (merkle.pair(A, B),)


def test_children_are_hashed_in_rising_order() -> None:
    assert merkle.pair(A, B) == merkle.pair(B, A) == keccak256(A + B)


def test_one_leaf_is_its_own_root_and_needs_no_proof() -> None:
    tree = merkle.AccountTree.of({account(7): 9})
    assert tree.claim(account(7)) == (9, ())
    assert merkle.verify(tree.root, merkle.leaf(account(7), 9), ())


def test_nothing_is_proved_against_no_leaves() -> None:
    tree = merkle.AccountTree.of({})
    assert tree.root == merkle.root([]) == merkle.EMPTY_ROOT
    assert not merkle.verify(merkle.EMPTY_ROOT, merkle.EMPTY_ROOT, ())
    with pytest.raises(NotFound):
        tree.claim(account(1))


def test_the_order_in_which_a_book_was_written_does_not_matter() -> None:
    lines = [(account(n), n * 10) for n in (5, 3, 200, 1, 4)]
    forth, back = merkle.AccountTree.of(dict(lines)), merkle.AccountTree.of(dict(lines[::-1]))
    assert forth == back
    assert list(forth.accounts) == sorted(forth.accounts)


@pytest.mark.parametrize("stranger", [account(0), account(4), account(99)])
def test_a_stranger_has_no_line(stranger: str) -> None:
    tree = merkle.AccountTree.of({account(3): 1, account(5): 2})
    with pytest.raises(NotFound):
        tree.claim(stranger)


@pytest.mark.parametrize("amount", [-1, 1 << 256])
def test_an_amount_has_256_bits(amount: int) -> None:
    with pytest.raises(InvalidInput):
        merkle.leaf(account(1), amount)


@pytest.mark.parametrize("index", [-1, 2])
def test_only_leaves_have_proofs(index: int) -> None:
    with pytest.raises(InvalidInput):
        merkle.proof(merkle.levels([A, B]), index)


def test_a_proof_longer_than_the_contract_takes_is_refused() -> None:
    long = [A] * (merkle.PROOF_HASHES_MAX + 1)
    assert not merkle.verify(merkle.rebuilt(B, long), B, long)
    assert merkle.verify(merkle.rebuilt(B, long[1:]), B, long[1:])
