"""Earnings: every unit of an account has a reason, and what is held has a day."""

import msgspec
from tests.rules.money import NODE, PROVIDER, World, epoch_input, standby

from isochrone.rules.earnings import earnings
from isochrone.rules.settlement import settle


def test_earnings_say_why_by_replica_and_rule() -> None:
    first = settle(epoch_input())
    second = settle(epoch_input(8, first.books, standby=(standby(epoch=8, node=NODE),)))
    found = earnings(PROVIDER, (*first.lines, *second.lines), second.books)
    assert [(s.lease, s.place, s.why, s.amount_microusd) for s in found.sources] == [
        ("", "frankfurt", "standby", 90),
        ("l1", "", "held", -8_000),
        ("l1", "", "use", 40_000),
    ]
    assert found.sources[2].note == "3,600 live seconds at 20,000 micro-USD an hour"
    assert [(row.until_epoch, row.amount_microusd) for row in found.held] == [
        (11, 4_000),
        (12, 4_000),
    ]
    assert found.earned_microusd == 40_090
    assert found.changed_microusd == second.books.accounts[PROVIDER]


def test_nothing_is_left_out() -> None:
    for seed in range(30):
        lines, books = [], None
        for inputs in World(seed).history():
            result = settle(msgspec.structs.replace(inputs, previous=books))
            lines += result.lines
            books = result.books
        assert books is not None
        for account, amount in books.accounts.items():
            found = earnings(account, lines, books)
            assert found.changed_microusd == amount
            held = [row.total_microusd for row in books.held if row.account == account]
            assert found.held_microusd == sum(held)
            assert found.earned_microusd == amount + sum(held)
