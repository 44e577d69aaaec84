"""What settlement reads from the chain: one ``ChainSnapshot`` at one block, for one epoch.

It is made from events, so that anybody makes the same one later from the same logs, and compared
with the contracts' own state at that block, so that a server that hides or invents logs is found
out: every sum that state keeps (votes of a role, the pot, what was claimed, the newest roots) must
be equal, every bond and fund that changed since the last comparison too, and the contracts must
hold at least the tokens that they owe. An auditor's server may have forgotten the state of an old
block; then ``strict=False`` lets the logs stand alone.

No sum tells whether a machine's key or an unspent deposit was hidden. Whoever doubts names the keys
and funds that the records speak of, and those are asked for one by one.

The cheapest lie that it misses: one server that forges logs and state alike. Two servers do not.
"""

from __future__ import annotations

from collections.abc import Iterable

from isochrone.ledger.chain import Block, Chain
from isochrone.ledger.contracts import Contracts
from isochrone.ledger.errors import ChainDisagrees, NoState
from isochrone.ledger.facts import Facts
from isochrone.ledger.history import History
from isochrone.ledger.watch_start import WatchStarts
from isochrone.schema.chain_snapshot import Bonded, ChainSnapshot, Fund, WatchStart
from isochrone.schema.deployment import ROLES, Role

NO_EPOCH = -1
"""``last_epoch`` when no root is final."""


