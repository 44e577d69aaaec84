"""Roots: whose signatures, for which epochs, for how long, and how they are taken back."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.contracts.network import (
    DOLLAR,
    EPOCH_S,
    VALIDATOR,
    Network,
    boa,
    key,
    refused,
    signatures,
)
from tests.contracts.till import CHALLENGE_EPOCHS, RING, Statement, Till

from isochrone.rules.merkle import AccountTree
from isochrone.schema import typed_data

PAYEE = "0x" + "11" * 20
HOURS_72 = 72 * 3600


@pytest.fixture
def till(network: Network) -> Till:
    """Three equal validators, and a dollar in the pot."""
    till = Till(network)
    till.fill_pot(DOLLAR)
    till.validators = network.validators(100, 100, 100)
    return till


def books(till: Till, amount: int = 1, **more: int) -> Statement:
    return till.statement({PAYEE: amount}, **more)


def standing(till: Till, said: Statement) -> bool:
    return bytes(till.network.vault.root_of(said.epoch).root) == said.tree.root


def is_final(till: Till, said: Statement) -> bool:
    return bool(till.network.vault.root_of(said.epoch).final)


# --- quorums ---


def test_two_thirds_post_and_less_do_not(till: Till) -> None:
    said = books(till)
    refused(till.post, said, till.validators[:1], why="vault: no quorum")
    till.post(said, till.validators[:2])
    assert standing(till, said)


def test_seventy_two_hours_without_a_root_a_majority_is_enough(till: Till) -> None:
    till.validators = []
    network = till.network
    votes = [key("one"), key("two")]
    network.bond(votes[0], VALIDATOR, 301 * DOLLAR)
    network.pass_epochs(2)  # of 601 dollars in all
    said = books(till)
    network.pass_time(HOURS_72 - 1 - boa.env.timestamp % EPOCH_S)
    refused(till.post, said, votes[:1], why="vault: no quorum")
    network.pass_time(1)
    refused(till.post, said, [], why="vault: no majority")
    till.post(said, votes[:1])
    assert standing(till, said)


def test_half_is_no_majority(network: Network) -> None:
    till = Till(network)
    till.fill_pot(DOLLAR)
    half, _ = till.validators = network.validators(100, 100)
    said = books(till)
    network.pass_time(2 * HOURS_72)
    refused(till.post, said, [half], why="vault: no majority")


def test_without_validators_there_are_no_roots(network: Network) -> None:
    till = Till(network)
    till.fill_pot(DOLLAR)
    network.pass_epochs(2)
    said = books(till)
    refused(till.post, said, why="vault: no quorum")
    network.pass_time(HOURS_72)
    refused(till.post, said, why="vault: no majority")


def test_a_duplicate_signature_is_refused(till: Till) -> None:
    said = books(till)
    one, two, _ = till.root_signatures(said)
    post = till.network.vault.post_root
    refused(post, *said.fields, [one, one, two], why="signers not ascending")
    refused(post, *said.fields, [two, one], why="signers not ascending")


def test_strangers_and_young_bonds_add_nothing(till: Till) -> None:
    said = books(till)
    young = key("young")
    till.network.bond(young, VALIDATOR, 10_000 * DOLLAR)
    refused(till.post, said, [till.validators[0], young], why="vault: no quorum")
    refused(till.post, said, [till.validators[0], key("stranger")], why="vault: no quorum")
    till.network.pass_epochs(2)
    till.post(said, [young])


def test_thawing_validators_add_nothing(till: Till) -> None:
    said = books(till)
    leaving, staying, _ = till.validators
    till.network.bonds.thaw(VALIDATOR, 100 * DOLLAR, sender=leaving.address)
    refused(till.post, said, [leaving, staying], why="vault: no quorum")


def test_providers_do_not_sign_roots(till: Till) -> None:
    rich = till.providers(1_000_000)
    refused(till.post, books(till), rich, why="vault: no quorum")


def test_signatures_count_for_their_statement_and_deployment_only(till: Till) -> None:
    said = books(till)
    signed = till.root_signatures(said)
    vault = till.network.vault
    epoch, round_, root, total, manifest, rules = said.fields
    for changed in (
        (epoch - 1, round_, root, total, manifest, rules),
        (epoch, round_ + 1, root, total, manifest, rules),
        (epoch, round_, bytes(32), total, manifest, rules),
        (epoch, round_, root, total + 1, manifest, rules),
        (epoch, round_, root, total, rules, rules),
        (epoch, round_, root, total, manifest, manifest),
    ):
        with pytest.raises(boa.BoaError):
            vault.post_root(*changed, signed)
    elsewhere = typed_data.Domain(chain_id=5, contract=till.network.domain.contract)
    foreign = signatures(till.validators, typed_data.root(elsewhere, *said.fields))
    with pytest.raises(boa.BoaError):
        vault.post_root(*said.fields, foreign)
    vault.post_root(*said.fields, signed)


# --- which epochs ---


def test_running_and_future_epochs_have_no_root(till: Till) -> None:
    now = till.network.epoch
    for epoch in (now, now + 1, 2**24, 2**64 - 1):
        refused(till.post, books(till, epoch=epoch), why="vault: epoch has not ended")
    till.post(books(till, epoch=now - 1))


def test_epochs_beyond_the_packed_field_have_no_root_and_claims_go_on(till: Till) -> None:
    said = till.settle({PAYEE: 3})
    till.network.pass_epochs(2**24 - till.network.epoch)
    refused(till.post, books(till), why="vault: epochs are used up")
    assert till.claim(said, PAYEE) == 3


def test_an_epoch_is_posted_once_and_none_before_it_after(till: Till) -> None:
    said = till.post(books(till))
    refused(till.post, said, why="vault: epoch is settled")
    refused(till.post, till.again(said, 1), why="vault: epoch is settled")
    refused(till.post, books(till, epoch=said.epoch - 1), why="vault: epoch is settled")
    till.network.pass_epochs(CHALLENGE_EPOCHS + 1)
    assert is_final(till, said)
    refused(till.post, till.again(said, 5), why="vault: epoch is settled")
    assert till.network.vault.next_epoch() == said.epoch + 1


def test_a_total_above_what_the_pot_received_is_refused(till: Till) -> None:
    refused(till.post, books(till, DOLLAR + 1), why="vault: total is above the pot")
    till.post(books(till, DOLLAR))


def test_a_later_round_posts_as_well_as_the_first(till: Till) -> None:
    till.post(books(till, round_=2**32 - 1))


# --- finality ---


def test_a_root_is_pending_for_the_challenge_then_final(till: Till) -> None:
    vault = till.network.vault
    assert tuple(vault.final_epoch()) == (False, 0)
    said = till.post(books(till))
    assert vault.root_of(said.epoch).final_from == (
        boa.env.timestamp - boa.env.timestamp % EPOCH_S + (CHALLENGE_EPOCHS + 1) * EPOCH_S
    )
    till.network.pass_time(vault.root_of(said.epoch).final_from - 1 - boa.env.timestamp)
    assert not is_final(till, said)
    assert tuple(vault.final_epoch()) == (False, 0)
    till.network.pass_time(1)
    assert is_final(till, said)
    assert tuple(vault.final_epoch()) == (True, said.epoch)
    assert vault.root_of(said.epoch).final_from == 0


def test_several_roots_are_pending_and_ripen_one_by_one(till: Till) -> None:
    posted = []
    for _ in range(CHALLENGE_EPOCHS + 3):
        posted.append(till.post(books(till)))
        till.network.pass_epochs(1)
    assert [is_final(till, said) for said in posted] == [True] * 3 + [False] * CHALLENGE_EPOCHS
    assert till.network.vault.final_epoch() == (True, posted[2].epoch)


def test_a_late_root_waits_the_whole_challenge(till: Till) -> None:
    late = books(till)
    till.network.pass_epochs(50)
    till.post(late)
    till.network.pass_epochs(CHALLENGE_EPOCHS)
    assert not is_final(till, late)
    till.network.pass_epochs(1)
    assert is_final(till, late)


def test_what_was_final_stays_so_when_a_late_root_comes(till: Till) -> None:
    early = till.post(books(till))
    till.network.pass_epochs(CHALLENGE_EPOCHS - 1)
    on_time = till.post(books(till))
    till.network.pass_epochs(2)
    assert is_final(till, early)
    late = till.post(books(till, epoch=on_time.epoch + 1))
    assert is_final(till, early)
    assert not is_final(till, on_time)
    till.network.pass_epochs(CHALLENGE_EPOCHS)
    # `on_time` alone would be final by now; it waits for the late one that came after it.
    assert not is_final(till, on_time)
    till.network.pass_epochs(1)
    assert is_final(till, on_time)
    assert is_final(till, late)


def test_words_are_used_again_and_older_roots_are_forgotten(till: Till) -> None:
    posted = []
    for _ in range(RING + 3):
        posted.append(till.post(books(till)))
        till.network.pass_epochs(1)
    assert not standing(till, posted[0])
    assert all(standing(till, said) for said in posted[3:])
    assert tuple(till.network.vault.root_of(till.network.epoch)) == (bytes(32), False, 0)


def test_the_newest_final_root_outlasts_any_silence(till: Till) -> None:
    said = till.settle({PAYEE: 7})
    till.network.pass_epochs(5 * RING)
    collides = books(till, epoch=said.epoch + 2 * RING)
    refused(till.post, collides, why="vault: too many pending roots")
    till.post(books(till, epoch=said.epoch + 2 * RING + 1))
    assert is_final(till, said)
    assert till.claim(said, PAYEE) == 7


# --- vetoes ---


def test_a_third_of_the_providers_vetoes_and_less_does_not(till: Till) -> None:
    small, third, *_ = till.providers(99, 100, 101)
    said = till.post(books(till))
    refused(till.veto, said, [small], why="vault: no third of the providers")
    till.veto(said, [third])
    assert not standing(till, said)
    assert till.network.vault.vetoes(said.epoch) == 1


def test_validators_do_not_veto_and_nobody_is_no_third(till: Till) -> None:
    said = till.post(books(till))
    refused(till.veto, said, [], why="vault: no third of the providers")
    refused(till.veto, said, till.validators, why="vault: no third of the providers")


def test_only_a_pending_root_is_vetoed_and_by_its_name(till: Till) -> None:
    providers = till.providers(100)
    said = books(till)
    refused(till.veto, said, providers, why="vault: no pending root")
    till.post(said)
    other = Statement(said.epoch, AccountTree.of({PAYEE: 2}), 2)
    refused(till.veto, other, providers, why="vault: another root is pending")
    missing = till.statement({PAYEE: 1}, epoch=said.epoch - 1)
    refused(till.veto, missing, providers, why="vault: no pending root")
    till.network.pass_epochs(CHALLENGE_EPOCHS + 1)
    refused(till.veto, said, providers, why="vault: no pending root")
    assert standing(till, said)


def test_a_veto_cancels_what_was_built_on_the_root(till: Till) -> None:
    providers = till.providers(100)
    posted = []
    for _ in range(4):
        posted.append(till.post(books(till)))
        till.network.pass_epochs(1)
    till.veto(posted[1], providers)
    assert [standing(till, said) for said in posted] == [True, False, False, False]
    assert till.network.vault.next_epoch() == posted[1].epoch
    assert [till.network.vault.vetoes(said.epoch) for said in posted] == [0, 1, 0, 0]


def test_a_vetoed_epoch_comes_again_in_a_higher_round_only(till: Till) -> None:
    """Nor can anything come back that was signed on top of the vetoed books."""
    providers = till.providers(100)
    first = till.post(books(till, round_=3))
    till.network.pass_epochs(1)
    second = books(till)  # signed by all, posted by nobody
    till.veto(first, providers)
    vault = till.network.vault
    assert [vault.min_round(said.epoch) for said in (first, second)] == [4, 4]
    assert vault.min_round(till.network.epoch) == 0
    refused(till.post, first, why="vault: round is void")
    refused(till.post, second, why="vault: round is void")
    till.post(till.again(first, 4))
    refused(till.post, second, why="vault: round is void")
    refused(till.post, till.again(second, 3), why="vault: round is void")
    till.post(till.again(second, 4))
    till.network.pass_epochs(1)
    till.post(books(till))
    assert till.network.vault.min_round(till.network.epoch) == 0


def test_after_any_number_of_epochs_a_veto_voids_the_round(till: Till) -> None:
    """The bits of old roots leave at the end of their field, they do not run into the next."""
    providers = till.providers(100)
    for _ in range(RING + 9):
        till.post(books(till))
        till.network.pass_epochs(1)
    said = till.post(books(till))
    till.network.pass_epochs(5)
    till.veto(said, providers)
    refused(till.post, said, why="vault: round is void")
    till.post(books(till, epoch=said.epoch + 2, round_=1))
    refused(till.post, books(till, epoch=said.epoch + 3), why="vault: round is void")


def test_an_epoch_is_vetoed_at_most_twice(till: Till) -> None:
    providers = till.providers(100)
    said = books(till)
    for round_ in range(2):
        said = till.post(till.again(said, round_))
        till.veto(said, providers)
    said = till.post(till.again(said, 2))
    refused(till.veto, said, providers, why="vault: vetoed often enough")
    till.network.pass_epochs(CHALLENGE_EPOCHS + 1)
    assert is_final(till, said)


def test_a_second_veto_needs_a_still_higher_round(till: Till) -> None:
    providers = till.providers(100)
    said = till.post(books(till))
    till.veto(said, providers)
    till.network.pass_epochs(3)
    again = till.post(till.again(said, 1))
    till.veto(again, providers)
    assert till.network.vault.min_round(said.epoch) == 2
    assert till.network.vault.min_round(till.network.epoch - 1) == 2


def test_every_veto_raises_the_floor_whatever_it_cancels(till: Till) -> None:
    """Whoever collected signatures in the floor's own round before a veto cannot use them after."""
    providers = till.providers(100)
    till.veto(till.post(books(till)), providers)
    till.network.pass_epochs(1)
    assert till.network.vault.min_round(till.network.epoch - 1) == 0
    till.veto(till.post(books(till)), providers)
    assert till.network.vault.min_round(till.network.epoch - 1) == 2


