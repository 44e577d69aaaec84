"""The bonds contract: who works for the network, with which keys and how much at stake.

Amounts are units of the settlement token (micro-USD). ``key`` is the account's own key, which pays
for gas. Functions that change something return when the transaction is in a block; ``final=True``
waits until it cannot be undone. All raise ``ledger.errors``; Reverted has the contract's reason.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from isochrone.ledger.chain import Block, Chain, Contract, Receipt
from isochrone.ledger.facts import Bond
from isochrone.ledger.token import Token
from isochrone.schema import typed_data
from isochrone.schema.deployment import ROLES, Deployment, Role
from isochrone.schema.identity import PrivateKey
from isochrone.schema.settlement import RootStatement
from isochrone.schema.typed_data import NO_CONTRACT

KEYS_MAX = 32
"""Keys of one ``add_keys`` transaction."""


class Bonds:
    """See the module."""

    def __init__(self, chain: Chain, deployment: Deployment, token: Token) -> None:
        self._chain = chain
        self._deployment = deployment
        self._token = token
        self.contract = Contract("bonds", deployment.bonds)

    # --- to change -------------------------------------------------------------------------------

    def register(
        self,
        key: PrivateKey,
        role: Role,
        amount: int,
        *,
        voting_key: PrivateKey | None = None,
        consent: bytes = b"",
        voter: str = "",
        final: bool = False,
    ) -> Receipt:
        """Bond ``amount`` in a role. Its voting key: ``voting_key``, else the account's own, else
        ``voter`` (an address), which signed ``consent`` (65 bytes over ``KeyConsent``)."""
        signer = voting_key or key
        if not consent:
            voter, consent = signer.address, self.consent(key.address, signer)
        self._token.allow(key, self.contract.address, amount)
        return self._act(key, "register", _number(role), voter, consent, amount, final=final)

    def consent(self, account: str, key: PrivateKey) -> bytes:
        """``key``'s word (65 bytes) that it works for ``account``, for ever."""
        return key.sign(typed_data.key_consent(self._deployment.domain, account, key.address))

    def add_keys(
        self, key: PrivateKey, role: Role, consents: Sequence[tuple[str, bytes]]
    ) -> list[Receipt]:
        """Let machines' keys sign for the account's bond; ``consents``: address, 65 bytes each.

        Those that it has already are passed over.
        """
        receipts = []
        for start in range(0, len(consents), KEYS_MAX):
            part = consents[start : start + KEYS_MAX]
            keys, words = [one for one, _ in part], [word for _, word in part]
            receipts.append(self._act(key, "add_keys", _number(role), keys, words))
        return receipts

    def top_up(self, key: PrivateKey, role: Role, amount: int, *, final: bool = False) -> Receipt:
        """Add any amount to the bond (one that is less than ``min_bond``: up to that at least)."""
        self._token.allow(key, self.contract.address, amount)
        return self._act(key, "top_up", _number(role), amount, final=final)

    def thaw(self, key: PrivateKey, role: Role, amount: int) -> Receipt:
        """Announce that ``amount`` leaves: all, or so much that ``min_bond`` stays. It stops voting
        now. One thaw at a time."""
        return self._act(key, "thaw", _number(role), amount)

    def withdraw(self, key: PrivateKey, role: Role) -> Receipt:
        """Take out what has thawed."""
        return self._act(key, "withdraw", _number(role))

    def slash_root(
        self,
        key: PrivateKey,
        a: RootStatement,
        signature_a: bytes,
        b: RootStatement,
        signature_b: bytes,
    ) -> Receipt:
        """Prove that a validator signed two roots for one epoch and round; ``key`` gets 1 %."""
        bodies = (_body(a), signature_a, _body(b), signature_b)
        return self._act(key, "slash_root", a.epoch, a.round, *bodies)

    def slash_tally(
        self,
        key: PrivateKey,
        role: Role,
        tally: bytes,
        position: int,
        a: tuple[bytes, bytes],
        b: tuple[bytes, bytes],
    ) -> Receipt:
        """Prove that a node's (provider) or gateway's (operator) key signed two heads of one
        position of a tally chain; ``a`` and ``b``: head and signature each."""
        return self._act(key, "slash_tally", _number(role), tally, position, *a, *b)

    def burn(self, key: PrivateKey, role: Role) -> Receipt:
        """Send what slashing took in a role to the dead address; anybody may."""
        return self._act(key, "burn", _number(role))

    # --- to read ---------------------------------------------------------------------------------

    def stake_of(self, account: str, role: Role, *, at: Block | None = None) -> int:
        """All of an account's stake in a role that can be slashed, thawing included."""
        return self._view("stake_of", account, _number(role), at=at)

    def bond_of(self, account: str, role: Role, *, at: Block | None = None) -> Bond:
        """An account's bond in its parts."""
        parts = self._chain.view(self.contract, "bond_of", account, _number(role), at=at)
        return msgspec.convert(parts, Bond)

    def voting_bond(self, account: str, role: Role, epoch: int, *, at: Block | None = None) -> int:
        """What of an account's bond votes now and has done so since ``epoch``."""
        return self._view("voting_bond", account, _number(role), epoch, at=at)

    def total_voting(self, role: Role, epoch: int, *, at: Block | None = None) -> int:
        """A role's whole voting bond in ``epoch`` (in the current one if that is past)."""
        return self._view("total_voting", _number(role), max(0, epoch), at=at)

    def voting_key(self, account: str, role: Role, *, at: Block | None = None) -> str:
        """The key whose signature is the account's vote; empty when it has never bonded."""
        key = self._chain.view(self.contract, "voting_key", account, _number(role), at=at)
        return "" if key == NO_CONTRACT else str(key)

    def account_of(self, role: Role, key: str, *, at: Block | None = None) -> str:
        """The account that a *machine's* key works for; empty when there is none.

        Voting keys are not told here: fold the events (``snapshot.Snapshots.facts``).
        """
        account = self._chain.view(self.contract, "account_of", _number(role), key, at=at)
        return "" if account == NO_CONTRACT else str(account)

    def thaw_s(self) -> int:
        """Seconds from ``thaw`` to ``withdraw``."""
        return self._view("thaw_s")

    def min_bond(self) -> int:
        """The least that a bond is; less can neither be posted nor left behind by a thaw."""
        return self._view("min_bond")

    # --- inside ----------------------------------------------------------------------------------

    def _act(self, key: PrivateKey, function: str, *args: object, final: bool = False) -> Receipt:
        return self._chain.act(key, self.contract, function, *args, final=final)

    def _view(self, function: str, *args: object, at: Block | None = None) -> int:
        value: int = self._chain.view(self.contract, function, *args, at=at)
        return value


def _number(role: Role) -> int:
    return ROLES.index(role)


def _body(statement: RootStatement) -> dict[str, object]:
    return {
        "root": bytes.fromhex(statement.root),
        "total": statement.total_microusd,
        "manifest": bytes.fromhex(statement.manifest),
        "rules": bytes.fromhex(statement.rules),
    }
