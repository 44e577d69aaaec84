"""Bonds by name: joining, voting, leaving, slashing, and who tries to cheat at it."""

from __future__ import annotations

import pytest
from tests.contracts.network import (
    CHALLENGE_S,
    DEAD,
    DISPUTE_S,
    DOLLAR,
    EPOCH_S,
    GENESIS,
    HOLD_BACK_S,
    MIN_BOND,
    OPERATOR,
    PROVIDER,
    THAW_S,
    VALIDATOR,
    Network,
    address_of,
    boa,
    key,
    refused,
    signatures,
    source,
)

from isochrone.schema import typed_data
from isochrone.schema.identity import PrivateKey, compact

STAKE = 1_000 * DOLLAR
CHAIN = b"\x11" * 32
HEADS = (b"\xaa" * 32, b"\xbb" * 32)
BOOKS = (
    (b"\x01" * 32, 5, b"\x02" * 32, b"\x03" * 32),
    (b"\x04" * 32, 5, b"\x02" * 32, b"\x03" * 32),
)
ALICE, BOB = key("alice"), key("bob")


def two_roots(
    network: Network, liar: PrivateKey, epoch: int = 9, round_: int = 0
) -> tuple[object, ...]:
    """Arguments of ``slash_root``: two books of one epoch and round, signed by one key."""
    signed = [
        compact(liar.sign(typed_data.root(network.domain, epoch, round_, *body))) for body in BOOKS
    ]
    return epoch, round_, BOOKS[0], signed[0], BOOKS[1], signed[1]


def two_heads(network: Network, role: int, liar: PrivateKey) -> tuple[object, ...]:
    """Arguments of ``slash_tally``: two heads at one position, signed by one key."""
    signed = [
        compact(liar.sign(typed_data.tally_head(network.domain, CHAIN, 3, head))) for head in HEADS
    ]
    return role, CHAIN, 3, HEADS[0], signed[0], HEADS[1], signed[1]


def weigh(network: Network, role: int, *keys: PrivateKey) -> tuple[int, int]:
    """Weight and total now, as vault and council ask for them."""
    ascending = sorted((one.address for one in keys), key=lambda text: int(text, 16))
    return tuple(network.bonds.weigh(role, network.epoch, ascending))


# --- the deployment ----------------------------------------------------------------------------


def test_the_deployment_tells_its_numbers(network: Network) -> None:
    bonds = network.bonds
    assert bonds.token() == network.token.address
    assert bonds.council() == network.council.address
    assert (bonds.genesis(), bonds.epoch_s(), bonds.thaw_s()) == (GENESIS, EPOCH_S, THAW_S)
    assert bonds.min_bond() == MIN_BOND
    assert bonds.epoch_now() == 0
    network.pass_time(EPOCH_S - 1)
    assert bonds.epoch_now() == 0
    network.pass_time(1)
    assert bonds.epoch_now() == 1


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({0: key("no contract").address}, "bonds: no token"),
        ({1: "0x" + "0" * 40}, "bonds: no council"),
        ({2: GENESIS + 1}, "bonds: genesis ahead"),
        ({3: 0}, "bonds: no epoch"),
        ({7: THAW_S - 1}, "bonds: thaw too short"),
        ({4: CHALLENGE_S + 1}, "bonds: thaw too short"),
        ({5: HOLD_BACK_S + 1}, "bonds: thaw too short"),
        ({6: DISPUTE_S + 1}, "bonds: thaw too short"),
        ({3: EPOCH_S + 1}, "bonds: thaw too short"),
    ],
)
def test_a_wrong_deployment_is_refused(
    network: Network, change: dict[int, object], why: str
) -> None:
    arguments = [
        network.token.address, address_of("council"), GENESIS, EPOCH_S,
        CHALLENGE_S, HOLD_BACK_S, DISPUTE_S, THAW_S, MIN_BOND,
    ]  # fmt: skip
    for place, value in change.items():
        arguments[place] = value
    refused(source("contracts/bonds.vy").deploy, *arguments, why=why)


# --- joining -----------------------------------------------------------------------------------


