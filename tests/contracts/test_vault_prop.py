"""The vault under random play: a state machine beside a model in plain Python.

Two tenants with two purposes each, their spending key, a thief, three accounts, validators that
tell the truth or lie, and providers that veto act in any order. After each step: the vault holds
every deposit and the rest of the pot, to the unit; no token appeared or vanished; each deposit is
what its own deposits, vouchers and thawed withdrawals made it; nobody was paid more than a final
root said.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from tests.contracts.network import DEPOSIT_THAW_S, EPOCH_S, Network, boa, deploy, key, refused
from tests.contracts.plays import played
from tests.contracts.till import (
    CHALLENGE_EPOCHS,
    DAY_S,
    OTHER_PURPOSE,
    PURPOSE,
    RING,
    Statement,
    Till,
)

from isochrone.schema import typed_data
from isochrone.schema.identity import compact

TENANTS = (key("tenant"), key("neighbour"))
FUNDS = [(tenant, purpose) for tenant in TENANTS for purpose in (PURPOSE, OTHER_PURPOSE)]
SPENDER, THIEF = key("spender"), key("thief")
ACCOUNTS = [key(name).address for name in ("ann", "bob", "eve")]
PER_DAY = 60
RIPE_S = (CHALLENGE_EPOCHS + 1) * EPOCH_S
START = 10_000
"""Units that each tenant has to begin with."""

funds = st.integers(0, len(FUNDS) - 1)


class VaultPlay(RuleBasedStateMachine):
    """See the module."""

    network: Network
    seen: Counter[str] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self._anchor = boa.env.anchor()
        self._anchor.__enter__()
        self.vault: Any = self.network.vault
        self.till = Till(self.network)
        for tenant in TENANTS:
            self.network.fund(tenant, START)
        self.till.validators = self.network.validators(100, 100)
        self.providers = self.till.providers(100)
        self.deposits = [0] * len(FUNDS)
        self.redeemed = [0] * len(FUNDS)
        self.thaws: list[tuple[int, int]] = [(0, 0)] * len(FUNDS)
        self.spent: dict[tuple[int, int], int] = {}
        """(fund, day) -> what the spending key moved."""
        self.wallets = {tenant.address: START for tenant in TENANTS}
        self.claimed = dict.fromkeys(ACCOUNTS, 0)
        self.received = 0
        self.pending: list[tuple[Statement, int]] = []
        """Statements and the epoch in which they were posted."""
        self.final: Statement | None = None
        for tenant, purpose in FUNDS:
            digest = typed_data.spending_consent(
                self.network.domain, tenant.address, purpose, SPENDER.address
            )
            consent = compact(SPENDER.sign(digest))
            self.vault.allow(purpose, SPENDER.address, PER_DAY, consent, sender=tenant.address)
        for fund in range(len(FUNDS)):
            self.deposit(fund, 300)
            self.redeem(fund, 100, "tenant")

    def teardown(self) -> None:
        self.each_deposit_is_what_its_own_moves_made_it()
        self._anchor.__exit__(None, None, None)

    # --- tenants ---

    @rule(fund=funds, amount=st.integers(0, 300))
    def deposit(self, fund: int, amount: int) -> None:
        tenant, purpose = FUNDS[fund]
        if amount > self.wallets[tenant.address]:
            return
        self.vault.deposit(tenant.address, purpose, amount, sender=tenant.address)
        self.wallets[tenant.address] -= amount
        self.deposits[fund] += amount

    @rule(fund=funds, amount=st.integers(0, 150))
    def thaw(self, fund: int, amount: int) -> None:
        tenant, purpose = FUNDS[fund]
        call = (purpose, amount)
        if amount > self.deposits[fund]:
            why = "vault: deposit too small"
            refused(self.vault.thaw_deposit, *call, sender=tenant.address, why=why)
            return
        self.vault.thaw_deposit(*call, sender=tenant.address)
        self.thaws[fund] = (amount, boa.env.timestamp + DEPOSIT_THAW_S)

    @rule(fund=funds, patient=st.booleans())
    def withdraw(self, fund: int, patient: bool) -> None:
        if patient:
            self.wait(DEPOSIT_THAW_S)
        now = boa.env.timestamp
        ripe = [one for one, (amount, at) in enumerate(self.thaws) if amount and now >= at]
        fund = ripe[0] if ripe else fund
        tenant, purpose = FUNDS[fund]
        amount, until = self.thaws[fund]
        if amount == 0 or now < until:
            why = "thaw"
            refused(self.vault.withdraw_deposit, purpose, sender=tenant.address, why=why)
            return
        paid = self.vault.withdraw_deposit(purpose, sender=tenant.address)
        assert paid == min(amount, self.deposits[fund])
        self.deposits[fund] -= paid
        self.wallets[tenant.address] += paid
        self.thaws[fund] = (0, 0)
        self.seen["withdrawn"] += paid > 0

    @rule(
        fund=funds,
        more=st.integers(-20, 120),
        signer=st.sampled_from(["tenant", "spender", "spender", "thief"]),
    )
    def redeem(self, fund: int, more: int, signer: str) -> None:
        tenant, purpose = FUNDS[fund]
        cumulative = max(0, self.redeemed[fund] + more)
        hand = {"tenant": tenant, "spender": SPENDER, "thief": THIEF}[signer]
        digest = typed_data.voucher(self.network.domain, tenant.address, purpose, cumulative)
        call = (tenant.address, purpose, cumulative, compact(hand.sign(digest)))
        due = min(cumulative - self.redeemed[fund], self.deposits[fund])
        day = (fund, boa.env.timestamp // DAY_S)
        if signer == "spender":
            due = min(due, PER_DAY - self.spent.get(day, 0))
        if due <= 0 or signer == "thief":
            refused(self.vault.redeem, *call, why="vault: ")
            return
        assert self.vault.redeem(*call, sender=THIEF.address) == due
        self.deposits[fund] -= due
        self.redeemed[fund] += due
        self.received += due
        if signer == "spender":
            self.spent[day] = self.spent.get(day, 0) + due
        self.seen[f"redeemed by {signer}"] += 1

    # --- validators, providers, accounts ---

    @rule(parts=st.lists(st.integers(0, 60), min_size=3, max_size=3), lie=st.booleans())
    def post(self, parts: list[int], lie: bool) -> None:
        epoch = self.network.epoch - 1
        newest = self.pending[-1][0].epoch if self.pending else -1
        if epoch <= max(newest, self.final.epoch if self.final else -1):
            return
        book = {
            account: self.claimed[account] + part
            for account, part in zip(ACCOUNTS, parts, strict=True)
        }
        said = self.till.statement(book, epoch=epoch, round_=self.vault.min_round(epoch))
        if lie:
            said = Statement(epoch, said.tree, min(said.total, self.received), said.round)
        if said.total > self.received:
            refused(self.till.post, said, why="vault: total is above the pot")
            return
        if self.final and (epoch - self.final.epoch) % RING == 0:
            refused(self.till.post, said, why="vault: too many pending roots")
            return
        self.till.post(said)
        self.pending.append((said, self.network.epoch))

    @rule(which=st.integers(0, 3))
    def veto(self, which: int) -> None:
        if which >= len(self.pending):
            return
        said = self.pending[which][0]
        if self.vault.vetoes(said.epoch) == 2:
            refused(self.till.veto, said, self.providers, why="vault: vetoed often enough")
            return
        self.till.veto(said, self.providers)
        del self.pending[which:]
        self.seen["vetoed"] += 1

    @rule(account=st.sampled_from(ACCOUNTS), more=st.sampled_from([0, 0, 0, 7]))
    def claim(self, account: str, more: int) -> None:
        if self.final is None:
            return
        cumulative, proof = self.final.tree.claim(account)
        due = cumulative - self.claimed[account]
        call = (account, cumulative + more, list(proof))
        if more or due <= 0 or sum(self.claimed.values()) + due > self.received:
            refused(self.vault.claim, *call, why="vault: ")
            return
        assert self.vault.claim(*call, sender=THIEF.address) == due
        self.claimed[account] += due
        self.seen["claimed"] += 1

    @rule(parts=st.lists(st.integers(0, 60), min_size=3, max_size=3))
    def settle(self, parts: list[int]) -> None:
        self.post(parts, lie=False)
        self.wait(RIPE_S)

    @rule(seconds=st.sampled_from([600, EPOCH_S, DAY_S]))
    def wait(self, seconds: int) -> None:
        self.network.pass_time(seconds)
        while self.pending and self.network.epoch > self.pending[0][1] + CHALLENGE_EPOCHS:
            self.final = self.pending.pop(0)[0]

    # --- what always holds ---

    @invariant()
    def the_vault_is_solvent_to_the_unit(self) -> None:
        pot = self.vault.pot_received() - self.vault.pot_paid()
        assert pot == self.received - sum(self.claimed.values()) >= 0
        assert self.till.balance(self.vault.address) == sum(self.deposits) + pot

    @invariant()
    def no_token_appears_or_vanishes(self) -> None:
        inside = self.till.balance(self.vault.address)
        outside = {a: self.till.balance(a) for a in (*self.wallets, *ACCOUNTS, THIEF.address)}
        assert inside + sum(outside.values()) == START * len(TENANTS)
        assert outside == {**self.wallets, **self.claimed, THIEF.address: 0}

    def each_deposit_is_what_its_own_moves_made_it(self) -> None:
        """Asked at the end only: nothing here could hide a difference again."""
        for fund, (tenant, purpose) in enumerate(FUNDS):
            assert self.vault.deposit_of(tenant.address, purpose) == self.deposits[fund]
            assert self.vault.redeemed_of(tenant.address, purpose) == self.redeemed[fund]


def test_vault_play() -> None:
    """Enough play that every kind of move has succeeded at least once."""
    with boa.env.anchor():
        VaultPlay.network = deploy()
        moves = ("withdrawn", "redeemed by tenant", "redeemed by spender", "vetoed", "claimed")
        done = played(
            VaultPlay, lambda: all(VaultPlay.seen[move] for move in moves), examples=8, steps=40
        )
    assert done, f"the play was too tame: {VaultPlay.seen}"
