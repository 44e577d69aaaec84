"""Settlement: what holds for every history of epochs."""

import random
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.rules.money import histories
from tests.rules.naive_settlement import Naive, plain

from isochrone.rules.settlement import settle
from isochrone.schema.digests import canonical
from isochrone.schema.settlement import Books, EpochInput, Settlement


def settled(history: list[EpochInput]) -> list[tuple[EpochInput, Settlement]]:
    books: Books | None = None
    found = []
    for inputs in history:
        whole = msgspec.structs.replace(inputs, previous=books)
        result = settle(whole)
        books = result.books
        found.append((whole, result))
    return found


@settings(max_examples=300)
@given(histories)
def test_a_second_implementation_agrees(history: list[EpochInput]) -> None:
    before: dict[str, Any] | None = None
    for inputs, result in settled(history):
        before = Naive(inputs, before).settle()
        expected = {name: before[name] for name in plain(result.books)}
        assert plain(result.books) == expected
        assert result.charges == before["charges"]


@given(histories)
def test_money_is_conserved(history: list[EpochInput]) -> None:
    received = 0
    for inputs, result in settled(history):
        books, balance = result.books, result.balance
        unspent = sum(p.redeemed_microusd - p.allocated_microusd for p in books.purposes)
        held = sum(row.total_microusd for row in books.held)
        waiting = sum(books.pools.values()) + books.validation_microusd
        everything = books.total_microusd + held + waiting + unspent + books.remainder_microusd
        assert everything == inputs.chain.pot_received_microusd
        assert balance.income == balance.outcome
        assert balance.income == inputs.chain.pot_received_microusd - received
        received = inputs.chain.pot_received_microusd
        amounts = (*books.accounts.values(), *books.pools.values(), held, waiting)
        assert all(amount >= 0 for amount in amounts)
        assert all(p.allocated_microusd <= p.redeemed_microusd for p in books.purposes)


@given(histories)
def test_the_lines_of_an_account_are_the_change_of_what_it_may_claim(
    history: list[EpochInput],
) -> None:
    for inputs, result in settled(history):
        before = inputs.previous.accounts if inputs.previous else {}
        sums = dict(before)
        for line in result.lines:
            assert line.amount_microusd
            sums[line.account] = sums.get(line.account, 0) + line.amount_microusd
        assert {account: amount for account, amount in sums.items() if amount} == (
            result.books.accounts
        )
        for account, amount in before.items():
            assert result.books.accounts.get(account, 0) >= amount


@given(histories, st.integers(0, 2**32))
def test_the_order_of_records_changes_no_byte(history: list[EpochInput], seed: int) -> None:
    chance = random.Random(seed)
    books: Books | None = None
    for inputs in history:
        inputs = msgspec.structs.replace(inputs, previous=books)
        chain = msgspec.structs.replace(
            inputs.chain,
            bonds=shuffled(inputs.chain.bonds, chance),
            funds=shuffled(inputs.chain.funds, chance),
            signers=shuffled(inputs.chain.signers, chance),
            watch=msgspec.structs.replace(
                inputs.chain.watch, watchers=shuffled(inputs.chain.watch.watchers, chance)
            ),
        )
        other = msgspec.structs.replace(
            inputs,
            chain=chain,
            usages=shuffled((*inputs.usages, *inputs.usages), chance),
            leases=shuffled(inputs.leases, chance),
            standby=shuffled(inputs.standby, chance),
            watches=shuffled(inputs.watches, chance),
            appeals=shuffled((*inputs.appeals, *inputs.appeals), chance),
        )
        assert canonical(settle(inputs)) == canonical(settle(other))
        books = settle(inputs).books


def shuffled(rows: tuple[Any, ...], chance: random.Random) -> tuple[Any, ...]:
    return tuple(chance.sample(rows, len(rows)))


@given(histories)
def test_credits_come_from_the_lease_that_missed_its_promise(history: list[EpochInput]) -> None:
    for inputs, result in settled(history):
        held = inputs.previous.held if inputs.previous else ()
        reserve = {row.lease: row.total_microusd for row in held}
        earned: dict[str, int] = {}
        credit: dict[str, int] = {}
        for line in result.lines:
            if line.why in ("use", "shortfall"):
                earned[line.lease] = earned.get(line.lease, 0) + line.amount_microusd
            if line.why == "credit" and line.amount_microusd > 0:
                credit[line.lease] = credit.get(line.lease, 0) + line.amount_microusd
                assert line.account == line.service.split(".")[0]
        for lease, amount in credit.items():
            assert amount <= earned.get(lease, 0) + reserve.get(lease, 0)


@given(histories)
def test_what_a_verdict_takes_goes_from_a_barred_node_to_the_tenants_of_its_leases(
    history: list[EpochInput],
) -> None:
    for inputs, result in settled(history):
        final = {
            bar.node for bar in result.books.barred if bar.since_epoch < inputs.epoch
        }  # a verdict of this epoch can still be appealed
        nodes = {record.terms.lease: record.terms.node for record in inputs.leases}
        held = inputs.previous.held if inputs.previous else ()
        nodes |= {row.lease: row.node for row in held}
        taken: dict[str, int] = {}
        for line in result.lines:
            if line.why == "forfeit":
                assert nodes[line.lease] in final
                is_given = line.amount_microusd > 0
                assert not is_given or line.account == line.service.split(".")[0]
                taken[line.lease] = taken.get(line.lease, 0) + line.amount_microusd
        assert not any(taken.values())


@given(histories)
def test_nobody_is_barred_whom_less_than_two_thirds_of_the_bond_found_failed(
    history: list[EpochInput],
) -> None:
    accusers: dict[tuple[str, Any], set[str]] = {}
    for inputs, result in settled(history):
        stakes = {w.key: w.stake_microusd for w in inputs.chain.watch.watchers}
        owner = {key: bond.account for bond in inputs.chain.bonds for key in bond.keys}
        for watch in inputs.watches:
            for report in watch.reports:
                found = [f.kind for f in report.findings if f.verdict == "failed"]
                found += ["life"] * (report.asked - report.answered >= 2)
                for kind in found:
                    if watch.opened and watch.secret_ok:
                        about = (report.node, kind)
                        accusers.setdefault(about, set()).add(watch.validator)
        for bar in result.books.barred:
            of = {
                w.key for w in inputs.chain.watch.watchers if w.account != owner.get(bar.node, "")
            }
            against = accusers[bar.node, bar.kind] & of
            assert 3 * sum(map(stakes.__getitem__, against)) >= 2 * sum(map(stakes.__getitem__, of))