class Snapshots:
    """Makes snapshots of one deployment; remembers what was compared before."""

    def __init__(self, chain: Chain, contracts: Contracts) -> None:
        self._chain = chain
        self._contracts = contracts
        self._history = History(chain, contracts.deployment)
        self._watches = WatchStarts(chain, contracts.deployment, self._history)
        self._compared = -1

    def facts(self, at: Block) -> Facts:
        """Everything that events say at a block, unchecked: to show, and to find roots."""
        return self._history.facts(at)

    def watch_start(self, watch: int, at: Block) -> WatchStart:
        """How a watch began, by blocks up to ``at``, which should be final."""
        return self._watches.of(watch, at)

    def take(
        self,
        epoch: int,
        at: Block | None = None,
        *,
        strict: bool = True,
        keys: Iterable[tuple[Role, str]] = (),
        funds: Iterable[tuple[str, str]] = (),
    ) -> ChainSnapshot:
        """The snapshot for settling ``epoch`` (default: at the final block).

        ``strict``: state must confirm the events, else raises NoState; otherwise it may be gone.
        ``keys`` (of machines) and ``funds`` (tenant, purpose in hex): those that records name.
        Raises ChainDisagrees when the two differ, ChainRewound when blocks moved meanwhile.
        """
        block = at or self._chain.final()
        facts = self._history.facts(block)
        try:
            self._compare(facts, block)
            self._compare_named(facts, block, keys, funds)
        except NoState:
            if strict:
                raise
        return self._snapshot(facts, block, epoch)

    def _snapshot(self, facts: Facts, block: Block, epoch: int) -> ChainSnapshot:
        before = [root for root in facts.roots if root.epoch < epoch]
        final = [r for r in facts.final_roots(block.timestamp_s) if r.epoch < epoch]
        keys_signed = before[-1].signers if before else ()
        signers = {facts.account_of("validator", key) for key in keys_signed} - {""}
        keys: dict[tuple[str, Role], list[str]] = {}
        for (role, key), account in sorted(facts.keys.items()):
            keys.setdefault((account, role), []).append(key)
        return ChainSnapshot(
            block=block.number,
            block_hash=block.hash,
            bonds=tuple(
                Bonded(
                    account=account,
                    role=role,
                    stake_microusd=_counting(facts, account, role, epoch),
                    keys=tuple(keys.get((account, role), ())),
                )
                for account, role in sorted(facts.bonds, key=lambda b: (b[0], ROLES.index(b[1])))
            ),
            funds=tuple(
                Fund(tenant=tenant, purpose=purpose, deposit_microusd=left, redeemed_microusd=moved)
                for (tenant, purpose), (left, moved) in sorted(facts.funds.items())
            ),
            pot_received_microusd=facts.pot_received,
            signers=tuple(sorted(signers)),
            last_epoch=final[-1].epoch if final else NO_EPOCH,
            last_root=final[-1].root if final else "",
            watch=self._watches.of(epoch, block),
        )

    # --- logs against state ----------------------------------------------------------------------

    def _compare(self, facts: Facts, block: Block) -> None:
        """Raises ChainDisagrees with the first fact that state tells differently."""
        bonds, vault = self._contracts.bonds, self._contracts.vault
        now = self._contracts.deployment.epoch_at(block.timestamp_s * 1000)
        for role in ROLES:
            votes = sum(
                bond.voting(now) for (_, its_role), bond in facts.bonds.items() if its_role == role
            )
            _same(f"votes of {role}s", votes, bonds.total_voting(role, now, at=block))
        _same("the pot's income", facts.pot_received, vault.pot_received(at=block))
        _same("the pot's payments", facts.pot_paid, vault.pot_paid(at=block))
        final = facts.final_roots(block.timestamp_s)
        _same("newest final epoch", final[-1].epoch if final else None, vault.final_epoch(at=block))
        for root in (*facts.roots[-1:], *final[-1:]):  # older ones the vault may have forgotten
            standing = vault.root_of(root.epoch, at=block)
            _same(f"root of epoch {root.epoch}", root.root, standing.root if standing else "")
        self._compare_changed(facts, block)
        self._compare_tokens(facts, block)
        self._compared = max(self._compared, block.number)

    def _compare_changed(self, facts: Facts, block: Block) -> None:
        bonds = self._contracts.bonds
        for (account, role), bond in facts.bonds.items():
            if facts.changed[account, role] > self._compared:
                held = bonds.stake_of(account, role, at=block)
                _same(f"stake of {account} as {role}", bond.slashable, held)
        for fund in facts.funds:
            if facts.changed[fund] > self._compared:
                self._compare_fund(facts, block, fund)

    def _compare_named(
        self,
        facts: Facts,
        block: Block,
        keys: Iterable[tuple[Role, str]],
        funds: Iterable[tuple[str, str]],
    ) -> None:
        for role, key in keys:
            if (role, key) not in facts.voters:
                found = self._contracts.bonds.account_of(role, key, at=block)
                _same(f"account of {key}", facts.account_of(role, key), found)
        for fund in funds:
            self._compare_fund(facts, block, fund)

    def _compare_fund(self, facts: Facts, block: Block, fund: tuple[str, str]) -> None:
        tenant, purpose = fund
        vault, word = self._contracts.vault, bytes.fromhex(purpose)
        left = vault.deposit_of(tenant, word, at=block)
        moved = vault.redeemed_of(tenant, word, at=block)
        _same(f"fund {purpose[:8]} of {tenant}", facts.funds.get(fund, (0, 0)), (left, moved))
        thawing, _ = vault.thawing_of(tenant, word, at=block)
        _same(f"thaw of {purpose[:8]} of {tenant}", facts.thawing.get(fund, 0), thawing)

    def _compare_tokens(self, facts: Facts, block: Block) -> None:
        token, deployment = self._contracts.token, self._contracts.deployment
        stakes = sum(bond.slashable for bond in facts.bonds.values())
        deposits = sum(left for left, _ in facts.funds.values())
        owed = {
            deployment.bonds: stakes,
            deployment.vault: deposits + facts.pot_received - facts.pot_paid,
        }
        for address, amount in owed.items():
            held = token.balance_of(address, at=block)
            if held < amount:
                raise ChainDisagrees(
                    f"{address} owes {amount} units by its logs and holds {held}.",
                    fix="The server's logs and state contradict each other: ask another one.",
                )


def _counting(facts: Facts, account: str, role: Role, epoch: int) -> int:
    bond = facts.bonds[account, role]
    return bond.voting(epoch) if role == "validator" else bond.slashable


def _same(what: str, logs: object, state: object) -> None:
    if logs != state:
        raise ChainDisagrees(
            f"The chain's logs and its state differ about {what}: {logs} and {state}.",
            fix="The server hides logs or lies about state: ask another one.",
        )
