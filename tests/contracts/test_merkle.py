"""The contracts' Merkle module computes what `isochrone.rules.merkle` computes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.contracts.network import source

from isochrone.rules import merkle

HARNESS = "tests/contracts/merkle_harness.vy"
hashes = st.binary(min_size=32, max_size=32)
accounts = st.integers(0, 2**160 - 1).map(lambda number: f"0x{number:040x}")


@pytest.fixture(scope="module")
def contract() -> Any:
    return source(HARNESS).deploy()


@settings(max_examples=40)
@given(accounts, st.integers(0, 2**256 - 1))
def test_leaves_agree(contract: Any, account: str, cumulative: int) -> None:
    assert bytes(contract.leaf(account, cumulative)) == merkle.leaf(account, cumulative)


@settings(max_examples=60)
@given(hashes, st.lists(hashes, max_size=merkle.PROOF_HASHES_MAX))
def test_rebuilt_roots_agree(contract: Any, leaf: bytes, proof: list[bytes]) -> None:
    assert bytes(contract.rebuilt(leaf, proof)) == merkle.rebuilt(leaf, proof)


@pytest.mark.parametrize("left", [bytes(32), b"\x7f" + bytes(31), b"\xff" * 32])
def test_equal_and_extreme_siblings_agree(contract: Any, left: bytes) -> None:
    for right in (left, bytes(31) + b"\x01", b"\x80" + bytes(31)):
        assert bytes(contract.rebuilt(left, [right])) == merkle.pair(left, right)


@settings(max_examples=15)
@given(st.dictionaries(accounts, st.integers(0, 2**96), min_size=1, max_size=24))
def test_every_proof_of_a_book_leads_to_its_root(contract: Any, book: dict[str, int]) -> None:
    tree = merkle.AccountTree.of(book)
    for account in book:
        cumulative, proof = tree.claim(account)
        leaf = contract.leaf(account, cumulative)
        assert bytes(contract.rebuilt(leaf, list(proof))) == tree.root
