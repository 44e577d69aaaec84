from __future__ import annotations

import pytest
from tests.contracts.court import DRAW_BLOCKS, EVIDENCE, FIRST_DRAW, SEATS, VERDICT_SEATS, Court
from tests.contracts.network import (
    DISPUTE_S,
    DOLLAR,
    OPERATOR,
    PROVIDER,
    VALIDATOR,
    Network,
    boa,
    key,
    refused,
    signatures,
)

from isochrone.schema import typed_data
from isochrone.schema.identity import PrivateKey, keccak256
from isochrone.schema.typed_data import Domain

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
OPENER, TENANT, STRANGER = key("opener"), key("tenant"), key("stranger")


@pytest.fixture
def court(network: Network) -> Court:
    return Court(network)


@pytest.fixture
def jurors(court: Court) -> list[PrivateKey]:
    """Nine providers; the first is accused in these tests."""
    return court.providers(1_000, *[100] * 8)


# --- verdicts -------------------------------------------------------------------------------


def test_guilty_pays_the_harmed_burns_as_much_and_returns_the_bond(
    court: Court, jurors: list[PrivateKey]
) -> None:
    council, accused = court.network.council, jurors[0]
    dispute = court.drawn(OPENER, accused, 300 * DOLLAR, TENANT)
    assert court.balance(OPENER) == 0
    lost = court.lost
    council.decide(dispute, True, court.verdict(dispute, True, jurors[1:]))
    assert court.balance(TENANT) == 300 * DOLLAR
    assert court.lost - lost == 300 * DOLLAR
    assert court.balance(OPENER) == council.bond_for(300 * DOLLAR) == 30 * DOLLAR
    assert court.network.bonds.stake_of(accused.address, PROVIDER) == 400 * DOLLAR
    assert court.balance(council.address) == 0
    refused(
        council.decide,
        dispute,
        True,
        court.verdict(dispute, True, jurors[1:]),
        why="council: closed",
    )
    refused(council.close, dispute, why="council: closed")


def test_the_harmed_never_gets_more_than_half_of_what_was_there(
    court: Court, jurors: list[PrivateKey]
) -> None:
    """A friendly accuser cannot carry a bond away: half of it burns, whatever is claimed."""
    dispute = court.drawn(OPENER, jurors[0], 5_000 * DOLLAR, TENANT)
    court.network.council.decide(dispute, True, court.verdict(dispute, True, jurors[1:]))
    assert court.balance(TENANT) == 500 * DOLLAR
    assert court.lost == 500 * DOLLAR
    assert court.network.bonds.stake_of(jurors[0].address, PROVIDER) == 0


def test_thawing_stake_answers_and_withdrawn_stake_leaves_nothing_to_take(
    court: Court, jurors: list[PrivateKey]
) -> None:
    bonds, accused = court.network.bonds, jurors[0]
    bonds.thaw(PROVIDER, 1_000 * DOLLAR, sender=accused.address)
    dispute = court.drawn(OPENER, accused, 100 * DOLLAR, TENANT)
    court.network.council.decide(dispute, True, court.verdict(dispute, True, jurors[1:]))
    assert court.balance(TENANT) == 100 * DOLLAR

    court.network.pass_time(bonds.thaw_s() - 3600)
    late = court.drawn(OPENER, accused, 50 * DOLLAR, TENANT)
    court.network.pass_time(3600)
    bonds.withdraw(PROVIDER, sender=accused.address)
    court.network.council.decide(late, True, court.verdict(late, True, jurors[1:]))
    assert court.balance(TENANT) == 100 * DOLLAR  # nothing more
    assert court.balance(OPENER) == 20 * DOLLAR  # both bonds are back: it was right


def test_acquitted_burns_the_openers_bond(court: Court, jurors: list[PrivateKey]) -> None:
    council = court.network.council
    dispute = court.drawn(OPENER, jurors[0], 300 * DOLLAR, TENANT)
    council.decide(dispute, False, court.verdict(dispute, False, jurors[1:]))
    assert court.lost == 30 * DOLLAR
    assert court.balance(OPENER) == court.balance(TENANT) == court.balance(council.address) == 0
    assert court.network.bonds.stake_of(jurors[0].address, PROVIDER) == 1_000 * DOLLAR


