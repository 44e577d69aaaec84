"""The contracts' twins: token, bonds and vault as plain objects that refuse with the same words.

Each public method is a function of the Vyper contract of that name: same arguments, same order,
same answers (structs as dicts). A conformance suite runs one script against both. They are called
with a ``Tx`` first, and reach each other through ``Tx.contracts``, as by address on a chain.

What they do not do: overflow, gas, re-entrance, tokens that misbehave: the contracts' own tests
have those.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import msgspec

from isochrone.ledger.facts import Bond
from isochrone.ledger.root_line import RootLine
from isochrone.rules import merkle
from isochrone.schema import typed_data
from isochrone.schema.errors import IsochroneError, Unauthorized
from isochrone.schema.identity import recover
from isochrone.schema.typed_data import NO_CONTRACT, Domain

DEAD = "0x000000000000000000000000000000000000dead"
NO_WORD = bytes(32)
PROVIDER, VALIDATOR = 0, 2
FALLBACK_S = 72 * 3600
DAY_S = 86_400


class Revert(IsochroneError):
    """A contract's no, with its reason; ``MemoryChain`` makes a ``Reverted`` of it."""


class Tx:
    """One call: who, when, where events go. ``contracts``: by address."""

    def __init__(
        self, sender: str, number: int, timestamp_s: int, chain_id: int, contracts: dict[str, Any]
    ) -> None:
        self.sender = sender
        self.number = number
        self.timestamp_s = timestamp_s
        self.chain_id = chain_id
        self.contracts = contracts
        self.logs: list[tuple[str, str, dict[str, Any]]] = []

    def of(self, caller: Contract) -> Tx:
        """The same transaction as a contract's own call."""
        inner = Tx(caller.address, self.number, self.timestamp_s, self.chain_id, self.contracts)
        inner.logs = self.logs
        return inner


def check(condition: object, reason: str) -> None:
    """Refuse with ``reason`` unless ``condition``."""
    if not condition:
        refuse(reason)


def refuse(reason: str) -> NoReturn:
    """Refuse."""
    raise Revert(reason)


class Contract:
    """What all twins have: an address, and words for events."""

    address: str

    def log(self, tx: Tx, name: str, **args: Any) -> None:
        """Emit an event."""
        tx.logs.append((self.address, name, args))


class TokenTwin(Contract):
    """The test dollar."""

    MINT_MAX = 1_000_000 * 10**6

    def __init__(self, tx: Tx, address: str) -> None:
        self.address = address
        self.balances: dict[str, int] = {}
        self.allowances: dict[tuple[str, str], int] = {}

    def mint(self, tx: Tx, to: str, amount: int) -> None:
        """Out of nothing."""
        check(amount <= self.MINT_MAX, "dollar: too much at once")
        self.balances[to] = self.balances.get(to, 0) + amount
        self.log(tx, "Transfer", sender=NO_CONTRACT, receiver=to, value=amount)

    def approve(self, tx: Tx, spender: str, amount: int) -> bool:
        """Let ``spender`` move the caller's units."""
        self.allowances[tx.sender, spender] = amount
        self.log(tx, "Approval", owner=tx.sender, spender=spender, value=amount)
        return True

    def transfer(self, tx: Tx, to: str, amount: int) -> bool:
        """Move the caller's units."""
        self._move(tx, tx.sender, to, amount)
        return True

    def transferFrom(self, tx: Tx, owner: str, to: str, amount: int) -> bool:  # noqa: N802
        """Move units that the caller may move."""
        allowed = self.allowance(tx, owner, tx.sender)
        check(allowed >= amount, "dollar: not allowed")
        self.allowances[owner, tx.sender] = allowed - amount
        self._move(tx, owner, to, amount)
        return True

    def balanceOf(self, tx: Tx, account: str) -> int:  # noqa: N802
        """Units of an account."""
        return self.balances.get(account, 0)

    def allowance(self, tx: Tx, owner: str, spender: str) -> int:
        """What ``spender`` may move."""
        return self.allowances.get((owner, spender), 0)

    def _move(self, tx: Tx, owner: str, to: str, amount: int) -> None:
        check(self.balances.get(owner, 0) >= amount, "dollar: balance too small")
        self.balances[owner] -= amount
        self.balances[to] = self.balances.get(to, 0) + amount
        self.log(tx, "Transfer", sender=owner, receiver=to, value=amount)


