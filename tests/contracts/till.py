"""The vault of a `Network` seen from outside: the moves that its tests share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from tests.contracts.network import DOLLAR, PROVIDER, Network, boa, key, signatures

from isochrone.rules.merkle import AccountTree
from isochrone.schema import typed_data
from isochrone.schema.identity import PrivateKey, compact, keccak256

PURPOSE = typed_data.purpose_of("0xtenant.chat")
OTHER_PURPOSE = typed_data.purpose_of("0xtenant.search")
DAY_S = 86_400
CHALLENGE_EPOCHS = 6
RING = 32

Signature = tuple[bytes, bytes]


@dataclass(frozen=True)
class Statement:
    """A root as validators sign it."""

    epoch: int
    tree: AccountTree
    total: int
    round: int = 0
    manifest: bytes = keccak256(b"manifest")
    rules: bytes = keccak256(b"rules")

    @property
    def fields(self) -> tuple[int, int, bytes, int, bytes, bytes]:
        return self.epoch, self.round, self.tree.root, self.total, self.manifest, self.rules


@dataclass
class Till:
    """A tenant with money, its spending key, and validators that sign."""

    network: Network
    validators: list[PrivateKey] = field(default_factory=list)
    tenant: PrivateKey = field(default_factory=lambda: key("tenant"))
    spender: PrivateKey = field(default_factory=lambda: key("spender"))

    def balance(self, who: PrivateKey | str) -> int:
        return int(self.network.token.balanceOf(who if isinstance(who, str) else who.address))

    # --- deposits ---

    def deposit(
        self, amount: int, *, tenant: PrivateKey | None = None, purpose: bytes = PURPOSE
    ) -> None:
        owner = (tenant or self.tenant).address
        self.network.fund(owner, amount)
        self.network.vault.deposit(owner, purpose, amount, sender=owner)

    def left(self, *, tenant: PrivateKey | None = None, purpose: bytes = PURPOSE) -> int:
        return int(self.network.vault.deposit_of((tenant or self.tenant).address, purpose))

    def redeemed(self, *, tenant: PrivateKey | None = None, purpose: bytes = PURPOSE) -> int:
        return int(self.network.vault.redeemed_of((tenant or self.tenant).address, purpose))

    def consent(self, spender: PrivateKey, *, purpose: bytes = PURPOSE) -> Signature:
        digest = typed_data.spending_consent(
            self.network.domain, self.tenant.address, purpose, spender.address
        )
        return compact(spender.sign(digest))

    def allow(self, per_day: int, *, spender: PrivateKey | None = None) -> None:
        whom = spender or self.spender
        self.network.vault.allow(
            PURPOSE, whom.address, per_day, self.consent(whom), sender=self.tenant.address
        )

    def voucher(
        self,
        cumulative: int,
        *,
        signer: PrivateKey | None = None,
        purpose: bytes = PURPOSE,
        domain: typed_data.Domain | None = None,
    ) -> Signature:
        """The tenant's voucher, signed by itself unless told otherwise."""
        digest = typed_data.voucher(
            domain or self.network.domain, self.tenant.address, purpose, cumulative
        )
        return compact((signer or self.tenant).sign(digest))

    def redeem(self, cumulative: int, *, signer: PrivateKey | None = None) -> int:
        """Have somebody else redeem a voucher; the units moved."""
        signature = self.voucher(cumulative, signer=signer)
        with boa.env.prank(key("anybody").address):
            moved = self.network.vault.redeem(self.tenant.address, PURPOSE, cumulative, signature)
        return int(moved)

    def fill_pot(self, amount: int) -> None:
        """Deposit an amount and spend it."""
        self.deposit(amount)
        self.redeem(self.redeemed() + amount)

    # --- roots ---

    def statement(
        self, accounts: Mapping[str, int], *, epoch: int | None = None, round_: int = 0
    ) -> Statement:
        """Books of the epoch that ended last, unless told otherwise."""
        when = self.network.epoch - 1 if epoch is None else epoch
        return Statement(when, AccountTree.of(accounts), sum(accounts.values()), round_)

    def root_signatures(
        self, said: Statement, signers: Sequence[PrivateKey] | None = None
    ) -> list[Signature]:
        digest = typed_data.root(self.network.domain, *said.fields)
        return signatures(self.validators if signers is None else signers, digest)

    def post(self, said: Statement, signers: Sequence[PrivateKey] | None = None) -> Statement:
        self.network.vault.post_root(*said.fields, self.root_signatures(said, signers))
        return said

    def settle(self, accounts: Mapping[str, int]) -> Statement:
        """Post books of the epoch that ended last and let the challenge pass."""
        said = self.post(self.statement(accounts))
        self.network.pass_epochs(CHALLENGE_EPOCHS + 1)
        return said

    def veto_signatures(self, said: Statement, signers: Sequence[PrivateKey]) -> list[Signature]:
        digest = typed_data.veto(self.network.domain, said.epoch, said.round, said.tree.root)
        return signatures(signers, digest)

    def veto(self, said: Statement, signers: Sequence[PrivateKey]) -> None:
        self.network.vault.veto(
            said.epoch, said.round, said.tree.root, self.veto_signatures(said, signers)
        )

    def again(self, said: Statement, round_: int) -> Statement:
        return replace(said, round=round_)

    def claim(self, said: Statement, account: str) -> int:
        """Have somebody else claim for an account; the units paid."""
        cumulative, proof = said.tree.claim(account)
        with boa.env.prank(key("anybody").address):
            return int(self.network.vault.claim(account, cumulative, list(proof)))

    def providers(self, *dollars: int) -> list[PrivateKey]:
        """As many bonded providers, two epochs later, so that they vote."""
        keys = [key(f"provider {i}") for i in range(len(dollars))]
        for account, amount in zip(keys, dollars, strict=True):
            self.network.bond(account, PROVIDER, amount * DOLLAR)
        self.network.pass_epochs(2)
        return keys

    # --- what always holds ---

    def solvent(self) -> bool:
        """Whether the vault has every deposit and what is left in the pot, to the unit."""
        vault = self.network.vault
        deposits = self.left() + self.left(purpose=OTHER_PURPOSE)
        owed = deposits + vault.pot_received() - vault.pot_paid()
        return self.balance(vault.address) == owed
