"""Bonds against a naive model, played at random: solvency, conservation, authority, votes.

The model keeps every posted amount as a lot of its own with the epoch from which it votes, and
adds lots up; the contract keeps one slot an account and one a role. After every move the two agree
on who has what, who votes with what in this epoch and the next two, and what is to be burned; the
contract holds exactly the stakes and what is to be burned; and no token has come or gone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from tests.contracts.network import (
    DEAD,
    EPOCH_S,
    GENESIS,
    MIN_BOND,
    PROVIDER,
    THAW_S,
    VALIDATOR,
    Network,
    boa,
    key,
    refused,
)
from tests.contracts.plays import played

from isochrone.schema import typed_data
from isochrone.schema.identity import PrivateKey, compact

ACCOUNTS = tuple(key(f"account {i}") for i in range(3))
ROLES = range(3)
PURSE = 10**12
RIPENING = 2
FINDER = key("finder").address

accounts = st.sampled_from(ACCOUNTS)
roles = st.sampled_from((PROVIDER, VALIDATOR))  # two are enough to see that they do not mix
amounts = st.one_of(st.integers(1, 200), st.integers(1, PURSE // 4), st.just(PURSE + 1))
parts = st.integers(0, 4)  # quarters of what there is


@dataclass
class Lots:
    """One bond: what votes from which epoch (the youngest last), and what thaws until when."""

    lots: list[list[int]] = field(default_factory=list)
    thawing: int = 0
    thaw_end: int = 0
    registered: bool = False
    machines: int = 0

    @property
    def active(self) -> int:
        return sum(amount for amount, _ in self.lots)

    @property
    def stake(self) -> int:
        return self.active + self.thawing

    def votes(self, epoch: int) -> int:
        return sum(amount for amount, since in self.lots if since <= epoch)

    def post(self, amount: int, now: int) -> None:
        for lot in self.lots:
            if lot[1] > now:  # what was still ripening waits with the new
                lot[1] = now + RIPENING
        self.lots.append([amount, now + RIPENING])

    def remove_youngest(self, amount: int) -> None:
        while amount:
            lot = self.lots[-1]
            taken = min(amount, lot[0])
            lot[0] -= taken
            amount -= taken
            if not lot[0]:
                self.lots.pop()


class BondsPlay(RuleBasedStateMachine):
    """Moves of accounts, finders, the council and the clock."""

    network: ClassVar[Network]
    seen: ClassVar[set[str]] = set()

    @initialize(first=st.lists(amounts, min_size=3, max_size=3))
    def begin(self, first: list[int]) -> None:
        self.anchor = boa.env.anchor()
        self.anchor.__enter__()
        boa.env.timestamp = GENESIS
        self.model = {(one.address, role): Lots() for one in ACCOUNTS for role in ROLES}
        self.purses = {one.address: PURSE for one in ACCOUNTS}
        self.purses[FINDER] = self.purses[DEAD] = 0
        self.looked_at = VALIDATOR
        self.to_burn = dict.fromkeys(ROLES, 0)
        for one in ACCOUNTS:
            self.network.fund(one, PURSE)
        for one, amount in zip(ACCOUNTS, first, strict=True):
            for role in (PROVIDER, VALIDATOR):
                self._register(one, role, amount)

    def teardown(self) -> None:
        if hasattr(self, "anchor"):
            self.anchor.__exit__(None, None, None)

    # --- moves -------------------------------------------------------------------------------

    @rule(one=accounts, role=roles, amount=amounts)
    def register(self, one: PrivateKey, role: int, amount: int) -> None:
        self._register(one, role, amount)

    def _register(self, one: PrivateKey, role: int, amount: int) -> None:
        bond = self.model[one.address, role]
        voter = voter_of(one, role)
        consent = self.network.consent(one.address, voter)
        call = (self.network.bonds.register, role, voter.address, consent, amount)
        if bond.active + amount < MIN_BOND:
            refused(*call, sender=one.address, why="bonds: too little")
            self.seen.add("too little")
            return
        if amount > self.purses[one.address]:
            refused(*call, sender=one.address, why="dollar: balance too small")
            return
        call[0](*call[1:], sender=one.address)
        bond.registered = True
        self._posted(one, bond, amount)

    @rule(one=accounts, role=roles, amount=amounts)
    def top_up(self, one: PrivateKey, role: int, amount: int) -> None:
        bond = self.model[one.address, role]
        call = (self.network.bonds.top_up, role, amount)
        if not bond.registered:
            refused(*call, sender=one.address, why="bonds: not registered")
        elif bond.active + amount < MIN_BOND:
            refused(*call, sender=one.address, why="bonds: too little")
        elif amount > self.purses[one.address]:
            refused(*call, sender=one.address, why="dollar: balance too small")
        else:
            call[0](*call[1:], sender=one.address)
            self._posted(one, bond, amount)

    @rule(one=accounts, role=roles, quarters=parts, more=st.integers(0, 1))
    def thaw(self, one: PrivateKey, role: int, quarters: int, more: int) -> None:
        bond = self.model[one.address, role]
        amount = bond.active * quarters // 4 + more
        call = (self.network.bonds.thaw, role, amount)
        if not bond.registered:
            refused(*call, sender=one.address, why="bonds: not registered")
        elif amount == 0:
            refused(*call, sender=one.address, why="bonds: nothing")
        elif bond.thawing:
            refused(*call, sender=one.address, why="bonds: already thawing")
        elif amount > bond.active:
            refused(*call, sender=one.address, why="bonds: too much")
        elif 0 < bond.active - amount < MIN_BOND:
            refused(*call, sender=one.address, why="bonds: too little left")
            self.seen.add("too little left")
        else:
            call[0](*call[1:], sender=one.address)
            bond.remove_youngest(amount)
            bond.thawing, bond.thaw_end = amount, boa.env.timestamp + THAW_S
            self.seen.add("thawed")

    @rule(one=accounts, role=roles)
    def thaw_nearly_all(self, one: PrivateKey, role: int) -> None:
        bond = self.model[one.address, role]
        if bond.active >= MIN_BOND and not bond.thawing:
            amount = bond.active - MIN_BOND + 1
            call = (self.network.bonds.thaw, role, amount)
            refused(*call, sender=one.address, why="bonds: too little left")
            self.seen.add("too little left")

    @precondition(lambda self: any(bond.thawing for bond in self.model.values()))
    @rule()
    def wait_and_withdraw(self) -> None:
        ends = (bond.thaw_end for bond in self.model.values() if bond.thawing)
        boa.env.timestamp = max(boa.env.timestamp, min(ends))
        self.withdraw(ACCOUNTS[0], PROVIDER)

    @rule(one=accounts, role=roles)
    def withdraw(self, one: PrivateKey, role: int) -> None:
        ripe = [
            (each, of)
            for each in ACCOUNTS
            for of in ROLES
            if (bond := self.model[each.address, of]).thawing and boa.env.timestamp >= bond.thaw_end
        ]
        one, role = ripe[0] if ripe else (one, role)
        bond = self.model[one.address, role]
        call = (self.network.bonds.withdraw, role)
        if not bond.thawing:
            why = "bonds: nothing thawing" if bond.registered else "bonds: not registered"
            refused(*call, sender=one.address, why=why)
        elif boa.env.timestamp < bond.thaw_end:
            refused(*call, sender=one.address, why="bonds: still thawing")
        else:
            call[0](*call[1:], sender=one.address)
            self.purses[one.address] += bond.thawing
            bond.thawing = 0
            self.seen.add("withdrawn")

    @rule(one=accounts, role=roles)
    def add_key(self, one: PrivateKey, role: int) -> None:
        bond = self.model[one.address, role]
        machine = machine_of(one, role, bond.machines)
        call = (
            self.network.bonds.add_keys, role, [machine.address],
            [self.network.consent(one.address, machine)],
        )  # fmt: skip
        if not bond.registered:
            refused(*call, sender=one.address, why="bonds: not registered")
        else:
            call[0](*call[1:], sender=one.address)
            bond.machines += 1

    @rule(one=accounts, epoch=st.integers(0, 2**64 - 1), round_=st.integers(0, 2**32 - 1))
    def slash_two_roots(self, one: PrivateKey, epoch: int, round_: int) -> None:
        voter = voter_of(one, VALIDATOR)
        bodies = [(bytes([i]) * 32, i, bytes(32), bytes(32)) for i in (1, 2)]
        signed = [
            compact(voter.sign(typed_data.root(self.network.domain, epoch, round_, *body)))
            for body in bodies
        ]
        self._slash(
            VALIDATOR, one, self.network.bonds.slash_root, epoch, round_,
            bodies[0], signed[0], bodies[1], signed[1],
        )  # fmt: skip

    @rule(one=accounts, role=roles, machine=st.booleans())
    def slash_two_heads(self, one: PrivateKey, role: int, machine: bool) -> None:
        bond = self.model[one.address, role]
        known = machine and bond.machines
        liar = machine_of(one, role, bond.machines - 1) if known else voter_of(one, role)
        chain, heads = b"\x09" * 32, (b"\x01" * 32, b"\x02" * 32)
        signed = [
            compact(liar.sign(typed_data.tally_head(self.network.domain, chain, 1, head)))
            for head in heads
        ]
        self._slash(
            role, one, self.network.bonds.slash_tally, role, chain, 1,
            heads[0], signed[0], heads[1], signed[1],
        )  # fmt: skip

    @rule(one=accounts, role=roles, quarters=parts, share=parts, more=st.integers(0, 1))
    def council_slashes(
        self, one: PrivateKey, role: int, quarters: int, share: int, more: int
    ) -> None:
        bond = self.model[one.address, role]
        amount = bond.stake * quarters // 4 + more
        harmed = amount * share // 4
        call = (self.network.bonds.slash_decided, one.address, role, amount, FINDER, harmed)
        refused(*call, sender=one.address, why="bonds: not the council")
        council = self.network.council.address
        if not bond.registered:
            refused(*call, sender=council, why="bonds: not registered")
            return
        taken, given = call[0](*call[1:], sender=council)
        assert taken == min(amount, bond.stake)
        assert given == min(harmed, taken)
        thawed = min(taken, bond.thawing)
        bond.thawing -= thawed
        bond.remove_youngest(taken - thawed)
        self.purses[FINDER] += given
        self.to_burn[role] += taken - given

    @rule(role=roles)
    def burn(self, role: int) -> None:
        if not self.to_burn[role]:
            refused(self.network.bonds.burn, role, sender=FINDER, why="bonds: nothing to burn")
            return
        self.network.bonds.burn(role, sender=FINDER)
        self.purses[DEAD] += self.to_burn[role]
        self.to_burn[role] = 0
        self.seen.add("burned")

    @rule(seconds=st.integers(1, 3 * EPOCH_S))
    def wait(self, seconds: int) -> None:
        self.network.pass_time(seconds)

    @rule(short=st.integers(0, 1))
    def wait_for_a_thaw(self, short: int) -> None:
        self.network.pass_time(THAW_S - short)

    @rule(role=roles, some=st.sets(accounts), back=st.integers(0, 3))
    def weigh(self, role: int, some: set[PrivateKey], back: int) -> None:
        voters = sorted(int(voter_of(one, role).address, 16) for one in some)
        keys = [f"0x{voter:040x}" for voter in voters]
        now = self.network.epoch
        weight, total = self.network.bonds.weigh(role, now, keys)
        assert weight == sum(self.model[one.address, role].votes(now) for one in some)
        assert total == sum(self.model[one.address, role].votes(now) for one in ACCOUNTS)
        # What is asked for an earlier epoch is never more than voted in it.
        then = max(now - back, 0)
        earlier, _ = self.network.bonds.weigh(role, then, keys)
        assert earlier <= sum(self.model[one.address, role].votes(then) for one in some)

    # --- what holds after every move ---------------------------------------------------------

    @invariant()
    def stakes_and_votes_agree(self) -> None:
        bonds, now = self.network.bonds, self.network.epoch
        self.looked_at = VALIDATOR if self.looked_at == PROVIDER else PROVIDER  # one at a time
        for ahead in range(RIPENING + 1):
            assert bonds.total_voting(self.looked_at, now + ahead) == sum(
                self.model[one.address, self.looked_at].votes(now + ahead) for one in ACCOUNTS
            )
        for one in ACCOUNTS:
            stake = self.model[one.address, self.looked_at].stake
            assert bonds.stake_of(one.address, self.looked_at) == stake

    @invariant()
    def money_is_where_it_belongs(self) -> None:
        bonds, token = self.network.bonds, self.network.token
        held = sum(bond.stake for bond in self.model.values()) + sum(self.to_burn.values())
        assert token.balanceOf(bonds.address) == held
        assert sum(bonds.to_burn(role) for role in ROLES) == sum(self.to_burn.values())
        for owner, amount in self.purses.items():
            assert token.balanceOf(owner) == amount
        assert held + sum(self.purses.values()) == PURSE * len(ACCOUNTS)

    # --- inside ------------------------------------------------------------------------------

    def _posted(self, one: PrivateKey, bond: Lots, amount: int) -> None:
        self.purses[one.address] -= amount
        bond.post(amount, self.network.epoch)

    def _slash(self, role: int, one: PrivateKey, slash: Any, *proof: Any) -> None:
        bond = self.model[one.address, role]
        if not bond.stake:
            refused(slash, *proof, sender=FINDER, why="bonds: nothing to slash")
            return
        slash(*proof, sender=FINDER)
        reward = bond.stake // 100
        self.purses[FINDER] += reward
        self.to_burn[role] += bond.stake - reward
        bond.lots, bond.thawing = [], 0
        self.seen.add("slashed")


def voter_of(one: PrivateKey, role: int) -> PrivateKey:
    """The account's voting key in a role."""
    return key(f"voter {role} {one.address}")


def machine_of(one: PrivateKey, role: int, number: int) -> PrivateKey:
    """One of the account's machines' keys in a role."""
    return key(f"machine {role} {number} {one.address}")


@pytest.fixture
def play(network: Network) -> type[BondsPlay]:
    BondsPlay.network = network
    BondsPlay.seen.clear()
    return BondsPlay


def test_bonds_agree_with_the_model(play: type[BondsPlay]) -> None:
    moves = {"thawed", "withdrawn", "slashed", "burned", "too little", "too little left"}
    done = played(play, lambda: play.seen == moves, examples=12, steps=40)
    assert done, f"the play was too tame: {play.seen}"
