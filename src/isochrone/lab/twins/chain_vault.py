"""The vault contract's twin (``contract`` says what a twin is)."""

from __future__ import annotations

from typing import Any

from isochrone.lab.twins.contract import ClockedTwin, Tx, check, signer, signers
from isochrone.ledger.root_line import RootLine
from isochrone.rules import merkle
from isochrone.schema import typed_data
from isochrone.schema.typed_data import Domain

NO_WORD = bytes(32)
PROVIDER, VALIDATOR = 0, 2
FALLBACK_S = 72 * 3600
RING = 32
"""Epochs back to which the vault remembers roots, the newest final one aside."""

DAY_S = 86_400


class VaultTwin(ClockedTwin):
    """The vault contract."""

    def __init__(
        self, tx: Tx, address: str, token: str, bonds: str, council: str, genesis: int,
        epoch_s: int, challenge_s: int, deposit_thaw_s: int,
    ) -> None:  # fmt: skip
        self.address = address
        self._token, self._bonds, self._council = token, bonds, council
        self._genesis, self._epoch_s, self._thaw_s = genesis, epoch_s, deposit_thaw_s
        self._domain = Domain(chain_id=tx.chain_id, contract=bonds)
        self._line = RootLine(challenge_epochs=-(-challenge_s // epoch_s))
        self._roots: dict[int, bytes] = {}
        self._vetoes: dict[int, int] = {}
        self._floor = (0, 0)
        self._top_round = 0
        self._funds: dict[tuple[str, bytes], tuple[int, int]] = {}
        self._thaws: dict[tuple[str, bytes], tuple[int, int]] = {}
        self._grants: dict[tuple[str, bytes, str], dict[str, int]] = {}
        self._claimed: dict[str, int] = {}
        self._received = self._paid = 0

    # --- deposits --------------------------------------------------------------------------------

    def deposit(self, tx: Tx, tenant: str, purpose: bytes, amount: int) -> None:
        """More."""
        check(not tx.contracts[self._council].paused(tx), "vault: paused")
        tx.contracts[self._token].transferFrom(tx.of(self), tx.sender, self.address, amount)
        left, redeemed = self._fund(tenant, purpose)
        self._funds[tenant, purpose] = (left + amount, redeemed)
        self.log(tx, "Deposited", tenant=tenant, purpose=purpose, amount=amount, payer=tx.sender)

    def thaw_deposit(self, tx: Tx, purpose: bytes, amount: int) -> None:
        """Less, later."""
        check(amount <= self._fund(tx.sender, purpose)[0], "vault: deposit too small")
        until = tx.timestamp_s + self._thaw_s if amount else 0
        self._thaws[tx.sender, purpose] = (amount, until)
        self.log(
            tx, "DepositThawing", tenant=tx.sender, purpose=purpose, amount=amount, until=until
        )

    def withdraw_deposit(self, tx: Tx, purpose: bytes) -> int:
        """Out."""
        thawing, until = self._thaws.get((tx.sender, purpose), (0, 0))
        check(thawing, "vault: nothing thaws")
        check(tx.timestamp_s >= until, "vault: still thawing")
        left, redeemed = self._fund(tx.sender, purpose)
        amount = min(thawing, left)
        self._thaws[tx.sender, purpose] = (0, 0)
        self._funds[tx.sender, purpose] = (left - amount, redeemed)
        self.log(tx, "DepositWithdrawn", tenant=tx.sender, purpose=purpose, amount=amount)
        tx.contracts[self._token].transfer(tx.of(self), tx.sender, amount)
        return amount

    def allow(self, tx: Tx, purpose: bytes, key: str, per_day: int, consent: bytes) -> None:
        """Let a key spend."""
        digest = typed_data.spending_consent(self._domain, tx.sender, purpose, key)
        check(signer(digest, consent) == key, "vault: key does not consent")
        check(per_day > 0, "vault: bound out of range")
        grant = self.grant_of(tx, tx.sender, purpose, key)
        if self._in_force(tx, grant):
            check(per_day >= grant["per_day"], "vault: revoke to lower the bound")
        self._grants[tx.sender, purpose, key] = grant | {"per_day": per_day, "until": 0}
        self.log(tx, "KeyAllowed", tenant=tx.sender, purpose=purpose, key=key, per_day=per_day)

    def revoke(self, tx: Tx, purpose: bytes, key: str) -> None:
        """No longer, later."""
        grant = self.grant_of(tx, tx.sender, purpose, key)
        check(grant["per_day"] and not grant["until"], "vault: no such key")
        until = tx.timestamp_s + self._thaw_s
        self._grants[tx.sender, purpose, key] = grant | {"until": until}
        self.log(tx, "KeyRevoked", tenant=tx.sender, purpose=purpose, key=key, until=until)

    def redeem(self, tx: Tx, tenant: str, purpose: bytes, cumulative: int, signature: bytes) -> int:
        """Into the pot."""
        left, redeemed = self._fund(tenant, purpose)
        check(cumulative > redeemed, "vault: voucher is spent")
        amount = min(cumulative - redeemed, left)
        key = signer(typed_data.voucher(self._domain, tenant, purpose, cumulative), signature)
        if key != tenant:
            amount = self._spend(tx, tenant, purpose, key, amount)
        check(amount, "vault: nothing to move")
        self._funds[tenant, purpose] = (left - amount, redeemed + amount)
        self._received += amount
        self.log(
            tx, "Redeemed", tenant=tenant, purpose=purpose, amount=amount,
            redeemed=redeemed + amount, signer=key,
        )  # fmt: skip
        return amount

    # --- roots and claims ------------------------------------------------------------------------

    def post_root(
        self, tx: Tx, epoch: int, round_: int, root: bytes, total: int, manifest: bytes,
        rules: bytes, signatures: list[bytes],
    ) -> None:  # fmt: skip
        """Up for the challenge."""
        now = self.now(tx)
        check(epoch >= self._line.next_epoch, "vault: epoch is settled")
        check(epoch < now, "vault: epoch has not ended")
        check(total <= self._received, "vault: total is above the pot")
        final = self._line.final_below(now)
        check(not final or (epoch + 1 - final) % RING, "vault: too many pending roots")
        check(round_ >= self.min_round(tx, epoch), "vault: round is void")
        digest = typed_data.root(self._domain, epoch, round_, root, total, manifest, rules)
        keys = signers(digest, signatures)
        weight, whole = tx.contracts[self._bonds].weigh(tx, VALIDATOR, now, keys)
        if not whole or weight * 3 < whole * 2:
            late = tx.timestamp_s >= self._genesis + (epoch + 1) * self._epoch_s + FALLBACK_S
            check(late, "vault: no quorum")
            check(weight * 2 > whole, "vault: no majority")
        self._line = self._line.posted(epoch, now)
        self._top_round = max(self._top_round, round_)
        self._roots[epoch] = root
        self.log(
            tx, "RootPosted", epoch=epoch, round=round_, root=root, total=total,
            manifest=manifest, rules=rules, signers=keys,
        )  # fmt: skip

    def veto(self, tx: Tx, epoch: int, round_: int, root: bytes, signatures: list[bytes]) -> None:
        """Down again."""
        now = self.now(tx)
        pending = epoch in self._line.epochs and epoch >= self._line.final_below(now)
        check(pending, "vault: no pending root")
        check(self._roots[epoch] == root, "vault: another root is pending")
        check(self._vetoes.get(epoch, 0) < 2, "vault: vetoed often enough")
        keys = signers(typed_data.veto(self._domain, epoch, round_, root), signatures)
        weight, whole = tx.contracts[self._bonds].weigh(tx, PROVIDER, now, keys)
        check(whole and weight * 3 >= whole, "vault: no third of the providers")
        self._vetoes[epoch] = self._vetoes.get(epoch, 0) + 1
        self._floor = (now, max(self._top_round, self._floor[1]) + 1)
        self._line = self._line.vetoed(epoch, now)
        self.log(tx, "Vetoed", epoch=epoch, round=round_, root=root)

    def claim(self, tx: Tx, account: str, cumulative: int, proof: list[bytes]) -> int:
        """Out of the pot."""
        below = self._line.final_below(self.now(tx))
        check(below, "vault: no root is final")
        node = merkle.leaf(account, cumulative)
        for sibling in proof:
            node = merkle.pair(node, sibling)
        check(node == self._roots[below - 1], "vault: not under the newest final root")
        before = self._claimed.get(account, 0)
        check(cumulative > before, "vault: nothing to claim")
        amount = cumulative - before
        self._paid += amount
        check(self._paid <= self._received, "vault: claims are above the pot")
        self._claimed[account] = cumulative
        self.log(tx, "Claimed", account=account, amount=amount, claimed=cumulative)
        tx.contracts[self._token].transfer(tx.of(self), account, amount)
        return amount

    # --- views -----------------------------------------------------------------------------------

    def deposit_of(self, tx: Tx, tenant: str, purpose: bytes) -> int:
        """Left."""
        return self._fund(tenant, purpose)[0]

    def redeemed_of(self, tx: Tx, tenant: str, purpose: bytes) -> int:
        """Moved."""
        return self._fund(tenant, purpose)[1]

    def thawing_of(self, tx: Tx, tenant: str, purpose: bytes) -> dict[str, int]:
        """On its way out."""
        amount, until = self._thaws.get((tenant, purpose), (0, 0))
        return {"amount": amount, "until": until}

    def grant_of(self, tx: Tx, tenant: str, purpose: bytes, key: str) -> dict[str, int]:
        """A key's permission."""
        nothing = {"per_day": 0, "spent": 0, "day": 0, "until": 0}
        return dict(self._grants.get((tenant, purpose, key), nothing))

    def pot_received(self, tx: Tx) -> int:
        """In."""
        return self._received

    def pot_paid(self, tx: Tx) -> int:
        """Out."""
        return self._paid

    def claimed_of(self, tx: Tx, account: str) -> int:
        """Out, to one."""
        return self._claimed.get(account, 0)

    def root_of(self, tx: Tx, epoch: int) -> dict[str, Any]:
        """What stands."""
        below = self._line.final_below(self.now(tx))
        known = epoch + 1 == below or self._line.next_epoch - 1 - epoch < RING
        if epoch not in self._line.epochs or not known:
            return {"root": NO_WORD, "final": False, "final_from": 0}
        challenge = self._line.challenge_epochs
        over = max(epoch + 1, self._line.late_at) + challenge + 1
        final = epoch < below
        from_s = 0 if final else self._genesis + over * self._epoch_s
        return {"root": self._roots[epoch], "final": final, "final_from": from_s}

    def final_epoch(self, tx: Tx) -> tuple[bool, int]:
        """The newest."""
        below = self._line.final_below(self.now(tx))
        return (below > 0, max(0, below - 1))

    def next_epoch(self, tx: Tx) -> int:
        """To be posted."""
        return self._line.next_epoch

    def min_round(self, tx: Tx, epoch: int) -> int:
        """After vetoes."""
        floor_epoch, floor = self._floor
        return floor if epoch < floor_epoch else 0

    def challenge_epochs(self, tx: Tx) -> int:
        """Whole epochs."""
        return self._line.challenge_epochs

    def deposit_thaw_s(self, tx: Tx) -> int:
        """Seconds."""
        return self._thaw_s

    def token(self, tx: Tx) -> str:
        """The token's address."""
        return self._token

    def bonds(self, tx: Tx) -> str:
        """The bonds' address."""
        return self._bonds

    def council(self, tx: Tx) -> str:
        """The council's address."""
        return self._council

    # --- inside ----------------------------------------------------------------------------------

    def _fund(self, tenant: str, purpose: bytes) -> tuple[int, int]:
        return self._funds.get((tenant, purpose), (0, 0))

    def _in_force(self, tx: Tx, grant: dict[str, int]) -> bool:
        return grant["per_day"] > 0 and (not grant["until"] or tx.timestamp_s < grant["until"])

    def _spend(self, tx: Tx, tenant: str, purpose: bytes, key: str, wanted: int) -> int:
        grant = self.grant_of(tx, tenant, purpose, key)
        check(self._in_force(tx, grant), "vault: signer may not spend")
        today = tx.timestamp_s // DAY_S
        spent = grant["spent"] if grant["day"] == today else 0
        amount = min(wanted, max(0, grant["per_day"] - spent))
        grant |= {"day": today, "spent": spent + amount}
        self._grants[tenant, purpose, key] = grant
        return amount