def test_the_highest_round_does_not_stop_the_veto(till: Till) -> None:
    """A quorum that posts in the last round of all cannot make the floor overflow."""
    providers = till.providers(100)
    said = till.post(books(till, round_=2**32 - 1))
    till.veto(said, providers)
    assert till.network.vault.min_round(said.epoch) == 2**32
    till.network.pass_epochs(1)
    till.post(books(till))


def test_a_veto_does_not_reach_final_roots(till: Till) -> None:
    providers = till.providers(100)
    final = till.settle({PAYEE: 5})
    pending = till.post(books(till))
    till.veto(pending, providers)
    assert is_final(till, final)
    assert till.claim(final, PAYEE) == 5


def test_a_vetoed_root_pays_nobody(till: Till) -> None:
    providers = till.providers(100)
    thief = key("thief").address
    false = till.post(till.statement({thief: DOLLAR}))
    till.veto(false, providers)
    till.network.pass_epochs(CHALLENGE_EPOCHS + 1)
    refused(till.claim, false, thief, why="vault: no root is final")


def test_a_veto_of_another_chain_does_not_count(till: Till) -> None:
    providers = till.providers(100)
    said = till.post(books(till))
    elsewhere = typed_data.Domain(chain_id=5, contract=till.network.domain.contract)
    foreign = signatures(
        providers, typed_data.veto(elsewhere, said.epoch, said.round, said.tree.root)
    )
    refused(
        till.network.vault.veto,
        said.epoch,
        said.round,
        said.tree.root,
        foreign,
        why="vault: no third of the providers",
    )


