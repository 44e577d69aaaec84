"""What a validator reads from the chain and does there, in its own words; every call blocks.

``look`` is what rounds run on: the roots that stand at the *final* block, and who votes now. What
is newer than final is not acted upon: a root that a reorganisation takes back was never there.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

import msgspec

from isochrone.ledger.chain import Block, Chain
from isochrone.ledger.contracts import Contracts
from isochrone.ledger.errors import ChainDisagrees, ChainSlow, Reverted
from isochrone.ledger.facts import Facts, PostedRoot
from isochrone.ledger.snapshot import Snapshots
from isochrone.schema.chain_snapshot import ChainSnapshot, WatchStart
from isochrone.schema.deployment import Role, Terms
from isochrone.schema.identity import PrivateKey
from isochrone.schema.settlement import RootStatement, Voucher
from isochrone.schema.settling import SignedRoot
from isochrone.validator.collecting import Fault
from isochrone.validator.rounds import Peer

DAY_S = 86_400

FINAL_WITHIN_S = 1_200.0
"""Finality takes 13 minutes on Ethereum."""

FINAL_POLL_S = 0.5

log = logging.getLogger(__name__)


class Purse(msgspec.Struct, frozen=True, kw_only=True):
    """A purpose now: what is left that nobody has announced to withdraw, and what was moved."""

    left_microusd: int
    redeemed_microusd: int


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """The chain at its final block. ``roots``: those that stand, by epoch; ``final_epoch``: the
    newest that no veto reaches (-1: none). ``peers``: voting validators by key, as of now.
    ``accounts``: voting key → account; ``stakes``: those accounts' stake as validators.
    ``operators``: key → account of all keys that work for a bonded operator; ``bonds``: those
    accounts' stake; ``nodes``: the same keys of providers. ``deposits``: what is left that nobody
    has announced to withdraw, by tenant and purpose (hex)."""

    block: int
    roots: tuple[PostedRoot, ...]
    final_epoch: int
    next_epoch: int
    min_round: int
    peers: tuple[Peer, ...]
    accounts: dict[str, str]
    operators: dict[str, str]
    bonds: dict[str, int]
    deposits: dict[tuple[str, str], int]
    stakes: dict[str, int] = {}
    nodes: dict[str, str] = {}


class ChainDesk:
    """One validator's access to one deployment. ``wallet`` pays for what it does."""

    def __init__(
        self, chain: Chain, contracts: Contracts, wallet: PrivateKey, unix_ms: Callable[[], int]
    ) -> None:
        self._chain = chain
        self._contracts = contracts
        self._snapshots = Snapshots(chain, contracts)
        self._wallet = wallet
        self._unix_ms = unix_ms

    def look(self) -> Look:
        """The final block's facts."""
        block = self._chain.final()
        facts = self._snapshots.facts(block)
        roots = tuple(facts.roots)
        final = facts.final_roots(block.timestamp_s)
        next_epoch = roots[-1].epoch + 1 if roots else 0
        now = self._epoch_now(block)
        voters = {key: who for (role, key), who in facts.voters.items() if role == "validator"}
        weights = {
            key: bond.voting(now)
            for key, who in voters.items()
            if (bond := facts.bonds.get((who, "validator"))) is not None
        }
        bonds = _stakes(facts, "operator")
        providers = _stakes(facts, "provider")
        return Look(
            block=block.number,
            roots=roots,
            final_epoch=final[-1].epoch if final else -1,
            next_epoch=next_epoch,
            min_round=self._contracts.vault.min_round(next_epoch, at=block),
            peers=tuple(Peer(key=key, weight=weights[key]) for key in sorted(weights)),
            accounts=voters,
            operators={
                key: who
                for (role, key), who in facts.keys.items()
                if role == "operator" and who in bonds
            },
            bonds=bonds,
            deposits={
                purse: max(0, left - facts.thawing.get(purse, 0))
                for purse, (left, _) in facts.funds.items()
            },
            stakes=_stakes(facts, "validator"),
            nodes={
                key: who
                for (role, key), who in facts.keys.items()
                if role == "provider" and who in providers
            },
        )

    def snapshot(self, epoch: int, block: int | None = None) -> ChainSnapshot:
        """The snapshot for an epoch at a final block (None: the newest).

        Raises ChainDisagrees for a block that is not final here yet.
        """
        final = self._chain.final()
        if block is None:
            return self._snapshots.take(epoch, final)
        if block > final.number:
            raise ChainDisagrees(f"Block {block} is not final here; {final.number} is.")
        return self._snapshots.take(epoch, self._chain.block(block), strict=False)

    def watch_start(self, watch: int) -> WatchStart:
        """How a watch began, by final blocks; an empty one while no block in time is final."""
        return self._snapshots.watch_start(watch, self._chain.final())

    def terms(self, epoch: int) -> Terms:
        """The council's terms for an epoch."""
        return self._contracts.council.terms(epoch)

    def purse(self, tenant: str, purpose: str) -> Purse:
        """A purpose at the newest block."""
        vault, word = self._contracts.vault, bytes.fromhex(purpose)
        thawing, _ = vault.thawing_of(tenant, word)
        return Purse(
            left_microusd=max(0, vault.deposit_of(tenant, word) - thawing),
            redeemed_microusd=vault.redeemed_of(tenant, word),
        )

    def movable_microusd(self, voucher: Voucher) -> int:
        """What redeeming a voucher would move now."""
        vault, word = self._contracts.vault, bytes.fromhex(voucher.purpose)
        missing = voucher.cumulative_microusd - vault.redeemed_of(voucher.tenant, word)
        amount = max(0, min(missing, vault.deposit_of(voucher.tenant, word)))
        if voucher.key == voucher.tenant:
            return amount
        grant = vault.grant_of(voucher.tenant, word, voucher.key)
        now_s = max(self._unix_ms() // 1000, self._chain.head().timestamp_s)
        if not grant.per_day or (grant.until and now_s >= grant.until):
            return 0
        spent = grant.spent if grant.day == now_s // DAY_S else 0
        return min(amount, max(0, grant.per_day - spent))

    def redeem(self, voucher: Voucher) -> None:
        """Move what a voucher says, and wait until that is final, whoever moved it.

        Nothing to move is no error. Raises what the chain raises, ChainSlow when it takes too long.
        """
        if self.movable_microusd(voucher):
            try:
                self._contracts.vault.redeem(self._wallet, voucher, final=True)
                return
            except Reverted:
                if self.movable_microusd(voucher):
                    raise
        self._wait_final(voucher)  # somebody else has moved it, perhaps a moment ago

    def _wait_final(self, voucher: Voucher) -> None:
        """Until what is moved at the newest block is moved at a final one."""
        vault, word = self._contracts.vault, bytes.fromhex(voucher.purpose)
        deadline_s = time.monotonic() + FINAL_WITHIN_S
        head = self._chain.head().number
        moved = vault.redeemed_of(voucher.tenant, word)
        while (final := self._chain.final()).number < head:
            if vault.redeemed_of(voucher.tenant, word, at=final) >= moved:
                return
            if time.monotonic() > deadline_s:
                raise ChainSlow("What was redeemed is not final yet.")
            time.sleep(FINAL_POLL_S)

    def post(self, statement: RootStatement, signatures: Sequence[bytes]) -> None:
        """Put a root up; that it is there already is no error."""
        try:
            self._contracts.vault.post_root(self._wallet, statement, signatures)
        except Reverted:
            if self._contracts.vault.next_epoch() <= statement.epoch:
                raise

    def accuse_root(self, one: SignedRoot, other: SignedRoot) -> None:
        """Have a validator slashed for two roots of one epoch and round."""
        self._contracts.bonds.slash_root(
            self._wallet, one.statement, one.signature, other.statement, other.signature
        )

    def accuse_tally(self, fault: Fault) -> None:
        """Have a gateway and a node slashed for two heads of one position, if they are bonded."""
        one, other = fault.one, fault.other
        sides: tuple[tuple[Role, bytes, bytes], ...] = (
            ("operator", one.gateway_signature, other.gateway_signature),
            ("provider", one.node_signature, other.node_signature),
        )
        for role, first, second in sides:
            proofs = ((one.head, first), (other.head, second))
            try:
                self._contracts.bonds.slash_tally(
                    self._wallet, role, one.chain.id, one.position, *proofs
                )
            except Reverted as error:
                log.warning("an equivocating %s is not slashed: %s", role, error.reason)

    def _epoch_now(self, block: Block) -> int:
        deployment = self._contracts.deployment
        return deployment.epoch_at(max(block.timestamp_s * 1000, self._unix_ms()))


def _stakes(facts: Facts, meant: Role) -> dict[str, int]:
    """Account → stake of everybody who is bonded in a role."""
    return {
        who: bond.slashable
        for (who, role), bond in facts.bonds.items()
        if role == meant and bond.slashable > 0
    }
