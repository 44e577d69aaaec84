"""Claims: everything owed since the beginning by one proof, once, and never more than the pot."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.contracts.network import DOLLAR, Network, boa, key, refused
from tests.contracts.till import CHALLENGE_EPOCHS, Till

from isochrone.rules import merkle
from isochrone.rules.merkle import AccountTree

ANN, BOB, EVE = (key(name).address for name in ("ann", "bob", "eve"))


@pytest.fixture
def till(network: Network) -> Till:
    """One validator, and ten dollars in the pot."""
    till = Till(network)
    till.fill_pot(10 * DOLLAR)
    till.validators = network.validators(100)
    return till


def test_anybody_claims_for_an_account_and_the_account_is_paid(till: Till) -> None:
    said = till.settle({ANN: 3 * DOLLAR, BOB: 2 * DOLLAR})
    assert till.claim(said, ANN) == 3 * DOLLAR
    assert till.balance(ANN) == 3 * DOLLAR
    assert till.balance(key("anybody")) == 0
    assert till.network.vault.claimed_of(ANN) == 3 * DOLLAR
    assert till.network.vault.pot_paid() == 3 * DOLLAR
    assert till.solvent()


def test_a_second_claim_of_the_same_root_is_refused(till: Till) -> None:
    said = till.settle({ANN: 3 * DOLLAR, BOB: 2 * DOLLAR})
    till.claim(said, ANN)
    refused(till.claim, said, ANN, why="vault: nothing to claim")
    assert till.balance(ANN) == 3 * DOLLAR


def test_one_proof_claims_all_that_was_left_unclaimed(till: Till) -> None:
    till.settle({ANN: 1, BOB: 1})
    till.settle({ANN: 3, BOB: 2})
    newest = till.settle({ANN: 7, BOB: 2})
    assert till.claim(newest, ANN) == 7
    assert till.claim(newest, BOB) == 2
    later = till.settle({ANN: 8, BOB: 2})
    assert till.claim(later, ANN) == 1
    refused(till.claim, later, BOB, why="vault: nothing to claim")


def test_only_the_newest_final_root_counts(till: Till) -> None:
    old = till.settle({ANN: 5})
    new = till.post(till.statement({ANN: 3, BOB: 4}))
    refused(till.claim, new, ANN, why="vault: not under the newest final root")
    till.network.pass_epochs(CHALLENGE_EPOCHS + 1)
    refused(till.claim, old, ANN, why="vault: not under the newest final root")
    assert till.claim(new, ANN) == 3


def test_before_any_root_is_final_nothing_is_paid(till: Till) -> None:
    said = till.post(till.statement({ANN: 5}))
    refused(till.claim, said, ANN, why="vault: no root is final")


def test_a_wrong_amount_account_or_proof_is_refused(till: Till) -> None:
    said = till.settle({ANN: 5, BOB: 3, EVE: 1})
    amount, proof = said.tree.claim(ANN)
    for account, claimed, hashes in (
        (ANN, amount + 1, proof),
        (EVE, amount, proof),
        (ANN, amount, proof[:-1]),
        (ANN, amount, [*proof, bytes(32)]),
        (ANN, amount, [bytes(32) for _ in proof]),
    ):
        refused(
            till.network.vault.claim,
            account,
            claimed,
            list(hashes),
            why="vault: not under the newest final root",
        )


def test_dust_is_paid_to_the_unit(till: Till) -> None:
    said = till.settle({ANN: 1, BOB: 10 * DOLLAR - 1})
    assert till.claim(said, ANN) == 1
    assert till.claim(said, BOB) == 10 * DOLLAR - 1
    assert till.network.vault.pot_received() == till.network.vault.pot_paid()
    assert till.solvent()


def test_an_account_with_nothing_has_nothing_to_claim(till: Till) -> None:
    said = till.settle({ANN: 0, BOB: 1})
    refused(till.claim, said, ANN, why="vault: nothing to claim")


def test_leaves_that_sum_to_more_than_the_pot_take_no_deposit(till: Till) -> None:
    """All validators lie: the root's leaves promise more than its stated total."""
    till.deposit(90 * DOLLAR)
    lie = replace(till.statement({ANN: 8 * DOLLAR, EVE: 8 * DOLLAR}), total=10 * DOLLAR)
    till.post(lie)
    till.network.pass_epochs(CHALLENGE_EPOCHS + 1)
    till.claim(lie, EVE)
    refused(till.claim, lie, ANN, why="vault: claims are above the pot")
    assert till.left() == 90 * DOLLAR
    assert till.solvent()


@pytest.mark.parametrize("amount", [2**72, 2**160 + 1, 2**256 - 1])
def test_absurd_leaves_overflow_nothing(till: Till, amount: int) -> None:
    till.claim(till.settle({ANN: 1}), ANN)
    lie = replace(till.statement({ANN: amount}), total=DOLLAR)
    till.post(lie)
    till.network.pass_epochs(CHALLENGE_EPOCHS + 1)
    with pytest.raises(boa.BoaError):
        till.claim(lie, ANN)
    assert till.network.vault.pot_paid() == 1
    assert till.solvent()


def test_books_that_fall_take_nothing_back(till: Till) -> None:
    till.claim(till.settle({ANN: 5}), ANN)
    said = till.settle({ANN: 3})
    refused(till.claim, said, ANN, why="vault: nothing to claim")


def test_a_proof_has_at_most_32_hashes(till: Till) -> None:
    long = tuple(bytes([n]) * 32 for n in range(merkle.PROOF_HASHES_MAX))
    root = merkle.rebuilt(merkle.leaf(ANN, 5), long)
    tree = AccountTree((ANN,), (5,), ((root,),))
    till.post(replace(till.statement({ANN: 5}), tree=tree))
    till.network.pass_epochs(CHALLENGE_EPOCHS + 1)
    with pytest.raises(boa.BoaError):
        till.network.vault.claim(ANN, 5, [*long, bytes(32)])
    assert till.network.vault.claim(ANN, 5, list(long)) == 5


@settings(max_examples=15)
@given(
    st.dictionaries(
        st.integers(1, 2**160 - 1).map(lambda n: f"0x{n:040x}"),
        st.integers(1, 2**20),
        min_size=1,
        max_size=9,
    )
)
def test_every_line_of_any_book_is_paid_and_nothing_else(
    network: Network, book: dict[str, int]
) -> None:
    with boa.env.anchor():
        till = Till(network)
        till.fill_pot(sum(book.values()))
        till.validators = network.validators(1)
        said = till.settle(book)
        for account in sorted(book, key=lambda a: a[-1]):
            assert till.claim(said, account) == book[account]
            assert till.balance(account) == book[account]
        assert till.balance(network.vault.address) == 0