def test_a_bond_votes_from_the_second_epoch_after_it_was_posted(network: Network) -> None:
    network.pass_time(EPOCH_S // 2)
    network.bond(ALICE, VALIDATOR, STAKE)
    assert network.bonds.stake_of(ALICE.address, VALIDATOR) == STAKE
    for epoch, votes in ((0, 0), (1, 0), (2, STAKE), (3, STAKE)):
        assert network.bonds.voting_bond(ALICE.address, VALIDATOR, epoch) == votes
        assert network.bonds.total_voting(VALIDATOR, epoch) == votes
    network.pass_epochs(1)
    assert weigh(network, VALIDATOR, ALICE) == (0, 0)
    network.pass_epochs(1)
    assert weigh(network, VALIDATOR, ALICE) == (STAKE, STAKE)
    assert weigh(network, PROVIDER, ALICE) == (0, 0)


def test_a_top_up_ripens_by_itself_and_leaves_what_voted(network: Network) -> None:
    network.bond(ALICE, VALIDATOR, STAKE)
    network.pass_epochs(5)
    network.fund(ALICE)
    network.bonds.top_up(VALIDATOR, 2 * STAKE, sender=ALICE.address)
    assert weigh(network, VALIDATOR, ALICE) == (STAKE, STAKE)
    network.pass_epochs(1)
    network.bonds.top_up(VALIDATOR, STAKE, sender=ALICE.address)  # what was ripening waits with it
    network.pass_epochs(1)
    assert weigh(network, VALIDATOR, ALICE) == (STAKE, STAKE)
    network.pass_epochs(1)
    assert weigh(network, VALIDATOR, ALICE) == (4 * STAKE, 4 * STAKE)


def test_a_jury_counts_only_what_voted_when_it_was_drawn(network: Network) -> None:
    network.bond(ALICE, VALIDATOR, STAKE)
    network.pass_epochs(5)
    drawn = network.epoch
    network.fund(ALICE)
    network.bonds.top_up(VALIDATOR, STAKE, sender=ALICE.address)
    network.bond(BOB, VALIDATOR, STAKE)
    network.pass_epochs(4)
    assert network.bonds.voting_bond(ALICE.address, VALIDATOR, drawn) == STAKE
    assert network.bonds.voting_bond(BOB.address, VALIDATOR, drawn) == 0
    network.bonds.top_up(
        VALIDATOR, 1, sender=ALICE.address
    )  # joins old to young: the younger counts
    assert network.bonds.voting_bond(ALICE.address, VALIDATOR, drawn) == 0


def test_a_key_must_agree(network: Network) -> None:
    network.fund(ALICE)
    voter = key("voter")
    register = network.bonds.register
    for_bob = network.consent(BOB.address, voter)
    by_another = network.consent(ALICE.address, key("another"))
    abroad = typed_data.Domain(
        chain_id=network.domain.chain_id + 1, contract=network.domain.contract
    )
    elsewhere = typed_data.Domain(chain_id=network.domain.chain_id, contract=BOB.address)
    foreign = [
        compact(voter.sign(typed_data.key_consent(domain, ALICE.address, voter.address)))
        for domain in (abroad, elsewhere)
    ]
    for consent in (for_bob, by_another, *foreign):
        refused(
            register, VALIDATOR, voter.address, consent, STAKE,
            sender=ALICE.address, why="bonds: no consent",
        )  # fmt: skip


def test_nobody_registers_nothing_or_in_no_role(network: Network) -> None:
    network.fund(ALICE)
    consent = network.consent(ALICE.address, ALICE)
    for role, amount, why in ((3, STAKE, "bonds: no such role"), (VALIDATOR, 0, "bonds: nothing")):
        refused(
            network.bonds.register, role, ALICE.address, consent, amount,
            sender=ALICE.address, why=why,
        )  # fmt: skip
    refused(network.bonds.top_up, VALIDATOR, 1, sender=ALICE.address, why="bonds: not registered")
    refused(network.bonds.thaw, VALIDATOR, 1, sender=ALICE.address, why="bonds: not registered")
    refused(network.bonds.withdraw, VALIDATOR, sender=ALICE.address, why="bonds: not registered")


def test_a_bond_is_at_least_the_minimum(network: Network) -> None:
    network.fund(ALICE)
    bonds, me = network.bonds, ALICE.address
    register = (bonds.register, VALIDATOR, me, network.consent(me, ALICE))
    refused(*register, MIN_BOND - 1, sender=me, why="bonds: too little")
    register[0](*register[1:], MIN_BOND, sender=me)
    bonds.top_up(VALIDATOR, 1, sender=me)
    register[0](*register[1:], 1, sender=me)  # onto a bond, any amount
    refused(bonds.thaw, VALIDATOR, 3, sender=me, why="bonds: too little left")
    refused(bonds.thaw, VALIDATOR, MIN_BOND + 1, sender=me, why="bonds: too little left")
    bonds.thaw(VALIDATOR, 2, sender=me)
    network.pass_time(THAW_S)
    bonds.withdraw(VALIDATOR, sender=me)
    assert bonds.stake_of(me, VALIDATOR) == MIN_BOND


@pytest.mark.parametrize("gone", [False, True])
def test_what_thaws_is_no_ground_for_a_small_bond(network: Network, gone: bool) -> None:
    network.fund(ALICE)
    bonds, me = network.bonds, ALICE.address
    consent = network.consent(me, ALICE)
    bonds.register(VALIDATOR, me, consent, STAKE, sender=me)
    bonds.thaw(VALIDATOR, STAKE, sender=me)  # nothing may be left
    if gone:
        network.pass_time(THAW_S)
        bonds.withdraw(VALIDATOR, sender=me)
    for add in ((bonds.top_up, VALIDATOR), (bonds.register, VALIDATOR, me, consent)):
        refused(*add, MIN_BOND - 1, sender=me, why="bonds: too little")
    bonds.top_up(VALIDATOR, MIN_BOND, sender=me)


def test_what_a_dispute_leaves_below_the_minimum_votes_until_it_thaws(network: Network) -> None:
    bonds, me = network.bonds, network.bond(ALICE, PROVIDER, MIN_BOND).address
    network.pass_epochs(2)
    bonds.slash_decided(me, PROVIDER, MIN_BOND - 10, DEAD, 0, sender=network.council.address)
    assert weigh(network, PROVIDER, ALICE) == (10, 10)
    network.fund(ALICE)
    refused(bonds.top_up, PROVIDER, MIN_BOND - 11, sender=me, why="bonds: too little")
    refused(bonds.thaw, PROVIDER, 9, sender=me, why="bonds: too little left")
    with boa.env.anchor():
        bonds.top_up(PROVIDER, MIN_BOND - 10, sender=me)
    bonds.thaw(PROVIDER, 10, sender=me)
    assert weigh(network, PROVIDER, ALICE) == (0, 0)


def test_a_key_belongs_to_one_account_for_ever(network: Network) -> None:
    machine = key("machine")
    network.bond(ALICE, PROVIDER, STAKE)
    consents = [network.consent(ALICE.address, machine)]
    network.bonds.add_keys(PROVIDER, [machine.address], consents, sender=ALICE.address)
    assert network.bonds.account_of(PROVIDER, machine.address).lower() == ALICE.address
    assert network.bonds.account_of(PROVIDER, ALICE.address) == "0x" + "0" * 40
    assert network.bonds.voting_key(ALICE.address, PROVIDER).lower() == ALICE.address
    network.bonds.add_keys(PROVIDER, [machine.address], consents, sender=ALICE.address)  # again

    network.bond(BOB, PROVIDER, STAKE)
    agreed = network.consent(BOB.address, machine)
    refused(
        network.bonds.add_keys, PROVIDER, [machine.address], [agreed],
        sender=BOB.address, why="bonds: key taken",
    )  # fmt: skip
    refused(
        network.bonds.add_keys, PROVIDER, [ALICE.address], [network.consent(BOB.address, ALICE)],
        sender=BOB.address, why="bonds: key taken",
    )  # fmt: skip
    network.fund(key("carol"))
    for taken in (machine, ALICE):  # neither a machine's key nor a voting key can vote for another
        refused(
            network.bonds.register, PROVIDER, taken.address,
            network.consent(key("carol").address, taken), STAKE,
            sender=key("carol").address, why="bonds: key taken",
        )  # fmt: skip
    # In another role the same key can work, also for another account: roles share nothing.
    network.bonds.register(
        OPERATOR, machine.address, network.consent(key("carol").address, machine), STAKE,
        sender=key("carol").address,
    )  # fmt: skip


def test_an_empty_bonds_key_is_still_taken(network: Network) -> None:
    network.bond(ALICE, VALIDATOR, STAKE)
    network.bonds.slash_root(*two_roots(network, ALICE), sender=BOB.address)
    assert network.bonds.stake_of(ALICE.address, VALIDATOR) == 0
    network.fund(BOB)
    refused(
        network.bonds.register, VALIDATOR, ALICE.address, network.consent(BOB.address, ALICE),
        STAKE, sender=BOB.address, why="bonds: key taken",
    )  # fmt: skip


def test_keys_are_added_with_their_consent_by_who_is_bonded(network: Network) -> None:
    machine = key("machine")
    agreed = network.consent(ALICE.address, machine)
    add_keys = network.bonds.add_keys
    refused(
        add_keys, PROVIDER, [machine.address], [agreed],
        sender=ALICE.address, why="bonds: not registered",
    )  # fmt: skip
    network.bond(ALICE, PROVIDER, STAKE)
    refused(
        add_keys, PROVIDER, [machine.address], [],
        sender=ALICE.address, why="bonds: keys and consents differ",
    )  # fmt: skip
    refused(
        add_keys, PROVIDER, [machine.address], [network.consent(BOB.address, machine)],
        sender=ALICE.address, why="bonds: no consent",
    )  # fmt: skip


def test_another_voting_key_needs_an_empty_bond(network: Network) -> None:
    network.bond(ALICE, VALIDATOR, STAKE)
    network.fund(ALICE)
    newer = key("newer")
    consent = network.consent(ALICE.address, newer)
    arguments = (VALIDATOR, newer.address, consent, STAKE)
    refused(network.bonds.register, *arguments, sender=ALICE.address, why="bonds: other voting key")
    network.bonds.thaw(VALIDATOR, STAKE, sender=ALICE.address)
    refused(network.bonds.register, *arguments, sender=ALICE.address, why="bonds: other voting key")
    network.pass_time(THAW_S)
    network.bonds.withdraw(VALIDATOR, sender=ALICE.address)
    network.bonds.register(*arguments, sender=ALICE.address)
    assert network.bonds.voting_key(ALICE.address, VALIDATOR).lower() == newer.address
    network.pass_epochs(2)
    assert weigh(network, VALIDATOR, ALICE) == (0, STAKE)
    assert weigh(network, VALIDATOR, newer) == (STAKE, STAKE)


def test_registering_again_adds(network: Network) -> None:
    network.bond(ALICE, VALIDATOR, STAKE)
    network.bond(ALICE, VALIDATOR, STAKE)
    assert network.bonds.stake_of(ALICE.address, VALIDATOR) == 2 * STAKE


def test_a_pause_stops_new_bonds_and_nothing_else(network: Network) -> None:
    judges = network.validators(1_000, 1_000, 1_000)
    digest = typed_data.pause(network.domain, network.epoch)
    network.council.pause(network.epoch, signatures(judges, digest), sender=BOB.address)
    network.fund(ALICE)
    refused(
        network.bonds.register, VALIDATOR, ALICE.address, network.consent(ALICE.address, ALICE),
        STAKE, sender=ALICE.address, why="bonds: paused",
    )  # fmt: skip
    one = judges[0].address
    network.fund(one)
    network.bonds.top_up(VALIDATOR, STAKE, sender=one)
    network.bonds.thaw(VALIDATOR, STAKE, sender=one)
    network.pass_time(THAW_S)
    network.bonds.withdraw(VALIDATOR, sender=one)


def test_a_bond_has_a_largest_size(network: Network) -> None:
    network.fund(ALICE)
    refused(
        network.bonds.register, VALIDATOR, ALICE.address, network.consent(ALICE.address, ALICE),
        2**52, sender=ALICE.address, why="bonds: too large",
    )  # fmt: skip


# --- forged quorums ----------------------------------------------------------------------------


def test_forged_quorums_gain_nothing(network: Network) -> None:
    judges = network.validators(300, 200, 100)
    honest = weigh(network, VALIDATOR, *judges)
    assert honest == (600 * DOLLAR, 600 * DOLLAR)
    stranger, machine = key("stranger"), key("machine")
    first = judges[0]
    network.bonds.add_keys(
        VALIDATOR,
        [machine.address],
        [network.consent(first.address, machine)],
        sender=first.address,
    )
    assert weigh(network, VALIDATOR, *judges, stranger) == honest  # unbonded
    assert weigh(network, VALIDATOR, *judges, machine) == honest  # works for a voter, has no vote
    network.bond(BOB, VALIDATOR, STAKE)
    assert weigh(network, VALIDATOR, *judges, BOB) == honest  # too young
    for keys in ([first, first], [judges[1], first]):  # duplicate, descending
        refused(
            network.bonds.weigh, VALIDATOR, network.epoch, [one.address for one in keys],
            why="bonds: signers not ascending",
        )  # fmt: skip
    for liar in judges[1:]:  # thawing stake leaves the count and the total
        stake = network.bonds.stake_of(liar.address, VALIDATOR)
        network.bonds.thaw(VALIDATOR, stake, sender=liar.address)
    left = network.bonds.stake_of(first.address, VALIDATOR)
    assert weigh(network, VALIDATOR, *judges) == (left, left)
    network.bonds.slash_root(*two_roots(network, first), sender=BOB.address)
    assert weigh(network, VALIDATOR, *judges) == (0, 0)  # slashed


def test_stale_signers_do_not_count_for_an_earlier_epoch(network: Network) -> None:
    judges = network.validators(300, 200)
    network.bond(BOB, VALIDATOR, STAKE)
    earlier = network.epoch
    network.pass_epochs(3)
    keys = sorted([one.address for one in (*judges, BOB)], key=lambda text: int(text, 16))
    assert network.bonds.weigh(VALIDATOR, earlier, keys)[0] == 500 * DOLLAR
    assert network.bonds.weigh(VALIDATOR, network.epoch, keys)[0] == 500 * DOLLAR + STAKE


# --- leaving -----------------------------------------------------------------------------------


def test_stake_leaves_after_the_thaw_and_no_second_sooner(network: Network) -> None:
    network.bond(ALICE, VALIDATOR, STAKE)
    network.bonds.thaw(VALIDATOR, 400 * DOLLAR, sender=ALICE.address)
    assert network.bonds.bond_of(ALICE.address, VALIDATOR).thaw_end == boa.env.timestamp + THAW_S
    assert network.bonds.stake_of(ALICE.address, VALIDATOR) == STAKE
    network.pass_time(THAW_S - 1)
    refused(network.bonds.withdraw, VALIDATOR, sender=ALICE.address, why="bonds: still thawing")
    network.pass_time(1)
    network.bonds.withdraw(VALIDATOR, sender=ALICE.address)
    assert network.token.balanceOf(ALICE.address) == 400 * DOLLAR
    assert network.bonds.stake_of(ALICE.address, VALIDATOR) == 600 * DOLLAR
    refused(network.bonds.withdraw, VALIDATOR, sender=ALICE.address, why="bonds: nothing thawing")


def test_one_thaw_at_a_time_and_never_more_than_is_there(network: Network) -> None:
    network.bond(ALICE, VALIDATOR, STAKE)
    thaw = network.bonds.thaw
    refused(thaw, VALIDATOR, 0, sender=ALICE.address, why="bonds: nothing")
    refused(thaw, VALIDATOR, STAKE + 1, sender=ALICE.address, why="bonds: too much")
    thaw(VALIDATOR, 1, sender=ALICE.address)
    refused(thaw, VALIDATOR, 1, sender=ALICE.address, why="bonds: already thawing")


def test_the_youngest_stake_thaws_first(network: Network) -> None:
    network.bond(ALICE, VALIDATOR, STAKE)
    network.pass_epochs(2)
    network.fund(ALICE)
    network.bonds.top_up(VALIDATOR, STAKE, sender=ALICE.address)
    network.bonds.thaw(VALIDATOR, STAKE + 1, sender=ALICE.address)
    assert weigh(network, VALIDATOR, ALICE) == (STAKE - 1, STAKE - 1)
    network.pass_epochs(3)
    assert weigh(network, VALIDATOR, ALICE) == (STAKE - 1, STAKE - 1)


def test_votes_leave_the_sums_of_every_epoch(network: Network) -> None:
    """Thawing what is ripening, in each of its two epochs, empties exactly its own sum."""
    for wait in (0, 1, 2):
        with boa.env.anchor():
            network.bond(ALICE, VALIDATOR, STAKE)
            network.pass_epochs(wait)
            network.bonds.thaw(VALIDATOR, STAKE, sender=ALICE.address)
            for ahead in range(4):
                assert network.bonds.total_voting(VALIDATOR, network.epoch + ahead) == 0


# --- slashing ----------------------------------------------------------------------------------


def test_two_roots_cost_the_whole_bond(network: Network) -> None:
    network.bond(ALICE, VALIDATOR, STAKE)
    finder = BOB.address
    network.bonds.slash_root(*two_roots(network, ALICE), sender=finder)
    assert network.bonds.stake_of(ALICE.address, VALIDATOR) == 0
    assert network.token.balanceOf(finder) == STAKE // 100
    assert network.bonds.to_burn(VALIDATOR) == STAKE - STAKE // 100
    network.bonds.burn(VALIDATOR, sender=key("anybody").address)
    assert network.token.balanceOf(DEAD) == STAKE - STAKE // 100
    assert network.token.balanceOf(network.bonds.address) == 0
    refused(network.bonds.burn, VALIDATOR, why="bonds: nothing to burn")
    refused(
        network.bonds.slash_root, *two_roots(network, ALICE), sender=finder,
        why="bonds: nothing to slash",
    )  # fmt: skip


def test_a_slashed_key_that_bonds_again_is_slashed_again(network: Network) -> None:
    network.bond(ALICE, VALIDATOR, STAKE)
    proof = two_roots(network, ALICE)
    network.bonds.slash_root(*proof, sender=BOB.address)
    network.bond(ALICE, VALIDATOR, STAKE)
    network.bonds.slash_root(*proof, sender=BOB.address)
    assert network.bonds.to_burn(VALIDATOR) == 2 * (STAKE - STAKE // 100)


def test_thaw_and_run_does_not_save_the_stake(network: Network) -> None:
    network.bond(ALICE, VALIDATOR, STAKE)
    network.pass_epochs(2)
    network.bonds.thaw(VALIDATOR, STAKE, sender=ALICE.address)
    network.pass_time(THAW_S)  # not a second too late: it could be withdrawn now
    network.bonds.slash_root(*two_roots(network, ALICE), sender=BOB.address)
    assert network.bonds.stake_of(ALICE.address, VALIDATOR) == 0
    refused(network.bonds.withdraw, VALIDATOR, sender=ALICE.address, why="bonds: nothing thawing")


def test_slashing_oneself_saves_a_hundredth(network: Network) -> None:
    network.bond(ALICE, VALIDATOR, STAKE)
    network.bonds.slash_root(*two_roots(network, ALICE), sender=ALICE.address)
    assert network.token.balanceOf(ALICE.address) == STAKE // 100


def test_dust_is_slashed_without_a_reward(network: Network) -> None:
    network.bond(ALICE, VALIDATOR, 99)
    network.bonds.slash_root(*two_roots(network, ALICE), sender=BOB.address)
    assert network.token.balanceOf(BOB.address) == 0
    assert network.bonds.to_burn(VALIDATOR) == 99


@pytest.mark.parametrize("role", [PROVIDER, OPERATOR])
def test_two_heads_of_a_machine_cost_its_account_that_roles_bond(
    network: Network, role: int
) -> None:
    machine = key("machine")
    for each in (PROVIDER, OPERATOR):
        network.bond(ALICE, each, STAKE)
    network.bonds.add_keys(
        role, [machine.address], [network.consent(ALICE.address, machine)], sender=ALICE.address
    )
    other = OPERATOR if role == PROVIDER else PROVIDER
    refused(
        network.bonds.slash_tally, *two_heads(network, other, machine), sender=BOB.address,
        why="bonds: nothing to slash",
    )  # fmt: skip
    network.bonds.slash_tally(*two_heads(network, role, machine), sender=BOB.address)
    assert network.bonds.stake_of(ALICE.address, role) == 0
    assert network.bonds.stake_of(ALICE.address, other) == STAKE


def test_what_proves_nothing_slashes_nobody(network: Network) -> None:
    network.bond(ALICE, VALIDATOR, STAKE)
    network.bond(BOB, VALIDATOR, STAKE)
    slash = network.bonds.slash_root
    epoch, round_, body_a, signed_a, body_b, _ = two_roots(network, ALICE)
    by_bob = two_roots(network, BOB)
    in_round_1 = two_roots(network, ALICE, round_=1)
    stranger = two_roots(network, key("stranger"))
    for proof, why in (
        ((epoch, round_, body_a, signed_a, body_a, signed_a), "bonds: the same twice"),
        ((epoch, round_, body_a, signed_a, body_b, by_bob[5]), "bonds: two keys"),
        ((epoch, round_, body_a, signed_a, body_b, in_round_1[5]), "bonds: two keys"),
        (stranger, "bonds: nothing to slash"),
    ):
        refused(slash, *proof, sender=BOB.address, why=why)
    for foreign in ({"chain_id": 5}, {"contract": BOB.address}):  # signed for another network
        home = network.domain
        domain = typed_data.Domain(
            **{"chain_id": home.chain_id, "contract": home.contract, **foreign}
        )
        signed = [compact(ALICE.sign(typed_data.root(domain, 9, 0, *body))) for body in BOOKS]
        refused(slash, 9, 0, BOOKS[0], signed[0], BOOKS[1], signed[1], why="bonds: ")
    assert network.bonds.stake_of(ALICE.address, VALIDATOR) == STAKE


def test_one_signature_in_two_forms_proves_nothing(network: Network) -> None:
    """A malleable copy of a signature must not look like a second one."""
    network.bond(ALICE, VALIDATOR, STAKE)
    epoch, round_, body_a, (r, packed), _, _ = two_roots(network, ALICE)
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    word = int.from_bytes(packed, "big")
    twin = (order - word % 2**255) | ((1 - (word >> 255)) << 255)
    copy = (r, (twin % 2**256).to_bytes(32, "big"))
    refused(
        network.bonds.slash_root, epoch, round_, body_a, (r, packed), body_a, copy,
        why="bonds: the same twice",
    )  # fmt: skip


def test_only_the_council_decides_without_proof(network: Network) -> None:
    network.bond(ALICE, PROVIDER, STAKE)
    harmed = key("harmed").address
    decide = network.bonds.slash_decided
    for stranger in (ALICE.address, BOB.address, network.vault.address):
        refused(
            decide, ALICE.address, PROVIDER, 1, harmed, 1,
            sender=stranger, why="bonds: not the council",
        )  # fmt: skip
    council = network.council.address
    taken = decide(ALICE.address, PROVIDER, 400 * DOLLAR, harmed, 100 * DOLLAR, sender=council)
    assert tuple(taken) == (400 * DOLLAR, 100 * DOLLAR)
    assert network.token.balanceOf(harmed) == 100 * DOLLAR
    assert network.bonds.to_burn(PROVIDER) == 300 * DOLLAR
    # No more than is there, and the harmed no more than was taken.
    taken = decide(ALICE.address, PROVIDER, 2 * STAKE, harmed, 2 * STAKE, sender=council)
    assert tuple(taken) == (600 * DOLLAR, 600 * DOLLAR)
    assert network.bonds.stake_of(ALICE.address, PROVIDER) == 0
    refused(
        decide, BOB.address, PROVIDER, 1, harmed, 1, sender=council, why="bonds: not registered"
    )


def test_a_decided_slash_takes_thawing_stake_first_then_the_youngest(network: Network) -> None:
    network.bond(ALICE, PROVIDER, STAKE)
    network.pass_epochs(2)
    network.fund(ALICE)
    network.bonds.thaw(PROVIDER, 100 * DOLLAR, sender=ALICE.address)
    network.bonds.top_up(PROVIDER, 50 * DOLLAR, sender=ALICE.address)
    council = network.council.address
    for amount, settled, fresh, thawing in (
        (60, 900, 50, 40),
        (60, 900, 30, 0),
        (60, 870, 0, 0),
    ):
        network.bonds.slash_decided(
            ALICE.address, PROVIDER, amount * DOLLAR, DEAD, 0, sender=council
        )
        held = network.bonds.bond_of(ALICE.address, PROVIDER)
        assert (held.settled, held.fresh, held.thawing) == (
            settled * DOLLAR,
            fresh * DOLLAR,
            thawing * DOLLAR,
        )
    network.pass_epochs(2)
    assert weigh(network, PROVIDER, ALICE) == (870 * DOLLAR, 870 * DOLLAR)


# --- the ends of the clock ---------------------------------------------------------------------


def test_stake_leaves_even_after_the_last_epoch(network: Network) -> None:
    network.bond(ALICE, VALIDATOR, STAKE)
    network.pass_time(2**24 * EPOCH_S)
    assert network.bonds.epoch_now() == 2**24 - 3
    network.fund(ALICE)
    network.bonds.top_up(VALIDATOR, STAKE, sender=ALICE.address)
    network.bonds.thaw(VALIDATOR, 2 * STAKE, sender=ALICE.address)
    network.pass_time(THAW_S)
    network.bonds.withdraw(VALIDATOR, sender=ALICE.address)
    assert network.bonds.stake_of(ALICE.address, VALIDATOR) == 0
