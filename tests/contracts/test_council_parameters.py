from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.contracts.court import WORDS, Court
from tests.contracts.network import (
    DISPUTE_S,
    DOLLAR,
    EPOCH_S,
    OPERATOR,
    PROVIDER,
    TIMELOCK_S,
    VALIDATOR,
    Network,
    boa,
    key,
    refused,
    source,
)

from isochrone.schema.deployment import Terms
from isochrone.schema.parameters import PARAMETERS, terms_from

FEE = WORDS["fee_bps"]


@pytest.fixture
def court(network: Network) -> Court:
    return Court(network)


def proposed(court: Court, name: str, value: int) -> int:
    return int(court.network.council.propose(WORDS[name], value))


def set_by_vote(court: Court, name: str, value: int) -> int:
    """Everybody agrees, the time passes, it is executed; the epoch from which it holds."""
    council = court.network.council
    proposal = proposed(court, name, value)
    council.support(proposal, court.resolution(proposal, [key("provider 0")]))
    court.network.pass_time(TIMELOCK_S)
    council.execute(proposal)
    return court.network.epoch + 2


# --- what there is --------------------------------------------------------------------------


def test_names_limits_and_first_values_are_the_schemas(court: Court) -> None:
    council = court.network.council
    for parameter in PARAMETERS:
        bounds = council.bounds(parameter.word)
        assert (bounds.minimum, bounds.maximum) == (parameter.minimum, parameter.maximum)
        assert council.parameter(parameter.word) == parameter.default
    values = {p.name: council.parameter_at(p.word, 0) for p in PARAMETERS}
    assert terms_from(values) == Terms()
    assert council.bounds(FEE).maximum == 200  # at most two per cent, whoever votes
    refused(council.parameter, b"nothing".ljust(32, b"\0"), why="council: no such parameter")


def test_a_council_that_could_hurry_or_starts_out_of_bounds_is_not_deployed(court: Court) -> None:
    bonds, defaults = court.network.bonds, [p.default for p in PARAMETERS]
    deploy = source("contracts/council.vy").deploy
    refused(deploy, bonds.address, DISPUTE_S, bonds.thaw_s(), defaults, why="timelock within thaw")
    refused(deploy, bonds.address, 0, TIMELOCK_S, defaults, why="no time to decide")
    high = [p.maximum + 1 if p.name == "fee_bps" else p.default for p in PARAMETERS]
    refused(deploy, bonds.address, DISPUTE_S, TIMELOCK_S, high, why="out of bounds")


def test_nobody_owns_it(court: Court) -> None:
    """All that changes anything; each asks for signatures or a bond, or only keeps time."""
    changing = {
        item["name"]
        for item in court.network.council.abi
        if item["type"] == "function" and item["stateMutability"] not in ("view", "pure")
    }
    assert changing == {
        "open", "draw", "decide", "close", "propose", "support", "execute", "pause",
    }  # fmt: skip


# --- votes ----------------------------------------------------------------------------------


def test_a_change_needs_more_than_half_of_all_bonds_of_all_roles(court: Court) -> None:
    network, council = court.network, court.network.council
    court.providers(100)
    network.bond(key("operator"), OPERATOR, 100 * DOLLAR)
    network.bond(key("validator"), VALIDATOR, 100 * DOLLAR)
    network.bond(key("heavy"), VALIDATOR, 100 * DOLLAR)
    network.pass_epochs(2)
    proposal = proposed(court, "fee_bps", 100)
    council.support(proposal, court.resolution(proposal, [key("provider 0"), key("operator")]))
    refused(council.execute, proposal, why="council: not passed")  # half is not more than half

    again = [key("operator"), key("nobody"), key("operator")]
    council.support(proposal, court.resolution(proposal, again))
    assert council.proposals(proposal).support == 200 * DOLLAR
    refused(council.execute, proposal, why="council: not passed")

    council.support(proposal, court.resolution(proposal, [key("validator")]))
    assert council.proposals(proposal).passed_at == boa.env.timestamp
    refused(council.support, proposal, [], why="council: passed")


def test_bonds_posted_after_the_proposal_do_not_vote_and_thawing_ones_no_more(court: Court) -> None:
    network, council = court.network, court.network.council
    first, second = court.providers(100, 60)
    proposal = proposed(court, "fee_bps", 100)
    network.bond(key("late"), PROVIDER, 1_000_000 * DOLLAR)
    network.pass_epochs(3)
    network.bonds.thaw(PROVIDER, 50 * DOLLAR, sender=first.address)
    council.support(proposal, court.resolution(proposal, [key("late"), first]))
    assert council.proposals(proposal).support == 50 * DOLLAR
    council.support(proposal, court.resolution(proposal, [second]))
    assert council.proposals(proposal).passed_at != 0


