"""Tokens that cheat the council: nothing is opened, paid or reentered that should not be."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.contracts.court import DRAW_BLOCKS, EVIDENCE, FIRST_DRAW, Court
from tests.contracts.network import DEAD, DOLLAR, PROVIDER, boa, deploy, key, refused

OPENER, TENANT = key("opener"), key("tenant")
NOBODY = "0x" + "0" * 40
HONEST = (False, False, False, NOBODY)


@pytest.fixture
def court() -> Iterator[Court]:
    with boa.env.anchor():
        yield Court(deploy("tests/contracts/tokens/hostile.vy"))


@pytest.mark.parametrize(
    ("behaviour", "why"),
    [
        ((True, False, False, NOBODY), "council: not paid whole"),
        ((False, True, False, NOBODY), "council: not paid"),
        ((False, False, True, NOBODY), "council: not paid whole"),
    ],
)
def test_a_bond_that_does_not_arrive_whole_opens_nothing(
    court: Court, behaviour: tuple[bool, bool, bool, str], why: str
) -> None:
    network = court.network
    accused, _ = court.providers(1_000, 100)
    network.fund(OPENER, 100 * DOLLAR)
    network.token.behave(*behaviour)
    arguments = (accused.address, PROVIDER, DOLLAR, TENANT.address, EVIDENCE)
    refused(network.council.open, *arguments, why=why, sender=OPENER.address)
    assert court.balance(network.council.address) == 0


def test_a_payment_that_is_refused_leaves_the_dispute_open(court: Court) -> None:
    council = court.network.council
    accused, juror = court.providers(1_000, 100)
    dispute = court.drawn(OPENER, accused, DOLLAR, TENANT)
    verdict = court.verdict(dispute, True, [juror])
    court.network.token.behave(False, True, False, NOBODY)
    refused(council.decide, dispute, True, verdict, why="bonds: not paid")
    acquittal = court.verdict(dispute, False, [juror])
    refused(council.decide, dispute, False, acquittal, why="council: not paid")
    court.network.token.behave(*HONEST)
    council.decide(dispute, True, verdict)
    assert court.balance(TENANT) == DOLLAR
    assert court.balance(OPENER) == 10 * DOLLAR


def test_the_token_cannot_call_back_in(court: Court) -> None:
    """While an opener's bond is moved, even a call that is otherwise due is refused."""
    network, council = court.network, court.network.council
    accused, juror = court.providers(1_000, 100)
    first = court.open(OPENER, accused, DOLLAR, TENANT)
    court.mine(FIRST_DRAW)
    network.token.call_back_with(council.address, council.draw.prepare_calldata(first))
    second = court.open(OPENER, accused, 2 * DOLLAR, TENANT)
    assert network.token.called_back() == 1
    assert network.token.succeeded() == 0
    council.draw(first)
    court.mine(FIRST_DRAW + DRAW_BLOCKS)
    close = council.close.prepare_calldata(second)
    network.token.call_back_with(council.address, close)
    council.decide(first, False, court.verdict(first, False, [juror]))
    assert network.token.succeeded() == 0
    assert court.balance(DEAD) == 10 * DOLLAR
    council.close(second)
    assert court.balance(DEAD) == 20 * DOLLAR
    assert court.balance(council.address) == 0