class Clocked(Contract):
    """Contracts that count epochs and check signatures of the one domain."""

    _genesis: int
    _epoch_s: int
    _domain: Domain

    def genesis(self, tx: Tx) -> int:
        """Start of epoch 0."""
        return self._genesis

    def epoch_s(self, tx: Tx) -> int:
        """Length of an epoch."""
        return self._epoch_s

    def now(self, tx: Tx) -> int:
        """The epoch of a transaction."""
        return (tx.timestamp_s - self._genesis) // self._epoch_s


def signer(digest: bytes, signature: bytes) -> str:
    """The key behind a signature; refuses like ``quorum.recover``."""
    try:
        return recover(digest, signature)
    except Unauthorized as error:
        high = "malleable" in error.message
        refuse(f"quorum: {'malleable' if high else 'invalid'} signature")


def signers(digest: bytes, signatures: Sequence[bytes]) -> list[str]:
    """The keys behind ascending signatures; refuses like ``quorum.signers``."""
    keys = [signer(digest, signature) for signature in signatures]
    check(sorted(set(keys)) == keys, "quorum: signers not ascending")
    return keys


class BondsTwin(Clocked):
    """The bonds contract."""

    def __init__(
        self, tx: Tx, address: str, token: str, council: str, genesis: int, epoch_s: int,
        challenge_s: int, hold_back_s: int, dispute_s: int, thaw_s: int,
    ) -> None:  # fmt: skip
        self.address = address
        self._token, self._council = token, council
        self._genesis, self._epoch_s, self._thaw_s = genesis, epoch_s, thaw_s
        self._domain = Domain(chain_id=tx.chain_id, contract=address)
        check(thaw_s >= epoch_s + challenge_s + hold_back_s + dispute_s, "bonds: thaw too short")
        self._bonds: dict[tuple[int, str], Bond] = {}
        self._voters: dict[tuple[int, str], str] = {}
        self._machines: dict[tuple[int, str], str] = {}

    # --- joining and leaving ---------------------------------------------------------------------

    def register(self, tx: Tx, role: int, key: str, consent: bytes, amount: int) -> None:
        """Bond ``amount`` with a voting key."""
        check(role < 3, "bonds: no such role")
        check(not tx.contracts[self._council].paused(tx), "bonds: paused")
        self._check_consent(tx, key, consent)
        held = self._voters.get((role, tx.sender))
        if held != key:
            taken = (role, key) in self._bonds or (role, key) in self._machines
            check(not taken, "bonds: key taken")
            empty = held is None or not self._bonds[role, held].slashable
            check(empty, "bonds: other voting key")
            self._voters[role, tx.sender] = key
        self._post(tx, role, key, amount)
        self.log(tx, "Registered", account=tx.sender, role=role, key=key, amount=amount)

    def add_keys(self, tx: Tx, role: int, keys: list[str], consents: list[bytes]) -> None:
        """Machines' keys."""
        check(len(keys) == len(consents), "bonds: keys and consents differ")
        check((role, tx.sender) in self._voters, "bonds: not registered")
        for key, consent in zip(keys, consents, strict=True):
            if self._machines.get((role, key)) == tx.sender:
                continue
            taken = (role, key) in self._bonds or (role, key) in self._machines
            check(not taken, "bonds: key taken")
            self._check_consent(tx, key, consent)
            self._machines[role, key] = tx.sender
            self.log(tx, "KeyAdded", account=tx.sender, role=role, key=key)

    def top_up(self, tx: Tx, role: int, amount: int) -> None:
        """More."""
        self._post(tx, role, self._voter(role, tx.sender), amount)
        self.log(tx, "ToppedUp", account=tx.sender, role=role, amount=amount)

    def thaw(self, tx: Tx, role: int, amount: int) -> None:
        """Less, later."""
        key = self._voter(role, tx.sender)
        bond = self._bonds[role, key]
        check(amount, "bonds: nothing")
        check(not bond.thawing, "bonds: already thawing")
        check(amount <= bond.settled + bond.fresh, "bonds: too much")
        until = tx.timestamp_s + self._thaw_s
        self._bonds[role, key] = bond.thawed(amount, until)
        self.log(tx, "Thawing", account=tx.sender, role=role, amount=amount, until=until)

    def withdraw(self, tx: Tx, role: int) -> None:
        """Out."""
        key = self._voter(role, tx.sender)
        bond = self._bonds[role, key]
        check(bond.thawing, "bonds: nothing thawing")
        check(tx.timestamp_s >= bond.thaw_end, "bonds: still thawing")
        self._bonds[role, key] = msgspec.structs.replace(bond, thawing=0, thaw_end=0)
        tx.contracts[self._token].transfer(tx.of(self), tx.sender, bond.thawing)
        self.log(tx, "Withdrawn", account=tx.sender, role=role, amount=bond.thawing)

    # --- slashing --------------------------------------------------------------------------------

    def slash_root(
        self, tx: Tx, epoch: int, round_: int, a: dict[str, Any], signature_a: bytes,
        b: dict[str, Any], signature_b: bytes,
    ) -> None:  # fmt: skip
        """Two roots for one place."""
        digests = [
            typed_data.root(
                self._domain, epoch, round_, one["root"], one["total"], one["manifest"],
                one["rules"],
            )
            for one in (a, b)
        ]  # fmt: skip
        self._slash_liar(tx, VALIDATOR, digests, (signature_a, signature_b))

    def slash_tally(
        self, tx: Tx, role: int, tally: bytes, position: int, head_a: bytes, signature_a: bytes,
        head_b: bytes, signature_b: bytes,
    ) -> None:  # fmt: skip
        """Two heads for one position."""
        heads = (head_a, head_b)
        digests = [typed_data.tally_head(self._domain, tally, position, head) for head in heads]
        self._slash_liar(tx, role, digests, (signature_a, signature_b))

    def _slash_liar(
        self, tx: Tx, role: int, digests: list[bytes], signatures: tuple[bytes, bytes]
    ) -> None:
        check(digests[0] != digests[1], "bonds: the same twice")
        key = signer(digests[0], signatures[0])
        check(signer(digests[1], signatures[1]) == key, "bonds: two keys")
        if (role, key) in self._machines:
            key = self._voter(role, self._machines[role, key])
        bond = self._bonds.get((role, key), Bond())
        taken = bond.slashable
        check(taken, "bonds: nothing to slash")
        self._bonds[role, key] = bond.reduced(taken)
        token, inner, reward = tx.contracts[self._token], tx.of(self), taken // 100
        token.transfer(inner, tx.sender, reward)
        token.transfer(inner, DEAD, taken - reward)
        self.log(tx, "Slashed", key=key, role=role, amount=taken, finder=tx.sender, reward=reward)

    # --- views -----------------------------------------------------------------------------------

    def weigh(self, tx: Tx, role: int, epoch: int, keys: list[str]) -> tuple[int, int]:
        """Votes behind keys, and all votes."""
        weight = sum(self._bonds.get((role, key), Bond()).voting(epoch) for key in keys)
        return weight, self.total_voting(tx, role, epoch)

    def voting_bond(self, tx: Tx, account: str, role: int, epoch: int) -> int:
        """An account's votes."""
        return self._of(account, role).voting(epoch)

    def total_voting(self, tx: Tx, role: int, epoch: int) -> int:
        """A role's votes."""
        at = max(epoch, self.now(tx))
        return sum(b.voting(at) for (its_role, _), b in self._bonds.items() if its_role == role)

    def voting_key(self, tx: Tx, account: str, role: int) -> str:
        """Its key."""
        return self._voters.get((role, account), NO_CONTRACT)

    def account_of(self, tx: Tx, role: int, key: str) -> str:
        """Whom a machine's key works for."""
        return self._machines.get((role, key), NO_CONTRACT)

    def stake_of(self, tx: Tx, account: str, role: int) -> int:
        """All of it."""
        return self._of(account, role).slashable

    def bond_of(self, tx: Tx, account: str, role: int) -> dict[str, int]:
        """In its parts."""
        parts: dict[str, int] = msgspec.structs.asdict(self._of(account, role))
        return parts

    def token(self, tx: Tx) -> str:
        """The token's address."""
        return self._token

    def council(self, tx: Tx) -> str:
        """The council's address."""
        return self._council

    def thaw_s(self, tx: Tx) -> int:
        """Seconds."""
        return self._thaw_s

    # --- inside ----------------------------------------------------------------------------------

    def _of(self, account: str, role: int) -> Bond:
        return self._bonds.get((role, self._voters.get((role, account), "")), Bond())

    def _voter(self, role: int, account: str) -> str:
        check((role, account) in self._voters, "bonds: not registered")
        return self._voters[role, account]

    def _check_consent(self, tx: Tx, key: str, consent: bytes) -> None:
        digest = typed_data.key_consent(self._domain, tx.sender, key)
        check(signer(digest, consent) == key, "bonds: no consent")

    def _post(self, tx: Tx, role: int, key: str, amount: int) -> None:
        check(amount, "bonds: nothing")
        bond = self._bonds.get((role, key), Bond())
        self._bonds[role, key] = bond.posted(amount, self.now(tx))
        tx.contracts[self._token].transferFrom(tx.of(self), tx.sender, self.address, amount)


class VaultTwin(Clocked):
    """The vault contract."""

    RING = 32

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
        if epoch not in self._line.epochs:
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