def test_what_cannot_be_proposed_or_supported(court: Court) -> None:
    council = court.network.council
    refused(council.propose, FEE, 100, why="council: nobody votes")
    court.providers(100)
    refused(council.propose, FEE, 201, why="council: out of bounds")
    refused(council.propose, WORDS["samples_min"], 9, why="council: out of bounds")
    refused(council.propose, b"owner".ljust(32, b"\0"), 1, why="council: no such parameter")
    proposal = proposed(court, "fee_bps", 100)
    refused(council.propose, FEE, 100, why="council: already proposed")
    refused(council.support, 7, [], why="council: no such proposal")
    refused(council.execute, 7, why="council: not passed")
    signed = court.resolution(proposal, [key("provider 0")])
    other = proposed(court, "fee_bps", 101)
    council.support(other, signed)  # signatures under another proposal recover to strangers
    assert council.proposals(other).support == 0
    court.network.pass_time(DISPUTE_S + 1)
    refused(council.support, proposal, signed, why="council: past the deadline")


def test_the_timelock_is_longer_than_the_longest_thaw_and_does_not_wait_for_ever(
    court: Court,
) -> None:
    network, council = court.network, court.network.council
    (account,) = court.providers(100)
    lapsing = proposed(court, "fee_bps", 99)
    proposal = proposed(court, "fee_bps", 100)
    for one in (lapsing, proposal):
        council.support(one, court.resolution(one, [account]))
    network.bonds.thaw(PROVIDER, 100 * DOLLAR, sender=account.address)
    network.pass_time(network.bonds.thaw_s())
    refused(council.execute, proposal, why="council: timelocked")
    network.bonds.withdraw(PROVIDER, sender=account.address)  # gone before it counts
    network.pass_time(council.timelock_s() - network.bonds.thaw_s() - 1)
    refused(council.execute, proposal, why="council: timelocked")
    network.pass_time(1)
    council.execute(proposal)
    refused(council.execute, proposal, why="council: executed")
    network.pass_time(council.timelock_s() + 1)
    refused(council.execute, lapsing, why="council: lapsed")


def test_nothing_is_retroactive(court: Court) -> None:
    network = court.network
    court.providers(100)
    held = set_by_vote(court, "fee_bps", 150)
    assert court.parameter("fee_bps") == 200
    assert court.parameter("fee_bps", held - 1) == 200
    assert court.parameter("fee_bps", held) == 150
    network.pass_epochs(1)
    assert court.parameter("fee_bps") == 200
    network.pass_epochs(1)
    assert court.parameter("fee_bps") == 150
    later = set_by_vote(court, "fee_bps", 50)
    assert [court.parameter("fee_bps", e) for e in (0, held - 1, held, later - 1, later)] == [
        200, 200, 150, 150, 50,
    ]  # fmt: skip


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(changes=st.lists(st.tuples(st.integers(0, 200), st.integers(0, 5)), min_size=0, max_size=6))
def test_history_is_what_a_list_would_say(network: Network, changes: list[tuple[int, int]]) -> None:
    """Differential: the halving search against a plain scan; what was once said stays."""
    court, heard = Court(network), {}
    with boa.env.anchor():
        court.providers(100)
        history = [(0, 200)]
        for value, pause in changes:
            history.append((set_by_vote(court, "fee_bps", value), value))
            court.network.pass_time(pause * EPOCH_S)
            now = court.network.epoch
            heard |= {e: court.parameter("fee_bps", e) for e in (now - 1, now)}
        epochs = {e + d for e, _ in history for d in (-1, 0, 1) if e + d >= 0} | set(heard)
        for epoch in sorted(epochs):
            expected = [value for start, value in history if start <= epoch][-1]
            assert court.parameter("fee_bps", epoch) == expected
        assert all(court.parameter("fee_bps", e) == value for e, value in heard.items())


def test_the_disputes_bond_follows_its_parameter(court: Court) -> None:
    council = court.network.council
    court.providers(100)
    assert council.bond_for(DOLLAR) == 10 * DOLLAR
    assert council.bond_for(1_000 * DOLLAR) == 100 * DOLLAR
    set_by_vote(court, "dispute_bond_microusd", 70 * DOLLAR)
    assert council.bond_for(DOLLAR) == 10 * DOLLAR
    court.network.pass_epochs(2)
    assert council.bond_for(DOLLAR) == 70 * DOLLAR
