"""The vault contract: deposits, vouchers, the pot, roots and claims.

Amounts are units of the settlement token (micro-USD); a purpose is 32 bytes
(``typed_data.purpose_of`` a service). ``key`` pays for gas, and is the tenant's own where a
deposit is the caller's. Functions that change something return when the transaction is in a block;
``final=True`` waits until it cannot be undone.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from isochrone.ledger.chain import Block, Chain, Contract, Receipt
from isochrone.ledger.signers import SIGNERS_MAX, ascending
from isochrone.ledger.token import Token
from isochrone.schema import typed_data
from isochrone.schema.deployment import Deployment
from isochrone.schema.identity import PrivateKey
from isochrone.schema.settlement import RootStatement, Voucher

NO_ROOT = bytes(32)


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """The root that stands for an epoch. ``root``: hex; ``final``: its challenge is over;
    ``final_from``: Unix seconds when it will be, 0 when it is."""

    root: str
    final: bool
    final_from: int


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """A spending key's permission. ``per_day`` 0: none; ``spent`` on ``day`` (days since 1970);
    ``until``: counts before this Unix second, 0: not revoked."""

    per_day: int
    spent: int
    day: int
    until: int


class Vault:
    """See the module."""

    def __init__(self, chain: Chain, deployment: Deployment, token: Token) -> None:
        self._chain = chain
        self._deployment = deployment
        self._token = token
        self.contract = Contract("vault", deployment.vault)

    # --- deposits --------------------------------------------------------------------------------

    def deposit(
        self, key: PrivateKey, tenant: str, purpose: bytes, amount: int, *, final: bool = False
    ) -> Receipt:
        """Add ``amount`` of ``key``'s tokens to a tenant's deposit."""
        self._token.allow(key, self.contract.address, amount)
        return self._act(key, "deposit", tenant, purpose, amount, final=final)

    def allow(
        self, key: PrivateKey, purpose: bytes, spender: str, per_day: int, consent: bytes
    ) -> Receipt:
        """Let ``spender`` sign vouchers up to ``per_day`` units a day (UTC). ``consent``: its 65
        bytes over ``SpendingConsent``."""
        return self._act(key, "allow", purpose, spender, per_day, consent)

    def revoke(self, key: PrivateKey, purpose: bytes, spender: str) -> Receipt:
        """End that permission, after the time that a deposit takes to thaw."""
        return self._act(key, "revoke", purpose, spender)

    def thaw_deposit(self, key: PrivateKey, purpose: bytes, amount: int) -> Receipt:
        """Announce the withdrawal of ``amount``; 0 takes an announcement back."""
        return self._act(key, "thaw_deposit", purpose, amount)

    def withdraw_deposit(self, key: PrivateKey, purpose: bytes) -> Receipt:
        """Take out what has thawed and was not redeemed meanwhile."""
        return self._act(key, "withdraw_deposit", purpose)

    def redeem(self, key: PrivateKey, voucher: Voucher, *, final: bool = False) -> Receipt:
        """Move what a voucher says into the pot, as far as deposit and daily bound go."""
        purpose = bytes.fromhex(voucher.purpose)
        args = (voucher.tenant, purpose, voucher.cumulative_microusd, voucher.signature)
        return self._act(key, "redeem", *args, final=final)

    # --- roots and claims ------------------------------------------------------------------------

    def post_root(
        self,
        key: PrivateKey,
        statement: RootStatement,
        signatures: Sequence[bytes],
        *,
        final: bool = False,
    ) -> Receipt:
        """Put an epoch's books up for the challenge, with validators' signatures (65 bytes each,
        in any order)."""
        root, manifest = bytes.fromhex(statement.root), bytes.fromhex(statement.manifest)
        body = (root, statement.total_microusd, manifest, bytes.fromhex(statement.rules))
        digest = typed_data.root(self._deployment.domain, statement.epoch, statement.round, *body)
        place = (statement.epoch, statement.round)
        quorum = ascending(digest, signatures)
        return self._act(key, "post_root", *place, *body, quorum, final=final)

    def veto(
        self, key: PrivateKey, epoch: int, round_: int, root: str, signatures: Sequence[bytes]
    ) -> Receipt:
        """Cancel a pending root (hex) and all after it, with providers' signatures (65 bytes each,
        in any order); more than one call takes are collected in parts first."""
        word = bytes.fromhex(root)
        digest = typed_data.veto(self._deployment.domain, epoch, round_, word)
        quorum = ascending(digest, signatures, most=len(signatures))
        while len(quorum) > SIGNERS_MAX:
            part, quorum = quorum[:SIGNERS_MAX], quorum[SIGNERS_MAX:]
            self._act(key, "collect_veto", epoch, round_, word, part)
        return self._act(key, "veto", epoch, round_, word, quorum)

    def claim(
        self,
        key: PrivateKey,
        account: str,
        cumulative: int,
        proof: Sequence[bytes],
        *,
        final: bool = False,
    ) -> Receipt:
        """Pay an account all that the newest final root owes it; anybody may call."""
        return self._act(key, "claim", account, cumulative, list(proof), final=final)

    # --- to read ---------------------------------------------------------------------------------

    def deposit_of(self, tenant: str, purpose: bytes, *, at: Block | None = None) -> int:
        """Units left in a deposit, those that thaw included."""
        return self._view("deposit_of", tenant, purpose, at=at)

    def redeemed_of(self, tenant: str, purpose: bytes, *, at: Block | None = None) -> int:
        """Units that vouchers ever moved out of a deposit."""
        return self._view("redeemed_of", tenant, purpose, at=at)

    def thawing_of(
        self, tenant: str, purpose: bytes, *, at: Block | None = None
    ) -> tuple[int, int]:
        """Units announced for withdrawal, and the Unix second from which they can go."""
        thaw = self._chain.view(self.contract, "thawing_of", tenant, purpose, at=at)
        return thaw["amount"], thaw["until"]

    def grant_of(
        self, tenant: str, purpose: bytes, spender: str, *, at: Block | None = None
    ) -> Grant:
        """A spending key's permission."""
        grant = self._chain.view(self.contract, "grant_of", tenant, purpose, spender, at=at)
        return msgspec.convert(grant, Grant)

    def pot_received(self, *, at: Block | None = None) -> int:
        """Units that vouchers ever moved into the pot."""
        return self._view("pot_received", at=at)

    def pot_paid(self, *, at: Block | None = None) -> int:
        """Units that claims ever took out of the pot."""
        return self._view("pot_paid", at=at)

    def claimed_of(self, account: str, *, at: Block | None = None) -> int:
        """Units that an account ever claimed."""
        return self._view("claimed_of", account, at=at)

    def root_of(self, epoch: int, *, at: Block | None = None) -> Standing | None:
        """The root that stands for an epoch; None: none, or older than the newest 32."""
        found = self._chain.view(self.contract, "root_of", epoch, at=at)
        if found["root"] == NO_ROOT:
            return None
        return Standing(
            root=found["root"].hex(), final=found["final"], final_from=found["final_from"]
        )

    def final_epoch(self, *, at: Block | None = None) -> int | None:
        """The newest epoch whose root is final; None: none yet."""
        any_, epoch = self._chain.view(self.contract, "final_epoch", at=at)
        return int(epoch) if any_ else None

    def next_epoch(self, *, at: Block | None = None) -> int:
        """The lowest epoch whose root can be posted."""
        return self._view("next_epoch", at=at)

    def min_round(self, epoch: int, *, at: Block | None = None) -> int:
        """The lowest round in which an epoch's root can be posted."""
        return self._view("min_round", epoch, at=at)

    def challenge_epochs(self) -> int:
        """Whole epochs that pass between posting a root and its being final."""
        return self._view("challenge_epochs")

    def deposit_thaw_s(self) -> int:
        """Seconds from announcing a withdrawal, or revoking a key, to its effect."""
        return self._view("deposit_thaw_s")

    # --- inside ----------------------------------------------------------------------------------

    def _act(self, key: PrivateKey, function: str, *args: object, final: bool = False) -> Receipt:
        return self._chain.act(key, self.contract, function, *args, final=final)

    def _view(self, function: str, *args: object, at: Block | None = None) -> int:
        value: int = self._chain.view(self.contract, function, *args, at=at)
        return value