# --- the shape of it all ---


@settings(max_examples=25)
@given(st.lists(st.sampled_from(["post", "late", "veto", "wait", "long"]), max_size=14))
def test_finality_is_what_a_plain_list_says(network: Network, moves: list[str]) -> None:
    """Against a model that keeps each root's own time: never earlier, and at most delayed by a
    root that came late after it."""
    with boa.env.anchor():
        till = Till(network)
        till.fill_pot(DOLLAR)
        till.validators = network.validators(1)
        providers = till.providers(1)
        posted: list[tuple[Statement, int]] = []
        ever_final, lowest = -1, network.epoch - 2
        for move in moves:
            epoch = network.epoch - 1 if move == "post" else lowest
            if move in ("post", "late") and lowest <= epoch < network.epoch:
                round_ = till.network.vault.min_round(epoch)
                said = till.statement({PAYEE: 1}, epoch=epoch, round_=round_)
                posted.append((till.post(said), network.epoch))
                lowest = epoch + 1
            elif move == "veto" and posted and not is_final(till, posted[-1][0]):
                if network.vault.vetoes(posted[-1][0].epoch) < 2:
                    till.veto(posted[-1][0], providers)
                    lowest = posted.pop()[0].epoch
            elif move in ("wait", "long"):
                network.pass_epochs(1 if move == "wait" else CHALLENGE_EPOCHS)
            for index, (said, at) in enumerate(posted):
                own = network.epoch >= at + CHALLENGE_EPOCHS + 1
                after = [later for _, later in posted[index:]]
                surely = network.epoch >= max(after) + CHALLENGE_EPOCHS + 1
                assert standing(till, said)
                assert is_final(till, said) <= own
                assert is_final(till, said) >= surely
            known, newest = network.vault.final_epoch()
            newest = newest if known else -1
            assert newest >= ever_final
            ever_final = newest