def test_default_acquits(court: Court, jurors: list[PrivateKey]) -> None:
    council = court.network.council
    dispute = court.drawn(OPENER, jurors[0], 300 * DOLLAR, TENANT)
    refused(council.close, dispute, why="council: still open")
    court.network.pass_time(DISPUTE_S)
    refused(council.close, dispute, why="council: still open")
    court.network.pass_time(1)
    refused(
        council.decide,
        dispute,
        True,
        court.verdict(dispute, True, jurors[1:]),
        why="council: past the deadline",
    )
    council.close(dispute)
    assert court.lost == 30 * DOLLAR
    assert court.network.bonds.stake_of(jurors[0].address, PROVIDER) == 1_000 * DOLLAR
    refused(council.close, dispute, why="council: closed")
    refused(council.close, 7, why="council: no such dispute")


def test_half_of_a_jury_is_no_verdict(court: Court, jurors: list[PrivateKey]) -> None:
    """Eight equal jurors have 32 seats each: four have 128, five the 150 that it takes."""
    dispute = court.drawn(OPENER, jurors[0], 300 * DOLLAR, TENANT)
    assert [court.seats(dispute, juror) for juror in jurors[1:]] == [SEATS // 8] * 8
    refused(
        court.network.council.decide,
        dispute,
        True,
        court.verdict(dispute, True, jurors[1:5]),
        why="council: too few seats",
    )
    court.network.council.decide(dispute, True, court.verdict(dispute, True, jurors[1:6]))


# --- who judges -----------------------------------------------------------------------------


def test_the_parties_never_judge(court: Court) -> None:
    accused, opener, *others = court.providers(1_000, 5_000, 100, 100, 100)
    dispute = court.drawn(opener, accused, 10 * DOLLAR, opener)
    assert [court.seats(dispute, party) for party in (accused, opener)] == [0, 0]
    assert sum(court.seats(dispute, other) for other in others) in range(SEATS - 3, SEATS + 4)
    refused(
        court.network.council.decide,
        dispute,
        True,
        court.verdict(dispute, True, [accused, opener, others[0]]),
        why="council: too few seats",
    )


def test_nobody_is_pushed_out_of_a_jury_by_being_named_as_harmed(court: Court) -> None:
    network = court.network
    accused, honest, *_ = court.providers(1_000, 5_000, 100)
    network.fund(OPENER, 100 * DOLLAR)
    arguments = (accused.address, PROVIDER, DOLLAR, honest.address, EVIDENCE)
    refused(
        network.council.open, *arguments, why="council: the harmed votes", sender=OPENER.address
    )
    newcomer = key("newcomer")
    network.bond(newcomer, PROVIDER, 5_000 * DOLLAR)  # does not vote yet, so it loses nothing
    dispute = court.drawn(OPENER, accused, DOLLAR, newcomer)
    network.pass_epochs(3)
    assert court.seats(dispute, newcomer) == 0


def test_all_roles_judge_and_an_account_weighs_all_its_bonds(court: Court) -> None:
    network, accused, both = court.network, key("accused"), key("both")
    network.bond(accused, OPERATOR, 50 * DOLLAR)
    network.bond(both, PROVIDER, 30 * DOLLAR)
    network.bond(both, VALIDATOR, 30 * DOLLAR)
    network.bond(key("third"), OPERATOR, 60 * DOLLAR)
    network.pass_epochs(2)
    dispute = court.open(OPENER, accused, DOLLAR, TENANT, role=OPERATOR)
    court.mine(FIRST_DRAW)
    network.council.draw(dispute)
    assert court.seats(dispute, both) == court.seats(dispute, key("third")) == SEATS // 2


def test_bonds_that_came_after_the_opening_have_no_seat_and_thawing_ones_lose_theirs(
    court: Court, jurors: list[PrivateKey]
) -> None:
    network = court.network
    dispute = court.drawn(OPENER, jurors[0], 300 * DOLLAR, TENANT)
    before = court.seats(dispute, jurors[1])
    network.bond(STRANGER, VALIDATOR, 1_000_000 * DOLLAR)
    network.fund(jurors[1], 900 * DOLLAR)
    network.bonds.top_up(PROVIDER, 900 * DOLLAR, sender=jurors[1].address)
    network.bonds.thaw(PROVIDER, 50 * DOLLAR, sender=jurors[2].address)
    network.pass_epochs(5)
    assert network.bonds.voting_bond(STRANGER.address, VALIDATOR, network.epoch) > 0
    assert court.seats(dispute, STRANGER) == 0
    assert court.seats(dispute, jurors[1]) == before
    assert court.seats(dispute, jurors[2]) < before


def test_seats_are_the_stated_formula(court: Court) -> None:
    amounts = [1, 2, 3, 50, 700, 33, 33, 33, 12_345]
    accused, *others = court.providers(*amounts)
    dispute = court.drawn(OPENER, accused, DOLLAR, TENANT)
    seed = court.network.council.disputes(dispute).seed
    total = sum(amounts[1:]) * DOLLAR
    for account, dollars in zip(others, amounts[1:], strict=True):
        ticket = int.from_bytes(keccak256(seed + typed_data.word(account.address)), "big")
        expected = (SEATS * dollars * DOLLAR + ticket % total) // total
        assert court.seats(dispute, account) == expected


# --- the draw -------------------------------------------------------------------------------


def test_the_seed_needs_a_later_block_and_comes_once(
    court: Court, jurors: list[PrivateKey]
) -> None:
    council = court.network.council
    refused(council.draw, 7, why="council: no such dispute")
    dispute = court.open(OPENER, jurors[0], DOLLAR, TENANT)
    assert court.seats(dispute, jurors[1]) == 0  # nobody before the draw
    court.mine(FIRST_DRAW - 1)
    refused(council.draw, dispute, why="council: too early to draw")
    refused(council.decide, dispute, True, [], why="council: no jury drawn")
    court.mine(1)
    council.draw(dispute)
    refused(council.draw, dispute, why="council: already drawn")


def test_a_missed_draw_ends_the_dispute_and_burns_the_bond(
    court: Court, jurors: list[PrivateKey]
) -> None:
    council = court.network.council
    dispute = court.open(OPENER, jurors[0], DOLLAR, TENANT)
    court.mine(FIRST_DRAW + DRAW_BLOCKS - 1)
    refused(council.close, dispute, why="council: still open")
    court.mine(1)
    refused(council.draw, dispute, why="council: too late to draw")
    council.close(dispute)
    assert court.lost == 10 * DOLLAR  # the least bond


def test_disputes_have_juries_of_their_own(court: Court) -> None:
    accused, *others = court.providers(1_000, *[97] * 20)
    first = court.drawn(OPENER, accused, DOLLAR, TENANT)
    second = court.drawn(OPENER, accused, 2 * DOLLAR, TENANT)
    assert [court.seats(first, one) for one in others] != [
        court.seats(second, one) for one in others
    ]


# --- forged quorums -------------------------------------------------------------------------


def test_forged_verdicts(court: Court, jurors: list[PrivateKey]) -> None:
    council, domain = court.network.council, court.network.domain
    dispute = court.drawn(OPENER, jurors[0], 300 * DOLLAR, TENANT)
    good = court.verdict(dispute, True, jurors[1:])
    few = court.verdict(dispute, True, jurors[1:5])

    refused(council.decide, dispute, True, few + few[-1:], why="signers not rising")
    refused(council.decide, dispute, True, good[::-1], why="signers not rising")
    refused(council.decide, dispute, True, [], why="too few seats")
    unbonded = court.verdict(dispute, True, [key(f"nobody {i}") for i in range(20)])
    refused(council.decide, dispute, True, unbonded, why="too few seats")
    acquitting = court.verdict(dispute, False, jurors[1:])
    refused(council.decide, dispute, True, acquitting, why="council:")

    enough = court.verdict(dispute, True, jurors[1:6])
    r, packed = enough[0]
    parity, s = divmod(int.from_bytes(packed, "big"), 2**255)
    for forged, why in (
        ((ORDER // 2 + 1) | parity << 255, "malleable"),
        (((1 - parity) << 255) ^ (ORDER - s), "council:"),  # the twin does not fit its place
    ):
        twin = [(r, forged.to_bytes(32, "big")), *enough[1:]]
        refused(council.decide, dispute, True, twin, why=why)

    for other in (
        Domain(chain_id=domain.chain_id + 1, contract=domain.contract),
        Domain(chain_id=domain.chain_id, contract=council.address.lower()),
    ):
        foreign = signatures(jurors[1:], typed_data.verdict(other, dispute, True))
        refused(council.decide, dispute, True, foreign, why="council:")
    council.decide(dispute, True, good)


def test_a_verdict_counts_in_its_own_dispute_only(court: Court, jurors: list[PrivateKey]) -> None:
    first = court.drawn(OPENER, jurors[0], 300 * DOLLAR, TENANT)
    second = court.drawn(OPENER, jurors[0], 301 * DOLLAR, TENANT)
    refused(
        court.network.council.decide,
        second,
        True,
        court.verdict(first, True, jurors[1:]),
        why="council:",
    )


# --- opening --------------------------------------------------------------------------------


def test_what_cannot_be_opened(court: Court, jurors: list[PrivateKey]) -> None:
    network, council, accused = court.network, court.network.council, jurors[0]
    network.fund(OPENER, 100 * DOLLAR)
    network.fund(accused, 100 * DOLLAR)

    def attempt(
        why: str,
        *,
        whom: str = accused.address,
        role: int = PROVIDER,
        amount: int = DOLLAR,
        harmed: str = TENANT.address,
        sender: PrivateKey = OPENER,
    ) -> None:
        arguments = (whom, role, amount, harmed, EVIDENCE)
        refused(council.open, *arguments, why=why, sender=sender.address)

    attempt("council: amount", amount=0)
    attempt("council: amount", amount=2**128)
    attempt("council: nobody harmed", harmed="0x" + "0" * 40)
    attempt("council: accuses itself", sender=accused)
    attempt("council: accuses itself", harmed=accused.address)
    attempt("council: nothing at stake", whom=STRANGER.address)
    attempt("council: nothing at stake", role=VALIDATOR)
    attempt("dollar: not allowed", sender=STRANGER)
    council.open(accused.address, PROVIDER, DOLLAR, TENANT.address, EVIDENCE, sender=OPENER.address)
    attempt("council: already open")


def test_without_a_jury_nobody_is_accused(court: Court) -> None:
    (accused,) = court.providers(1_000)
    court.network.fund(OPENER, 100 * DOLLAR)
    refused(
        court.network.council.open,
        accused.address,
        PROVIDER,
        DOLLAR,
        TENANT.address,
        EVIDENCE,
        why="council: no jury",
        sender=OPENER.address,
    )


def test_the_jury_that_convicts_is_the_docstrings(court: Court) -> None:
    """Constants and probabilities that the contract's text states."""
    from math import exp

    def at_least(seats: int, mean: float) -> float:
        term = total = exp(-mean)
        for count in range(1, seats):
            term *= mean / count
            total += term
        return 1 - total

    council = court.network.council
    assert (council.SEATS(), council.VERDICT_SEATS()) == (SEATS, VERDICT_SEATS)
    assert at_least(VERDICT_SEATS, SEATS / 3) == pytest.approx(2e-10, rel=0.2)
    assert at_least(VERDICT_SEATS, SEATS * 2 / 5) == pytest.approx(6e-6, rel=0.2)
    assert at_least(VERDICT_SEATS, SEATS * 2 / 3) == pytest.approx(0.95, abs=0.005)
    assert boa.env.evm.patch.chain_id == court.network.domain.chain_id


def test_splitting_a_bond_changes_no_average() -> None:
    """Over all tickets u, the seats (S w + u) // W add up to S w: the exact share on average."""
    for whole in (1, 7, 60, 997):
        for bond in range(0, whole + 1, max(1, whole // 7)):
            assert sum((SEATS * bond + u) // whole for u in range(whole)) == SEATS * bond
